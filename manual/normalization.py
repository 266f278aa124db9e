"""Layer, RMS, batch and group normalization, with every derivative by hand.

    x_hat = (x - mean) / s,   s = sqrt(variance + epsilon)          y = weight x_hat + bias

They differ in what is averaged over. The last axis holds features or channels; weight and bias have an entry for each.
dy is the output gradient. `layer_norm_backward` derives dx, which has three terms where x moves the mean and s: batch
and group norm have the same. `rms_norm` has no mean and two terms, `batch_norm_inference` neither and one.

The variance is that of n, not of n - 1, in two passes, mean first: E[x^2] - E[x]^2 cancels. Means and sums are taken
in float64 and rounded to the dtype of the work, because NumPy adds rows one after another: over 100 000 rows around
1e4, sums in float32 put the mean off by 7. float16 is worked in float32, where squares do not overflow, and rounded
once at the end, which for gradients `rounded_once` does. Statistics keep the axes that they were taken over, as 1.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from manual._normalization_shapes import check_normalization, rounded_once
from manual._precision import widened
from manual._rules import Rules

Array = Float[np.ndarray, "*batch n"]
Vector = Float[np.ndarray, " n"]
Gradients = tuple[Array, Vector, Vector]
Axes = int | tuple[int, ...]


class CenteredCache(NamedTuple):
    """x and its statistics, by example or channel, because memory for x_hat costs more than making it again."""

    x: Float[np.ndarray, "*batch n"]
    mean: Float[np.ndarray, "..."]
    deviation: Float[np.ndarray, "..."]
    weight: Float[np.ndarray, " n"]


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    """y = weight x_hat + bias, where each example is normalized over its own last axis.

    A constant example has x_hat = 0. Raises ValueError if shapes do not fit or the axis is empty. Source: Ba, Kiros
    and Hinton, "Layer normalization" (2016). epsilon stands within the root, as in PyTorch; Flax's default is 1e-6.
    """
    check_normalization("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)
    mean, s = _statistics(widened(x), -1, epsilon)
    x_hat = (x - mean) / s
    y = weight * x_hat + bias
    return y.astype(x.dtype), CenteredCache(x, mean, s, weight)


@rounded_once
def layer_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """Every x_j moves the mean and s, and so each x_hat_i of its example, whose gradient is g_i = weight_i dy_i:

        d mean / d x_j = 1/n                 d s / d x_j = (1 / 2s) (2/n) (x_j - mean) = x_hat_j / n
        d x_hat_i / d x_j = ([i = j] - 1/n - x_hat_i x_hat_j / n) / s
        dx = (g - mean(g) - x_hat mean(g x_hat)) / s

    (The mean within the variance adds nothing to ds, because the sum of x - mean is 0.) dx has no part along a shift of
    x and, up to epsilon, none along x_hat: neither would change the value. weight and bias serve every example, so
    their gradients are sums over these: of dy x_hat and of dy.
    """
    x, mean, s, weight = cache
    dy = output_gradient
    x_hat = (x - mean) / s
    g = weight * dy
    dx = (g - _mean(g, -1) - x_hat * _mean(g * x_hat, -1)) / s
    dweight = _sum_over_examples(dy * x_hat)
    dbias = _sum_over_examples(dy)
    return dx, dweight, dbias


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
    check_normalization("rms_norm", x, x.shape[-1:], epsilon, weight=weight)
    r = np.sqrt(_mean(widened(x) ** 2, -1) + float(epsilon))
    y = weight * x / r
    return y.astype(x.dtype), RmsNormCache(x, r, weight)


@rounded_once
def rms_norm_backward(output_gradient: Array, cache: RmsNormCache) -> tuple[Array, Vector]:
    """dx = (g - x_hat mean(g x_hat)) / r with g = weight dy and x_hat = x / r: two of the three terms of layer_norm.

    There is no mean to move, and dr/dx_j = x_j / (n r) = x_hat_j / n. dweight is the sum of dy x_hat over examples.
    """
    x, r, weight = cache
    dy = output_gradient
    x_hat = x / r
    g = weight * dy
    dx = (g - x_hat * _mean(g * x_hat, -1)) / r
    dweight = _sum_over_examples(dy * x_hat)
    return dx, dweight


def batch_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    """y = weight x_hat + bias, where each channel of x (batch, ..., channels) is normalized over all other axes.

    As in training. A constant channel has x_hat = 0, and so has one example without spatial axes, where PyTorch raises.
    Raises ValueError if shapes do not fit or there is nothing to average over. Source: Ioffe and Szegedy, "Batch
    normalization" (2015), Alg. 1.
    """
    check_normalization("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    mean, s = _statistics(widened(x), _all_axes_but_the_last(x), epsilon)
    x_hat = (x - mean) / s
    y = weight * x_hat + bias
    return y.astype(x.dtype), CenteredCache(x, mean, s, weight)


@rounded_once
def batch_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """dx = weight / s (dy - mean(dy) - x_hat mean(dy x_hat)): the three terms of `layer_norm_backward`, by channel.

    A channel has one weight, which stands before its means here. (Ioffe and Szegedy, section 3, write the same by way
    of the gradients of the variance and the mean.) dweight and dbias are sums over the places of a channel.
    """
    x, mean, s, weight = cache
    dy = output_gradient
    places = _all_axes_but_the_last(x)
    x_hat = (x - mean) / s
    dx = weight / s * (dy - _mean(dy, places) - x_hat * _mean(dy * x_hat, places))
    dweight = _sum_over_examples(dy * x_hat)
    dbias = _sum_over_examples(dy)
    return dx, dweight, dbias


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Vector, variance: Vector, *, epsilon: float = 1e-5
) -> tuple[Array, CenteredCache]:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias. The statistics are data, and have no gradient.

    Raises ValueError if shapes do not fit or a variance is negative. Source: Ioffe and Szegedy (2015), Alg. 2.
    """
    vectors = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    check_normalization("batch_norm_inference", x, (), epsilon, axes=2, **vectors)
    if (variance < 0).any():
        raise ValueError(f"batch_norm_inference needs variances of at least 0, got {variance.min()}.")
    dtype = widened(x[:0]).dtype
    mean, s = mean.astype(dtype), np.sqrt(variance.astype(dtype) + float(epsilon))
    y = weight * (x - mean) / s + bias
    return y.astype(x.dtype), CenteredCache(x, mean, s, weight)


