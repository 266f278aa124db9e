"""Batch normalization, in training and after it: the part of `normalization` whose statistics are those of channels."""

import math

import numpy as np

from manual._normalized import Array, CenteredCache, Gradients, Vector, checked, sum_over_examples, widened
from manual._parts import in_parts


def batch_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    """y = weight x_hat + bias, where each channel of x (batch, ..., channels) is normalized over all other axes.

    As in training. A constant channel has x_hat = 0, and so has one example without spatial axes, where PyTorch raises.
    Raises ValueError if shapes do not fit or there is nothing to average over. Source: Ioffe and Szegedy, "Batch
    normalization" (2015), Alg. 1.
    """
    epsilon = checked("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    mean, variance = channel_statistics(x)
    s = np.sqrt(variance + epsilon).astype(mean.dtype)
    return _by_channel(x, mean, s, weight, bias), CenteredCache(x, mean, s, weight)


def batch_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """The three terms from the head of `normalization`, over the N places of a channel:

        dbias = sum of dy      dweight = sum of dy x_hat      dx = weight / s (dy - dbias / N - x_hat dweight / N)

    because the mean of g = weight dy is weight dbias / N, and that of g x_hat is weight dweight / N. (Ioffe and
    Szegedy, section 3, write the same by way of the gradients of the variance and the mean.)
    """
    x, mean, s, weight = cache
    dweight, dbias = _vector_gradients(output_gradient, cache)
    n = math.prod(x.shape[:-1])
    mean_gradient, slope = ((total / n).astype(s.dtype) for total in (dbias, dweight / s))

    def gradient(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        dx, of_x_hat = widened(dy) - mean_gradient, widened(x) - mean
        of_x_hat *= slope
        dx -= of_x_hat
        dx *= weight / s
        return dx.astype(dy.dtype, copy=False)

    dx = in_parts(gradient, output_gradient, x, keep=1)
    return dx, dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def _vector_gradients(output_gradient: Array, cache: CenteredCache) -> tuple[np.ndarray, np.ndarray]:
    """dweight and dbias, if the statistics are those of channels."""
    x, mean, s, _ = cache

    def sums(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dy = widened(dy)
        return sum_over_examples(dy, widened(x) - mean), sum_over_examples(dy)

    products, dbias = in_parts(sums, output_gradient, x, keep=1, sums=2)
    return products / s, dbias


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each channel, in the dtype of the work, and the variance, in float64."""
    n = math.prod(x.shape[:-1])
    total = in_parts(lambda x: np.einsum("rn->n", x, dtype=np.float64), x, keep=1, sums=1)
    mean = (total / n).astype(np.result_type(x.dtype, np.float32))

    def squares(x: np.ndarray) -> np.ndarray:
        centered = x - mean
        return sum_over_examples(centered, centered)

    return mean, in_parts(squares, x, keep=1, sums=1) / n


def _by_channel(x: np.ndarray, mean: np.ndarray, s: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """weight (x - mean) / s + bias, all vectors."""

    def normalized(x: np.ndarray) -> np.ndarray:
        y = widened(x) - mean
        y *= weight / s
        y += bias
        return y.astype(x.dtype, copy=False)

    return in_parts(normalized, x, keep=1)


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Vector, variance: Vector, *, epsilon: float = 1e-5
) -> tuple[Array, CenteredCache]:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias. The statistics are data, and have no gradient.

    Raises ValueError if shapes do not fit or a variance is negative. Source: Ioffe and Szegedy (2015), Alg. 2.
    """
    vectors = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    epsilon = checked("batch_norm_inference", x, (), epsilon, axes=2, **vectors)
    if (variance < 0).any():
        raise ValueError(f"batch_norm_inference needs variances of at least 0, got {variance.min()}.")
    dtype = np.result_type(x.dtype, np.float32)
    mean, s = mean.astype(dtype), np.sqrt(variance.astype(dtype) + epsilon)
    return _by_channel(x, mean, s, weight, bias), CenteredCache(x, mean, s, weight)


def batch_norm_inference_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """dx = dy weight / s, because nothing but x depends on x. dweight = sum of dy x_hat, dbias = sum of dy."""
    slope, weight = cache.weight / cache.deviation, cache.weight
    dweight, dbias = _vector_gradients(output_gradient, cache)
    dx = in_parts(lambda dy: (dy * slope).astype(dy.dtype, copy=False), output_gradient, keep=1)
    return dx, dweight.astype(weight.dtype), dbias.astype(weight.dtype)
