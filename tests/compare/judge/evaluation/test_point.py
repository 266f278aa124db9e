"""Both sides at one point: every quantity compared, in backward order, and a bad answer refused in words."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.backward import BACKWARD_ORDER, by_hand
from benchmarks.faults import OBLONG
from compare import Verdict, check_gradients
from compare.judge.evaluation.intermediates import backward_order, find_taps
from compare.judge.evaluation.point import Check
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.trace import traced
from compare.platform import precise
from compare.suite.shallow import shallow_loss
from tests.helpers import network

PARAMETERS, *ARGS = network(0, *OBLONG)


def at(function):
    names = ["parameters", "x", "y"]
    with precise(PARAMETERS, *ARGS):
        program = traced(shallow_loss, PARAMETERS, *ARGS)
        taps, order = find_taps(program), backward_order(program, PARAMETERS)
        check = Check(Watched(function, names), program, np.dtype("float64"), order, taps, names, seed=0)
        return check.at(PARAMETERS, tuple(ARGS))


def test_everything_is_compared_in_backward_order():
    point = at(by_hand())
    assert [row.path for row in point.rows] == list(BACKWARD_ORDER)
    assert point.verdict is Verdict.AGREE
    assert point.wrong == set()
    assert all(row.error <= row.allowed for row in point.rows)


def test_what_is_wrong_is_listed():
    point = at(by_hand(db1=lambda v: 2 * v.dZ1.sum(axis=1, keepdims=True), J=lambda v: -v.m))
    assert point.verdict is Verdict.DISAGREE
    assert point.wrong == {"b1", "loss"}


def test_intermediates_that_the_loss_does_not_mark_are_left_aside():
    def more(parameters, x, y):
        loss, gradients, intermediates = by_hand()(parameters, x, y)
        return loss, gradients, intermediates | {"A0": x}

    point = at(more)
    assert [row.path for row in point.rows] == list(BACKWARD_ORDER)
    assert point.intermediates.keys() == {"Z1", "A1", "Z2"}


@pytest.mark.parametrize(("answer", "name"), [(None, "NoneType"), (1.5, "float"), ((1.0,), "tuple")])
def test_an_answer_without_gradients_is_an_error(answer, name):
    with pytest.raises(TypeError, match=rf"must return \(loss, gradients\) or .*intermediates\), got {name}"):
        check_gradients(lambda p, x, y: answer, shallow_loss, PARAMETERS, *ARGS)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({}, "parameters holds no arrays"), (np.arange(3), "must be floating-point numbers, got int64")],
)
def test_parameters_that_cannot_be_differentiated_are_an_error(parameters, words):
    with pytest.raises(ValueError, match=words):
        check_gradients(lambda p: (0.0, p), lambda p: jnp.sum(p), parameters)
