"""The right numbers in the wrong order: transposed, shifted, permuted, misplaced."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence
from tests.compare.judge.diagnosis.made_up import OTHERWISE, RIGHT, SHAPE, evidence, named

RANDOM = np.random.default_rng(1)
SQUARE = RANDOM.standard_normal((5, 5))


@pytest.mark.parametrize(
    ("came", "right", "kind"),
    [
        (SQUARE.T, SQUARE, "transpose"),
        (RIGHT.T.reshape(SHAPE), RIGHT, "transpose"),
        (np.roll(RIGHT, 1, axis=1), RIGHT, "shift"),
        (np.roll(RIGHT, -2, axis=0), RIGHT, "shift"),
        (RIGHT[::-1], RIGHT, "permutation"),
        (RIGHT[:, [2, 0, 1, 5, 4, 3]], RIGHT, "permutation"),
        (RANDOM.permutation(RIGHT.ravel()).reshape(SHAPE), RIGHT, "permutation"),
    ],
)
def test_the_right_numbers_in_the_wrong_places(came, right, kind):
    assert named(came, right)[0] == kind


def test_the_right_amounts_in_the_wrong_places():
    """Two rows of what should go to all of them; not what sums to zero, as every gradient of a norm does."""
    came = np.zeros_like(RIGHT)
    np.add.at(came, [0, 1, 0, 1], RIGHT)
    kind, _, message = named(came)
    assert kind == "misplaced"
    assert "sums along axis 0 are right" in message
    centered, other = (a - a.mean(axis=0) for a in (RIGHT, OTHERWISE))
    assert diagnose(evidence(other, centered)) == []


G = RANDOM.standard_normal((5, 5))
SYMMETRIC = G + G.T


@pytest.mark.parametrize(
    ("came", "right", "kind", "words"),
    [
        (
            2 * SYMMETRIC - np.diag(np.diag(SYMMETRIC)),
            SYMMETRIC,
            "symmetric",
            "exactly twice the expected value off its diagonal",
        ),
        ((SYMMETRIC + np.diag(np.diag(SYMMETRIC))) / 2, SYMMETRIC, "symmetric", "exactly half"),
        (2 * np.tril(G) - np.diag(np.diag(G)), G, "symmetric", "its lower triangle is doubled"),
        (2 * np.triu(G) - np.diag(np.diag(G)), G, "symmetric", "its upper triangle is doubled"),
        (G + G.T, G, "symmetric", "(G + G^T)"),
        ((G + G.T) / 2, G, "symmetric", "(G + G^T) / 2"),
        (G + G.T - np.diag(np.diag(G)), G, "symmetric", "(G + G^T - diag G)"),
        (np.tril(G), G, "triangle", "only its lower triangle"),
        (np.triu(SYMMETRIC), SYMMETRIC, "triangle", "only its upper triangle"),
        (G, np.triu(G), "triangle", "its lower triangle should be 0, and is not"),
    ],
)
def test_a_matrix_taken_for_symmetric_and_a_triangle_alone(came, right, kind, words):
    found = named(came, right)
    assert found[0] == kind
    assert words in found[2]


def other_than(right, index):
    came = 2 * right - np.diag(np.diag(right))
    came[index] *= 1 + 1e-9
    return came


@pytest.mark.parametrize(
    ("came", "right"),
    [
        (other_than(SYMMETRIC, (1, 3)), SYMMETRIC),
        (1.9 * SYMMETRIC - 0.9 * np.diag(np.diag(SYMMETRIC)), SYMMETRIC),
        (G + 0.9 * G.T, G),
        (np.tril(G) + 1e-9, G),
        (2 * SYMMETRIC, SYMMETRIC),
    ],
)
def test_what_is_nearly_so_is_neither(came, right):
    assert {d.kind for d in diagnose(evidence(came, right))}.isdisjoint({"symmetric", "triangle"})


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), size=st.floats(-12, 0), shape=st.sampled_from([(4, 6), (5, 5), (30, 1), (3, 2, 4)])
)
def test_sums_that_are_right_only_within_rounding_place_nothing(seed, size, shape):
    """One wrong entry in float32, and errors of any size everywhere: sums are off by as much."""
    random = np.random.default_rng(seed)
    right = random.standard_normal(shape)
    allowed = np.full(shape, 1e-5)
    everywhere = right + 10**size * random.standard_normal(shape)
    one = right.copy()
    one.flat[int(random.integers(right.size))] += 1.5e-5
    for came in (everywhere, one):
        kinds = {d.kind for d in diagnose(Evidence("W", came, right, allowed, dtype=np.dtype(np.float32)))}
        assert kinds <= {"single-entry"}


def with_rows(**rows):
    came = RIGHT.copy()
    for at, value in rows.items():
        came[int(at[1:])] = value
    return came


def test_a_row_that_holds_what_another_should():
    kind, _, message = named(with_rows(_2=RIGHT[0]))
    assert kind == "copied"
    assert "along axis 0, some lines have the expected values of others: 2 has those of 0" in message
    came = RIGHT.copy()
    came[:, [1, 4]] = RIGHT[:, [0, 2]]
    kind, _, message = named(came)
    assert kind == "copied"
    assert "along axis 1" in message
    assert "1 has those of 0; 4 has those of 2" in message


@pytest.mark.parametrize(
    "came",
    [
        with_rows(_2=1.01 * RIGHT[0]),
        with_rows(_2=RIGHT[0] + 1e-9),
        with_rows(_2=RIGHT[0][::-1]),
        with_rows(_2=(RIGHT[0] + RIGHT[1]) / 2),
        with_rows(_2=RIGHT[0], _3=OTHERWISE[0]),
        with_rows(_2=0.0),
    ],
)
def test_a_row_that_holds_something_else_is_not_copied(came):
    assert "copied" not in [d.kind for d in diagnose(evidence(came))]


def test_of_one_value_everywhere_nothing_is_copied():
    right = RANDOM.standard_normal(3)
    assert "copied" not in [d.kind for d in diagnose(evidence(np.full(3, right[0]), right))]
