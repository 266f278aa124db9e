"""Checks of the shapes of normalization, and the rounding of the gradients of its backward passes."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from manual._precision import widened


def check_normalization(
    op: str, x: np.ndarray, averaged: tuple[int, ...], epsilon: float, *, axes: int = 1, **vectors: np.ndarray
) -> None:
    """Raises ValueError unless x, the vectors and epsilon fit. `averaged` are the sizes that are averaged over."""
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


def check_output_gradient(output_gradient: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The output gradient. Raises ValueError for another shape, because a transposed array would broadcast silently."""
    if output_gradient.shape != x.shape:
        raise ValueError(f"the output gradient has shape {output_gradient.shape}, but the value has {x.shape}.")
    return output_gradient


def rounded_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a backward pass: computes in the dtype of `widened`, and rounds the gradients once, at the end.

    `output_gradient` must have the shape of x. dx gets its dtype, and the other gradients get the dtype of the weight.
    """

    @functools.wraps(backward)
    def rounded(output_gradient: np.ndarray, cache: Any) -> tuple[np.ndarray, ...]:
        dx, *others = backward(widened(check_output_gradient(output_gradient, cache.x)), cache)
        return dx.astype(output_gradient.dtype), *(gradient.astype(cache.weight.dtype) for gradient in others)

    return rounded
