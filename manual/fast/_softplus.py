"""softplus(x) - max(x, 0) = log(1 + exp(-|x|))."""

import numpy as np


def softplus_below(x: np.ndarray, y: np.ndarray) -> None:
    """Write log(1 + exp(-|x|)) into y."""
    np.abs(x, out=y)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
