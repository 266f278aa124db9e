"""Convolutions: both sides at every case, with every option alone and together."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("convolution"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("convolution"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


def shape_of(case):
    """(size, kernel, channels, channels of a group) along the axes of space."""
    x, weight = case.inputs[:2]
    return x.shape[1:-1], weight.shape[:-2], x.shape[-1], weight.shape[-2]


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose2d"])
def test_there_are_groups_and_a_call_without_a_bias(name):
    assert any(case.options.get("groups", 1) > 1 for case in CASES[name])
    assert {case.inputs[2] is None for case in CASES[name]} == {True, False}


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_one_convolution_is_depthwise_and_no_kernel_is_all_square(name):
    shapes = [shape_of(case) for case in CASES[name]]
    assert any(channels > 1 and of_group == 1 for _, _, channels, of_group in shapes)
    assert any(len(set(kernel)) > 1 for _, kernel, _, _ in shapes)
    assert any(len(set(size)) > 1 for size, *_ in shapes)


@pytest.mark.parametrize("name", ["conv1d", "conv2d"])
def test_a_kernel_of_even_size_has_uneven_padding(name):
    """Of "same" padding the odd zero stands after the input."""
    same = [shape_of(case)[1] for case in CASES[name] if case.options.get("padding") == "same"]
    assert any(size % 2 == 0 for kernel in same for size in kernel)


def test_some_entries_of_an_input_are_in_no_window():
    case = CASES["conv2d"][1]
    (size, _), (kernel, _), *_ = shape_of(case)
    reach, stride = case.options["dilation"][0] * (kernel - 1) + 1, case.options["stride"][0]
    assert (size - reach) % stride > 0
    assert np.isfinite(case.inputs[0]).all()
