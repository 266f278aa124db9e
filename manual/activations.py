"""Activations, with every derivative by hand.

An op is `name(inputs..., *, options) -> (value, cache)`, and `name_backward(output_gradient, cache)` returns the
gradient of the loss with respect to each floating-point input, in order: one array, or a tuple where there are
several. dy is the output gradient, dx the input's. Elementwise functions take any shape; functions along an axis
take the last one unless told otherwise. Work keeps the dtype it is given; inputs are never modified.

Large inputs saturate without a warning. At a kink, 0, the slope is that on the left; so relu'(0) = 0. Slopes are
chosen by arithmetic, because np.where is several times slower at random signs: with p = dy where x > 0 and 0
elsewhere, dy - p is the rest.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._erf import erf

Array = Float[np.ndarray, "*shape"]


class OutputCache(NamedTuple):
    """The value is enough, because the derivative is a function of it."""

    y: Float[np.ndarray, "*shape"]


def tanh(x: Array) -> tuple[Array, OutputCache]:
    """y = tanh(x). Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), 4.4."""
    y = np.tanh(x)
    return y, OutputCache(y)


def tanh_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy (1 - y^2), because tanh' = 1 / cosh^2 = 1 - tanh^2."""
    return output_gradient * (1 - cache.y**2)


def sigmoid(x: Array) -> tuple[Array, OutputCache]:
    """y = 1 / (1 + exp(-x)). Source: Rumelhart, Hinton and Williams (1986), equation 2."""
    y = np.negative(x, out=np.empty_like(x))
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is the right 0
        np.exp(y, out=y)
    y += 1
    np.reciprocal(y, out=y)
    return y, OutputCache(y)


def sigmoid_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy y (1 - y), because y' = exp(-x) / (1 + exp(-x))^2 and 1 - y = exp(-x) / (1 + exp(-x))."""
    return output_gradient * cache.y * (1 - cache.y)


def relu(x: Array) -> tuple[Array, OutputCache]:
    """y = max(x, 0). Source: Nair and Hinton (2010)."""
    y = np.maximum(x, 0)
    return y, OutputCache(y)


def relu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy where x > 0, which is where y > 0, else 0. At the kink, 0, the slope is 0."""
    return output_gradient * (cache.y > 0)


class LeakyReluCache(NamedTuple):
    """x and not y, because the sign of y says nothing where the slope on the left is 0 or negative."""

    x: Float[np.ndarray, "*shape"]
    negative_slope: float


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    """y = x where x > 0, else negative_slope x. Source: Maas, Hannun and Ng (2013)."""
    negative_slope = float(negative_slope)  # a NumPy scalar would promote float32 work
    return np.maximum(x, 0) + negative_slope * np.minimum(x, 0), LeakyReluCache(x, negative_slope)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where x > 0, else negative_slope dy: at the kink, 0, too, as in PyTorch (`jax.nn.leaky_relu` has 1)."""
    p = output_gradient * (cache.x > 0)
    return p + cache.negative_slope * (output_gradient - p)


class EluCache(NamedTuple):
    """y alone, because it has the sign of x, alpha not being negative, and because alpha exp(x) = y + alpha."""

    y: Float[np.ndarray, "*shape"]
    alpha: float


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    """y = x where x > 0, else alpha (exp(x) - 1). ValueError if alpha is negative. Source: Clevert et al. (2016)."""
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    y = np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))
    return y, EluCache(y, alpha)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    """dx = dy where x > 0, else dy (y + alpha) = dy alpha exp(x): at 0, too, a kink unless alpha = 1."""
    p = output_gradient * (cache.y > 0)
    return p + (cache.y + cache.alpha) * (output_gradient - p)


