"""Dense, embedding, dropout and flatten in JAX, forward only, with the names and arguments of `manual.layers`."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Num


def dense(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "inputs outputs"],
    bias: Float[Array, " outputs"] | None,
) -> Float[Array, "*batch outputs"]:
    """y = x W + b for every example; b is left out if it is None. Raises ValueError if the shapes do not fit."""
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[:1]:
        raise ValueError(
            f"dense needs x (..., inputs) and weight (inputs, outputs), got {x.shape} and {weight.shape}. "
            "Transpose a weight that is stored as (outputs, inputs)."
        )
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(
            f"dense needs bias (outputs,) = {weight.shape[1:]} for weight {weight.shape}, got {bias.shape}."
        )
    y = jnp.tensordot(x, weight, axes=1)
    return y if bias is None else y + bias


def embedding(
    weight: Float[Array, "vocabulary features"], ids: Integer[Array, "*ids"]
) -> Float[Array, "*ids features"]:
    """y = W[ids]: one row of the table for every id.

    Compiled code cannot raise an error for ids that are negative or beyond the table. Their rows of y are NaN, and
    their output gradients are dropped, so that the gradient of W stays finite.
    """
    if weight.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"embedding needs weight (vocabulary, features) and integer ids, got {weight.shape} and {ids.dtype} ids."
        )
    return weight.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def dropout(
    x: Float[Array, "*shape"], mask: Num[Array, "*shape"] | Bool[Array, "*shape"], *, rate: float
) -> Float[Array, "*shape"]:
    """y = x mask / (1 - rate). Raises ValueError unless rate is in [0, 1) and mask has x's shape.

    Compiled code cannot raise an error for a mask with numbers other than 0 and 1. There, y is NaN.
    """
    rate = _rate(rate)
    if mask.shape != x.shape:
        raise ValueError(
            f"dropout needs a mask of x's shape {x.shape}, got {mask.shape}. np.broadcast_to makes one that is "
            "shared along an axis."
        )
    scale = jnp.select([mask == 1, mask == 0], [1 / (1 - rate), 0.0], jnp.nan)
    return x * scale.astype(x.dtype)


def dropout_mask(shape: tuple[int, ...], *, rate: float, seed: int) -> Bool[Array, "..."]:
    """A mask whose entries are True (kept) with probability 1 - rate. NumPy's generator draws the mask of `manual`."""
    return jnp.asarray(np.random.default_rng(seed).random(shape) >= _rate(rate))


def _rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"rate is the probability of dropping an entry and must be in [0, 1), got {rate}.")
    return float(rate)


def flatten(x: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
    """y = x with all axes but the first merged into one, in C order. Raises ValueError if x has no axes."""
    if x.ndim == 0:
        raise ValueError("flatten needs x (batch, ...), got a single number.")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


LAYERS: dict[str, Callable[..., Array]] = {
    "dense": dense,
    "embedding": embedding,
    "dropout": dropout,
    "flatten": flatten,
}
