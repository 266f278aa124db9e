"""Checks of the options of convolution and pooling, for images (batch, height, width, channels)."""

import operator
from collections.abc import Sequence
from typing import Any

Pair = tuple[int, int]  # for height and width


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


def must_fit(size: int, kernel: int, dilation: int, pads: Pair) -> None:
    """Raises ValueError if no window fits along an axis, where XLA would return an empty array."""
    length, span = pads[0] + size + pads[1], (kernel - 1) * dilation + 1
    if length < span:
        raise ValueError(
            f"a window that spans {span} (kernel {kernel}, dilation {dilation}) does not fit into {length} "
            f"(size {size}, padding {pads[0]} and {pads[1]}). Pad more, or take a smaller kernel."
        )
