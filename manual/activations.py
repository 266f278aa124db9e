"""Activation functions, with every derivative by hand.

An op is `name(inputs..., *, options) -> (value, cache)`. `name_backward(output_gradient, cache)` returns the gradient
of the loss with respect to each floating-point input, in the order of the arguments: one array, or a tuple if there
are several. In formulas, dy is the output gradient and dx the gradient with respect to x. Elementwise functions accept
any shape, and functions along an axis use the last one by default. A value has the dtype of the input, and inputs are
never modified. An option that is out of range raises ValueError, and so does an axis without entries.

Where a function saturates, at large inputs, it gives no floating-point warning. At a nonsmooth point, which is always
x = 0, the derivative is the one from the left; so relu'(0) = 0.
"""

from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from manual._rules import Rules

Array = Float[np.ndarray, "*shape"]


class OutputCache(NamedTuple):
    """y is enough, because the derivative is a function of y."""

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
    with np.errstate(over="ignore"):  # exp may overflow to inf, and then 1 / (1 + inf) = 0 is the correct limit
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
    """dx = dy where x > 0, which is where y > 0, else 0. At the nonsmooth point x = 0 the derivative is 0."""
    dy, y = output_gradient, cache.y
    return dy * (y > 0)


class LeakyReluCache(NamedTuple):
    """x instead of y, because y does not determine the sign of x if negative_slope is 0 or negative."""

    x: Float[np.ndarray, "*shape"]
    negative_slope: float


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    """y = max(x, 0) + negative_slope min(x, 0).

    Args:
        x: any shape.
        negative_slope: the slope where x <= 0.

    Source: Maas, Hannun and Ng (2013).
    """
    negative_slope = float(negative_slope)  # a NumPy scalar would promote float32 to float64
    y = np.maximum(x, 0) + negative_slope * np.minimum(x, 0)
    return y, LeakyReluCache(x, negative_slope)


def leaky_relu_backward(output_gradient: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where x > 0, else negative_slope dy.

    At the nonsmooth point x = 0 the derivative is negative_slope, as in PyTorch (`jax.nn.leaky_relu` has 1 there).
    """
    dy, (x, negative_slope) = output_gradient, cache
    return np.where(x > 0, dy, negative_slope * dy)


class EluCache(NamedTuple):
    """y alone: it has the sign of x, because alpha is not negative, and alpha exp(x) = y + alpha where x <= 0."""

    y: Float[np.ndarray, "*shape"]
    alpha: float


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluCache]:
    """y = max(x, 0) + alpha (exp(min(x, 0)) - 1).

    exp cannot overflow, because its argument is never positive, and expm1 keeps the digits of a small difference.

    Args:
        x: any shape.
        alpha: minus the limit of y for very negative x; at least 0.

    Raises:
        ValueError: if alpha is negative.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units
    (ELUs)" (2016).
    """
    alpha = float(alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    y = np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))
    return y, EluCache(y, alpha)


def elu_backward(output_gradient: Array, cache: EluCache) -> Array:
    """dx = dy where x > 0, else dy alpha exp(x) = dy (y + alpha). At x = 0 the derivative is alpha."""
    dy, (y, alpha) = output_gradient, cache
    return np.where(y > 0, dy, dy * (y + alpha))


# With these constants, mean 0 and variance 1 are a fixed point of a layer: Klambauer et al. (2017), equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Array) -> tuple[Array, OutputCache]:
    """y = scale elu(x, alpha), with the constants of self-normalization. Source: Klambauer et al. (2017)."""
    of_elu, _ = elu(x, alpha=_SELU_ALPHA)
    y = _SELU_SCALE * of_elu
    return y, OutputCache(y)


def selu_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = scale dy where x > 0, else dy scale alpha exp(x) = dy (y + scale alpha), also at the nonsmooth x = 0."""
    dy, y = output_gradient, cache.y
    return np.where(y > 0, _SELU_SCALE * dy, dy * (y + _SELU_SCALE * _SELU_ALPHA))


def softplus(x: Array) -> tuple[Array, OutputCache]:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), where exp cannot overflow. Source: Dugas et al. (2001)."""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, OutputCache(y)


def softplus_backward(output_gradient: Array, cache: OutputCache) -> Array:
    """dx = dy sigmoid(x) = dy (1 - exp(-y)), because exp(-y) = 1 / (1 + exp(x)) = 1 - sigmoid(x)."""
    dy, y = output_gradient, cache.y
    return dy * -np.expm1(-y)


class GeluCache(NamedTuple):
    """Phi is kept because it costs an erf or a tanh. Its derivative is recomputed from x, by an exp or a polynomial."""

    x: Float[np.ndarray, "*shape"]
    Phi: Float[np.ndarray, "*shape"]
    approximate: bool


_GELU_A, _GELU_C = 0.044715, sqrt(2 / pi)


def gelu(x: Array, *, approximate: bool = False) -> tuple[Array, GeluCache]:
    """y = x Phi(x), where Phi is the distribution function of the standard normal distribution.

        exact          Phi = (1 + erf(x / sqrt(2))) / 2
        approximate    Phi = (1 + tanh(u)) / 2,  u = sqrt(2 / pi) (x + 0.044715 x^3)

    GPT-2 uses the approximate form. The default here is the exact form, as in PyTorch; the default of `jax.nn.gelu` is
    the approximate one.

    Args:
        x: any shape.
        approximate: whether to use the tanh approximation.

    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016).
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
    """x clipped to [-40, 40]. Beyond, Phi is 0 or 1 in every dtype; within, x^3 does not overflow, even in float16."""
    return np.clip(x, -40, 40)


