"""The models of `verify`, as every contestant trains them."""

import pytest

from compare.bench import models
from compare.bench.turns import distance
from compare.bench.workloads import Workload
from tests.compare.bench.runs import installed, outcome_of, reference_of


@pytest.mark.parametrize(
    ("name", "options"),
    [("gpt", {"optimizer": "adamw", "layers": 1}), ("gpt", {"layers": 1}), ("mlp", {}), ("gru", {})],
)
def test_everybody_trains_the_same_model(name, options):
    small = {"hidden": 8, "batch": 3} | ({"length": 5} if name != "mlp" else {})
    workload = Workload("models", name, options=small | options)
    right = reference_of(workload)
    for contestant in installed(workload):
        # Adam divides the gradient of a key's bias, which is rounding only, by the size of that.
        assert distance(outcome_of(workload, contestant), right) < (2e-2 if "optimizer" in options else 5e-3), (
            contestant
        )


def test_pytorch_takes_part_where_it_has_the_model_and_the_optimizer():
    assert "torch" in models.able(Workload("models", "gpt"))
    assert "torch" not in models.able(Workload("models", "gpt", options={"optimizer": "rmsprop"}))
    assert "torch" not in models.able(Workload("models", "mlp"))
