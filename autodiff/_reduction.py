"""The reduction that all losses share: from an array of terms to a sum, a mean, or the terms themselves."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

Targets = Shaped[Array | np.ndarray, "*targets"]
Value = Float[Array, "*terms"]


def checked_targets(name: str, predictions: Array, targets: Targets, reduction: str) -> Array:
    """The targets in the dtype of the predictions. Raises ValueError unless their shapes are equal."""
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
    """The value of the loss. A mean divides by `count`, the number of terms that are not ignored."""
    if reduction == "none":
        return terms
    total = jnp.sum(terms)
    return total / jnp.maximum(count, 1) if reduction == "mean" else total
