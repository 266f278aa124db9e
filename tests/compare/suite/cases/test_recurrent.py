"""Recurrent layers: both sides at every case, from states that are not zero, over several steps and over one."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("recurrent"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("recurrent"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


@pytest.mark.parametrize("name", ops_of("recurrent"))
def test_no_state_or_bias_is_zero_at_the_start(name):
    """Zeros hide what is multiplied by them."""
    for case in CASES[name]:
        assert all(np.abs(array).max() > 0.1 for array in case.inputs)


def test_sequences_are_of_several_steps_and_of_one_and_batches_of_one_example():
    shapes = [case.inputs[0].shape for name in ops_of("recurrent") for case in CASES[name]]
    assert {time for _, time, _ in shapes} >= {1, 4}
    assert 1 in {batch for batch, *_ in shapes}
