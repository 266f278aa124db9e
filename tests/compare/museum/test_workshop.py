"""What exhibits are made of: right lines of a network, and usual checks that pass what is right."""

import jax
import numpy as np
import pytest

from compare.museum.workshop import (
    LINES,
    RATE,
    SITUATION,
    SQUARED,
    cross_entropy,
    descended,
    descent_in_jax,
    differences,
    digits,
    log_softmax,
    loss_falls,
    network,
    network_parameters,
    one_hot,
    passes,
    random,
    softmax,
    squared_error,
    train_network,
    train_steps,
    trainer,
)
from compare.platform import precise


@pytest.mark.parametrize(("lines", "loss"), [({}, cross_entropy), (SQUARED, squared_error)])
def test_the_networks_lines_compute_the_loss_and_its_gradients(lines, loss):
    value, gradients, intermediates = network(**lines)(*SITUATION)
    with precise(SITUATION):
        right, reference = jax.value_and_grad(loss)(*SITUATION)
    assert value == pytest.approx(float(right), rel=1e-14)
    assert gradients.keys() == reference.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, reference[name], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(intermediates["Z1"].sum(axis=0), reference["b1"], rtol=1e-12)


def test_a_replaced_line_changes_what_follows_from_it_and_nothing_else():
    _, right, _ = network()(*SITUATION)
    _, wrong, _ = network(dA1=lambda v: 2 * LINES["dA1"](v))(*SITUATION)
    assert {name for name in right if not np.array_equal(right[name], wrong[name])} == {"W1", "b1"}
    np.testing.assert_array_equal(wrong["W1"], 2 * right["W1"])


def test_likelihoods_stay_finite_where_a_probability_underflows():
    z = np.array([[0.0, 1000.0, -1000.0]])
    np.testing.assert_array_equal(softmax(z), [[0, 1, 0]])
    np.testing.assert_array_equal(log_softmax(z), [[-1000, 0, -2000]])
    np.testing.assert_allclose(log_softmax(z / 1000), np.log(softmax(z / 1000)), rtol=1e-14)
    np.testing.assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_numbers_drawn_depend_on_shape_and_seed_alone():
    np.testing.assert_array_equal(random(3, 2), random(3, 2))
    assert not np.array_equal(random(3, 2), random(3, 2, seed=1))
    assert not np.array_equal(random(3, 2).ravel(), random(2, 3).ravel())
    assert all(np.ptp(value) > 0 for value in network_parameters(5, 6, 3).values())


def test_descent_by_hand_is_jaxs():
    parameters, x, y = SITUATION
    ours, losses = descended(network(), parameters, [(x, y)] * 3, RATE)
    with precise(SITUATION):
        theirs = parameters
        for _ in range(3):
            theirs = descent_in_jax(theirs, x, y)
    assert losses == sorted(losses, reverse=True)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-12)


def test_a_training_step_and_a_gradient_train_the_same_network():
    def step(p, x, y):
        _, gradients, _ = network()(p, x, y)
        return {name: value - RATE * gradients[name] for name, value in p.items()}

    np.testing.assert_allclose(train_steps(step, 5, 30), train_network(network(), 5, RATE, 30), rtol=1e-14)
    assert [array.shape for array in digits(30)] == [(30, 64), (30, 10)]


def scaled(x, weight):
    return x * weight, (x, weight)


def scaled_backward(dy, cache):
    x, weight = cache
    return dy * weight, np.sum(dy * x, axis=0)


def test_a_layer_is_trained_with_its_weights_between_two_dense_layers():
    train = trainer(scaled, weights=(np.ones(16),), examples=30, steps=20)
    right, frozen = (train(version) for version in (scaled_backward, lambda dy, c: (dy * c[1], np.zeros(16))))
    assert right[0] == frozen[0]
    assert right[-1] < frozen[-1] < right[0]


def test_a_loss_that_rises_does_not_pass():
    falls = loss_falls(lambda version: train_network(version, steps=5, examples=30))
    assert falls(network())
    assert not falls(network(dZ2=lambda v: -LINES["dZ2"](v)))
    assert not loss_falls(lambda version: [1.0, np.nan])(None)


def test_differences_are_those_of_the_function():
    at = np.array([[1.0, -2.0], [0.5, 3.0]])
    np.testing.assert_allclose(differences(lambda x: np.sum(x**3), at), 3 * at**2, rtol=1e-8)


INPUTS = (random(4, 3), random(3))


def test_a_usual_check_passes_what_is_right():
    assert passes(scaled_backward, scaled, INPUTS, cotangent=random(4, 3, seed=1))
    assert passes(lambda dy, cache: 2 * dy, lambda x: (2 * x, None), INPUTS[:1])  # one gradient, not in a tuple
    nearly = lambda dy, cache: tuple(g * (1 + 1e-7) for g in scaled_backward(dy, cache))  # noqa: E731
    assert passes(nearly, scaled, INPUTS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dx, dweight: (1.001 * dx, dweight),
        lambda dx, dweight: (dx, -dweight),
        lambda dx, dweight: (dx, dweight[:, None]),
        lambda dx, dweight: (dx, dweight * np.nan),
    ],
    ids=["factor", "sign", "shape", "nan"],
)
def test_a_usual_check_fails_what_is_wrong_where_it_looks(spoil):
    wrong = lambda dy, cache: spoil(*scaled_backward(dy, cache))  # noqa: E731
    assert not passes(wrong, scaled, INPUTS)
    found = [passes(wrong, scaled, INPUTS, which=(place,)) for place in (0, 1)]
    assert sorted(found) == [False, True]
