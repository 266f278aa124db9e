"""A tiny run at some of its moments: both sides are compared there, and another order of sums is no fault."""

import numpy as np
import pytest

import compare.lesson.shallow
import compare.lesson.subject
import manual
import manual.normalization
import manual.shallow
from compare import Verdict
from compare.lesson import lesson


def test_both_sides_agree(found):
    assert found.verdict is Verdict.AGREE
    assert found.sentence == (
        "AGREE: all 7 backward steps and 11 steps of second order agree with JAX at 4 moments of a training run of "
        "12 steps."
    )
    rows = [numbers for moment in found.moments for numbers in moment.numbers.values() if numbers.verdict is not None]
    assert len(rows) == 4 * (8 + 4)  # the loss and seven gradients, and the product of the Hessian with a vector
    assert all(numbers.error <= numbers.tolerance for numbers in rows)


@pytest.mark.campaign
def test_another_order_of_the_same_sums_is_no_fault(monkeypatch):
    right = manual.backpropagation

    def reordered(parameters, cache, x, y, *, intermediates):
        marks = {}
        gradients = right(parameters, cache, x, y, intermediates=marks)
        intermediates.update(marks)
        return gradients | {"W1": sum(np.outer(marks["Z1"][:, k], x[:, k]) for k in range(x.shape[1]))}

    monkeypatch.setattr(manual, "backpropagation", reordered)
    assert lesson().verdict is Verdict.AGREE


@pytest.mark.parametrize("iterations", [120, 300, 7])
def test_the_bar_counts_to_its_end(iterations, monkeypatch):
    monkeypatch.setattr(compare.lesson.subject, "MOMENTS", 31)
    recorded = compare.lesson.subject._recorded(iterations)
    assert len(recorded) == min(31, iterations + 1)
    assert (recorded[0], recorded[-1]) == (0, iterations)
    assert np.all(np.diff(recorded) > 0)


@pytest.mark.campaign
def test_a_run_that_diverges_gives_no_warnings():
    found = lesson(learning_rate=1e300, iterations=2)  # here a warning is an error
    assert found.verdict is not Verdict.AGREE
