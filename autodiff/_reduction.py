"""What all losses share: an array of terms becomes a sum, a mean or stays."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

Targets = Shaped[Array | np.ndarray, "*targets"]
Value = Float[Array, "*terms"]


def checked_targets(name: str, predictions: Array, targets: Targets, reduction: str) -> Array:
    check_reduction(reduction)
    if jnp.shape(targets) != predictions.shape:
        raise ValueError(
            f"{name} has shape {predictions.shape} and targets {jnp.shape(targets)}; they must be equal. "
            "Reshape one of them: broadcasting would pair entries that do not belong together."
        )
    return jnp.asarray(targets, jnp.result_type(predictions))


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')


def reduced(terms: Array, reduction: str, count: int | Integer[Array, ""]) -> Value:
    if reduction == "none":
        return terms
    total = jnp.sum(terms)
    return total / jnp.maximum(count, 1) if reduction == "mean" else total
