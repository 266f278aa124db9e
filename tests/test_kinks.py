"""Kinks and ties are no faults, and no excuse either."""

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_gradients

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
    assert "kink or a tie" in report.sentence
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
    assert "kink or a tie" in report.sentence


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
