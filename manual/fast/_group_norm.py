"""Group normalization, whose statistics are per example and group of channels.

Everything is computed in the dtype of `widened`, with several positions joined to one row (`_normalized.repeats`).
"""

import math
from typing import Any

import numpy as np

from manual._normalization_shapes import check_normalization, check_output_gradient
from manual._precision import widened
from manual.fast._normalized import affine, long_row, origin, remainder, repeats, sums_of_products
from manual.fast._parts import in_parts
from manual.normalization import Array, Gradients, GroupsCache, Vector


def group_norm(
    x: Array, weight: Vector, bias: Vector, *, groups: int, epsilon: float = 1e-5
) -> tuple[Array, GroupsCache]:
    check_normalization("group_norm", x, x.shape[1:], epsilon, axes=2, weight=weight, bias=bias)
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"group_norm needs groups that divide the {x.shape[-1]} channels of x, got {groups}.")
    places, channels = math.prod(x.shape[1:-1]), x.shape[-1]
    k = repeats(places, channels)

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each group."""
        mean, second = (_group_means(sums / places, groups) for sums in (sums_of_products(x), sums_of_products(x, x)))
        return mean, second - mean**2

    def normalized(x: np.ndarray, y: np.ndarray, mean: np.ndarray, s: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # x^2 may overflow where (x - mean)^2 does not
            exact, variance = moments(x)
            subtracted = origin(exact, variance)
        mean[...] = exact
        rows, result = x.reshape(_long(x, k)), y.reshape(_long(x, k))
        if subtracted is not None:
            far, rounded = subtracted != 0, subtracted.astype(x.dtype)
            left, centered_variance = moments((rows - long_row(rounded, k)).reshape(x.shape))
            subtracted = np.where(far, (rounded + left).astype(x.dtype), x.dtype.type(0))  # exact if constant
            np.copyto(mean, subtracted, where=far)
            variance = np.where(far, centered_variance, variance)
        s[...] = np.sqrt(variance + float(epsilon))
        scale = (weight / s).astype(s.dtype)
        shift = (bias - remainder(mean, subtracted) * scale).astype(s.dtype)
        far_rows = None if subtracted is None else long_row(subtracted, k)
        affine(result, rows, far_rows, long_row(scale, k), long_row(shift, k))

    wide = widened(x)
    y, mean, s = (np.empty(shape, wide.dtype) for shape in (x.shape, *[(len(x), 1, channels)] * 2))
    in_parts(normalized, [_flat(wide)], [_flat(y), mean, s], keep=2, larger=2)
    kept = (len(x), *(1 for _ in x.shape[1:-1]), groups, 1)
    mean, s = (values[:, 0, :: channels // groups].reshape(kept) for values in (mean, s))
    return y.astype(x.dtype, copy=False), GroupsCache(x, mean, s, weight, groups)


def group_norm_backward(output_gradient: Array, cache: GroupsCache) -> Gradients:
    """dx = (g - mean(g) - (x - mean) mean(g x_hat) / s) / s, with g = weight dy.

    The means over a group are sums over its channels of weight times the sums of dy and of dy x_hat over space, which
    summed over the batch are dbias and dweight.
    """
    x, weight, groups = cache.x, cache.weight, cache.groups
    places, channels = math.prod(x.shape[1:-1]), x.shape[-1]
    k = repeats(places, channels)

    def gradients(dy: np.ndarray, x: np.ndarray, mean: np.ndarray, s: np.ndarray, dx: np.ndarray) -> tuple[Any, ...]:
        rows, result = x.reshape(_long(x, k)), dx.reshape(_long(x, k))
        subtracted = origin(mean, s.astype(np.float64) ** 2)
        of_x = rows if subtracted is None else rows - long_row(subtracted, k)
        sums, products = sums_of_products(dy), sums_of_products(dy, of_x.reshape(x.shape))
        rest = remainder(mean, subtracted)
        products -= rest[:, 0] * sums
        products /= s[:, 0]
        scale = weight / s  # in all three terms, so that they cancel exactly where nothing but a mean is left
        of_g, of_g_x_hat = (_group_means(scale[:, 0] * total / places, groups) for total in (sums, products))
        slope = of_g_x_hat / s
        shift = slope * rest - of_g
        np.multiply(dy.reshape(rows.shape), long_row(scale, k), out=result)
        result -= of_x * long_row(slope.astype(s.dtype), k)
        result += long_row(shift.astype(s.dtype), k)
        return products.sum(axis=0), sums.sum(axis=0)

    dy = widened(check_output_gradient(output_gradient, x))
    each = channels // groups
    mean, s = (v.reshape(len(x), 1, groups).repeat(each, axis=-1) for v in (cache.mean, cache.deviation))
    dx = np.empty(x.shape, np.result_type(dy, s))
    dweight, dbias = in_parts(gradients, [_flat(dy), _flat(widened(x)), mean, s], [_flat(dx)], keep=2, larger=2)
    return dx.astype(output_gradient.dtype, copy=False), dweight.astype(weight.dtype), dbias.astype(weight.dtype)


def _flat(x: np.ndarray) -> np.ndarray:
    """x with all spatial axes as one."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def _long(x: np.ndarray, k: int) -> tuple[int, int, int]:
    """The shape of x (batch, positions, channels) with k positions joined to one."""
    batch, places, channels = x.shape
    return batch, places // k, k * channels


def _group_means(values: np.ndarray, groups: int) -> np.ndarray:
    """(batch, channels) -> (batch, 1, channels): the mean over each group, repeated for every channel of it.

    It is repeated because broadcasting along the few channels of a group is slow.
    """
    batch, channels = values.shape
    means = values.reshape(batch, groups, channels // groups).sum(axis=-1) / (channels // groups)
    return means.repeat(channels // groups, axis=-1)[:, None]
