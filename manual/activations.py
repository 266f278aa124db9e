"""Activations, with every derivative by hand.

An op is `name(inputs..., *, options) -> (value, cache)`, and `name_backward(output_gradient, cache)` returns the
gradient of the loss with respect to each floating-point input, in order: one array, or a tuple where there are
several. dy is the output gradient, dx the input's. Elementwise functions take any shape; functions along an axis
take the last one unless told otherwise. Work keeps the dtype it is given; inputs are never modified.

Large inputs saturate without a warning. At a kink, 0, the slope is that on the left; so relu'(0) = 0. Slopes are
chosen by arithmetic (`_by_side`), because np.where is several times slower at random signs. max(x, 0) is a clip, which
is three times as fast as np.maximum with a number. Formulas are built up in the memory of their result, as new memory
costs more than an operation.
"""

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._erf import erf
from manual._parts import in_parts
from manual._softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from manual._softplus import softplus_below

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
    dx = 1 - cache.y
    dx *= cache.y
    return dx * output_gradient


def relu(x: Array) -> tuple[Array, OutputCache]:
    """y = max(x, 0). Source: Nair and Hinton (2010)."""
    y = np.clip(x, 0, inf, out=np.empty_like(x))
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
    y = np.clip(x, -inf, 0, out=np.empty_like(x))
    y *= negative_slope
    y += np.clip(x, 0, inf)
    return y, LeakyReluCache(x, negative_slope)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where x > 0, else negative_slope dy: at the kink, 0, too, as in PyTorch (`jax.nn.leaky_relu` has 1)."""
    return _by_side(output_gradient, cache.x > 0, 1.0, cache.negative_slope)


def _by_side(dy: Array, positive: np.ndarray, right: float, left: Any) -> Array:
    """dy right where x is positive, else dy left."""
    p = dy * positive
    dx = (dy - p) * left
    if right != 1:
        p *= right
    dx += p
    return dx


class EluCache(NamedTuple):
    """y alone, because it has the sign of x, alpha not being negative, and because alpha exp(x) = y + alpha."""

    y: Float[np.ndarray, "*shape"]
    alpha: float


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    """y = x where x > 0, else alpha (exp(x) - 1). ValueError if alpha is negative. Source: Clevert et al. (2016)."""
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    y = np.clip(x, -inf, 0, out=np.empty_like(x))
    np.expm1(y, out=y)
    y *= alpha
    y += np.clip(x, 0, inf)
    return y, EluCache(y, alpha)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    """dx = dy where x > 0, else dy (y + alpha) = dy alpha exp(x): at 0, too, a kink unless alpha = 1."""
    return _by_side(output_gradient, cache.y > 0, 1.0, cache.y + cache.alpha)


# With these, mean 0 and variance 1 go through a layer unchanged: Klambauer et al. (2017), equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Array) -> tuple[Array, OutputCache]:
    """y = scale elu(x, alpha), with the constants of self-normalization. Source: Klambauer et al. (2017)."""
    y, _ = elu(x, alpha=_SELU_ALPHA)
    y *= _SELU_SCALE
    return y, OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = scale dy where x > 0, else dy (y + scale alpha) = dy scale alpha exp(x): at the kink, 0, too."""
    return _by_side(output_gradient, cache.y > 0, _SELU_SCALE, cache.y + _SELU_SCALE * _SELU_ALPHA)


def softplus(x: Array) -> tuple[Array, OutputCache]:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), whose exp cannot overflow. Source: Dugas et al. (2001)."""
    y = softplus_below(x)
    y += np.clip(x, 0, inf)
    return y, OutputCache(y)  # np.logaddexp(x, 0) takes ten times as long


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy sigmoid(x) = dy (1 - exp(-y)), because exp(-y) = 1 / (1 + exp(x)) = 1 - sigmoid(x)."""
    dx = np.negative(cache.y, out=np.empty_like(cache.y))
    np.expm1(dx, out=dx)
    np.negative(dx, out=dx)
    return dx * output_gradient


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
    """dx = dy (Phi + x Phi').

    exact          Phi' = exp(-x^2 / 2) / sqrt(2 pi)
    approximate    Phi' = (1 - tanh(u)^2) u' / 2 = 2 Phi (1 - Phi) u', because tanh(u) = 2 Phi - 1,
                   u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2)
    """

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
    dx = 1 - s
    dx *= x
    dx += 1
    dx *= s
    return dx * output_gradient


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
