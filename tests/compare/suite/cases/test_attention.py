"""Attention: both sides at every case, with grouped heads, and a query that may attend to nothing."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("attention"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("attention"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


def test_a_query_attends_to_nothing_and_the_others_to_something():
    mask = CASES["attention"][0].inputs[3]
    seen = mask.any(axis=-1)
    assert not seen.all()
    assert seen.any()
    assert not mask[seen].all()  # and not to everything


def test_keys_are_fewer_than_heads_and_fewer_or_more_than_queries():
    shapes = [(case.inputs[0].shape, case.inputs[1].shape) for case in CASES["attention"]]
    assert any(key[2] < query[2] for query, key in shapes)
    assert {np.sign(key[1] - query[1]) for query, key in shapes} == {-1, 1}


def test_positions_differ_from_row_to_row_and_from_their_place():
    by_row = [case.inputs[1] for case in CASES["rotary_embedding"] if case.inputs[1].ndim == 2]
    assert any((positions[0] != positions[1]).any() for positions in by_row)
    assert all((case.inputs[1] != np.arange(3)).any() for case in CASES["rotary_embedding"])
