"""Sums that are missing, that run over the wrong axis, or over too many."""

import numpy as np
import pytest

from compare.judge.diagnosis.causes import diagnose
from tests.compare.judge.diagnosis.made_up import RIGHT, SHAPE, evidence, named

TERMS = np.random.default_rng(2).standard_normal((*SHAPE, 5))  # RIGHT is not their sum; SUMMED is
SUMMED = TERMS.sum(axis=2)


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (TERMS[:, :, 0], "missing-sum", "the first entry of dZ along axis 2"),
        (TERMS[:, :, -1], "missing-sum", "the last entry of dZ along axis 2"),
        (TERMS[:, :, :-1].sum(axis=2), "missing-sum", "the last entry of dZ along axis 2 is left out"),
    ],
)
def test_sums_that_went_wrong(came, kind, words):
    terms = np.moveaxis(TERMS, 2, 0)  # sums over the first axes are the ones that biases need
    words = words.replace("axis 2", "axis 0")
    found = named(came, SUMMED, summands={"Z": terms})
    assert found[0] == kind
    assert words in found[2]


def test_sums_over_too_many_axes_and_over_the_wrong_one():
    terms = np.random.default_rng(1).standard_normal((5, 5))
    right = terms.sum(axis=1)
    found = named(np.full(5, terms.sum()), right, summands={"Z": terms})
    assert found[0] == "broadcast"
    assert "sum over axis 1 only" in found[2]
    found = named(terms.sum(axis=0), right, summands={"Z": terms})
    assert found[0] == "missing-sum"
    assert "summed over axis 0, and should be summed over axis 1" in found[2]


def test_one_value_where_different_ones_belong():
    assert "the mean of the expected values" in named(np.full(SHAPE, RIGHT.mean()))[2]
    columns = np.ones(SHAPE) * RIGHT.sum(axis=1, keepdims=True)
    kind, _, message = named(columns)
    assert kind == "broadcast"
    assert "everywhere along axis 1: the sum" in message
    assert named(np.full(SHAPE, 0.123))[0] == "broadcast"


def test_a_sum_that_is_nearly_an_entry_is_none():
    terms = np.moveaxis(TERMS, 2, 0)
    near = terms[0].copy()
    near[1, 2] += 1e-9
    assert diagnose(evidence(near, SUMMED, summands={"Z": terms})) == []
    assert diagnose(evidence(terms[0], SUMMED, summands={"Z": terms + 1e-9})) == []  # these add up to something else


def rows_alike(value):
    came = RIGHT.copy()
    came[1:3] = value
    return came


@pytest.mark.parametrize("word", ["sum", "mean"])
def test_rows_that_are_alike_are_a_sum_of_what_they_should_be(word):
    kind, _, message = named(rows_alike(getattr(np, word)(RIGHT[1:3], axis=0)))
    assert kind == "broadcast"
    assert f"it has the same values at indices 1, 2 of axis 0: the {word} of the expected values" in message


@pytest.mark.parametrize(
    "value", [RIGHT.sum(axis=0), 1.01 * RIGHT[1:3].sum(axis=0), RIGHT[1:3].max(axis=0), RIGHT[1] - RIGHT[2]]
)
def test_rows_that_are_alike_in_another_way_are_none(value):
    assert "broadcast" not in [d.kind for d in diagnose(evidence(rows_alike(value)))]
