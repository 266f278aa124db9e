"""What is fast is as right as its page where numbers are extreme, long or masked."""

import numpy as np
import pytest

from manual import activations as page_activations
from manual import attention as page_attention
from manual import normalization as page
from manual.fast import _sums, _threads, activations, attention, losses, normalization


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("name", "options"), [("batch_norm", {}), ("group_norm", {"groups": 2})])
def test_squares_that_overflow_are_no_variance(name, options):
    x = np.float32(3e19) + normal(5, 8, 4) * np.float32(1e18)
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    with np.errstate(all="ignore"):
        expected, _ = getattr(page, name)(x, one, zero, **options)
    np.testing.assert_allclose(getattr(normalization, name)(x, one, zero, **options)[0], expected, atol=1e-5)


def test_sums_of_squares_that_overflow_are_added_again():
    x, one = normal(3, 2000) * np.float32(1e18), np.ones(2000, np.float32)
    np.testing.assert_allclose(normalization.rms_norm(x, one)[0], page.rms_norm(x, one)[0], rtol=1e-6)


def test_a_constant_is_normalized_to_exactly_nothing():
    for seed in range(40):
        random = np.random.default_rng(seed)
        c = np.float32(random.standard_normal() * 10 ** random.uniform(-4, 4))
        weight, bias = normal(2, 6, seed=seed)
        for y in (
            normalization.layer_norm(np.full((3, 6), c), weight, bias)[0],
            normalization.batch_norm(np.full((50, 6), c), weight, bias)[0],
            normalization.group_norm(np.full((2, 50, 6), c), weight, bias, groups=2)[0],
        ):
            np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))


def test_long_rows_are_summed_as_exactly_as_on_the_page_by_any_number_of_threads(monkeypatch):
    x = normal(2, 300_001)
    one = np.ones(x.shape[1], np.float32)
    exact = page.rms_norm(x.astype(np.float64), one.astype(np.float64))[0]
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr(_threads, "PARALLEL", 0)
        results.append((normalization.rms_norm(x, one)[0], activations.softmax(x.astype(np.float64))[0]))
    for y, p in results:
        np.testing.assert_allclose(y, exact, rtol=3e-7)
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(p, results[0][1])
    whole = np.vecdot(x, x)  # the planted fault: one sum in float32
    assert np.abs(_sums.row_products(x, x)[:, 0] / np.sum(x.astype(np.float64) ** 2, axis=1) - 1).max() < 2e-7
    assert whole.shape == (2,)


@pytest.mark.parametrize("hidden", [np.nan, np.inf, 3e38])
def test_a_hidden_key_may_be_any_number(hidden):
    q, k, v = normal(3, 1, 130, 2, 4)
    k[:, 100] = hidden
    mask = np.arange(130) != 100
    with np.errstate(all="ignore"):
        expected, _ = page_attention.attention(q, k, v, mask)
    with np.errstate(invalid="ignore", over="ignore"):  # of the hidden scores, which the products make
        found, _ = attention.attention(q, k, v, mask)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    last = np.where(np.arange(130)[:, None, None] == 129, np.float32(np.nan), k)
    with np.errstate(all="ignore"):
        found, _ = attention.attention(q, np.nan_to_num(last, nan=np.nan, posinf=1), v, causal=True)
    assert np.isfinite(found[:, :100]).all()  # no query before it sees a key


@pytest.mark.parametrize("slope", [-3.0, 0.01, 1.0, 64.28, 1e8])
def test_a_slope_of_any_size_leaves_the_other_side_alone(slope):
    x, dy = np.array([1, -1, 0], np.float32), np.ones(3, np.float32)
    _, cache = activations.leaky_relu(x, negative_slope=slope)
    expected = page_activations.leaky_relu_backward(dy, page_activations.leaky_relu(x, negative_slope=slope)[1])
    np.testing.assert_array_equal(activations.leaky_relu_backward(dy, cache), expected)


def test_a_mean_whose_square_overflows_gives_no_warning():
    x, one = np.float32(1e20) * (1 + np.float32(1e-3) * normal(4, 30)), np.ones(30, np.float32)
    with np.errstate(over="raise"):
        actual, _ = normalization.layer_norm(x, one, 0 * one)
    np.testing.assert_allclose(actual, page.layer_norm(x, one, 0 * one)[0], atol=1e-3)


@pytest.mark.parametrize("loss", [losses.mean_squared_error, losses.huber])
@pytest.mark.parametrize("predictions", [[1, np.inf], [np.nan, 0.0], [2e19, 2e38]])
def test_a_loss_that_is_not_finite_stays_in_its_dtype(loss, predictions):
    with np.errstate(all="ignore"):
        value, _ = loss(np.array(predictions, np.float32), np.zeros(2, np.float32))
    assert value.dtype == np.float32
