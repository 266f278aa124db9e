"""`manual.activations` in fewer passes over memory.

Formulas are computed in the memory of their result, because allocating memory costs more than an operation, and part by
part (`_parts`). Slopes that depend on a sign are computed (`_by_side`), because np.where is several times slower for
random signs. max(x, 0) is a clip, which is three times as fast as np.maximum with a number.
"""

from collections.abc import Callable
from math import inf, pi, sqrt

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
from manual.fast import _logistic
from manual.fast._erf import erf
from manual.fast._parts import elementwise, in_parts
from manual.fast._sums import row_products


def sigmoid(x: Array) -> tuple[Array, OutputCache]:
    return (y := elementwise(_logistic.sigmoid, x)), OutputCache(y)


def sigmoid_backward(output_gradient: Array, cache: OutputCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        np.subtract(1, y, out=dx)
        dx *= y
        dx *= dy

    return elementwise(gradient, output_gradient, cache.y)


def relu(x: Array) -> tuple[Array, OutputCache]:
    y = np.clip(x, 0, inf, out=np.empty_like(x))
    return y, OutputCache(y)


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    a = float(negative_slope)  # a NumPy scalar would promote float32 work

    def value(x: np.ndarray, y: np.ndarray) -> None:
        np.multiply(x, a, out=y)
        np.maximum(x, y, out=y)

    def value_of_any_slope(x: np.ndarray, y: np.ndarray) -> None:
        np.clip(x, -inf, 0, out=y)
        y *= a
        y += np.clip(x, 0, inf)

    return elementwise(value if 0 < a <= 1 else value_of_any_slope, x), LeakyReluCache(x, a)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    def gradient(dy: np.ndarray, x: np.ndarray, dx: np.ndarray) -> None:
        _by_side(x, 1.0, cache.negative_slope, dx)
        dx *= dy

    return elementwise(gradient, output_gradient, cache.x)


def _by_side(x: np.ndarray, right: float, left: float, slope: np.ndarray) -> None:
    """Writes the number `right` where x is positive, and `left` elsewhere."""
    one = slope.dtype.type(1)
    error = one * (right - left) + one * left - one * right
    if abs(error) <= np.finfo(slope.dtype).eps * abs(right):
        np.greater(x, 0, out=slope, casting="unsafe")
        slope *= right - left
        slope += left
    else:  # a large slope on the left would absorb that on the right
        slope[...] = np.where(x > 0, one * right, one * left)


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    return (y := _elu(x, alpha, 1.0)), EluCache(y, alpha)


def _elu(x: Array, alpha: float, scale: float) -> Array:
    def value(x: np.ndarray, y: np.ndarray) -> None:
        np.clip(x, -inf, 0, out=y)
        np.expm1(y, out=y)
        y *= alpha
        y += np.clip(x, 0, inf)
        if scale != 1:
            y *= scale

    return elementwise(value, x)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    return _elu_backward(output_gradient, cache.y, cache.alpha, 1.0)


def _elu_backward(output_gradient: Array, y: Array, alpha: float, scale: float) -> Array:
    """On the left the slope is y + scale alpha, and scale on the right."""

    def gradient(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        if alpha == 1:  # one expression on both sides
            np.clip(y, -inf, 0, out=dx)
            dx += scale
        else:
            _by_side(y, scale, scale * alpha, dx)
            dx += np.clip(y, -inf, 0)
        dx *= dy

    return elementwise(gradient, output_gradient, y)


def selu(x: Array) -> tuple[Array, OutputCache]:
    return (y := _elu(x, _SELU_ALPHA, _SELU_SCALE)), OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    return _elu_backward(output_gradient, cache.y, _SELU_ALPHA, _SELU_SCALE)


def softplus(x: Array) -> tuple[Array, OutputCache]:
    def value(x: np.ndarray, y: np.ndarray) -> None:  # np.logaddexp(x, 0) takes ten times as long
        _logistic.softplus_below(x, y)
        y += np.clip(x, 0, inf)

    return (y := elementwise(value, x)), OutputCache(y)


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        np.negative(y, out=dx)
        np.expm1(dx, out=dx)
        np.negative(dx, out=dx)
        dx *= dy

    return elementwise(gradient, output_gradient, cache.y)


_GELU_TAIL = 40  # as in `manual.activations._tail_cut_off`


def gelu(x: Array, *, approximate: bool = False) -> tuple[Array, GeluCache]:
    def value(x: np.ndarray, y: np.ndarray, Phi: np.ndarray) -> None:
        if approximate:
            np.clip(x, -_GELU_TAIL, _GELU_TAIL, out=y)
            np.square(y, out=Phi)
            Phi *= _GELU_C * _GELU_A
            Phi += _GELU_C
            Phi *= y
            np.tanh(Phi, out=Phi)
        else:
            erf(x, Phi, sqrt(0.5))
        Phi += 1
        Phi *= 0.5
        np.multiply(x, Phi, out=y)

    y, Phi = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    in_parts(value, [x], [y, Phi])
    return y, GeluCache(x, Phi, approximate)


def gelu_backward(output_gradient: Array, cache: GeluCache) -> Array:
    def gradient(dy: np.ndarray, x: np.ndarray, Phi: np.ndarray, dx: np.ndarray) -> None:
        if cache.approximate:
            np.clip(x, -_GELU_TAIL, _GELU_TAIL, out=dx)
            np.square(dx, out=dx)
            dx *= 6 * _GELU_C * _GELU_A
            dx += 2 * _GELU_C
            dx *= Phi
            dx *= 1 - Phi
        else:
            with np.errstate(over="ignore"):  # exp(-inf) is the correct 0
                np.square(x, out=dx)
            dx *= -0.5
            np.exp(dx, out=dx)
            dx *= 1 / sqrt(2 * pi)
        dx *= x
        dx += Phi
        dx *= dy

    x = cache.x
    dx = np.empty(x.shape, x.dtype)
    in_parts(gradient, [output_gradient, x, cache.Phi], [dx])
    return dx


def silu(x: Array) -> tuple[Array, SiluCache]:
    def value(x: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        _logistic.sigmoid(x, s)
        np.multiply(x, s, out=y)

    y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    in_parts(value, [x], [y, s])
    return y, SiluCache(x, s)


def silu_backward(output_gradient: Array, cache: SiluCache) -> Array:
    """dx = dy s (1 + x (1 - s))."""

    def gradient(dy: np.ndarray, x: np.ndarray, s: np.ndarray, dx: np.ndarray) -> None:
        _silu_slope(x, s, dx)
        dx *= dy

    return elementwise(gradient, output_gradient, *cache)


def _silu_slope(x: np.ndarray, s: np.ndarray, slope: np.ndarray) -> None:
    np.subtract(1, s, out=slope)
    slope *= x
    slope += 1
    slope *= s


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    _check_axis(x, axis)

    def value(x: np.ndarray, y: np.ndarray) -> None:
        np.subtract(x, np.max(x, axis=1, keepdims=True), out=y)
        np.exp(y, out=y)
        y /= _sum(y)

    y = np.empty(x.shape, x.dtype)
    in_parts(value, [x], [y], keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def _from(axis: int, x: Array) -> int:
    """The number of axes from this one on. In a part of an array that keeps them together, this axis is axis 1."""
    return x.ndim - axis % x.ndim


def _sum(x: np.ndarray, *factor: np.ndarray) -> np.ndarray:
    """The sum over axis 1 of x, or of x times a factor. On the last axis, products by BLAS take half the time."""
    if x.ndim > 2 or x.dtype.itemsize < 4:
        return np.sum(np.multiply(x, *factor) if factor else x, axis=1, keepdims=True)
    return row_products(x, *(factor or [np.ones(x.shape[1], x.dtype)])).astype(x.dtype, copy=False)


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        np.subtract(dy, _sum(y, dy), out=dx)
        dx *= y

    return _of_rows(gradient, output_gradient, cache)


def _of_rows(gradient: Callable[..., None], dy: Array, cache: SoftmaxCache) -> Array:
    y, axis = cache
    dx = np.empty(dy.shape, np.result_type(dy, y))
    in_parts(gradient, [dy, y], [dx], keep=_from(axis, y))
    return dx


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    _check_axis(x, axis)

    def value(x: np.ndarray, y: np.ndarray) -> None:
        np.subtract(x, np.max(x, axis=1, keepdims=True), out=y)
        y -= np.log(_sum(np.exp(y)))

    y = np.empty(x.shape, x.dtype)
    in_parts(value, [x], [y], keep=_from(axis, x))
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    def gradient(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
        np.exp(y, out=dx)
        dx *= _sum(dy)
        np.subtract(dy, dx, out=dx)

    return _of_rows(gradient, output_gradient, cache)


def swiglu(gate: Array, value: Float[np.ndarray, "*values"]) -> tuple[Array, SwigluCache]:
    if gate.shape != value.shape:
        raise ValueError(f"gate has shape {gate.shape} and value {value.shape}; they must be equal.")

    def product(gate: np.ndarray, value: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        _logistic.sigmoid(gate, s)
        np.multiply(gate, s, out=y)
        y *= value

    y, s = np.empty(gate.shape, np.result_type(gate, value)), np.empty(gate.shape, gate.dtype)
    in_parts(product, [gate, value], [y, s])
    return y, SwigluCache(gate, value, s)


def swiglu_backward(output_gradient: Array, cache: SwigluCache) -> tuple[Array, Array]:
    def gradients(dy: np.ndarray, gate: np.ndarray, value: np.ndarray, s: np.ndarray, *results: np.ndarray) -> None:
        dgate, dvalue = results
        _silu_slope(gate, s, dgate)
        dgate *= value
        dgate *= dy
        np.multiply(gate, s, out=dvalue)
        dvalue *= dy

    dy, (gate, value, s) = output_gradient, cache
    dgate, dvalue = (np.empty(dy.shape, np.result_type(dy, gate, value)) for _ in range(2))
    in_parts(gradients, [dy, gate, value, s], [dgate, dvalue])
    return dgate, dvalue


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
