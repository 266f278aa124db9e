"""The reduction that all losses share: terms to a sum, a mean or unchanged, and the gradient of each term."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

Array = Float[np.ndarray, "*shape"]
Targets = Shaped[np.ndarray, "*targets"]
Value = Float[np.ndarray, "*terms"] | np.floating | float


def checked_targets(name: str, predictions: Array, targets: Targets, reduction: str) -> Array:
    """The targets in the dtype of the predictions. Raises ValueError unless their shapes are equal."""
    check_reduction(reduction)
    t = np.asarray(targets, predictions.dtype)
    if t.shape != predictions.shape:
        raise ValueError(
            f"{name} has shape {predictions.shape} and targets {t.shape}; they must be equal. "
            "Reshape one of them: broadcasting would pair entries that do not belong together."
        )
    return t


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')


def reduced(terms: Array | np.floating, reduction: str, count: int) -> Value:
    """The value of the loss. `count` terms are part of the mean; the other (ignored) terms are 0."""
    terms = np.asarray(terms)
    if reduction == "none":
        return terms
    if reduction == "sum":
        return np.sum(terms)
    return np.mean(terms) * (terms.size / count) if count else terms.dtype.type(0)


def per_term(output_gradient: Value, reduction: str, terms: Array, count: int) -> Any:
    """The gradient with respect to each term, or one scalar for all terms. `terms` gives their shape and dtype."""
    dy = np.asarray(output_gradient, terms.dtype)  # a NumPy scalar of another dtype would promote the gradient
    expected = terms.shape if reduction == "none" else ()
    if dy.shape != expected:
        raise ValueError(f"output_gradient has shape {dy.shape}, but reduction={reduction!r} needs {expected}.")
    return dy * (1 / max(count, 1)) if reduction == "mean" else dy  # not dy / n, because n may overflow float16
