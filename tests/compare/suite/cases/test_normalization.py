"""Normalization: both sides at every case, with rows and channels that are constant, and a batch of one."""

import numpy as np
import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("normalization"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("normalization"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


def test_a_row_is_constant_and_a_channel_is():
    """Where the variance is 0, epsilon alone stands below the square root."""
    x = CASES["layer_norm"][0].inputs[0]
    assert [np.ptp(row) == 0 for row in x].count(True) == 1
    x = CASES["batch_norm"][0].inputs[0]
    assert [np.ptp(channel) == 0 for channel in x.T].count(True) == 1


def test_a_batch_has_one_example():
    assert any(len(case.inputs[0]) == 1 for case in CASES["batch_norm"])


def test_groups_are_all_channels_each_channel_and_some():
    shares = {case.options["groups"] / case.inputs[0].shape[-1] for case in CASES["group_norm"]}
    assert min(shares) < 1 / 3 < max(shares) == 1
    assert 1 in {case.options["groups"] for case in CASES["group_norm"]}


@pytest.mark.parametrize("name", ops_of("normalization"))
def test_gains_are_not_what_they_are_at_the_start_of_training(name):
    """A gain of 1 and a bias of 0 hide that they are left out."""
    for case in CASES[name]:
        assert all(np.ptp(parameter) > 0.1 for parameter in case.inputs[1:])
