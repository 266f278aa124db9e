"""Layers: both sides at every case, with ids that repeat and masks that keep some entries and drop others."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("layers"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("layers"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


def test_ids_repeat_and_leave_rows_out():
    repeats = []
    for case in CASES["embedding"]:
        weight, ids = case.inputs
        assert len(np.unique(ids)) < len(weight)
        repeats.append(len(np.unique(ids)) < np.size(ids))
    assert any(repeats)


def test_a_square_weight_hides_no_transpose():
    """In the shapes, that is: the gradients of a transposed one are others."""
    (square,) = [case.inputs[1] for case in CASES["dense"] if len(set(case.inputs[1].shape)) == 1]
    assert np.abs(square - square.T).max() > 0.1


def test_masks_are_of_several_kinds_and_drop_something_unless_the_rate_is_0():
    masks = [(case.inputs[1], case.options["rate"]) for case in CASES["dropout"]]
    assert {mask.dtype.kind for mask, _ in masks} == {"b", "i"}
    for mask, rate in masks:
        assert mask.any()
        assert mask.all() == (rate == 0)
