"""Paths that are missing or count more than once, and other quantities in the gradient's place."""

import numpy as np
import pytest

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.hypotheses.routes import weighted_path
from tests.compare.judge.diagnosis.made_up import (
    DERIVATIVE,
    FACTORS,
    OTHERWISE,
    PARAMETER,
    RIGHT,
    SHAPE,
    SIZES,
    evidence,
    named,
)

PATHS = {"mean": OTHERWISE, "variance": np.random.default_rng(1).standard_normal(SHAPE), "noise": 1e-15 * PARAMETER}


@pytest.mark.parametrize(
    ("came", "kind", "factor", "words"),
    [
        (RIGHT - OTHERWISE, "missing-path", 0, "no gradient flows back through mean: the backward pass treats it"),
        (RIGHT - OTHERWISE - PATHS["variance"], "missing-path", 0, "mean and variance: the backward pass treats them"),
        (RIGHT + OTHERWISE, "path", 2, "through mean has the factor 2, and"),
        (RIGHT - 2 * OTHERWISE, "path", -1, "through mean has the factor -1, and"),
        (RIGHT + 11 * OTHERWISE, "path", 12, "has the factor 12 (12 = x.shape[1])"),
        (RIGHT + (1 / 12 - 1) * PATHS["variance"], "path", 1 / 12, "1 / x.shape[1]"),
    ],
)
def test_paths_that_are_missing_or_count_more_than_once(came, kind, factor, words):
    found = named(came, paths=PATHS, sizes=SIZES)
    assert found[0] == kind
    assert found[1] == pytest.approx(factor, abs=1e-12)
    assert words in found[2]


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (PARAMETER, "it is the value of the parameter itself"),
        (OTHERWISE, "it is dy itself, unchanged"),
        (OTHERWISE * DERIVATIVE, "it is the elementwise product of dy and 1 - A1**2"),
    ],
)
def test_another_quantity_in_its_place(came, words):
    kind, _, message = named(came, known={"dy": OTHERWISE}, factors=FACTORS, parameter=PARAMETER)
    assert kind == "other-quantity"
    assert words in message


def test_the_sum_of_another_quantity():
    kind, _, message = named(RIGHT.sum(axis=0), OTHERWISE[0], known={"dW1": RIGHT})
    assert kind == "other-quantity"
    assert "the sum of dW1 over axis 0" in message


def test_a_path_that_is_rounding_explains_nothing():
    """Any difference is some multiple of it, if it is a multiple at all."""
    came = RIGHT + 1e9 * PATHS["noise"]
    assert diagnose(evidence(came, paths={"noise": PATHS["noise"]})) == []
    (diagnosis,) = diagnose(evidence(came, paths={"noise": 1e10 * PATHS["noise"]}))  # no rounding
    assert (diagnosis.kind, diagnosis.factor) == ("path", pytest.approx(1.1))


def test_a_factor_on_all_of_it_is_none_on_the_path_that_all_of_it_takes():
    """A constant factor has its own name, and where it is not known well, this one must not take its place."""
    e = evidence(1.1 * RIGHT, paths={"y": RIGHT})
    assert list(weighted_path(e)) == []
    nearly = RIGHT + 1e-9 * OTHERWISE
    (cause,) = weighted_path(evidence(RIGHT + 0.1 * nearly, paths={"y": nearly}))
    assert (cause.kind, cause.factor) == ("path", pytest.approx(1.1))