def _erf(x: Array) -> Array:
    from scipy.special import erf  # imported here, because the import takes long

    return np.asarray(erf(x)).astype(x.dtype, copy=False)  # erf returns float32 for float16


class SiluCache(NamedTuple):
    """x, because it is a factor of the derivative, and s, because recomputing it costs an exp."""

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
    """y is enough, because the derivatives of softmax and log_softmax are both functions of y."""

    y: Float[np.ndarray, "*shape"]
    axis: int


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`. The largest x is subtracted first, so that exp cannot overflow.

    An entry of -inf (a mask) has y = 0. If all entries are -inf, y is NaN.

    Args:
        x: any shape with at least one axis.
        axis: the axis that y sums to 1 along.

    Raises:
        ValueError: if x has no such axis, or no entry along it.

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs, with relationships to
    statistical pattern recognition" (1990).
    """
    _check_axis(x, axis)
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, SoftmaxCache(y, axis)


def softmax_backward(output_gradient: Array, cache: SoftmaxCache) -> Array:
    """dx_i = y_i dy_i - y_i sum_j y_j dy_j, because dy_j/dx_i = y_j ([i = j] - y_i).

    If y_i = 1 and every other y_j is 0, both terms are equal to the last bit, and dx is exactly 0.
    """
    dy, (y, axis) = output_gradient, cache
    return y * dy - y * np.sum(y * dy, axis=axis, keepdims=True)


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """y_i = x_i - log sum_j exp(x_j) along `axis`, which stays finite where softmax_i rounds to 0.

    An entry of -inf (a mask) has y = -inf. If all entries are -inf, y is NaN.

    Args:
        x: any shape with at least one axis.
        axis: the axis that exp(y) sums to 1 along.

    Raises:
        ValueError: as `softmax`.

    Source: Bridle (1990).
    """
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
    """Both inputs, because each is a factor of the other's gradient; s, because recomputing it costs an exp."""

    gate: Float[np.ndarray, "*shape"]
    value: Float[np.ndarray, "*shape"]
    s: Float[np.ndarray, "*shape"]  # sigmoid(gate)


def swiglu(gate: Array, value: Float[np.ndarray, "*values"]) -> tuple[Array, SwigluCache]:
    """y = silu(gate) value, for two arrays of the same shape.

    Args:
        gate: any shape.
        value: an array of the shape of gate.

    Raises:
        ValueError: if the shapes differ.

    Source: Shazeer, "GLU variants improve Transformer" (2020), where the op includes the two linear maps before it.
    """
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
