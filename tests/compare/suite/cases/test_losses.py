"""Losses: both sides at every case, with every reduction, ignored rows, and targets that are certain."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("losses"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("losses"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


@pytest.mark.parametrize("name", ops_of("losses"))
def test_every_reduction_is_taken(name):
    assert {case.options.get("reduction", "mean") for case in CASES[name]} == {"mean", "sum", "none"}


def test_rows_are_ignored_by_the_usual_number_and_by_another():
    ignored = [
        (case.options["targets"] == case.options.get("ignore_index", -100)).mean()
        for case in CASES["cross_entropy"]
        if case.options["targets"].dtype.kind == "i"
    ]
    assert sum(0 < share < 1 for share in ignored) >= 2


@pytest.mark.parametrize("name", ["mean_absolute_error", "huber", "hinge"])
def test_there_are_predictions_on_both_sides_of_a_kink(name):
    for case in CASES[name]:
        predictions, targets = case.inputs[0], case.options["targets"]
        limit = case.options.get("delta" if name == "huber" else "margin", 1.0)
        from_kink = {
            "mean_absolute_error": predictions - targets,
            "huber": np.abs(predictions - targets) - limit,
            "hinge": limit - targets * predictions,
        }[name]
        assert from_kink.min() < 0 < from_kink.max()


def test_some_targets_are_certain():
    assert (CASES["kl_divergence"][0].options["targets"] == 1).any()  # log 0 times 0
