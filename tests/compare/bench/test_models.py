"""The models of `verify`, as every contestant trains them."""

import pytest

from compare.bench import models
from compare.bench.turns import distance
from compare.bench.workloads import Workload
from tests.compare.bench.runs import installed, outcome_of, reference_of

SMALL = {"hidden": 8, "batch": 3}
SHORT = SMALL | {"length": 5}


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "options"),
    [("gpt", SHORT | {"layers": 1}), ("mlp", SMALL), ("mlp", SMALL | {"optimizer": "adamw"}), ("gru", SHORT)],
)
def test_everybody_trains_the_same_model(name, options):
    workload = Workload("models", name, options=options)
    right = reference_of(workload)
    for contestant in installed(workload):
        assert distance(outcome_of(workload, contestant), right) < 5e-3, contestant


@pytest.mark.campaign
def test_pytorchs_adamw_is_ours():
    """It has one of our models only, which takes JAX long to compile."""
    pytest.importorskip("torch")
    workload = Workload("models", "gpt", options=SHORT | {"layers": 1, "optimizer": "adamw"})
    # Adam divides the gradient of a key's bias, which is rounding only, by the size of that.
    assert distance(outcome_of(workload, "torch"), reference_of(workload)) < 2e-2


def test_pytorch_takes_part_where_it_has_the_model_and_the_optimizer():
    assert "torch" in models.able(Workload("models", "gpt"))
    assert "torch" not in models.able(Workload("models", "gpt", options={"optimizer": "rmsprop"}))
    assert "torch" not in models.able(Workload("models", "mlp"))
