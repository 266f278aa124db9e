"""What an exercise is, and the numbers that it is judged with."""

import numpy as np

from compare.exercise import EXERCISES
from compare.exercise.entry import normal


def test_there_are_some_twenty_and_each_has_its_place():
    assert 20 <= len(EXERCISES) <= 30
    assert next(iter(EXERCISES)) == "bias"
    assert {"attention", "batch_norm", "adam"} < set(EXERCISES)


def test_a_point_for_each_value_that_is_returned():
    assert EXERCISES["dense"].points == 3
    assert EXERCISES["adam"].points == 3


def test_numbers_are_the_same_each_time_and_others_for_another_shape_or_seed():
    assert np.array_equal(normal(3, 2), normal(3, 2))
    assert not np.array_equal(normal(3, 2).ravel(), normal(2, 3).ravel())
    assert not np.array_equal(normal(3, 2), normal(3, 2, seed=1))
