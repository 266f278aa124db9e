"""Softmax and its logarithm along any axis, with every derivative by hand: the `activations` of rows, not entries."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from manual._parts import in_parts

Array = Float[np.ndarray, "*shape"]


class SoftmaxCache(NamedTuple):
    """The value is enough, because both derivatives, that of log_softmax too, are functions of it."""

    y: Float[np.ndarray, "*shape"]
    axis: int


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`; the largest x is subtracted first, so that exp cannot overflow.

    -inf (a mask) gives 0. Where all are -inf there is no softmax, and the result is NaN. Raises ValueError if x has no
    such axis, or nothing along it. Source: Bridle, "Probabilistic interpretation of feedforward classification network
    outputs, with relationships to statistical pattern recognition" (1990).
    """

    def value(x: np.ndarray) -> np.ndarray:
        y = x - np.max(x, axis=1, keepdims=True)
        np.exp(y, out=y)
        y /= np.sum(y, axis=1, keepdims=True)
        return y

    y = in_parts(value, x, keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def _from(axis: int, x: Array) -> int:
    """How many axes there are from this one on: it is the first of those that belong together, and so axis 1 of a part.

    Raises ValueError if there is no such axis, or nothing along it.
    """
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"x must have at least one entry along axis {axis}, got shape {x.shape}: choose another axis.")
    return x.ndim - axis % x.ndim


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = y_i (dy_i - sum_j y_j dy_j), because dy_j/dx_i = y_j ([i = j] - y_i)."""

    def gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = y * dy
        p -= np.sum(p, axis=1, keepdims=True) * y
        return p

    return in_parts(gradient, output_gradient, cache.y, keep=_from(cache.axis, cache.y))


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = x_i - log sum_j exp(x_j), finite where softmax_i rounds to 0; all else as there. Source: Bridle (1990)."""

    def value(x: np.ndarray) -> np.ndarray:
        y = x - np.max(x, axis=1, keepdims=True)
        y -= np.log(np.sum(np.exp(y), axis=1, keepdims=True))
        return y

    y = in_parts(value, x, keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = dy_i - exp(y_i) sum_j dy_j, because dy_j/dx_i = [i = j] - softmax_i."""

    def gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        return dy - np.exp(y) * np.sum(dy, axis=1, keepdims=True)

    return in_parts(gradient, output_gradient, cache.y, keep=_from(cache.axis, cache.y))