@rounded_once
def batch_norm_inference_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """dx = weight / s dy, because nothing but x depends on x. dweight = sum of dy x_hat, dbias = sum of dy."""
    x, mean, s, weight = cache
    dy = output_gradient
    x_hat = (x - mean) / s
    dx = weight / s * dy
    dweight = _sum_over_examples(dy * x_hat)
    dbias = _sum_over_examples(dy)
    return dx, dweight, dbias


class GroupsCache(NamedTuple):
    """x and the statistics of each group of each example, because memory for x_hat costs more than making it again."""

    x: Float[np.ndarray, "batch ... channels"]
    mean: Float[np.ndarray, "batch ... groups 1"]
    deviation: Float[np.ndarray, "batch ... groups 1"]
    weight: Float[np.ndarray, " channels"]
    groups: int


def group_norm(
    x: Array, weight: Vector, bias: Vector, *, groups: int, epsilon: float = 1e-5
) -> tuple[Array, GroupsCache]:
    """y = weight x_hat + bias, where each example of x (batch, ..., channels) is normalized by groups of channels.

    A group is channels / groups neighbours, averaged over together with all spatial axes: groups = channels is instance
    normalization (Ulyanov, Vedaldi and Lempitsky, 2016). Raises ValueError for bad shapes, an empty example or groups
    that do not divide the channels. Source: Wu and He, "Group normalization" (2018).
    """
    check_normalization("group_norm", x, x.shape[1:], epsilon, axes=2, weight=weight, bias=bias)
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"group_norm needs groups that divide the {x.shape[-1]} channels of x, got {groups}.")
    in_groups = _grouped(x, groups)
    mean, s = _statistics(widened(in_groups), _axes_of_a_group(x), epsilon)
    x_hat = ((in_groups - mean) / s).reshape(x.shape)
    y = weight * x_hat + bias
    return y.astype(x.dtype), GroupsCache(x, mean, s, weight, groups)


