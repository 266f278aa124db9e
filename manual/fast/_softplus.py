"""The part of softplus, log(1 + exp(x)), that is not max(x, 0)."""

import numpy as np


def softplus_below(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(-|x|)), in new memory."""
    y = np.abs(x, out=np.empty_like(x))
    np.negative(y, out=y)
    np.exp(y, out=y)
    return np.log1p(y, out=y)
