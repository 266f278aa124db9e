"""Layer, RMS, batch and group normalization, with every derivative by hand.

    x_hat = (x - mean) / s,   s = sqrt(variance + epsilon)          y = weight x_hat + bias

The ops differ in the axes that are averaged over. The last axis holds features or channels, and weight and bias have
an entry for each. epsilon is at least 0. dy is the output gradient. `layer_norm_backward` derives dx, whose three terms
come from x itself, from the mean and from s. Batch and group norm have the same three terms. `rms_norm` has no mean and
two terms, and `batch_norm_inference` has constant statistics and one term. Every op raises ValueError if shapes do not
fit, if there is nothing to average over, or if an option is out of range.

The variance is the biased one, divided by n and not by n - 1. It is computed in two passes, because E[x^2] - E[x]^2
cancels. Means and sums are computed in float64 and rounded to the dtype of x, because NumPy adds row after row: over
100 000 rows around 1e4, sums in float32 change the mean by 7. float16 is computed in float32, where squares do not
overflow, and is rounded once, at the end; `rounded_once` does this for gradients. Means over axes of x keep these axes,
with size 1.
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
    """x, its mean and s, for each example or channel. x_hat is recomputed, to save memory."""

    x: Float[np.ndarray, "*batch n"]
    mean: Float[np.ndarray, "..."]
    deviation: Float[np.ndarray, "..."]
    weight: Float[np.ndarray, " n"]


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> tuple[Array, CenteredCache]:
    """y = weight x_hat + bias, where each example is normalized over its own last axis.

    A constant example has x_hat = 0, unless its mean is rounded. epsilon is inside the root, as in PyTorch. Its default
    in Flax is 1e-6.

    Args:
        x: (..., features).
        weight: (features,).
        bias: (features,).
        epsilon: added to the variance; at least 0.

    Raises:
        ValueError: if shapes do not fit, or the last axis is empty.

    Source: Ba, Kiros and Hinton, "Layer normalization" (2016).
    """
    check_normalization("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)
    mean, s = _statistics(widened(x), -1, epsilon)
    x_hat = (x - mean) / s
    y = weight * x_hat + bias
    return y.astype(x.dtype), CenteredCache(x, mean, s, weight)


@rounded_once
def layer_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """Every x_j affects each x_hat_i of its example: through the mean, through s, and directly if i = j.

        ∂mean / ∂x_j    = 1/n
        ∂s / ∂x_j       = (1 / 2s) (2/n) sum_i (x_i - mean) ([i = j] - 1/n) = (x_j - mean) / (n s) = x_hat_j / n
        ∂x_hat_i / ∂x_j = ([i = j] - 1/n) / s - (x_i - mean) / s^2 (x_hat_j / n)
                        = ([i = j] - 1/n - x_hat_i x_hat_j / n) / s

    (In ∂s, the sum of x_i - mean is 0.) The gradient with respect to x_hat_i is g_i = weight_i dy_i, so that

        dx_j = sum_i g_i ∂x_hat_i / ∂x_j = (g_j - mean(g) - x_hat_j mean(g x_hat)) / s

    dx is orthogonal to a shift of x and, up to epsilon, to x_hat, because the value does not change along either.
    weight and bias are shared by all examples, so dweight is the sum of dy x_hat over examples, and dbias that of dy.
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
    """x and r. x_hat = x / r is recomputed, to save memory."""

    x: Float[np.ndarray, "*batch n"]
    root: Float[np.ndarray, "*batch 1"]
    weight: Float[np.ndarray, " n"]


def rms_norm(x: Array, weight: Vector, *, epsilon: float = 1e-5) -> tuple[Array, RmsNormCache]:
    """y = weight x / r with r = sqrt(mean of x^2 + epsilon) over the last axis. There is no centering and no bias.

    epsilon is inside the root, as in LLaMA; the source has none. Gemma stores weight - 1.

    Args:
        x: (..., features).
        weight: (features,).
        epsilon: added to the mean square; at least 0.

    Raises:
        ValueError: if shapes do not fit, or the last axis is empty.

    Source: Zhang and Sennrich, "Root mean square layer normalization" (2019).
    """
    check_normalization("rms_norm", x, x.shape[-1:], epsilon, weight=weight)
    r = np.sqrt(_mean(widened(x) ** 2, -1) + float(epsilon))
    y = weight * (x / r)
    return y.astype(x.dtype), RmsNormCache(x, r, weight)


