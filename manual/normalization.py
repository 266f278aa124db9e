"""Layer, RMS, batch and group normalization, with every derivative by hand.

    x_hat = (x - mean) / s,   s = sqrt(variance + epsilon)          y = weight x_hat + bias

They differ in what is averaged over. The last axis holds features or channels; weight and bias have an entry for each.
With dy the output gradient, g = weight dy is that of x_hat. Every x_j moves the mean and s, and so each x_hat_i:

    d mean / d x_j = 1/n                 d s / d x_j = (1 / 2s) (2/n) (x_j - mean) = x_hat_j / n
    d x_hat_i / d x_j = ((i = j) - 1/n - x_hat_i x_hat_j / n) / s
    dx = (g - mean of g - x_hat (mean of g x_hat)) / s

(The mean within the variance adds nothing to ds, because the sum of x - mean is 0.) dx has no part along a shift of
x and, up to epsilon, none along x_hat: neither would change the value.

The variance is that of n, not of n - 1, in two passes, mean first: E[x^2] - E[x]^2 cancels. Means are summed in
float64 and rounded to the dtype of the work, because NumPy adds rows one after another: over 100 000 rows around
1e4, sums in float32 put the mean off by 7. float16 is worked in float32, where squares do not overflow, and rounded
once at the end. x itself is cached, and x - mean made again in backward: new memory costs more than the passes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
    channel_statistics,
)
from manual._group_norm import group_norm, group_norm_backward
from manual._normalized import (
    Array,
    CenteredCache,
    Gradients,
    Vector,
    checked,
    sum_over_examples,
    widened,
)
from manual._parts import in_parts


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    """y = weight x_hat + bias, where each example is normalized over its own last axis.

    A constant example has x_hat = 0. Raises ValueError if shapes do not fit or the axis is empty. Source: Ba, Kiros
    and Hinton, "Layer normalization" (2016). epsilon stands within the root, as in PyTorch; Flax's default is 1e-6.
    """
    epsilon = checked("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)

    def normalized(x: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = widened(x)
        mean = np.mean(wide, axis=-1, keepdims=True, dtype=np.float64).astype(wide.dtype)
        y = wide - mean
        s = np.sqrt(_mean_of_products(y, y) + epsilon)
        y /= s
        y *= weight
        y += bias
        return y.astype(x.dtype, copy=False), mean, s

    y, mean, s = in_parts(normalized, x, keep=1)
    return y, CenteredCache(x, mean, s, weight)


def layer_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """The three terms from the head of this file; weight and bias serve every example, so theirs are sums over them.

    dx = (g - mean(g) - x_hat mean(g x_hat)) / s,  g = weight dy      dweight = sum of dy x_hat      dbias = sum of dy
    """
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


class RmsNormCache(NamedTuple):
    """x and r, because memory for x / r costs more than to make it again."""

    x: Float[np.ndarray, "*batch n"]
    root: Float[np.ndarray, "*batch 1"]
    weight: Float[np.ndarray, " n"]


def rms_norm(x: Array, weight: Vector, *, epsilon: float = 1e-5) -> tuple[Array, RmsNormCache]:
    """y = weight x / r, r = sqrt(mean of x^2 + epsilon) over the last axis: nothing is centered, nothing added.

    Raises ValueError if shapes do not fit or the axis is empty. Source: Zhang and Sennrich, "Root mean square layer
    normalization" (2019), without epsilon; LLaMA puts it here, within the root. Gemma stores weight - 1.
    """
    epsilon = checked("rms_norm", x, x.shape[-1:], epsilon, weight=weight)

    def normalized(x: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = widened(x)
        r = np.sqrt(_mean_of_products(wide, wide) + epsilon)
        y = wide / r
        y *= weight
        return y.astype(x.dtype, copy=False), r

    y, r = in_parts(normalized, x, keep=1)
    return y, RmsNormCache(x, r, weight)


def rms_norm_backward(output_gradient: Array, cache: RmsNormCache) -> tuple[Array, Vector]:
    """With x_hat = x / r: dr/dx_j = x_j / (n r) = x_hat_j / n, which leaves two of the three terms of layer_norm.

    dx = (g - x_hat mean(g x_hat)) / r,  g = weight dy      dweight = sum of dy x_hat
    """
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


def update_running_statistics(
    mean: Vector, variance: Vector, x: Array, *, momentum: float = 0.1
) -> tuple[Vector, Vector]:
    """new = (1 - momentum) old + momentum batch, for mean and variance of each channel of x (batch, ..., channels).

    The batch's variance is here the unbiased one, n / (n - 1) times that in batch_norm, as in Ioffe and Szegedy
    (Alg. 2) and PyTorch; for n = 1 it is the biased one, 0. Keras 3 and Flax always use the biased one, and call the
    other factor momentum: their 0.99 is 0.01 here. Raises ValueError for bad shapes, an empty x or a bad momentum.
    """
    checked("update_running_statistics", x, x.shape[:-1], 0.0, axes=2, mean=mean, variance=variance)
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the share of the new batch and must be in [0, 1], got {momentum}.")
    new, n = float(momentum), math.prod(x.shape[:-1])
    batch_mean, biased = channel_statistics(x)
    unbiased = biased * (n / max(n - 1, 1))
    moved = [((1 - new) * o + new * b).astype(o.dtype) for o, b in ((mean, batch_mean), (variance, unbiased))]
    return moved[0], moved[1]


def _mean_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of a b over the last axis, which stays as 1, without an array of the products."""
    return np.expand_dims(np.vecdot(a, b) / a.shape[-1], -1)


Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]

NORMALIZATION: dict[str, Rule] = {
    "layer_norm": (layer_norm, layer_norm_backward),
    "rms_norm": (rms_norm, rms_norm_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_inference": (batch_norm_inference, batch_norm_inference_backward),
    "group_norm": (group_norm, group_norm_backward),
}
