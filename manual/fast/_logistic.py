"""The sigmoid, and the part of softplus, log(1 + exp(x)), that is not max(x, 0)."""

import numpy as np


def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """Writes 1 / (1 + exp(-x)) to y."""
    np.negative(x, out=y)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is the correct 0
        np.exp(y, out=y)
    y += 1
    np.reciprocal(y, out=y)


def softplus_below(x: np.ndarray, y: np.ndarray) -> None:
    """Writes log(1 + exp(-|x|)) to y."""
    np.abs(x, out=y)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
