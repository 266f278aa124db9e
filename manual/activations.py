"""Activations, with every derivative by hand.

An op is `name(inputs..., *, options) -> (value, cache)`, and `name_backward(output_gradient, cache)` returns the
gradient of the loss with respect to each floating-point input, in order: one array, or a tuple where there are
several. dy is the output gradient, dx the input's. Elementwise functions take any shape; functions along an axis
take the last one unless told otherwise. Work keeps the dtype it is given; inputs are never modified.

Large inputs saturate without a warning. At a nonsmooth point, 0, the slope is that on the left; so relu'(0) = 0.
"""

from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from manual._rules import Rules

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
    dy, y = output_gradient, cache.y
    return dy * (1 - y**2)


def sigmoid(x: Array) -> tuple[Array, OutputCache]:
    """y = 1 / (1 + exp(-x)). Source: Rumelhart, Hinton and Williams (1986), equation 2."""
    with np.errstate(over="ignore"):  # where exp overflows, 1 / (1 + inf) is the right 0
        y = 1 / (1 + np.exp(-x))
    return y, OutputCache(y)


def sigmoid_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy y (1 - y), because y' = exp(-x) / (1 + exp(-x))^2 and 1 - y = exp(-x) / (1 + exp(-x))."""
    dy, y = output_gradient, cache.y
    return dy * y * (1 - y)


def relu(x: Array) -> tuple[Array, OutputCache]:
    """y = max(x, 0). Source: Nair and Hinton (2010)."""
    y = np.maximum(x, 0)
    return y, OutputCache(y)


def relu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy where x > 0, which is where y > 0, else 0. At the nonsmooth point, 0, the slope is 0."""
    dy, y = output_gradient, cache.y
    return dy * (y > 0)


class LeakyReluCache(NamedTuple):
    """x and not y, because the sign of y says nothing where the slope on the left is 0 or negative."""

    x: Float[np.ndarray, "*shape"]
    negative_slope: float


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    """y = max(x, 0) + negative_slope min(x, 0). Source: Maas, Hannun and Ng (2013)."""
    negative_slope = float(negative_slope)  # a NumPy scalar would promote float32 work
    y = np.maximum(x, 0) + negative_slope * np.minimum(x, 0)
    return y, LeakyReluCache(x, negative_slope)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where x > 0, else negative_slope dy.

    This is so at the nonsmooth point, 0, too, as in PyTorch (`jax.nn.leaky_relu` has 1).
    """
    dy, (x, negative_slope) = output_gradient, cache
    return np.where(x > 0, dy, negative_slope * dy)


class EluCache(NamedTuple):
    """y alone, because it has the sign of x, alpha not being negative, and because alpha exp(x) = y + alpha."""

    y: Float[np.ndarray, "*shape"]
    alpha: float


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    """y = max(x, 0) + alpha (exp(min(x, 0)) - 1). Source: Clevert et al. (2016).

    Of a minimum, exp cannot overflow, and expm1 loses no digits near 0. Raises ValueError if alpha is negative.
    """
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    y = np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))
    return y, EluCache(y, alpha)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    """dx = dy where x > 0, else dy alpha exp(x) = dy (y + alpha): at 0, too, a nonsmooth point unless alpha = 1."""
    dy, (y, alpha) = output_gradient, cache
    return np.where(y > 0, dy, dy * (y + alpha))


