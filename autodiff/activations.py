"""Activation functions in JAX, forward only, with the names, arguments and conventions of `manual.activations`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = tanh(x)."""
    return jnp.tanh(x)


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = 1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x)


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = max(x, 0). `jax.nn.relu` has a custom derivative, which is 0 at x = 0, where that of jnp.maximum is 1/2."""
    return jax.nn.relu(x)


def leaky_relu(x: Float[Array, "*shape"], *, negative_slope: float = 0.01) -> Float[Array, "*shape"]:
    """y = x where x > 0, else negative_slope x. The derivative at x = 0 is negative_slope; in `jax.nn` it is 1."""
    return jnp.where(x > 0, x, float(negative_slope) * x)


def elu(x: Float[Array, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    """y = x where x > 0, else alpha (exp(x) - 1). The derivative at 0 is alpha. Raises ValueError if alpha < 0."""
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: on the left, an ELU falls to -alpha.")
    return jax.nn.elu(x, float(alpha))


def selu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = scale elu(x, alpha). The derivative at the nonsmooth point x = 0 is scale alpha."""
    return jax.nn.selu(x)


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = log(1 + exp(x))."""
    return jax.nn.softplus(x)


def gelu(x: Float[Array, "*shape"], *, approximate: bool = False) -> Float[Array, "*shape"]:
    """y = x Phi(x), with Phi the normal distribution function, or its tanh approximation, which is JAX's default."""
    return jax.nn.gelu(x, approximate=approximate)


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = x sigmoid(x)."""
    return jax.nn.silu(x)


def softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """y_i = exp(x_i) / sum_j exp(x_j) along `axis`. Raises ValueError if x has no such axis, or no entry along it."""
    _check_axis(x, axis)
    return jax.nn.softmax(x, axis=axis)


def log_softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """y_i = x_i - log sum_j exp(x_j) along `axis`. Errors as for softmax."""
    _check_axis(x, axis)
    return jax.nn.log_softmax(x, axis=axis)


def _check_axis(x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"x must have at least one entry along axis {axis}, got shape {x.shape}: choose another axis.")


def swiglu(gate: Float[Array, "*shape"], value: Float[Array, "*values"]) -> Float[Array, "*shape"]:
    """y = silu(gate) value. Raises ValueError unless gate and value have the same shape."""
    if gate.shape != value.shape:
        raise ValueError(f"gate has shape {gate.shape} and value {value.shape}; they must be equal.")
    return jax.nn.silu(gate) * value


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "gelu": gelu,
    "silu": silu,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "swiglu": swiglu,
}
