"""Batch normalization in training and in inference, whose statistics are per channel.

Everything is computed in the dtype of `widened`, with several rows of channels joined to one (`_normalized.repeats`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from manual._normalization_shapes import check_normalization, check_output_gradient
from manual._precision import widened
from manual.fast._normalized import affine, long_row, origin, remainder, repeats, sum_over_examples
from manual.fast._parts import in_parts
from manual.normalization import Array, CenteredCache, Gradients, Vector


def batch_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    check_normalization("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    mean, variance = channel_statistics(x)
    s = np.sqrt(variance + float(epsilon)).astype(mean.dtype)
    kept = (1,) * (x.ndim - 1) + mean.shape
    y = _normalized(x, mean, s, origin(mean, variance), weight, bias)
    return y, CenteredCache(x, mean.reshape(kept), s.reshape(kept), weight)


def batch_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """dx = weight / s (dy - mean(dy) - (x - mean) dweight / (n s)), with dweight the sum of dy x_hat."""
    x, mean, s, weight = _flat(cache)
    n = math.prod(x.shape[:-1])
    dweight, dbias = _vector_gradients(output_gradient, cache)
    scale = (weight / s).astype(s.dtype)
    subtracted = _origin(mean, s)
    slope = (scale * dweight / (n * s)).astype(s.dtype)
    shift = -scale * (dbias / n).astype(s.dtype)  # multiplied as dy is, so that a constant dy gives exactly 0
    shift += slope * remainder(mean, subtracted)

    def gradient(dy: np.ndarray, x: np.ndarray, dx: np.ndarray, scale: Any, slope: Any, shift: Any, far: Any) -> None:
        np.multiply(dy, scale, out=dx)
        of_x = x * slope if far is None else (x - far) * slope
        dx -= of_x
        dx += shift

    dx = _by_rows(gradient, widened(output_gradient), widened(x), vectors=[scale, slope, shift, subtracted])
    return dx.astype(output_gradient.dtype, copy=False), dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def _flat(cache: CenteredCache) -> CenteredCache:
    """The cache with its statistics as vectors."""
    return cache._replace(mean=cache.mean.reshape(-1), deviation=cache.deviation.reshape(-1))


def _vector_gradients(
    output_gradient: Array,
    cache: CenteredCache,
    formula: Callable[..., Any] | None = None,
    results: Sequence[np.ndarray] = (),
    vectors: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """dweight and dbias in float64, for statistics per channel.

    A formula with `results` and further `vectors` writes the results, and returns what `_products_and_sum` returns.
    """
    x, mean, s, _ = _flat(cache)
    subtracted = _origin(mean, s)
    dy = widened(check_output_gradient(output_gradient, x))
    formula, of_channels = formula or _products_and_sum, [subtracted, *vectors]
    products, dbias = _channel_sums(formula, dy, widened(x), results=results, vectors=of_channels)
    return (products - remainder(mean, subtracted) * dbias) / s, dbias


def _products_and_sum(dy: np.ndarray, x: np.ndarray, far: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    return sum_over_examples(dy, x if far is None else x - far), sum_over_examples(dy)


def _origin(mean: np.ndarray, s: np.ndarray) -> np.ndarray | None:
    return origin(mean, s.astype(np.float64) ** 2)


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each channel in the dtype of `widened`, and its variance in float64."""
    x, n = widened(x), math.prod(x.shape[:-1])

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sum_over_examples(x), sum_over_examples(x, x)

    def centered_moments(x: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return moments(x - mean)

    with np.errstate(over="ignore", invalid="ignore"):  # x^2 may overflow where (x - mean)^2 does not
        mean, second = (total / n for total in _channel_sums(moments, x))
        variance = second - mean**2
    if origin(mean, variance) is not None:
        rounded = mean.astype(x.dtype)
        left, second = (total / n for total in _channel_sums(centered_moments, x, vectors=[rounded]))
        mean, variance = rounded + left, second - left**2  # exact where a channel is constant
    return mean.astype(x.dtype), variance


def _together(*arrays: np.ndarray) -> int:
    """How many rows to join to one: 1 if fewer than eight such rows would result, or an array would be copied."""
    rows, channels = math.prod(arrays[0].shape[:-1]), arrays[0].shape[-1]
    k = repeats(rows, channels, buffers=4)  # parts of up to ROWS such rows then
    return k if rows >= 8 * k and all(array.flags.c_contiguous for array in arrays) else 1


def _by_rows(formula: Callable[..., None], *arrays: np.ndarray, vectors: list[np.ndarray | None]) -> np.ndarray:
    """A new array like the first, which `formula(*arrays, result, *vectors)` writes with several rows joined to one."""
    result = np.empty(arrays[0].shape, np.result_type(*arrays))
    _channel_sums(formula, *arrays, results=[result], vectors=vectors)
    return result


def _channel_sums(
    formula: Callable[..., Any],
    *arrays: np.ndarray,
    results: Sequence[np.ndarray] = (),
    vectors: Sequence[np.ndarray | None] = (),
) -> list[np.ndarray]:
    """The sums over all rows of what `formula(*arrays, *results, *vectors)` returns, in float64, by channel."""
    k, channels = _together(*arrays), arrays[0].shape[-1]
    long = [None if vector is None else long_row(vector, k) for vector in vectors]
    rows, written = ([_rows(x, k) for x in each] for each in (arrays, results))
    totals = in_parts(lambda *parts: formula(*parts, *long), rows, written, keep=1)
    return [total.reshape(k, channels).sum(axis=0) for total in totals]


def _rows(x: np.ndarray, k: int) -> np.ndarray:
    return x.reshape(math.prod(x.shape[:-1]) // k, k * x.shape[-1])


def _normalized(
    x: np.ndarray,
    mean: np.ndarray,
    s: np.ndarray,
    subtracted: np.ndarray | None,
    weight: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    """weight (x - mean) / s + bias, all vectors. `subtracted` is the part of the mean that x loses first."""
    scale = (weight / s).astype(s.dtype)
    shift = (bias - remainder(mean, subtracted) * scale).astype(s.dtype)

    def formula(x: np.ndarray, y: np.ndarray, subtracted: Any, scale: np.ndarray, shift: np.ndarray) -> None:
        affine(y, x, subtracted, scale, shift)

    return _by_rows(formula, widened(x), vectors=[subtracted, scale, shift]).astype(x.dtype, copy=False)


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Vector, variance: Vector, *, epsilon: float = 1e-5
) -> tuple[Array, CenteredCache]:
    vectors = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    check_normalization("batch_norm_inference", x, (), epsilon, axes=2, **vectors)
    if (variance < 0).any():
        raise ValueError(f"batch_norm_inference needs variances of at least 0, got {variance.min()}.")
    dtype = np.result_type(x.dtype, np.float32)
    mean, s = mean.astype(dtype), np.sqrt(variance.astype(dtype) + float(epsilon))
    return _normalized(x, mean, s, origin(mean, variance), weight, bias), CenteredCache(x, mean, s, weight)


def batch_norm_inference_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    x, _, s, weight = _flat(cache)

    def gradients(dy: np.ndarray, x: np.ndarray, dx: np.ndarray, far: Any, scale: np.ndarray) -> tuple[Any, ...]:
        np.multiply(dy, scale, out=dx)
        return _products_and_sum(dy, x, far)

    dx, scale = np.empty(x.shape, np.result_type(widened(output_gradient), s)), (weight / s).astype(s.dtype)
    dweight, dbias = _vector_gradients(output_gradient, cache, gradients, [dx], [scale])
    return dx.astype(output_gradient.dtype, copy=False), dweight.astype(weight.dtype), dbias.astype(weight.dtype)
