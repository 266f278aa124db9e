"""Windows over images (batch, height, width, channels): what their options mean, how many fit, and what is in them."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Pair = tuple[int, int]  # of height and of width
Pads = tuple[Pair, Pair]  # rows before and after, columns before and after


class Geometry(NamedTuple):
    """How windows lie on an image, and into how many groups its channels are divided."""

    size: Pair  # of the image
    out: Pair  # how many windows
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: Pads
    groups: int = 1


def integer(name: str, option: Any, least: int) -> int:
    """Raises ValueError unless the option is an integer of at least `least`."""
    try:
        number = operator.index(option)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {option!r}.")
    return number


def pair(name: str, option: Any, least: int) -> Pair:
    """One integer for height and width, or one for each. Raises ValueError if it is anything else."""
    both = tuple(option) if isinstance(option, Sequence) else (option, option)
    if len(both) != 2:
        raise ValueError(f"{name} must be one integer or a pair (height, width), got {option!r}.")
    return integer(name, both[0], least), integer(name, both[1], least)


def count(size: int, kernel: int, stride: int, dilation: int, pads: Pair) -> int:
    """How many windows fit along an axis: floor((size + pads - span) / stride) + 1. Raises ValueError if none does."""
    length, span = size + sum(pads), dilation * (kernel - 1) + 1
    if span > length:
        raise ValueError(
            f"a window that spans {span} (kernel {kernel}, dilation {dilation}) does not fit into {length} "
            f"(size {size}, padding {pads[0]} and {pads[1]}). Pad more, or take a smaller kernel."
        )
    return (length - span) // stride + 1


def windows_of(x: np.ndarray, geometry: Geometry, outside: float = 0) -> np.ndarray:
    """windows[n, h, w, c, i, j] = x[n, h s + i d - p, w s + j d - p, c], with `outside` where x has no such entry.

    s, d and p are stride, dilation and what is put before, by axis: the entry i, j of all windows is one slice.
    """
    (s1, s2), (d1, d2) = geometry.stride, geometry.dilation
    high, wide = geometry.out
    padded = np.pad(x, ((0, 0), *geometry.pads, (0, 0)), constant_values=outside)
    windows = np.zeros((len(x), high, wide, x.shape[3], *geometry.kernel), x.dtype)
    for i, j in np.ndindex(geometry.kernel):
        windows[..., i, j] = padded[:, i * d1 : i * d1 + high * s1 : s1, j * d2 : j * d2 + wide * s2 : s2]
    return windows


def add_windows(dwindows: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The adjoint of `windows_of`: each entry of x receives what every window that it is in sends to it.

    It goes through the places i, j in a window, whose entries no two windows share. What falls on the border is
    dropped, and what no window touches receives 0.
    """
    (s1, s2), (d1, d2) = geometry.stride, geometry.dilation
    high, wide = geometry.out
    (height, width), ((top, bottom), (left, right)) = geometry.size, geometry.pads
    batch, channels = len(dwindows), dwindows.shape[3]
    dpadded = np.zeros((batch, top + height + bottom, left + width + right, channels), dwindows.dtype)
    for i, j in np.ndindex(geometry.kernel):
        dpadded[:, i * d1 : i * d1 + high * s1 : s1, j * d2 : j * d2 + wide * s2 : s2] += dwindows[..., i, j]
    return dpadded[:, top : top + height, left : left + width]
