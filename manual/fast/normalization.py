"""`manual.normalization` part by part, so that intermediates stay in a core's cache.

The cache holds x, and x - mean is computed again in the backward pass, which costs less than new memory. A long sum is
split into short ones in the dtype of the computation, which are added in float64 (`_sums`, `_normalized`).
"""

from typing import Any

import numpy as np

from manual._normalization_shapes import check_normalization, check_output_gradient
from manual._precision import widened
from manual._rules import Rules
from manual.fast._batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from manual.fast._group_norm import group_norm, group_norm_backward
from manual.fast._normalized import sum_over_examples
from manual.fast._parts import in_parts
from manual.fast._sums import row_products
from manual.normalization import Array, CenteredCache, Gradients, RmsNormCache, Vector
from manual.normalization import update_running_statistics as update_running_statistics


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    check_normalization("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)

    def normalized(x: np.ndarray, y: np.ndarray, mean: np.ndarray, s: np.ndarray) -> None:
        mean[...] = _mean_of_products(x, ones)
        np.subtract(x, mean, out=y)
        variance = _mean_of_products(y, y)
        if (np.abs(mean) > np.sqrt(variance)).any():
            left = _mean_of_products(y, ones)  # the error of a mean that was summed in the dtype of the work
            left[np.abs(left) <= np.finfo(x.dtype).eps * np.sqrt(variance)] = 0
            mean += left
            y -= left
            variance = _mean_of_products(y, y)
        s[...] = np.sqrt(variance + float(epsilon))
        y /= s
        y *= weight
        y += bias

    wide = widened(x)
    ones = np.ones(x.shape[-1:], wide.dtype)
    y, mean, s = np.empty(x.shape, wide.dtype), *(np.empty((*x.shape[:-1], 1), wide.dtype) for _ in range(2))
    in_parts(normalized, [wide], [y, mean, s], keep=1)
    return y.astype(x.dtype, copy=False), CenteredCache(x, mean, s, weight)


def layer_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """With g = dy / s, dx = weight g - mean(weight g) - (x - mean) mean(weight g (x - mean)) / s^2."""
    weight = cache.weight

    def gradients(dy: np.ndarray, x: np.ndarray, mean: np.ndarray, s: np.ndarray, dx: np.ndarray) -> tuple[Any, ...]:
        centered, g = x - mean, dy / s
        products = np.multiply(g, centered, out=dx)
        dweight, dbias = sum_over_examples(products), sum_over_examples(dy)
        centered *= _mean_of_products(products, weight) / s**2
        centered += _mean_of_products(g, weight)
        np.multiply(g, weight, out=dx)
        dx -= centered
        return dweight, dbias

    dy = check_output_gradient(output_gradient, cache.x)
    wide = widened(dy)
    dx = np.empty(dy.shape, np.result_type(wide, cache.deviation))
    arrays = [wide, widened(cache.x), cache.mean, cache.deviation]
    dweight, dbias = in_parts(gradients, arrays, [dx], keep=1)
    return dx.astype(dy.dtype, copy=False), dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def rms_norm(x: Array, weight: Vector, *, epsilon: float = 1e-5) -> tuple[Array, RmsNormCache]:
    check_normalization("rms_norm", x, x.shape[-1:], epsilon, weight=weight)

    def normalized(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> None:
        r[...] = np.sqrt(_mean_of_products(x, x) + float(epsilon))
        np.divide(x, r, out=y)
        y *= weight

    wide = widened(x)
    y, r = np.empty(x.shape, wide.dtype), np.empty((*x.shape[:-1], 1), wide.dtype)
    in_parts(normalized, [wide], [y, r], keep=1)
    return y.astype(x.dtype, copy=False), RmsNormCache(x, r, weight)


def rms_norm_backward(output_gradient: Array, cache: RmsNormCache) -> tuple[Array, Vector]:
    """With g = dy / r, dx = weight g - x mean(weight g x) / r^2."""
    weight = cache.weight

    def gradients(dy: np.ndarray, x: np.ndarray, r: np.ndarray, dx: np.ndarray) -> tuple[Any, ...]:
        g = dy / r
        products = np.multiply(g, x, out=dx)
        dweight = sum_over_examples(products)
        slope = _mean_of_products(products, weight) / r**2
        np.multiply(g, weight, out=dx)
        dx -= np.multiply(x, slope, out=g)
        return (dweight,)

    dy = check_output_gradient(output_gradient, cache.x)
    wide = widened(dy)
    dx = np.empty(dy.shape, np.result_type(wide, cache.root))
    (dweight,) = in_parts(gradients, [wide, widened(cache.x), cache.root], [dx], keep=1)
    return dx.astype(dy.dtype, copy=False), dweight.astype(weight.dtype)


def _mean_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of a b over the last axis, which stays with length 1."""
    return (row_products(a, b) / a.shape[-1]).astype(a.dtype, copy=False)


NORMALIZATION: Rules = {
    "layer_norm": (layer_norm, layer_norm_backward),
    "rms_norm": (rms_norm, rms_norm_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_inference": (batch_norm_inference, batch_norm_inference_backward),
    "group_norm": (group_norm, group_norm_backward),
}
