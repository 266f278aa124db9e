"""What is tried: every edit makes another program, says so in words, and costs what it is told to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import check_gradients
from compare.judge.diagnosis.edits import Edit, Effort, Traced, flipped, other_numbers, regular, single_edits
from compare.judge.program.evaluated import Evaluated
from compare.judge.program.trace import Program

X = np.random.default_rng(0).uniform(0.5, 2.0, (4, 4))


def traced(function, effort=None):
    with jax.enable_x64(True):
        plan = Program(function, X).plan
    here = Evaluated(plan, [X])
    return Traced(here, plan.outputs[0], {plan.inputs[0]: "x"}, effort or Effort())


FUNCTIONS = {
    "arithmetic": lambda x: (x * 2.0 - x**3) / (x + 1.0),
    "choice": lambda x: jnp.where(x > 1.0, x, -x),
    "sums": lambda x: jnp.sum(x * jnp.sin(x), axis=1, keepdims=True) * x,
    "product": lambda x: x @ x + jnp.exp(x),
    "loop": lambda x: jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c), x[0], x)[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_edit_keeps_the_shape_and_says_what_it_is(name):
    of = traced(FUNCTIONS[name])
    edits = list(single_edits(of))
    right = of.here.values[of.target]
    changed = 0
    for edit in edits:
        assert edit.words
        assert edit.kind
        with np.errstate(all="ignore"):
            value = of.predicts(edit)
        assert value.shape == right.shape
        changed += not np.array_equal(value, right, equal_nan=True)
    assert changed > 0.8 * len(edits) > 3
    np.testing.assert_array_equal(of.here.again({}, of.target), right)


def test_what_is_done_again_is_taken_from_the_effort():
    effort = Effort(100)
    of = traced(FUNCTIONS["arithmetic"], effort)
    of.predicts(next(edit for edit in single_edits(of) if edit.changes))
    assert effort.left == 100 - of.here.done < 100


def test_an_edit_must_hold_elsewhere():
    of = traced(lambda x: x**2 * 3.0)
    there = Evaluated(of.here.plan, [X + 1])
    square = next(edit for edit in single_edits(of) if edit.kind == "missing-operation")
    for came, holds in ((3 * (X + 1), True), (3 * (X + 1) + 1e-3, False), ((X + 1) ** 2 * 3.1, False)):
        of.elsewhere = lambda came=came: [(there, came, 0.0)]
        assert of.holds_elsewhere(square, 1e-12) is holds
    of.elsewhere = list
    assert of.holds_elsewhere(square, 1e-12)  # nobody knows better


def test_numbers_are_counted_with_those_that_are_alike():
    of = traced(lambda x: 0.3 * x + 0.3 * jnp.sin(x) + x / 7.0)
    found = [(number, times(2.0).words, len(times(2.0).changes)) for number, _, times in other_numbers(of)]
    assert (0.3, "0.6 is used instead of 0.3, in 2 places", 2) in found
    assert (7.0, "3.5 is used instead of 7", 1) in found
    assert sum(number == 0.3 for number, _, _ in found) == 3  # both, and each


def test_masks_of_the_right_shape_are_turned_where_it_is_wrong():
    mask = np.tri(4)
    of = traced(lambda x: x * mask)
    wrong = np.zeros((4, 4), bool)
    wrong[0, 1:] = True
    (edit,) = flipped(of, wrong)
    np.testing.assert_array_equal(of.predicts(edit), np.where(wrong, X, X * mask))
    assert isinstance(edit, Edit)
    assert list(flipped(traced(lambda x: x * 2.0), wrong)) == []
    assert list(flipped(of, wrong[:2])) == []


@pytest.mark.parametrize(
    ("indices", "steps"),
    [
        (np.arange(4)[:, None] * 3 + np.arange(2), [3, 1]),
        (np.arange(5)[::-1] * 2, [-2]),
        (np.array([0, 1, 3]), None),
        (np.array([[0, 1], [2, 4]]), None),
        (np.array([5]), [0]),
    ],
)
def test_regular_indices(indices, steps):
    assert regular(indices) == steps


NO_SUMS = {
    "the 1 of p log p": (lambda p: (np.sum(p * np.log(p)), np.log(p)), lambda p: jnp.sum(p * jnp.log(p))),
    "the -1 of exp(p) - p": (lambda p: (np.sum(np.exp(p) - p), np.exp(p)), lambda p: jnp.sum(jnp.exp(p) - p)),
}


@pytest.mark.parametrize("name", NO_SUMS)
def test_a_term_of_one_value_is_no_term_of_a_sum(name):
    """The sum of the loss makes every gradient one value along its axis, and nothing of it is missing."""
    report = check_gradients(*NO_SUMS[name], np.array([0.3, 1.2, 0.7, 2.0]))
    (cause,) = report.diagnoses
    assert cause.kind == "missing-term"
    assert "sum or mean" not in cause.message


def test_a_division_is_named_and_not_what_would_stand_for_the_whole_gradient():
    x = np.array([0.3, -1.2, 0.7, 2.0])
    report = check_gradients(
        lambda x: (np.log(np.cosh(x)).sum(), np.sinh(x)), lambda x: jnp.log(jnp.cosh(x)).sum(), x, probes=False
    )
    (cause,) = report.diagnoses
    assert cause.kind == "missing-factor"
    assert "cosh" in cause.message
