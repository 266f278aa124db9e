"""The ops of the catalog, as every contestant computes them."""

from dataclasses import replace

import pytest

from compare.bench import ops
from compare.bench.turns import Outcome, distance
from compare.bench.workloads import Workload
from compare.platform import precise
from compare.suite.cases import all_cases
from compare.suite.ops import catalog
from tests.compare.bench.runs import installed, outcome_of


@pytest.mark.parametrize("op", ["hinge", "dropout", "rotary_embedding", "max_pool2d", "conv1d", "gru"])
def test_everybody_computes_the_same_value_and_gradients(op, monkeypatch):
    small, workload = all_cases()[op][0], Workload("ops", op)
    monkeypatch.setitem(ops.SIZES, op, lambda draw: small)
    right = Outcome(outcome_of(replace(workload, dtype="float64"), "manual", 1), {})
    for name in installed(workload):
        with precise():
            assert distance(outcome_of(workload, name, 1), right) < 1e-4, name


def test_pytorch_takes_part_where_it_has_the_op():
    assert "torch" in ops.able(Workload("ops", "gelu"))
    assert "torch" not in ops.able(Workload("ops", "dropout"))


def test_every_op_can_be_timed():
    assert set(ops.SIZES) == set(catalog())
    assert ops.described(Workload("ops", "dropout")) == "1024x1024, rate=0.1"
    for name in ("huber", "lstm", "conv1d"):
        program = ops.traced(Workload("ops", name))
        assert len(program.out_avals) > 1  # a value and gradients, at the size that is timed
