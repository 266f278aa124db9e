"""The five small functions: a gradient is the slope of the hand-written loss where it is right, and only there."""

import numpy as np
import pytest

from benchmarks.small_problems import PROBLEMS, logistic_regression

MAKERS = [*PROBLEMS.values(), logistic_regression]


def by_differences(problem, direction, h=1e-5):
    def at(step):
        return problem.forward({name: leaf + step * direction[name] for name, leaf in problem.parameters.items()})[0]

    return (at(h) - at(-h)) / (2 * h)


def slopes(problem, seed):
    """Along one direction, by the hand-written gradient and by differences of the hand-written loss."""
    random = np.random.default_rng(seed)
    direction = {name: random.standard_normal(leaf.shape) for name, leaf in problem.parameters.items()}
    _, gradients = problem.loss_and_gradients(problem.parameters)
    by_hand = sum(np.sum(direction[name] * gradient) for name, gradient in gradients.items())
    return by_hand, by_differences(problem, direction)


@pytest.mark.parametrize("make", MAKERS)
def test_a_right_gradient_is_the_slope_and_a_faulty_one_is_not(make):
    for serial in (0, 3):
        assert slopes(make(serial, False), serial)[0] == pytest.approx(slopes(make(serial, False), serial)[1], rel=1e-6)
        by_hand, measured = slopes(make(serial, True), serial)
        assert abs(by_hand - measured) > 1e-3 * abs(measured)


@pytest.mark.parametrize("make", MAKERS)
def test_every_serial_number_has_data_of_its_own_and_the_same_one_the_same(make):
    first, same, other = make(1, False), make(1, True), make(2, False)
    for name, leaf in first.parameters.items():
        np.testing.assert_array_equal(leaf, same.parameters[name])
        assert leaf.shape != other.parameters[name].shape or (leaf != other.parameters[name]).all()
    assert first.loss is not same.loss