# With these, mean 0 and variance 1 go through a layer unchanged: Klambauer et al. (2017), equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Array) -> tuple[Array, OutputCache]:
    """y = scale elu(x, alpha), with the constants of self-normalization. Source: Klambauer et al. (2017)."""
    of_elu, _ = elu(x, alpha=_SELU_ALPHA)
    y = _SELU_SCALE * of_elu
    return y, OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = scale dy where x > 0, else dy scale alpha exp(x) = dy (y + scale alpha): at the nonsmooth point, 0, too."""
    dy, y = output_gradient, cache.y
    return np.where(y > 0, _SELU_SCALE * dy, dy * (y + _SELU_SCALE * _SELU_ALPHA))


def softplus(x: Array) -> tuple[Array, OutputCache]:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), whose exp cannot overflow. Source: Dugas et al. (2001)."""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, OutputCache(y)


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy sigmoid(x) = dy (1 - exp(-y)), because exp(-y) = 1 / (1 + exp(x)) = 1 - sigmoid(x)."""
    dy, y = output_gradient, cache.y
    return dy * -np.expm1(-y)


class GeluCache(NamedTuple):
    """Phi, because it costs an erf or a tanh; its slope is made again, by an exp of x or a polynomial."""

    x: Float[np.ndarray, "*shape"]
    Phi: Float[np.ndarray, "*shape"]
    approximate: bool


_GELU_A, _GELU_C = 0.044715, sqrt(2 / pi)


def gelu(x: Array, *, approximate: bool = False) -> tuple[Array, GeluCache]:
    """y = x Phi(x), with Phi the distribution function of the standard normal. Source: Hendrycks and Gimpel (2016).

        exact          Phi = (1 + erf(x / sqrt(2))) / 2
        approximate    Phi = (1 + tanh(u)) / 2,  u = sqrt(2 / pi) (x + 0.044715 x^3)

    GPT-2 has the approximate form. PyTorch's default is the exact one, as here; `jax.nn.gelu` has the other.
    """
    if approximate:
        t = _tail_cut_off(x)
        u = _GELU_C * (t + _GELU_A * t**3)
        Phi = (1 + np.tanh(u)) / 2
    else:
        Phi = (1 + _erf(x / sqrt(2))) / 2
    return x * Phi, GeluCache(x, Phi, approximate)


def gelu_backward(output_gradient: Array, cache: GeluCache) -> Array:
    """dx = dy (Phi + x Phi').

    exact          Phi' = exp(-x^2 / 2) / sqrt(2 pi)
    approximate    Phi' = (1 - tanh(u)^2) u' / 2 = 2 Phi (1 - Phi) u', because tanh(u) = 2 Phi - 1,
                   u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2)
    """
    dy, (x, Phi, approximate) = output_gradient, cache
    t = _tail_cut_off(x)
    if approximate:
        u_prime = _GELU_C * (1 + 3 * _GELU_A * t**2)
        Phi_prime = 2 * Phi * (1 - Phi) * u_prime
    else:
        Phi_prime = np.exp(-(t**2) / 2) / sqrt(2 * pi)
    return dy * (Phi + x * Phi_prime)


def _tail_cut_off(x: Array) -> Array:
    """Beyond 40, Phi is 0 or 1 and its slope 0 in every dtype; up to it, x^3 overflows in none, not even in float16."""
    return np.clip(x, -40, 40)


def _erf(x: Array) -> Array:
    from scipy.special import erf  # here, because it is slow to import

    return np.asarray(erf(x)).astype(x.dtype, copy=False)  # of float16, it makes float32


class SiluCache(NamedTuple):
    """x, because it is a factor of the derivative, and s, because it costs an exp."""

    x: Float[np.ndarray, "*shape"]
    s: Float[np.ndarray, "*shape"]  # sigmoid(x)


def silu(x: Array) -> tuple[Array, SiluCache]:
    """y = x s with s = sigmoid(x), also called swish. Source: Elfwing, Uchibe and Doya (2018)."""
    s, _ = sigmoid(x)
    return x * s, SiluCache(x, s)


def silu_backward(output_gradient: Array, cache: SiluCache) -> Array:
    """dx = dy (s + x s'), with s' = s (1 - s)."""
    dy, (x, s) = output_gradient, cache
    s_prime = s * (1 - s)
    return dy * (s + x * s_prime)


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
    _check_axis(x, axis)
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, SoftmaxCache(y, axis)


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = y_i dy_i - y_i sum_j y_j dy_j, because dy_j/dx_i = y_j ([i = j] - y_i).

    Where y_i is 1, and so every other 0, both terms are the same to the last bit, and dx is exactly 0.
    """
    dy, (y, axis) = output_gradient, cache
    return y * dy - y * np.sum(y * dy, axis=axis, keepdims=True)


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = x_i - log sum_j exp(x_j), finite where softmax_i rounds to 0; all else as there. Source: Bridle (1990)."""
    _check_axis(x, axis)
    shifted = x - np.max(x, axis=axis, keepdims=True)
    y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = dy_i - exp(y_i) sum_j dy_j, because dy_j/dx_i = [i = j] - softmax_i."""
    dy, (y, axis) = output_gradient, cache
    return dy - np.exp(y) * np.sum(dy, axis=axis, keepdims=True)


def _check_axis(x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"x must have at least one entry along axis {axis}, got shape {x.shape}: choose another axis.")


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
    """dgate = dy value silu'(gate) and dvalue = dy silu(gate), with silu = gate s and silu' = s + gate s (1 - s)."""
    dy, (gate, value, s) = output_gradient, cache
    dgate = dy * value * (s + gate * s * (1 - s))
    dvalue = dy * gate * s
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
