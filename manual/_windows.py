"""Windows over images (..., height, width, channels): what their options mean, how many fit, and borders."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Pair = tuple[int, int]  # of height and of width
Pads = tuple[Pair, Pair]  # rows before and after, columns before and after


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


def padded(x: np.ndarray, pads: Pads, value: float = 0) -> np.ndarray:
    """x with a border of `value`, less what a negative border cuts off."""
    lengths = zip(pads, x.shape[-3:-1], strict=True)
    x = x[..., *(slice(max(-before, 0), n - max(-after, 0)) for (before, after), n in lengths), :]
    if max(map(max, pads)) <= 0:
        return x
    borders = [(0, 0)] * (x.ndim - 3) + [(max(before, 0), max(after, 0)) for before, after in pads] + [(0, 0)]
    return np.pad(x, borders, constant_values=value)


def unpadded(x: np.ndarray, pads: Pads) -> np.ndarray:
    """x without a border that `padded` gave it, as a view."""
    (top, bottom), (left, right) = pads
    return x[..., top : x.shape[-3] - bottom, left : x.shape[-2] - right, :]
