"""Faults of single entries, rows or regions, and of precision."""

import numpy as np
import pytest

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence
from tests.compare.judge.diagnosis.made_up import PARAMETER, RIGHT, SHAPE, evidence, named, placed

IDS = np.array([3, 1, 3, 0])


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (0 * RIGHT, "zero everywhere"),
        (placed(2, 0.0), "at 2 of axis 0"),
        (np.where(PARAMETER < -0.5, 0, RIGHT), "zero where Z is below about -0."),
    ],
)
def test_zeros(came, words):
    kind, _, message = named(came, thresholds={"Z": PARAMETER})
    assert kind == "zeros"
    assert words in message


def test_a_reference_of_zeros_is_worth_a_question():
    assert "does the JAX side stop this gradient?" in named(RIGHT, 0 * RIGHT)[2]


def test_rows_of_repeated_ids():
    came = placed(3, RIGHT[3] / 3.7)
    kind, _, message = named(came, ids={"ids": IDS})
    assert kind == "lost-repeats"
    assert "np.add.at" in message
    other_row = placed(1, RIGHT[1] / 3.7)  # a row that no id names twice
    assert all(diagnosis.kind != "lost-repeats" for diagnosis in diagnose(evidence(other_row, ids={"ids": IDS})))


def test_contributions_that_overwrite_each_other():
    terms = np.random.default_rng(1).standard_normal((7, 6))
    right, came = np.zeros(SHAPE), np.zeros(SHAPE)
    for row, term in zip([0, 1, 1, 2, 3, 3, 3], terms, strict=True):
        right[row] += term
        came[row] = term
    kind, _, message = named(came, right, known={"dy": terms})
    assert kind == "lost-repeats"
    assert "12 wrong entries is a single entry of dy" in message
    assert diagnose(evidence(came + (came != right), right, known={"dy": terms})) == []


def test_ties():
    """At a maximum that is attained twice; and not where an entry is wrong that is alone."""
    x = np.array([[1.0, 3, 3, 2], [0, 5, 6, 7], [8, 8, 8, 4]])
    first, all_equal = np.zeros_like(x), 1.5 * (x == x.max(axis=1, keepdims=True))
    first[np.arange(3), x.argmax(axis=1)] = 1.5
    assert named(all_equal, first, parameter=x)[0] == "ties"
    all_equal[1, 0] = 1
    assert all(d.kind != "ties" for d in diagnose(evidence(all_equal, first, parameter=x)))


def test_clipping():
    kind, factor, _ = named(np.clip(RIGHT, -0.5, 0.5))
    assert kind == "clipping"
    assert factor == pytest.approx(0.5)
    small = np.array([1e-9, 2e-9, -3e-10, 0.2])
    came = np.array([1e-7, 1e-7, -1e-7, 0.2])
    assert named(came, small)[:2] == ("clipping", pytest.approx(1e-7))


@pytest.mark.parametrize("narrow", ["float16", "float32"])
def test_precision_lost_in_storage(narrow):
    kind, _, message = named(RIGHT.astype(narrow).astype(np.float64))
    assert kind == "precision"
    assert narrow in message


def test_precision_lost_on_the_way():
    noise = 1 + 2e-7 * np.random.default_rng(1).standard_normal(SHAPE)
    assert named(RIGHT * noise)[0] == "precision"
    assert diagnose(evidence(RIGHT * (1 + 1e4 * (noise - 1)))) == []  # much larger than float32 makes it


def test_single_entries():
    kind, _, message = named(placed((1, 2), RIGHT[1, 2] * (1 + 1e-9)))
    assert kind == "single-entry"
    assert "[1, 2]" in message
    assert "1.000000001 times" in message


def test_one_entry_that_some_array_happens_to_hold_is_one_wrong_entry():
    labels = np.eye(5)
    (diagnosis,) = diagnose(evidence(placed((0, 1), 1.0), known={"y": labels}))
    assert diagnosis.kind == "single-entry"


def test_what_is_left_of_one_after_a_clip_is_equal_to_rounding():
    """A probability clipped at 1e-4, in float32: 1 - (1 - 1e-4) differs from 1e-4 by the rounding beside 1."""
    SINGLE, right = np.dtype("float32"), np.array([1e-9, 2e-10, -3e-9, 1e-12, 0.5, -0.25])
    allowed = np.full(6, 2e-6)

    def explained(*ends):
        came = np.array([*ends, 0.5, -0.25])
        return [diagnosis.kind for diagnosis in diagnose(Evidence("Z2", came, right, allowed, dtype=SINGLE))]

    assert explained(1e-4, 1.00016e-4, -1e-4, 1e-4) == ["clipping"]
    assert explained(1e-4, 1.02e-4, -1e-4, 1e-4) == []
