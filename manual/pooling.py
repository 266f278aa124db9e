"""Pooling over windows and over whole images, with every derivative by hand.

Images are (batch, height, width, channels), and every channel is pooled by itself. Options, each an integer or a pair
(height, width): `window`; `stride`, the step from window to window, which is the window unless told otherwise;
`padding`, how many rows and columns are put before and after, at most half the window, so that no window is padding
alone. Windows that would reach over the end are dropped, as in PyTorch: entries that no window touches have no effect
and a gradient of zero. dy is the output gradient, dx the input's. Work keeps its dtype.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._precision import widened
from manual._rules import Rules
from manual._windows import Geometry, Pair, add_windows, count, pair, windows_of

Images = Float[np.ndarray, "batch height width channels"]
NewImages = Float[np.ndarray, "batch new_height new_width channels"]


class MaxPool2dCache(NamedTuple):
    """x and its maxima: which entry a maximum came from is seen by comparing, and costs nothing until it is asked."""

    x: Images
    y: NewImages
    geometry: Geometry


def max_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, MaxPool2dCache]:
    """y[n, h, w, c] = max over i, j of  x[n, h s + i - p, w s + j - p, c], with -inf outside of x.

    Raises ValueError if an option is impossible or no window fits. Source: Scherer, Müller and Behnke, "Evaluation of
    pooling operations in convolutional architectures for object recognition" (2010).
    """
    geometry = _geometry(x, window, stride, padding)
    y = windows_of(x, geometry, outside=-math.inf).max(axis=(-2, -1))
    return y, MaxPool2dCache(x, y, geometry)


def max_pool2d_backward(output_gradient: NewImages, cache: MaxPool2dCache) -> Images:
    """dx[n, h s + i - p, w s + j - p, c] += dy[n, h, w, c] for the i, j where the maximum is.

    Where it is at several, a tie, the first in row-major order of the window takes all, as in PyTorch and in XLA. The
    padding takes part, so an input of -inf has no gradient from a window whose padding comes before it. A maximum of
    NaN has no gradient, and a dy that is not finite makes NaN of all its window.
    """
    dy, (x, y, geometry) = output_gradient, cache
    windows = windows_of(x, geometry, outside=-math.inf)
    is_maximum = (windows == y[..., None, None]).reshape(*y.shape, math.prod(geometry.kernel))
    is_first = is_maximum & (np.cumsum(is_maximum, axis=-1) == 1)
    dwindows = (dy[..., None] * is_first).reshape(windows.shape)
    return add_windows(dwindows, geometry)


class AveragePool2dCache(NamedTuple):
    """Shapes: a mean is linear, so no value is needed."""

    shape: tuple[int, ...]
    geometry: Geometry


def average_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, AveragePool2dCache]:
    """y[n, h, w, c] = sum over i, j of  x[n, h s + i - p, w s + j - p, c] / (window height x window width).

    Padding is zeros, which are counted: a window at the border is divided by its whole size, as by PyTorch's
    count_include_pad=True, its default (TensorFlow and Keras divide by the entries that are there). Raises ValueError
    as max_pool2d does. Source: LeCun et al. (1998), II.B, there with a gain and a bias for each channel.
    """
    geometry = _geometry(x, window, stride, padding)
    y = windows_of(widened(x), geometry).mean(axis=(-2, -1))  # in float16 a sum could overflow, and the mean not
    return y.astype(x.dtype), AveragePool2dCache(x.shape, geometry)


def average_pool2d_backward(output_gradient: NewImages, cache: AveragePool2dCache) -> Images:
    """dx[n, h s + i - p, w s + j - p, c] += dy[n, h, w, c] / (window height x window width) for every i, j."""
    dy, (_, geometry) = widened(output_gradient), cache
    share = dy / math.prod(geometry.kernel)
    dwindows = np.broadcast_to(share[..., None, None], (*share.shape, *geometry.kernel))
    return add_windows(dwindows, geometry).astype(output_gradient.dtype)


class GlobalAveragePoolCache(NamedTuple):
    """The shape: a mean is linear, so no value is needed."""

    shape: tuple[int, ...]


def global_average_pool(
    x: Float[np.ndarray, "batch *size channels"],
) -> tuple[Float[np.ndarray, "batch channels"], GlobalAveragePoolCache]:
    """y[n, c] = mean of x[n, ..., c] over all axes between batch and channels: a sequence, an image, a volume.

    Raises ValueError if there is nothing to average. Source: Lin, Chen and Yan, "Network in network" (ICLR 2014).
    """
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(
            f"x must be (batch, ..., channels) with at least one entry between batch and channels, got {x.shape}."
        )
    return x.mean(axis=tuple(range(1, x.ndim - 1))), GlobalAveragePoolCache(x.shape)


def global_average_pool_backward(
    output_gradient: Float[np.ndarray, "batch channels"], cache: GlobalAveragePoolCache
) -> Float[np.ndarray, "batch *size channels"]:
    """dx[n, ..., c] = dy[n, c] / size: every entry has the same share."""
    batch, *size, channels = cache.shape
    share = output_gradient / math.prod(size)
    return np.broadcast_to(share.reshape(batch, *(1 for _ in size), channels), cache.shape).copy()


def _geometry(x: np.ndarray, window: Any, stride: Any, padding: Any) -> Geometry:
    if x.ndim != 4:
        raise ValueError(f"x must be (batch, height, width, channels), got {x.shape}.")
    window, padding = pair("window", window, 1), pair("padding", padding, 0)
    steps = window if stride is None else pair("stride", stride, 1)
    if any(2 * p > k for p, k in zip(padding, window, strict=True)):
        raise ValueError(f"padding must be at most half the window, got {padding} for {window}: pad the input instead.")
    pads = (padding[0], padding[0]), (padding[1], padding[1])
    high, wide = map(count, x.shape[1:3], window, steps, (1, 1), pads)
    return Geometry(x.shape[1:3], (high, wide), window, steps, (1, 1), pads)


POOLING: Rules = {
    "max_pool2d": (max_pool2d, max_pool2d_backward),
    "average_pool2d": (average_pool2d, average_pool2d_backward),
    "global_average_pool": (global_average_pool, global_average_pool_backward),
}
