"""x weight + bias for arrays of (batch, tokens, features), as one product of matrices."""

import numpy as np


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    y = x.reshape(x.shape[0] * x.shape[1], x.shape[2]) @ weight
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:2], weight.shape[1])


def affine_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx = dy W^T, dW = x^T dy, db = the sum of dy over batch and tokens."""
    dy_rows, x_rows = (tokens.reshape(x.shape[0] * x.shape[1], tokens.shape[2]) for tokens in (dy, x))
    return (dy_rows @ weight.T).reshape(x.shape), x_rows.T @ dy_rows, np.sum(dy_rows, axis=0)
