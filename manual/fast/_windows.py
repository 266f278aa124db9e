"""Padding of images (..., height, width, channels), where negative padding crops."""

import numpy as np

from manual._windows import Pads


def padded(x: np.ndarray, pads: Pads, value: float = 0) -> np.ndarray:
    """x padded with `value`, and cropped where the padding is negative."""
    lengths = zip(pads, x.shape[-3:-1], strict=True)
    x = x[..., *(slice(max(-before, 0), n - max(-after, 0)) for (before, after), n in lengths), :]
    if max(map(max, pads)) <= 0:
        return x
    borders = [(0, 0)] * (x.ndim - 3) + [(max(before, 0), max(after, 0)) for before, after in pads] + [(0, 0)]
    return np.pad(x, borders, constant_values=value)


def unpadded(x: np.ndarray, pads: Pads) -> np.ndarray:
    """A view of x without the padding that `padded` added."""
    (top, bottom), (left, right) = pads
    return x[..., top : x.shape[-3] - bottom, left : x.shape[-2] - right, :]
