"""Batch normalization, in training and after it: the part of `normalization` whose statistics are those of channels."""

import math
from collections.abc import Callable

import numpy as np

from manual._normalization_shapes import check_normalization, check_output_gradient
from manual._precision import widened
from manual.fast._normalized import long_row, repeats, sum_over_examples
from manual.fast._parts import in_parts
from manual.normalization import Array, CenteredCache, Gradients, Vector


def batch_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    check_normalization("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    mean, variance = channel_statistics(x)
    s = np.sqrt(variance + float(epsilon)).astype(mean.dtype)
    kept = (1,) * (x.ndim - 1) + mean.shape
    return _by_channel(x, mean, s, weight, bias), CenteredCache(x, mean.reshape(kept), s.reshape(kept), weight)


def batch_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    x, mean, s, weight = _flat(cache)
    dweight, dbias = _vector_gradients(output_gradient, cache)
    n, k = math.prod(x.shape[:-1]), _together(x, output_gradient)
    mean_of_dy, slope = ((total / n).astype(s.dtype) for total in (dbias, dweight / s))
    mean, mean_of_dy, slope, scale = (long_row(v, k) for v in (mean, mean_of_dy, slope, weight / s))

    def gradient(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        dx, of_x_hat = widened(dy) - mean_of_dy, widened(x) - mean
        of_x_hat *= slope
        dx -= of_x_hat
        dx *= scale
        return dx.astype(dy.dtype, copy=False)

    dx = in_parts(gradient, _rows(output_gradient, k), _rows(x, k), keep=1).reshape(x.shape)
    return dx, dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def _flat(cache: CenteredCache) -> CenteredCache:
    """With statistics that are vectors."""
    return cache._replace(mean=cache.mean.reshape(-1), deviation=cache.deviation.reshape(-1))


def _vector_gradients(output_gradient: Array, cache: CenteredCache) -> tuple[np.ndarray, np.ndarray]:
    """dweight and dbias, if the statistics are those of channels."""
    x, mean, s, _ = _flat(cache)
    k = _together(x, check_output_gradient(output_gradient, x))
    mean = long_row(mean, k)

    def sums(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dy = widened(dy)
        return sum_over_examples(dy, np.subtract(widened(x), mean, order="C")), sum_over_examples(dy)

    totals = in_parts(sums, _rows(output_gradient, k), _rows(x, k), keep=1, sums=2)
    products, dbias = (total.reshape(k, s.size).sum(axis=0) for total in totals)
    return products / s, dbias


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each channel, in the dtype of the work, and the variance, in float64."""
    n, channels, k = math.prod(x.shape[:-1]), x.shape[-1], _together(x)

    def mean_over_rows(formula: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return in_parts(formula, _rows(x, k), keep=1, sums=1).reshape(k, channels).sum(axis=0) / n

    mean = mean_over_rows(lambda x: np.einsum("rn->n", x, dtype=np.float64))
    mean = mean.astype(np.result_type(x.dtype, np.float32))
    of_rows = long_row(mean, k)

    def squares(x: np.ndarray) -> np.ndarray:
        centered = np.subtract(x, of_rows, order="C")
        return sum_over_examples(centered, centered)

    return mean, mean_over_rows(squares)


def _together(*arrays: np.ndarray) -> int:
    """How many rows to take as one; if not one by one, at least eight times, and without a copy of an array."""
    rows, channels = math.prod(arrays[0].shape[:-1]), arrays[0].shape[-1]
    k = repeats(rows, channels, buffers=4)  # parts of up to ROWS such rows then
    return k if rows >= 8 * k and all(array.flags.c_contiguous for array in arrays) else 1


def _rows(x: np.ndarray, k: int) -> np.ndarray:
    return x.reshape(math.prod(x.shape[:-1]) // k, k * x.shape[-1])


def _by_channel(x: np.ndarray, mean: np.ndarray, s: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """weight (x - mean) / s + bias, all vectors."""
    k = _together(x)
    mean, scale, shift = (long_row(v, k) for v in (mean, weight / s, bias))

    def normalized(x: np.ndarray) -> np.ndarray:
        y = widened(x) - mean
        y *= scale
        y += shift
        return y.astype(x.dtype, copy=False)

    return in_parts(normalized, _rows(x, k), keep=1).reshape(x.shape)


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Vector, variance: Vector, *, epsilon: float = 1e-5
) -> tuple[Array, CenteredCache]:
    vectors = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    check_normalization("batch_norm_inference", x, (), epsilon, axes=2, **vectors)
    if (variance < 0).any():
        raise ValueError(f"batch_norm_inference needs variances of at least 0, got {variance.min()}.")
    dtype = np.result_type(x.dtype, np.float32)
    mean, s = mean.astype(dtype), np.sqrt(variance.astype(dtype) + float(epsilon))
    return _by_channel(x, mean, s, weight, bias), CenteredCache(x, mean, s, weight)


def batch_norm_inference_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    x, _, s, weight = _flat(cache)
    dweight, dbias = _vector_gradients(output_gradient, cache)
    k = _together(output_gradient)
    scale = long_row(weight / s, k)
    rows = _rows(output_gradient, k)
    dx = in_parts(lambda dy: (dy * scale).astype(dy.dtype, copy=False), rows, keep=1).reshape(x.shape)
    return dx, dweight.astype(weight.dtype), dbias.astype(weight.dtype)
