"""Both sides at one point: every quantity compared, in backward order, and a bad answer refused in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.backward import BACKWARD_ORDER, by_hand
from benchmarks.faults import OBLONG
from compare import Verdict, check_gradients
from compare.judge.evaluation.intermediates import backward_order, find_taps
from compare.judge.evaluation.point import Check, swapped
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import traced
from compare.platform import precise
from compare.suite.shallow import shallow_loss
from tests.helpers import network

PARAMETERS, *ARGS = network(0, *OBLONG)


def at(function):
    with precise(PARAMETERS, *ARGS):
        program = traced(shallow_loss, PARAMETERS, *ARGS)
        check = Check(
            Watched(function), program, np.dtype("float64"), backward_order(program), find_taps(program), seed=0
        )
        return check.at(Inputs(PARAMETERS, tuple(ARGS), ("parameters", "x", "y")))


def test_everything_is_compared_in_backward_order():
    point = at(by_hand())
    assert [row.path for row in point.rows] == list(BACKWARD_ORDER)
    assert point.verdict is Verdict.AGREE
    assert point.wrong == set()
    assert all(row.error <= row.tolerance for row in point.rows)


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


@pytest.mark.parametrize("loss", [shallow_loss, None], ids=["a reference", "its own loss"])
def test_gradients_and_loss_in_the_wrong_order_are_an_error(loss):
    def in_wrong_order(parameters, *args):
        value, gradients, _ = by_hand()(parameters, *args)
        return gradients, value

    with pytest.raises(TypeError, match=r"^in_wrong_order must return .*, and the second value is one: are they swap"):
        check_gradients(in_wrong_order, loss, PARAMETERS, *ARGS)


@pytest.mark.parametrize(
    ("result", "parameters", "is_swapped"),
    [
        ((np.ones(3), 1.0), np.ones(3), True),
        ([{"w": 1.0}, np.float32(1)], {"w": np.ones(3)}, True),
        ((1.0, np.ones(3)), np.ones(3), False),
        ((np.ones(1), 2.0), np.float64(1), False),  # the gradient of one number is one
        ((None, 1.0), np.ones(3), False),
        ((np.ones(3), 1.0, {}), np.ones(3), False),
        (1.0, np.ones(3), False),
    ],
)
def test_what_looks_swapped(result, parameters, is_swapped):
    assert swapped(result, parameters) is is_swapped


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


# -------------------------------------------------------------- a loss that is too large for its dtype


def power_of_tanh(p):
    return jnp.sum((p["gain"] * jnp.tanh(p["m"])) ** 18 + p["shift"])


def power_of_tanh_by_hand(p):
    """At m = 2,000 the slope, tanh', is 0. At gain = 2,000 what the power passes back is too large for float32."""
    t = np.tanh(p["m"])
    dz = 18 * (p["gain"] * t) ** 17
    gradients = {"m": dz * p["gain"] * (1 - t**2), "gain": dz * t, "shift": np.ones_like(t)}
    return np.sum((p["gain"] * t) ** 18 + p["shift"]), gradients


NEAR = {name: np.full(3, 2, np.float32) for name in ("m", "gain", "shift")}
FAR = {name: 1000 * leaf for name, leaf in NEAR.items()}


def test_what_is_not_finite_says_nothing_where_the_loss_is_too_large_for_its_dtype():
    report = check_gradients(power_of_tanh_by_hand, power_of_tanh, NEAR)
    assert report.verdict is Verdict.AGREE
    assert "float32 cannot hold" in report.probes["parameters x 1000"]
    with np.errstate(all="ignore"):
        report = check_gradients(power_of_tanh_by_hand, power_of_tanh, FAR)
    assert report.verdict is Verdict.INCONCLUSIVE
    message = next(row.message for row in report.rows if row.path == "m")
    assert message == "nan at [0], where 0 is expected; but the loss is 7.86e+59, which float32 cannot hold"


def test_a_wrong_number_is_wrong_beside_such_a_loss_too():
    def doubled(p):
        loss, gradients = power_of_tanh_by_hand(p)
        return loss, gradients | {"shift": 2 * gradients["shift"]}

    with np.errstate(all="ignore"):
        report = check_gradients(doubled, power_of_tanh, FAR)
    assert report.verdict is Verdict.DISAGREE
    assert {row.path for row in report.rows if row.verdict is Verdict.DISAGREE} == {"shift"}


def test_an_overflow_on_the_way_to_a_loss_that_the_dtype_holds_is_told():
    def log_sum_exp(p):
        return jax.scipy.special.logsumexp(p["x"])

    def naive(p):
        e = np.exp(p["x"])
        return np.log(e.sum()), {"x": e / e.sum()}

    at = {"x": np.array([0.5, 1, 2], np.float32)}
    report = check_gradients(naive, log_sum_exp, at)
    assert report.verdict is Verdict.AGREE
    (words,) = [words for words in report.arithmetic if "'parameters x 1000'" in words]
    assert "the hand-written loss is inf, where 2" in words
    assert check_gradients(naive, log_sum_exp, at, strict=True).verdict is Verdict.DISAGREE
    far = {"x": 1000 * at["x"]}
    with np.errstate(all="ignore"):
        assert check_gradients(naive, log_sum_exp, far).verdict is Verdict.DISAGREE


@pytest.mark.parametrize("times", [1, 2])
def test_a_gradient_of_0_is_not_undecided_for_want_of_a_factor(times):
    """Batch normalization of one example: nothing of it moves, though rounding may move the formula by a lot."""

    def loss(x):
        return jnp.sum((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5) * jnp.arange(1.0, 5.0))

    def by_hand(x):
        return np.sum(0 * x), times * 0 * x

    report = check_gradients(by_hand, loss, np.array([[0.5, -1.0, 2.0, 3.0]]), probes=False)
    assert report.verdict is Verdict.AGREE, str(report)
    wrong = check_gradients(lambda x: (by_hand(x)[0], 0 * x + times), loss, np.ones((1, 4)), probes=False)
    assert wrong.verdict is Verdict.DISAGREE