@rounded_once
def rms_norm_backward(output_gradient: Array, cache: RmsNormCache) -> tuple[Array, Vector]:
    """dx = (g - x_hat mean(g x_hat)) / r with g = weight dy and x_hat = x / r: two of the three terms of layer_norm.

    There is no mean, and ∂r/∂x_j = x_j / (n r) = x_hat_j / n. dweight is the sum of dy x_hat over examples.
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

    These are the statistics of training; see `batch_norm_inference` for evaluation. A constant channel has x_hat = 0,
    unless its mean is rounded, and so has a batch of one example without spatial axes, where PyTorch raises an error.

    Args:
        x: (batch, ..., channels).
        weight: (channels,).
        bias: (channels,).
        epsilon: added to the variance; at least 0.

    Raises:
        ValueError: if shapes do not fit, or there is nothing to average over.

    Source: Ioffe and Szegedy, "Batch normalization" (2015), Alg. 1.
    """
    check_normalization("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    mean, s = _statistics(widened(x), _all_axes_but_the_last(x), epsilon)
    x_hat = (x - mean) / s
    y = weight * x_hat + bias
    return y.astype(x.dtype), CenteredCache(x, mean, s, weight)


@rounded_once
def batch_norm_backward(output_gradient: Array, cache: CenteredCache) -> Gradients:
    """dx = weight / s (dy - mean(dy) - x_hat mean(dy x_hat)): the three terms of `layer_norm_backward`, by channel.

    A channel has a single weight, which can therefore be factored out of the means. (Ioffe and Szegedy, section 3,
    write the same gradient by way of those of the variance and the mean.) dweight and dbias sum over all other axes.
    """
    x, mean, s, weight = cache
    dy = output_gradient
    axes = _all_axes_but_the_last(x)
    x_hat = (x - mean) / s
    dx = weight / s * (dy - _mean(dy, axes) - x_hat * _mean(dy * x_hat, axes))
    dweight = _sum_over_examples(dy * x_hat)
    dbias = _sum_over_examples(dy)
    return dx, dweight, dbias


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Vector, variance: Vector, *, epsilon: float = 1e-5
) -> tuple[Array, CenteredCache]:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias. The statistics are data, and have no gradient.

    Args:
        x: (batch, ..., channels).
        weight: (channels,).
        bias: (channels,).
        mean: the running mean (channels,).
        variance: the running variance (channels,).
        epsilon: added to the variance; at least 0.

    Raises:
        ValueError: if shapes do not fit, or a variance is negative.

    Source: Ioffe and Szegedy (2015), Alg. 2.
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
    """dx = weight / s dy, because mean and s are constants. dweight = sum of dy x_hat, dbias = sum of dy."""
    x, mean, s, weight = cache
    dy = output_gradient
    x_hat = (x - mean) / s
    dx = weight / s * dy
    dweight = _sum_over_examples(dy * x_hat)
    dbias = _sum_over_examples(dy)
    return dx, dweight, dbias


class GroupsCache(NamedTuple):
    """x and the statistics of each group of each example. x_hat is recomputed, to save memory."""

    x: Float[np.ndarray, "batch ... channels"]
    mean: Float[np.ndarray, "batch ... groups 1"]
    deviation: Float[np.ndarray, "batch ... groups 1"]
    weight: Float[np.ndarray, " channels"]
    groups: int


def group_norm(
    x: Array, weight: Vector, bias: Vector, *, groups: int, epsilon: float = 1e-5
) -> tuple[Array, GroupsCache]:
    """y = weight x_hat + bias, where each example of x (batch, ..., channels) is normalized by groups of channels.

    A group is channels / groups adjacent channels, averaged over together with all spatial axes. groups = channels is
    instance normalization (Ulyanov, Vedaldi and Lempitsky, 2016).

    Args:
        x: (batch, ..., channels).
        weight: (channels,).
        bias: (channels,).
        groups: the number of groups, a divisor of channels.
        epsilon: added to the variance; at least 0.

    Raises:
        ValueError: if shapes do not fit, if an example is empty, or if groups does not divide the channels.

    Source: Wu and He, "Group normalization" (2018).
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
    """dx = (g - mean(g) - x_hat mean(g x_hat)) / s with g = weight dy, where means are over a group of an example.

    The three terms are those of `layer_norm_backward`. dweight and dbias sum over batch and space, for each channel.
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

    The variance of the batch is the unbiased one here, n / (n - 1) times that of batch_norm, as in Ioffe and Szegedy
    (Alg. 2) and PyTorch. For n = 1 it is the biased one, 0. Keras 3 and Flax always use the biased one, and their
    momentum is 1 minus this one: their 0.99 is 0.01 here.

    Args:
        mean: the running mean (channels,).
        variance: the running variance (channels,).
        x: the input of the batch normalization.
        momentum: the weight of the new batch, in [0, 1].

    Returns:
        The updated mean and variance.

    Raises:
        ValueError: if shapes do not fit, if x is empty, or if momentum is out of range.
    """
    check_normalization("update_running_statistics", x, x.shape[:-1], 0.0, axes=2, mean=mean, variance=variance)
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the share of the new batch and must be in [0, 1], got {momentum}.")
    share, n = float(momentum), math.prod(x.shape[:-1])
    rows = widened(x).reshape(n, x.shape[-1])
    of_batch = _mean(rows, 0)
    unbiased = _variance(rows, of_batch, 0) * (n / max(n - 1, 1))
    updated_mean = (1 - share) * widened(mean) + share * of_batch[0]
    updated_variance = (1 - share) * widened(variance) + share * unbiased[0]
    return updated_mean.astype(mean.dtype), updated_variance.astype(variance.dtype)


def _statistics(x: Array, axes: Axes, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """mean and s over the given axes."""
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
    """The axes of `_grouped(x)` that a group extends over: all spatial axes, and its channels."""
    return (*range(1, x.ndim - 1), x.ndim)


NORMALIZATION: Rules = {
    "layer_norm": (layer_norm, layer_norm_backward),
    "rms_norm": (rms_norm, rms_norm_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_inference": (batch_norm_inference, batch_norm_inference_backward),
    "group_norm": (group_norm, group_norm_backward),
}
