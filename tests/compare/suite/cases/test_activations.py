"""Activations: both sides at every case, on both sides of a kink, along the last axis and along another."""

import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("activations"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("activations"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu"])
def test_there_are_inputs_on_both_sides_of_a_kink(name):
    for case in CASES[name]:
        (x,) = case.inputs
        assert x.min() < 0 < x.max()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_an_axis_is_summed_that_is_not_the_last(name):
    assert any(case.options.get("axis", -1) not in (-1, case.inputs[0].ndim - 1) for case in CASES[name])
