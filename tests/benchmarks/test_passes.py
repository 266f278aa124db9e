"""The bound of an op: every operation of NumPy in it is counted once and repeated on what is its own."""

import numpy as np
import pytest

from benchmarks import passes
from compare.bench.ops import SIZES
from manual.fast import activations


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(passes.SIZES, "silu", SIZES["silu"]._replace(usual=(3, 4)))
    monkeypatch.setitem(passes.SIZES, "softmax", SIZES["softmax"]._replace(usual=(3, 4)))


@pytest.mark.usefixtures("small")
def test_every_operation_is_counted_and_timed():
    count, seconds = passes.time_of_calls("silu")
    names = [name for name, _ in passes.calls]
    forward = ["negative", "exp", "add", "reciprocal", "multiply"]
    assert names == [*forward, "subtract", "multiply", "add", "multiply", "multiply"]
    assert count == len(names)
    assert seconds == sum(each for _, each in passes.calls) > 0
    passes.time_of_calls("softmax")
    assert [name for name, _ in passes.calls].count("vecdot") == 2


def test_repeating_an_operation_changes_nothing():
    x = np.arange(6, dtype=np.float32)
    timed = x.copy().view(passes.Timed)
    timed *= 2
    timed += timed
    np.testing.assert_array_equal(timed.view(np.ndarray), 4 * x)


@pytest.mark.usefixtures("small")
def test_the_ops_are_left_as_they_were():
    before = activations.in_parts, activations.elementwise
    passes.time_of_calls("silu")
    assert (activations.in_parts, activations.elementwise) == before