@rounded_once
def group_norm_backward(output_gradient: Array, cache: GroupsCache) -> Gradients:
    """dx = (g - mean(g) - x_hat mean(g x_hat)) / s with g = weight dy, and with means over a group of an example.

    The three terms are those of `layer_norm_backward`. dweight and dbias are sums over batch and space, by channel.
    """
    x, mean, s, weight, groups = cache
    dy = output_gradient
    over = _axes_of_a_group(x)
    x_hat = (_grouped(x, groups) - mean) / s
    g = _grouped(weight * dy, groups)
    dx = (g - _mean(g, over) - x_hat * _mean(g * x_hat, over)) / s
    dweight = _sum_over_examples(dy * x_hat.reshape(x.shape))
    dbias = _sum_over_examples(dy)
    return dx.reshape(x.shape), dweight, dbias


def update_running_statistics(
    mean: Vector, variance: Vector, x: Array, *, momentum: float = 0.1
) -> tuple[Vector, Vector]:
    """updated = (1 - momentum) old + momentum batch, for mean and variance of each channel of x (batch, ..., channels).

    The batch's variance is here the unbiased one, n / (n - 1) times that in batch_norm, as in Ioffe and Szegedy
    (Alg. 2) and PyTorch; for n = 1 it is the biased one, 0. Keras 3 and Flax always use the biased one, and call the
    other factor momentum: their 0.99 is 0.01 here. Raises ValueError for bad shapes, an empty x or a bad momentum.
    """
    check_normalization("update_running_statistics", x, x.shape[:-1], 0.0, axes=2, mean=mean, variance=variance)
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the share of the new batch and must be in [0, 1], got {momentum}.")
    share, n = float(momentum), math.prod(x.shape[:-1])
    rows = widened(x).reshape(n, x.shape[-1])
    of_batch = _mean(rows, 0)
    unbiased = _variance(rows, of_batch, 0) * (n / max(n - 1, 1))
    updated_mean = (1 - share) * mean + share * of_batch[0]
    updated_variance = (1 - share) * variance + share * unbiased[0]
    return updated_mean.astype(mean.dtype), updated_variance.astype(variance.dtype)


def _statistics(x: Array, axes: Axes, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s over some axes."""
    mean = _mean(x, axes)
    return mean, np.sqrt(_variance(x, mean, axes) + float(epsilon)).astype(x.dtype)


def _variance(x: Array, mean: np.ndarray, axes: Axes) -> np.ndarray:
    return ((x - mean) ** 2).mean(axis=axes, keepdims=True, dtype=np.float64)


def _mean(values: np.ndarray, axes: Axes) -> np.ndarray:
    return values.mean(axis=axes, keepdims=True, dtype=np.float64).astype(values.dtype)


def _sum_over_examples(values: Array) -> np.ndarray:
    return values.sum(axis=_all_axes_but_the_last(values), dtype=np.float64)


def _all_axes_but_the_last(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(batch, ..., channels) -> (batch, ..., groups, channels / groups)."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _axes_of_a_group(x: np.ndarray) -> tuple[int, ...]:
    """Of `_grouped`, the axes over which a group goes: all spatial ones, and its own channels."""
    return (*range(1, x.ndim - 1), x.ndim)


NORMALIZATION: Rules = {
    "layer_norm": (layer_norm, layer_norm_backward),
    "rms_norm": (rms_norm, rms_norm_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_inference": (batch_norm_inference, batch_norm_inference_backward),
    "group_norm": (group_norm, group_norm_backward),
}