# With these, mean 0 and variance 1 go through a layer unchanged: Klambauer et al. (2017), equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Array) -> tuple[Array, OutputCache]:
    """y = scale elu(x, alpha), with the constants of self-normalization. Source: Klambauer et al. (2017)."""
    y = _SELU_SCALE * elu(x, alpha=_SELU_ALPHA)[0]
    return y, OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = scale dy where x > 0, else dy (y + scale alpha) = dy scale alpha exp(x): at the kink, 0, too."""
    p = output_gradient * (cache.y > 0)
    return _SELU_SCALE * p + (cache.y + _SELU_SCALE * _SELU_ALPHA) * (output_gradient - p)


def softplus(x: Array) -> tuple[Array, OutputCache]:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), whose exp cannot overflow. Source: Dugas et al. (2001)."""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # np.logaddexp(x, 0), but ten times faster
    return y, OutputCache(y)


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy sigmoid(x) = dy (1 - exp(-y)), because exp(-y) = 1 / (1 + exp(x)) = 1 - sigmoid(x)."""
    return -output_gradient * np.expm1(-cache.y)


class GeluCache(NamedTuple):
    """Phi, because it costs an erf or a tanh; its slope is made again, by an exp of x or a polynomial."""

    x: Float[np.ndarray, "*shape"]
    Phi: Float[np.ndarray, "*shape"]
    approximate: bool


_GELU_A, _GELU_C = 0.044715, sqrt(2 / pi)
# Beyond it, Phi is 0 or 1 and its slope 0 in every dtype; up to it, x^3 overflows in none, not even in float16.
_GELU_TAIL = 40


def gelu(x: Array, *, approximate: bool = False) -> tuple[Array, GeluCache]:
    """y = x Phi(x), with Phi the distribution function of the standard normal. Source: Hendrycks and Gimpel (2016).

        exact          Phi = (1 + erf(x / sqrt(2))) / 2
        approximate    Phi = (1 + tanh(u)) / 2,  u = sqrt(2 / pi) (x + 0.044715 x^3)

    GPT-2 has the approximate form. PyTorch's default is the exact one, as here; `jax.nn.gelu` has the other.
    """
    if approximate:
        t = np.clip(x, -_GELU_TAIL, _GELU_TAIL, out=np.empty_like(x))
        Phi = np.square(t, out=np.empty_like(x))
        Phi *= _GELU_C * _GELU_A
        Phi += _GELU_C
        Phi *= t
        np.tanh(Phi, out=Phi)
    else:
        Phi = erf(x * sqrt(0.5))
    Phi += 1
    Phi *= 0.5
    return x * Phi, GeluCache(x, Phi, approximate)


def gelu_backward(output_gradient: Array, cache: GeluCache) -> Array:
    """dx = dy (Phi + x Phi').

    exact          Phi' = exp(-x^2 / 2) / sqrt(2 pi)
    approximate    Phi' = (1 - tanh(u)^2) u' / 2 = 2 Phi (1 - Phi) u', because tanh(u) = 2 Phi - 1,
                   u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2)
    """
    x, Phi, approximate = cache
    t = np.clip(x, -_GELU_TAIL, _GELU_TAIL, out=np.empty_like(x))
    np.square(t, out=t)
    if approximate:
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
    t *= output_gradient
    return t


class SiluCache(NamedTuple):
    """x, because it is a factor of the derivative, and s, because it costs an exp."""

    x: Float[np.ndarray, "*shape"]
    s: Float[np.ndarray, "*shape"]  # sigmoid(x)


def silu(x: Array) -> tuple[Array, SiluCache]:
    """y = x s with s = sigmoid(x), also called swish. Source: Elfwing, Uchibe and Doya (2018)."""
    s, _ = sigmoid(x)
    return x * s, SiluCache(x, s)


def silu_backward(output_gradient: Array, cache: SiluCache) -> Array:
    """dx = dy s (1 + x (1 - s)), because s' = s (1 - s)."""
    x, s = cache
    return (1 + (1 - s) * x) * s * output_gradient


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
    y = _shifted(x, axis)
    np.exp(y, out=y)
    y /= np.sum(y, axis=axis, keepdims=True)
    return y, SoftmaxCache(y, axis)


def _shifted(x: Array, axis: int) -> Array:
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"x must have at least one entry along axis {axis}, got shape {x.shape}: choose another axis.")
    return x - np.max(x, axis=axis, keepdims=True)


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = y_i (dy_i - sum_j y_j dy_j), because dy_j/dx_i = y_j ([i = j] - y_i)."""
    y, axis = cache
    p = y * output_gradient
    p -= np.sum(p, axis=axis, keepdims=True) * y
    return p


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = x_i - log sum_j exp(x_j), finite where softmax_i rounds to 0; all else as there. Source: Bridle (1990)."""
    y = _shifted(x, axis)
    y -= np.log(np.sum(np.exp(y), axis=axis, keepdims=True))
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = dy_i - exp(y_i) sum_j dy_j, because dy_j/dx_i = [i = j] - softmax_i."""
    y, axis = cache
    return output_gradient - np.exp(y) * np.sum(output_gradient, axis=axis, keepdims=True)


class SwigluCache(NamedTuple):
    """Both inputs, because each is in the other's gradient, and s, because it costs an exp; gate s is made again."""

    gate: Float[np.ndarray, "*shape"]
    value: Float[np.ndarray, "*shape"]
    s: Float[np.ndarray, "*shape"]  # sigmoid(gate)


def swiglu(gate: Array, value: Float[np.ndarray, "*values"]) -> tuple[Array, SwigluCache]:
    """y = silu(gate) value, of two arrays of one shape. Source: Shazeer (2020), there with both linear maps."""
    if gate.shape != value.shape:
        raise ValueError(f"gate has shape {gate.shape} and value {value.shape}; they must be equal.")
    s, _ = sigmoid(gate)
    return gate * s * value, SwigluCache(gate, value, s)


def swiglu_backward(output_gradient: Array, cache: SwigluCache) -> tuple[Array, Array]:
    """dgate = dy value silu'(gate) and dvalue = dy silu(gate), with silu' = s (1 + gate (1 - s))."""
    gate, value, s = cache
    return (1 + (1 - s) * gate) * s * value * output_gradient, gate * s * output_gradient


Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]

ACTIVATIONS: dict[str, Rule] = {
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
