"""Layer, RMS, batch and group normalization in JAX, forward only, with the names and arguments of `manual`.

The last axis holds features or channels. Variances are biased. float16 is computed in float32, and rounded once at the
end. Shapes and options that do not fit raise ValueError.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

Array = Float[jax.Array, "*batch n"]
Vector = Float[jax.Array, " n"]
Data = Float[jax.Array | np.ndarray, " n"]


def layer_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, for each example over its last axis."""
    _check("layer_norm", x, x.shape[-1:], epsilon, weight=weight, bias=bias)
    x_hat = _standardized(_wide(x), -1, epsilon)
    return (x_hat * weight + bias).astype(x.dtype)


def rms_norm(x: Array, weight: Vector, *, epsilon: float = 1e-5) -> Array:
    """y = weight x / sqrt(mean of x^2 + epsilon), for each example over its last axis."""
    _check("rms_norm", x, x.shape[-1:], epsilon, weight=weight)
    wide = _wide(x)
    mean_square = jnp.mean(lax.square(wide), axis=-1, keepdims=True)
    return (wide * lax.rsqrt(mean_square + epsilon) * weight).astype(x.dtype)


def batch_norm(x: Array, weight: Vector, bias: Vector, *, epsilon: float = 1e-5) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, for each channel over all axes but the last."""
    _check("batch_norm", x, x.shape[:-1], epsilon, axes=2, weight=weight, bias=bias)
    x_hat = _standardized(_wide(x), tuple(range(x.ndim - 1)), epsilon)
    return (x_hat * weight + bias).astype(x.dtype)


def batch_norm_inference(
    x: Array, weight: Vector, bias: Vector, mean: Data, variance: Data, *, epsilon: float = 1e-5
) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, with given statistics.

    The op is differentiable with respect to the statistics too. Compiled code cannot raise an error for a variance
    below -epsilon, and returns NaN.
    """
    vectors = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    _check("batch_norm_inference", x, (), epsilon, axes=2, **vectors)
    wide = _wide(x)
    mean, variance = (jnp.asarray(data, wide.dtype) for data in (mean, variance))
    x_hat = jax.nn.standardize(wide, mean=mean, variance=variance, epsilon=epsilon)
    return (x_hat * weight + bias).astype(x.dtype)


def update_running_statistics(mean: Data, variance: Data, x: Array, *, momentum: float = 0.1) -> tuple[Vector, Vector]:
    """new = (1 - momentum) old + momentum batch, where the variance of the batch is the unbiased one, or 0 if n = 1."""
    _check("update_running_statistics", x, x.shape[:-1], 0.0, axes=2, mean=mean, variance=variance)
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the share of the new batch and must be in [0, 1], got {momentum}.")
    wide, axes, n = _wide(x), tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    batch_mean, batch_variance = jnp.mean(wide, axes), jnp.var(wide, axes, ddof=1 if n > 1 else 0)

    def moved(old: Data, batch: Vector) -> Vector:
        return (jnp.asarray(old) + momentum * (batch - old)).astype(old.dtype)

    return moved(mean, batch_mean), moved(variance, batch_variance)


def group_norm(x: Array, weight: Vector, bias: Vector, *, groups: int, epsilon: float = 1e-5) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, for each example and group of adjacent channels."""
    _check("group_norm", x, x.shape[1:], epsilon, axes=2, weight=weight, bias=bias)
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"group_norm needs groups that divide the {x.shape[-1]} channels of x, got {groups}.")
    grouped = _wide(x).reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
    x_hat = _standardized(grouped, (1, 3), epsilon).reshape(x.shape)
    return (x_hat * weight + bias).astype(x.dtype)


def _standardized(x: jax.Array, axes: int | tuple[int, ...], epsilon: float) -> jax.Array:
    """x_hat. The variance is passed, because `standardize` would compute E[x^2] - E[x]^2, which cancels."""
    return jax.nn.standardize(x, axes, variance=jnp.var(x, axes, keepdims=True), epsilon=epsilon)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _check(
    op: str,
    x: jax.Array,
    averaged: tuple[int, ...],
    epsilon: float,
    *,
    axes: int = 1,
    **vectors: jax.Array | np.ndarray,
) -> None:
    if x.ndim < axes:
        raise ValueError(f"{op} needs x of at least {axes} axes, the last for channels, got shape {x.shape}.")
    for name, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(
                f"{op} needs {name} of shape {x.shape[-1:]}, one entry per channel (the last axis of x {x.shape}), "
                f"got {vector.shape}. Channels come last."
            )
    if 0 in averaged:
        raise ValueError(f"{op} has nothing to average over: x has shape {x.shape}. Leave empty batches out.")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}.")


NORMALIZATION: dict[str, Callable[..., jax.Array]] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
    "batch_norm_inference": batch_norm_inference,
    "group_norm": group_norm,
}
