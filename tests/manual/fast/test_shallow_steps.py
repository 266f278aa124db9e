"""The loop of `manual.fast.shallow` against the page, and where small numbers or large sums would be lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manual
import manual.fast._shallow_steps as steps
from manual.fast.shallow import loss_and_gradients, train
from tests.helpers import network

NAMES = ("W1", "b1", "W2", "b2")


def assert_the_same(parameters, x, y, iterations=4, rate=0.5):
    trained, losses = train(parameters, x, y, iterations=iterations, learning_rate=rate)
    expected, expected_losses = manual.train(parameters, x, y, iterations=iterations, learning_rate=rate)
    units = 64 * float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(losses, expected_losses, rtol=units)
    assert losses.dtype == x.dtype
    for name in NAMES:
        assert (trained[name].dtype, trained[name].shape) == (expected[name].dtype, expected[name].shape)
        assert trained[name].flags.c_contiguous
        assert np.abs(trained[name] - expected[name]).max() <= units * max(1, np.abs(expected[name]).max()), name


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 200)),
    dtype=st.sampled_from([np.float64, np.float32]),
    soft=st.booleans(),
)
def test_the_steps_are_those_of_the_page(seed, sizes, dtype, soft):
    """To rounding: a bias is added inside the product."""
    parameters, x, y = network(seed, *sizes, dtype=dtype)
    if soft:
        y = np.random.default_rng(seed).random(y.shape).astype(dtype)
    assert_the_same(parameters, x, y)


def test_the_gradients_are_those_of_the_page_and_labels_are_checked():
    parameters, x, y = network(3, 4, 5, 2, 30)
    (loss, gradients), (expected_loss, expected) = (
        side(parameters, x, y) for side in (loss_and_gradients, manual.loss_and_gradients)
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-14)
    for name in NAMES:
        np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="x has 30 examples"):
        loss_and_gradients(parameters, x, y[:, :-1])


def test_a_term_that_is_left_out_is_noticed(monkeypatch):
    right = steps.Steps._forward_and_backward

    def forgets(self):
        loss = right(self)
        self.dV2[:, -1] = 0
        return loss

    monkeypatch.setattr(steps.Steps, "_forward_and_backward", forgets)
    with pytest.raises(AssertionError):
        assert_the_same(*network(3, 3, 4, 1, 40))


@pytest.mark.parametrize("label", [0.01, 1e-3, 1e-6])
def test_soft_labels_keep_their_digits(label):
    """Near the optimum, where sigmoid(Z2) - y is small because both are."""
    y = np.full((1, 50), label, np.float32)
    zeros = {
        "W1": np.ones((1, 1)),
        "b1": np.zeros((1, 1)),
        "W2": np.zeros((1, 1)),
        "b2": np.full((1, 1), np.log(label)),
    }
    loop = steps.Steps(
        {name: value.astype(np.float32) for name, value in zeros.items()}, np.ones((1, 50), np.float32), y
    )
    loop.step(0.0)
    logit = loop.V2[0, -1].astype(np.float64)
    exact = (1 / (1 + np.exp(-logit)) - y.astype(np.float64)) / 50
    assert (abs(loop.dZ2 - exact) <= 4e-7 * label / 50).all()


def test_many_examples_in_float16():
    """Where 2 m is more than float16 holds."""
    m = 40_000
    x, y = np.ones((1, m), np.float16), np.zeros((1, m), np.float16)
    parameters = {"W1": np.ones((1, 1)), "b1": np.zeros((1, 1)), "W2": np.full((1, 1), 0.1), "b2": np.zeros((1, 1))}
    parameters = {name: value.astype(np.float16) for name, value in parameters.items()}
    share = steps.Steps(parameters, x, y)
    share.step(0.0)
    z = 0.1 * np.tanh(1)
    right = 1 / (1 + np.exp(-z)) / m
    np.testing.assert_allclose(np.asarray(share.dZ2, float), right, rtol=0.05)  # a subnormal number


@pytest.mark.parametrize(("of_parameters", "of_x"), [("f8", "f4"), ("f4", "f8"), ("f4", "i8"), ("f8", "i4")])
def test_mixed_dtypes_are_those_of_the_page(of_parameters, of_x):
    parameters, x, y = network(5, 3, 4, 2, 30)
    parameters = {name: value.astype(of_parameters) for name, value in parameters.items()}
    x = (4 * x).astype(of_x)
    loop = steps.Steps(parameters, x, y)
    losses = np.array([loop.step(0.1) for _ in range(3)])
    trained = loop.parameters()
    wide = {name: value.astype(np.float64) for name, value in parameters.items()}
    expected, expected_losses = manual.train(wide, x.astype(np.float64), y, iterations=3, learning_rate=0.1)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-13)
    for name in NAMES:
        assert trained[name].dtype == np.float64
        np.testing.assert_allclose(trained[name], expected[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("train", [train, manual.train], ids=["fast", "page"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("label", [0.0, 1.0, 0.3])
def test_a_logit_of_zero_of_either_sign(train, zero, label):
    parameters = {
        "W1": np.ones((1, 1)),
        "b1": np.zeros((1, 1)),
        "W2": np.full((1, 1), zero),
        "b2": np.full((1, 1), zero),
    }
    x, y = np.array([[0.5, -0.5]]), np.full((1, 2), label)
    trained, losses = train(parameters, x, y, iterations=1, learning_rate=1.0)
    assert losses[0] == pytest.approx(np.log(2), rel=1e-15)
    assert trained["b2"].item() == pytest.approx(label - 0.5, rel=1e-15)


@pytest.mark.parametrize(("logit", "label"), [(40.0, 1.0), (-40.0, 0.0)])
def test_small_derivatives_are_not_lost_beside_1(logit, label):
    parameters = {"W1": np.ones((1, 1)), "b1": np.zeros((1, 1)), "W2": np.zeros((1, 1)), "b2": np.full((1, 1), logit)}
    x, y = np.ones((1, 3)), np.full((1, 3), label)
    trained, losses = train(parameters, x, y, iterations=1, learning_rate=1e18)
    assert losses[0] == pytest.approx(np.exp(-40), rel=1e-14)
    assert (trained["b2"] - logit).item() == pytest.approx((2 * label - 1) * 1e18 * np.exp(-40), rel=1e-13)


@pytest.mark.parametrize("train", [train, manual.train], ids=["fast", "page"])
def test_the_loss_overflows_only_if_it_is_too_large(train):
    """Its terms add up to more than float32 holds; their mean does not."""
    parameters = {name: np.zeros((1, 1), np.float32) for name in NAMES} | {"b2": np.full((1, 1), 1e37, np.float32)}
    x, y = np.zeros((1, 1000), np.float32), np.zeros((1, 1000), np.float32)
    _, losses = train(parameters, x, y, iterations=1, learning_rate=1.0)
    assert losses[0] == pytest.approx(1e37, rel=1e-5)
