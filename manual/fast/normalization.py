"""`manual.normalization` part by part, in a core's cache, and in the memory of the results.

x itself is cached, and x - mean made again in backward: new memory costs more than the passes. Long sums are made of
short ones in the dtype of the work, added up in float64.
"""

import numpy as np

from manual._normalization_shapes import check_normalization
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
from manual.normalization import Array, CenteredCache, Gradients, RmsNormCache, Vector
from manual.normalization import update_running_statistics as update_running_statistics


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    check_normalization("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)

    def normalized(x: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = widened(x)
        mean = np.mean(wide, axis=-1, keepdims=True, dtype=np.float64).astype(wide.dtype)
        y = wide - mean
        s = np.sqrt(_mean_of_products(y, y) + float(epsilon))
        y /= s
        y *= weight
        y += bias
        return y.astype(x.dtype, copy=False), mean, s

    y, mean, s = in_parts(normalized, x, keep=1)
    return y, CenteredCache(x, mean, s, weight)


def layer_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    weight = cache.weight

    def gradients(dy: np.ndarray, x: np.ndarray, mean: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, ...]:
        dtype, dy, x_hat = dy.dtype, widened(dy), widened(x) - mean
        x_hat /= s
        dweight, dbias = sum_over_examples(dy, x_hat), sum_over_examples(dy)
        dx = dy * weight
        x_hat *= _mean_of_products(dx, x_hat)
        dx -= _mean_of_products(dy, weight)
        dx -= x_hat
        dx /= s
        return dx.astype(dtype, copy=False), dweight, dbias

    dx, dweight, dbias = in_parts(gradients, output_gradient, cache.x, cache.mean, cache.deviation, keep=1, sums=2)
    return dx, dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def rms_norm(x: Array, weight: Vector, *, epsilon: float = 1e-5) -> tuple[Array, RmsNormCache]:
    check_normalization("rms_norm", x, x.shape[-1:], epsilon, weight=weight)

    def normalized(x: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = widened(x)
        r = np.sqrt(_mean_of_products(wide, wide) + float(epsilon))
        y = wide / r
        y *= weight
        return y.astype(x.dtype, copy=False), r

    y, r = in_parts(normalized, x, keep=1)
    return y, RmsNormCache(x, r, weight)


def rms_norm_backward(output_gradient: Array, cache: RmsNormCache) -> tuple[Array, Vector]:
    weight = cache.weight

    def gradients(dy: np.ndarray, x: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, ...]:
        dtype, dy, x_hat = dy.dtype, widened(dy), widened(x) / r
        dweight = sum_over_examples(dy, x_hat)
        dx = dy * weight
        x_hat *= _mean_of_products(dx, x_hat)
        dx -= x_hat
        dx /= r
        return dx.astype(dtype, copy=False), dweight

    dx, dweight = in_parts(gradients, output_gradient, cache.x, cache.root, keep=1, sums=1)
    return dx, dweight.astype(weight.dtype)


def _mean_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of a b over the last axis, which stays as 1, without an array of the products."""
    return np.expand_dims(np.vecdot(a, b) / a.shape[-1], -1)


NORMALIZATION: Rules = {
    "layer_norm": (layer_norm, layer_norm_backward),
    "rms_norm": (rms_norm, rms_norm_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_inference": (batch_norm_inference, batch_norm_inference_backward),
    "group_norm": (group_norm, group_norm_backward),
}
