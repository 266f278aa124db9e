"""Pooling over windows and over whole images, with every derivative by hand.

Images are (batch, height, width, channels), and every channel is pooled separately. Each option is an integer or a
pair (height, width): `window`; `stride`, the step between windows, by default the window; and `padding`, the number of
rows and columns added on each side, at most half the window. Windows that would extend beyond the end are dropped, as
in PyTorch, and entries in no window have a gradient of 0. ValueError is raised if an option is out of range, or if no
window fits. In formulas, s is the stride and p the padding of an axis, n counts examples and c channels, y has its
entries at (h, w), and (i, j) is a position in the window. dy is the output gradient, and dx the gradient with respect
to x. The value has the dtype of x.
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
    """x and y, from which the backward pass finds the positions of the maxima."""

    x: Images
    y: NewImages
    geometry: Geometry


def max_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, MaxPool2dCache]:
    """y[n, h, w, c] = max over i, j of  x[n, h s + i - p, w s + j - p, c], with -inf outside of x.

    Args:
        x: images (batch, height, width, channels).
        window, stride, padding: as described for the module.

    Raises:
        ValueError: if an option is out of range, or no window fits.

    Source: Scherer, Müller and Behnke, "Evaluation of pooling operations in convolutional architectures for object
    recognition" (2010).
    """
    geometry = _geometry(x, window, stride, padding)
    y = windows_of(x, geometry, outside=-math.inf).max(axis=(3, 4))
    return y, MaxPool2dCache(x, y, geometry)


def max_pool2d_backward(output_gradient: NewImages, cache: MaxPool2dCache) -> Images:
    """dx[n, h s + i - p, w s + j - p, c] += dy[n, h, w, c] for the i, j of the maximum.

    If several entries are equal to the maximum (a tie), the first in row-major order of the window receives all of dy,
    as in PyTorch and XLA. Padding takes part in ties, so an input of -inf receives nothing from a window in which
    padding precedes it. If the maximum is NaN, no entry receives a gradient. If dy is not finite, the other
    entries of the window receive NaN.
    """
    dy, (x, y, geometry) = output_gradient, cache
    windows = windows_of(x, geometry, outside=-math.inf)
    taps = windows.reshape(*y.shape[:3], math.prod(geometry.kernel), y.shape[3])
    is_maximum = taps == y[:, :, :, None]
    is_first = is_maximum & (np.cumsum(is_maximum, axis=3) == 1)
    dwindows = dy[:, :, :, None] * is_first
    return add_windows(dwindows.reshape(windows.shape), geometry)


class AveragePool2dCache(NamedTuple):
    """The shape of x and the windows. No value is needed, because a mean is linear."""

    shape: tuple[int, ...]
    geometry: Geometry


def average_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, AveragePool2dCache]:
    """y[n, h, w, c] = sum over i, j of  x[n, h s + i - p, w s + j - p, c] / (window height x window width).

    Padding is zeros, which are counted: a window at the border is divided by its full size, as with PyTorch's default
    count_include_pad=True (TensorFlow and Keras divide by the number of entries of x in the window).

    Args:
        x: images (batch, height, width, channels).
        window, stride, padding: as described for the module.

    Raises:
        ValueError: as max_pool2d.

    Source: LeCun et al. (1998), II.B, where each channel has a gain and a bias in addition.
    """
    geometry = _geometry(x, window, stride, padding)
    y = windows_of(widened(x), geometry).mean(axis=(3, 4))  # a sum in float16 could overflow where its mean does not
    return y.astype(x.dtype), AveragePool2dCache(x.shape, geometry)


def average_pool2d_backward(output_gradient: NewImages, cache: AveragePool2dCache) -> Images:
    """dx[n, h s + i - p, w s + j - p, c] += dy[n, h, w, c] / (window height x window width) for every i, j."""
    dy, (_, geometry) = widened(output_gradient), cache
    share = dy / math.prod(geometry.kernel)
    dwindows = np.broadcast_to(share[:, :, :, None, None], (*dy.shape[:3], *geometry.kernel, dy.shape[3]))
    return add_windows(dwindows, geometry).astype(output_gradient.dtype)


class GlobalAveragePoolCache(NamedTuple):
    """The shape of x. No value is needed, because a mean is linear."""

    shape: tuple[int, ...]


def global_average_pool(
    x: Float[np.ndarray, "batch *size channels"],
) -> tuple[Float[np.ndarray, "batch channels"], GlobalAveragePoolCache]:
    """y[n, c] = mean of x[n, ..., c] over all axes between batch and channels: for sequences, images and volumes.

    The mean is computed in float64 and rounded to the dtype of x, because NumPy adds row after row: over 50 000 pixels,
    a float32 sum would lose several digits.

    Raises:
        ValueError: if there is nothing to average.

    Source: Lin, Chen and Yan, "Network in network" (ICLR 2014).
    """
    _check_averaged(x)
    y = x.mean(axis=tuple(range(1, x.ndim - 1)), dtype=np.float64)
    return y.astype(x.dtype), GlobalAveragePoolCache(x.shape)


def global_average_pool_backward(
    output_gradient: Float[np.ndarray, "batch channels"], cache: GlobalAveragePoolCache
) -> Float[np.ndarray, "batch *size channels"]:
    """dx[n, ..., c] = dy[n, c] / size, where size is the number of entries that are averaged."""
    batch, *size, channels = cache.shape
    share = output_gradient / math.prod(size)
    return np.broadcast_to(share.reshape(batch, *(1 for _ in size), channels), cache.shape).copy()


def _check_averaged(x: np.ndarray) -> None:
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(
            f"x must be (batch, ..., channels) with at least one entry between batch and channels, got {x.shape}."
        )


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
