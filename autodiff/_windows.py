"""What the options of convolution and pooling must be, on images (batch, height, width, channels)."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

Pair = tuple[int, int]  # of height and of width


def whole(name: str, option: Any, least: int) -> int:
    """Raises ValueError unless the option is an integer of at least `least`."""
    if not isinstance(option, Integral) or option < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {option!r}.")
    return int(option)


def two(name: str, option: Any, least: int) -> Pair:
    """For height and width. Raises ValueError unless it is one integer or two, of at least `least`."""
    values = list(option) if isinstance(option, Sequence) else [option] * 2
    if len(values) != 2:
        raise ValueError(f"{name} must be one integer or a pair (height, width), got {option!r}.")
    return whole(name, values[0], least), whole(name, values[1], least)


def must_fit(size: int, kernel: int, dilation: int, pads: Pair) -> None:
    """Raises ValueError if no window fits along an axis: XLA would return an empty array."""
    length, span = pads[0] + size + pads[1], (kernel - 1) * dilation + 1
    if length < span:
        raise ValueError(
            f"a window that spans {span} (kernel {kernel}, dilation {dilation}) does not fit into {length} "
            f"(size {size}, padding {pads[0]} and {pads[1]}). Pad more, or take a smaller kernel."
        )
