"""Group normalization: the part of `normalization` whose statistics are those of an example's groups of channels."""

import math

import numpy as np

from manual._normalization_shapes import check_normalization, check_output_gradient
from manual._precision import widened
from manual.fast._normalized import long_row, repeats, sums_of_products
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

    def normalized(x: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = widened(x)
        mean = _group_means(np.einsum("bsc->bc", wide, dtype=np.float64) / places, groups).astype(wide.dtype)
        y = wide.reshape(len(x), places // k, k * channels) - long_row(mean, k)
        centered = y.reshape(x.shape)
        variance = _group_means(sums_of_products(centered, centered) / places, groups)
        s = np.sqrt(variance + float(epsilon)).astype(y.dtype)
        y *= long_row(weight / s, k)
        y += long_row(bias, k)
        return y.reshape(x.shape).astype(x.dtype, copy=False), mean, s

    y, mean, s = in_parts(normalized, _flat(x), keep=2)
    kept = (len(x), *(1 for _ in x.shape[1:-1]), groups, 1)
    mean, s = (values[:, 0, :: channels // groups].reshape(kept) for values in (mean, s))
    return y.reshape(x.shape), GroupsCache(x, mean, s, weight, groups)


def group_norm_backward(output_gradient: Array, cache: GroupsCache) -> Gradients:
    """All that is summed are dy and dy x_hat, over space. Summed over the batch too, that is dbias and dweight; times
    weight and averaged over a group, it is the mean of g and of g x_hat.
    """
    x, weight, groups = cache.x, cache.weight, cache.groups
    places, channels = math.prod(x.shape[1:-1]), x.shape[-1]
    k = repeats(places, channels)

    def gradients(dy: np.ndarray, x: np.ndarray, mean: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, ...]:
        long = (len(x), places // k, k * channels)
        wide, centered = widened(dy), widened(x).reshape(long) - long_row(mean, k)
        sums = sums_of_products(wide)
        products = sums_of_products(wide, centered.reshape(x.shape)) / s[:, 0]
        scale = weight / s  # in all three terms, so that they cancel exactly where nothing but a mean is left
        of_g, of_g_x_hat = (_group_means(scale[:, 0] * total / places, groups) for total in (sums, products))
        centered *= long_row((of_g_x_hat / s).astype(s.dtype), k)
        dx = wide.reshape(long) * long_row(scale, k)
        dx -= long_row(of_g.astype(s.dtype), k)
        dx -= centered
        return dx.reshape(x.shape).astype(dy.dtype, copy=False), products, sums

    dy = check_output_gradient(output_gradient, x)
    each = channels // groups
    mean, s = (v.reshape(len(x), 1, groups).repeat(each, axis=-1) for v in (cache.mean, cache.deviation))
    dx, products, sums = in_parts(gradients, _flat(dy), _flat(x), mean, s, keep=2)
    dweight, dbias = products.sum(axis=0).astype(weight.dtype), sums.sum(axis=0).astype(weight.dtype)
    return dx.reshape(x.shape), dweight, dbias


def _flat(x: np.ndarray) -> np.ndarray:
    """All spatial axes as one."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def _group_means(values: np.ndarray, groups: int) -> np.ndarray:
    """(batch, channels) -> (batch, 1, channels): the mean over each group, once for every channel of it.

    Repeated, because passes over x are slow if they run along the few channels of a group.
    """
    batch, channels = values.shape
    means = values.reshape(batch, groups, channels // groups).sum(axis=-1) / (channels // groups)
    return means.repeat(channels // groups, axis=-1)[:, None]
