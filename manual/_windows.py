"""Windows over images (batch, height, width, channels): checks of options, counts, extraction and its adjoint."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Pair = tuple[int, int]  # for height and width
Pads = tuple[Pair, Pair]  # rows before and after, columns before and after


class Geometry(NamedTuple):
    """The positions of the windows on an image, and the number of groups of channels."""

    size: Pair  # height and width of the image
    out: Pair  # number of windows along height and width
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: Pads
    groups: int = 1


def integer(name: str, option: Any, least: int) -> int:
    """The option as an int. Raises ValueError unless it is an integer of at least `least`."""
    try:
        number = operator.index(option)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {option!r}.")
    return number


def pair(name: str, option: Any, least: int) -> Pair:
    """(height, width) of an option that is one integer or a pair. Raises ValueError for anything else."""
    both = tuple(option) if isinstance(option, Sequence) else (option, option)
    if len(both) != 2:
        raise ValueError(f"{name} must be one integer or a pair (height, width), got {option!r}.")
    return integer(name, both[0], least), integer(name, both[1], least)


def count(size: int, kernel: int, stride: int, dilation: int, pads: Pair) -> int:
    """The number of windows along an axis, floor((size + pads - span) / stride) + 1. Raises ValueError if none fits."""
    length, span = size + sum(pads), dilation * (kernel - 1) + 1
    if span > length:
        raise ValueError(
            f"a window that spans {span} (kernel {kernel}, dilation {dilation}) does not fit into {length} "
            f"(size {size}, padding {pads[0]} and {pads[1]}). Pad more, or take a smaller kernel."
        )
    return (length - span) // stride + 1


def windows_of(x: np.ndarray, geometry: Geometry, outside: float = 0) -> np.ndarray:
    """windows[n, h, w, i, j, c] = x[n, h s + i d - p, w s + j d - p, c], with `outside` in place of entries beyond x.

    s, d and p are the stride, the dilation and the padding before the first entry, for each axis. The entries i, j of
    all windows form one strided slice, so the loop goes over the kernel.
    """
    (s1, s2), (d1, d2) = geometry.stride, geometry.dilation
    high, wide = geometry.out
    padded = np.pad(x, ((0, 0), *geometry.pads, (0, 0)), constant_values=outside)
    windows = np.zeros((len(x), high, wide, *geometry.kernel, x.shape[3]), x.dtype)
    for i, j in np.ndindex(geometry.kernel):
        windows[:, :, :, i, j] = padded[:, i * d1 : i * d1 + high * s1 : s1, j * d2 : j * d2 + wide * s2 : s2]
    return windows


def add_windows(dwindows: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The adjoint of `windows_of`: each entry of x receives the sum of the gradients of its copies in the windows.

    The loop goes over the positions i, j within a window, because the entries at one position are distinct entries of
    x. Gradients of padding are dropped, and entries of x in no window receive 0.
    """
    (s1, s2), (d1, d2) = geometry.stride, geometry.dilation
    high, wide = geometry.out
    (height, width), ((top, bottom), (left, right)) = geometry.size, geometry.pads
    batch, channels = len(dwindows), dwindows.shape[5]
    dpadded = np.zeros((batch, top + height + bottom, left + width + right, channels), dwindows.dtype)
    for i, j in np.ndindex(geometry.kernel):
        dpadded[:, i * d1 : i * d1 + high * s1 : s1, j * d2 : j * d2 + wide * s2 : s2] += dwindows[:, :, :, i, j]
    return dpadded[:, top : top + height, left : left + width]
