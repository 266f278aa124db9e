"""Kinks and ties are no faults, and no excuse either."""

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_gradients, tap

# ----------------------------------------------------------------------------------- relu at zero


def relu_loss(w, x):
    return jnp.sum(x * jnp.where(w > 0, w, 0))


def relu_by_hand(at_zero):
    def loss_and_gradients(w, x):
        return np.sum(x * np.maximum(w, 0)), x * np.where(w == 0, at_zero, w > 0)

    return loss_and_gradients


X = np.array([0.7, -1.3, 2.1, 0.4, -0.9])
AT_A_KINK = np.array([0.5, 0.0, -1.2, 0.0, 2.0])
SMOOTH = np.array([0.5, 0.3, -1.2, -0.8, 2.0])


def check_relu(at_zero, w):
    return check_gradients(relu_by_hand(at_zero), relu_loss, w, X, probes=False)


def test_the_same_convention_agrees_at_a_kink():
    assert check_relu(0.0, AT_A_KINK).verdict is Verdict.AGREE


@pytest.mark.parametrize("at_zero", [1.0, 0.5])
def test_another_convention_at_a_kink_is_no_fault(at_zero):
    report = check_relu(at_zero, AT_A_KINK)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "not differentiable" in report.sentence
    assert report.wrong_side is None
    assert not report.diagnoses


@pytest.mark.parametrize("at_zero", [2.0, -1.0])
def test_what_is_no_derivative_on_either_side_of_a_kink_is_a_fault(at_zero):
    assert check_relu(at_zero, AT_A_KINK).verdict is Verdict.DISAGREE


@pytest.mark.parametrize("w", [SMOOTH, AT_A_KINK])
def test_a_fault_far_from_the_kink_is_not_excused(w):
    def wrong(w, x):
        loss, gradient = relu_by_hand(1.0)(w, x)
        gradient[4] *= 1.001
        return loss, gradient

    report = check_gradients(wrong, relu_loss, w, X, probes=False)
    assert report.verdict is Verdict.DISAGREE


# ------------------------------------------------------------------------------------ ties of max


def max_loss(w, scale):
    return scale * jnp.sum(jnp.max(w, axis=1))


def max_by_hand(share):
    """`share(row)` is the gradient of one row's maximum."""

    def loss_and_gradients(w, scale):
        return scale * np.sum(w.max(axis=1)), scale * np.array([share(row) for row in w], w.dtype)

    return loss_and_gradients


def first(row):
    return np.arange(len(row)) == row.argmax()


def last(row):
    return first(row[::-1])[::-1]


def evenly(row):
    return (row == row.max()) / np.sum(row == row.max())


def to_all(row):
    """The full gradient to each of the tied, which no subgradient is."""
    return row == row.max()


def to_none(row):
    return first(row) & (np.sum(row == row.max()) == 1)


TIED = np.array([[1.0, 3.0, 3.0], [2.0, -1.0, 0.5], [0.2, 0.1, 0.2]])
SCALE = np.float64(1.7)


def check_max(share):
    return check_gradients(max_by_hand(share), max_loss, TIED, SCALE, probes=False)


def test_jax_shares_evenly_and_so_may_we():
    assert check_max(evenly).verdict is Verdict.AGREE


@pytest.mark.parametrize("share", [first, last])
def test_all_to_one_of_the_tied_is_another_choice(share):
    report = check_max(share)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "not differentiable" in report.sentence


@pytest.mark.parametrize("share", [to_all, to_none])
def test_all_to_each_of_the_tied_or_to_none_is_a_fault(share):
    report = check_max(share)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "value"


def test_a_fault_in_a_row_without_a_tie_is_not_excused():
    def wrong(w, scale):
        loss, gradient = max_by_hand(first)(w, scale)
        gradient[1, 0] = 0.9 * scale
        return loss, gradient

    assert check_gradients(wrong, max_loss, TIED, SCALE, probes=False).verdict is Verdict.DISAGREE


# ------------------------------------------------------------------- what starts at zero stands at a kink

RANDOM = np.random.default_rng(5)
INPUTS = RANDOM.standard_normal((20, 5))
INPUTS[3] = 0  # a row of padding
ONES = np.ones(8)


def hidden_loss(p, x):
    Z = tap("Z", x @ p["W"] + p["b"])
    return jnp.mean((jnp.maximum(Z, 0) @ p["V"] - 1) ** 2)


def hidden_by_hand(slope, with_Z=False, change=lambda g: g):
    def loss_and_gradients(p, x):
        Z = x @ p["W"] + p["b"]
        A = np.maximum(Z, 0)
        d = 2 * (A @ p["V"] - 1) / len(x)
        dZ = np.outer(d, p["V"]) * slope(Z)
        gradients = change({"W": x.T @ dZ, "b": dZ.sum(0), "V": A.T @ d})
        return (np.mean((A @ p["V"] - 1) ** 2), gradients) + (({"Z": dZ},) if with_Z else ())

    return loss_and_gradients


STARTS = {
    "biases at 0, a row of zeros": {"W": RANDOM.standard_normal((5, 8)), "b": 0 * ONES, "V": RANDOM.standard_normal(8)},
    "all of a layer at 0": {"W": np.zeros((5, 8)), "b": 0 * ONES, "V": RANDOM.standard_normal(8)},
}


@pytest.mark.sweep
@pytest.mark.parametrize("with_Z", [False, True])
@pytest.mark.parametrize("slope", [lambda Z: Z > 0, lambda Z: Z >= 0])
@pytest.mark.parametrize("start", STARTS)
def test_another_convention_where_training_begins_is_no_fault(start, slope, with_Z):
    report = check_gradients(hidden_by_hand(slope, with_Z), hidden_loss, STARTS[start], INPUTS)
    assert report.verdict is Verdict.INCONCLUSIVE, str(report)
    assert "not differentiable" in report.sentence


@pytest.mark.sweep
@pytest.mark.parametrize("with_Z", [False, True])
@pytest.mark.parametrize("start", STARTS)
def test_what_no_convention_gives_where_training_begins_is_a_fault(start, with_Z):
    report = check_gradients(
        hidden_by_hand(lambda Z: np.where(Z == 0, 3, Z > 0), with_Z), hidden_loss, STARTS[start], INPUTS
    )
    assert report.verdict is Verdict.DISAGREE


def test_a_fault_elsewhere_is_not_excused_where_training_begins():
    by_hand = hidden_by_hand(lambda Z: Z > 0, change=lambda g: g | {"V": 1.001 * g["V"]})
    report = check_gradients(by_hand, hidden_loss, STARTS["biases at 0, a row of zeros"], INPUTS)
    assert report.verdict is Verdict.DISAGREE


def test_one_convention_of_both_sides_agrees_at_zero():
    def by_hand(p):
        return np.abs(p).sum(), np.where(p > 0, 1.0, -1.0)

    report = check_gradients(by_hand, lambda p: jnp.sum(jnp.where(p > 0, p, -p)), np.zeros(5))
    assert report.verdict is Verdict.AGREE, str(report)


def test_labels_stay_what_they_are_beside_a_kink():
    def by_hand(w, y):
        side = np.where(y > 0, 1.0, -1.0)  # right for labels, and for nothing beside them
        return np.sum(side * np.maximum(w, 0)), side * (w >= 0)

    labels = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    report = check_gradients(by_hand, relu_loss, AT_A_KINK, labels)
    assert report.verdict is Verdict.INCONCLUSIVE, str(report)
    assert check_gradients(by_hand, relu_loss, SMOOTH, labels).verdict is Verdict.AGREE
