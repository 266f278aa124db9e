"""The ops of the catalog, as every contestant computes them."""

from dataclasses import replace

import numpy as np
import pytest

from compare.bench import ops
from compare.bench.turns import Outcome, distance
from compare.bench.workloads import Workload
from compare.errors import BadInput
from compare.platform import precise
from compare.suite.cases import all_cases
from compare.suite.ops import catalog
from tests.compare.bench.runs import installed, outcome_of


@pytest.mark.sweep
@pytest.mark.parametrize("op", ["hinge", "dropout", "rotary_embedding", "max_pool2d", "conv1d", "gru"])
def test_everybody_computes_the_same_value_and_gradients(op, monkeypatch):
    small, workload = all_cases()[op][0], Workload("ops", op)
    monkeypatch.setitem(ops.SIZES, op, ops.SIZES[op]._replace(case=lambda draw, *numbers: small))
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


@pytest.mark.parametrize("name", ops.SIZES)
def test_every_op_has_other_sizes_too(name):
    """At the least that every axis can have, in shapes alone."""
    size = ops.SIZES[name]
    small = [8 for _ in size.axes.split()]
    case = ops.case_of(Workload("ops", f"{name}:{'x'.join(map(str, small))}"))
    usual = ops.numbers_of(Workload("ops", name))
    assert usual == size.usual
    assert len(usual) == len(small)
    assert max(x.size for x in case.inputs if isinstance(x, np.ndarray)) <= 8**4 * 8
    assert "torch" in ops.able(Workload("ops", "gelu:3x5"))


@pytest.mark.parametrize("given", ["3", "3x", "x", "axb", "3x0", "3x4x5", "-3x4"])
def test_a_size_that_is_none_of_the_op_is_refused(given):
    with pytest.raises(BadInput, match=r"a size of gelu is ROWSxCOLUMNS, such as 1024x1024; got "):
        ops.able(Workload("ops", f"gelu:{given}"))


def test_other_sizes_are_what_is_computed():
    assert ops.described(Workload("ops", "gelu:3x5")) == "3x5"
    assert ops.described(Workload("ops", "dense:2x3x4")) == "2x3, 3x4, 4"
    outcome = outcome_of(Workload("ops", "gelu:3x5"), "manual", 1)
    assert all(value.size == 15 for value in outcome.values())
