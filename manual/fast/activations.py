"""`manual.activations` in fewer passes over memory.

Formulas are built up in the memory of their result, as new memory costs more than an operation. Slopes are chosen by
arithmetic (`_by_side`), because np.where is several times slower at random signs; max(x, 0) is a clip, which is three
times as fast as np.maximum with a number. What takes many operations is done part by part (`_parts`).
"""

from math import inf, pi, sqrt
from typing import Any

import numpy as np
from jaxtyping import Float

from manual._rules import Rules
from manual.activations import (
    _GELU_A,
    _GELU_C,
    _SELU_ALPHA,
    _SELU_SCALE,
    Array,
    EluCache,
    GeluCache,
    LeakyReluCache,
    OutputCache,
    SiluCache,
    SoftmaxCache,
    SwigluCache,
    _check_axis,
    relu_backward,
    tanh,
    tanh_backward,
)
from manual.fast._erf import erf
from manual.fast._parts import in_parts
from manual.fast._softplus import softplus_below


def sigmoid(x: Array) -> tuple[Array, OutputCache]:
    y = np.negative(x, out=np.empty_like(x))
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is the right 0
        np.exp(y, out=y)
    y += 1
    np.reciprocal(y, out=y)
    return y, OutputCache(y)


def sigmoid_backward(output_gradient: Array, cache: OutputCache) -> Array:
    dx = 1 - cache.y
    dx *= cache.y
    return dx * output_gradient


def relu(x: Array) -> tuple[Array, OutputCache]:
    y = np.clip(x, 0, inf, out=np.empty_like(x))
    return y, OutputCache(y)


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    negative_slope = float(negative_slope)  # a NumPy scalar would promote float32 work
    y = np.clip(x, -inf, 0, out=np.empty_like(x))
    y *= negative_slope
    y += np.clip(x, 0, inf)
    return y, LeakyReluCache(x, negative_slope)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    return _by_side(output_gradient, cache.x > 0, 1.0, cache.negative_slope)


def _by_side(dy: Array, positive: np.ndarray, right: float, left: Any) -> Array:
    """dy right where x is positive, else dy left."""
    p = dy * positive
    dx = (dy - p) * left
    if right != 1:
        p *= right
    dx += p
    return dx


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    y = np.clip(x, -inf, 0, out=np.empty_like(x))
    np.expm1(y, out=y)
    y *= alpha
    y += np.clip(x, 0, inf)
    return y, EluCache(y, alpha)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    return _by_side(output_gradient, cache.y > 0, 1.0, cache.y + cache.alpha)


def selu(x: Array) -> tuple[Array, OutputCache]:
    y, _ = elu(x, alpha=_SELU_ALPHA)
    y *= _SELU_SCALE
    return y, OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    return _by_side(output_gradient, cache.y > 0, _SELU_SCALE, cache.y + _SELU_SCALE * _SELU_ALPHA)


def softplus(x: Array) -> tuple[Array, OutputCache]:
    y = softplus_below(x)
    y += np.clip(x, 0, inf)
    return y, OutputCache(y)  # np.logaddexp(x, 0) takes ten times as long


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    dx = np.negative(cache.y, out=np.empty_like(cache.y))
    np.expm1(dx, out=dx)
    np.negative(dx, out=dx)
    return dx * output_gradient


_GELU_TAIL = 40  # as in `manual.activations._tail_cut_off`


def gelu(x: Array, *, approximate: bool = False) -> tuple[Array, GeluCache]:
    def value(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if approximate:
            t = np.clip(x, -_GELU_TAIL, _GELU_TAIL)
            Phi = np.square(t)
            Phi *= _GELU_C * _GELU_A
            Phi += _GELU_C
            Phi *= t
            np.tanh(Phi, out=Phi)
        else:
            Phi = erf(x * sqrt(0.5))
        Phi += 1
        Phi *= 0.5
        return x * Phi, Phi

    y, Phi = in_parts(value, x)
    return y, GeluCache(x, Phi, approximate)


def gelu_backward(output_gradient: Array, cache: GeluCache) -> Array:
    def gradient(dy: np.ndarray, x: np.ndarray, Phi: np.ndarray) -> np.ndarray:
        t = np.clip(x, -_GELU_TAIL, _GELU_TAIL)
        np.square(t, out=t)
        if cache.approximate:
            t *= 6 * _GELU_C * _GELU_A
            t += 2 * _GELU_C
            t *= Phi
            t *= 1 - Phi
        else:
            t *= -0.5
            np.exp(t, out=t)
            t *= 1 / sqrt(2 * pi)
        t *= x
        t += Phi
        t *= dy
        return t

    return in_parts(gradient, output_gradient, cache.x, cache.Phi)


def silu(x: Array) -> tuple[Array, SiluCache]:
    s, _ = sigmoid(x)
    return x * s, SiluCache(x, s)


def silu_backward(output_gradient: Array, cache: SiluCache) -> Array:
    """dx = dy s (1 + x (1 - s))."""
    x, s = cache
    dx = 1 - s
    dx *= x
    dx += 1
    dx *= s
    return dx * output_gradient


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    _check_axis(x, axis)

    def value(x: np.ndarray) -> np.ndarray:
        y = x - np.max(x, axis=1, keepdims=True)
        np.exp(y, out=y)
        y /= np.sum(y, axis=1, keepdims=True)
        return y

    y = in_parts(value, x, keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def _from(axis: int, x: Array) -> int:
    """How many axes there are from this one on: the first of those that belong together is axis 1 of a part."""
    return x.ndim - axis % x.ndim


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = y * dy
        p -= np.sum(p, axis=1, keepdims=True) * y
        return p

    return in_parts(gradient, output_gradient, cache.y, keep=_from(cache.axis, cache.y))


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    _check_axis(x, axis)

    def value(x: np.ndarray) -> np.ndarray:
        y = x - np.max(x, axis=1, keepdims=True)
        y -= np.log(np.sum(np.exp(y), axis=1, keepdims=True))
        return y

    y = in_parts(value, x, keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        return dy - np.exp(y) * np.sum(dy, axis=1, keepdims=True)

    return in_parts(gradient, output_gradient, cache.y, keep=_from(cache.axis, cache.y))


def swiglu(gate: Array, value: Float[np.ndarray, "*values"]) -> tuple[Array, SwigluCache]:
    if gate.shape != value.shape:
        raise ValueError(f"gate has shape {gate.shape} and value {value.shape}; they must be equal.")
    s, _ = sigmoid(gate)
    return gate * s * value, SwigluCache(gate, value, s)


def swiglu_backward(output_gradient: Array, cache: SwigluCache) -> tuple[Array, Array]:
    gate, value, s = cache
    return (1 + (1 - s) * gate) * s * value * output_gradient, gate * s * output_gradient


ACTIVATIONS: Rules = {
    "tanh": (tanh, tanh_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "elu": (elu, elu_backward),
    "selu": (selu, selu_backward),
    "softplus": (softplus, softplus_backward),
    "gelu": (gelu, gelu_backward),
    "silu": (silu, silu_backward),
    "softmax": (softmax, softmax_backward),
    "log_softmax": (log_softmax, log_softmax_backward),
    "swiglu": (swiglu, swiglu_backward),
}
