"""What all normalization shares: the cache of what is centered, sums, the dtype of the work, and what cannot be."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "*batch n"]
Vector = Float[np.ndarray, " n"]
Gradients = tuple[Array, Vector, Vector]


class CenteredCache(NamedTuple):
    """x and its statistics, by example or channel, because memory for x_hat costs more than making it again."""

    x: Float[np.ndarray, "*batch n"]
    mean: Float[np.ndarray, "..."]
    deviation: Float[np.ndarray, "..."]
    weight: Float[np.ndarray, " n"]


def sum_over_examples(*factors: np.ndarray) -> np.ndarray:
    """The sum of the product over all axes but the last, without an array of the products."""
    rows = [array.reshape(math.prod(array.shape[:-1]), array.shape[-1]) for array in factors]
    return np.einsum(",".join(["rn"] * len(rows)) + "->n", *rows)


def widened(x: np.ndarray) -> np.ndarray:
    """float16 as float32; wider ones as they are."""
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def checked(
    op: str, x: np.ndarray, averaged: tuple[int, ...], epsilon: float, *, axes: int = 1, **vectors: np.ndarray
) -> float:
    """epsilon as a Python number, because a NumPy scalar would promote float32 work. ValueError for what cannot be."""
    if x.ndim < axes:
        raise ValueError(f"{op} needs x of at least {axes} axes, the last for channels, got shape {x.shape}.")
    for name, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(
                f"{op} needs {name} of shape {x.shape[-1:]}, one entry for each of the last axis of x {x.shape}, "
                f"got {vector.shape}. Channels come last."
            )
    if 0 in averaged:
        raise ValueError(f"{op} has nothing to average over: x has shape {x.shape}. Leave empty batches out.")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}.")
    return float(epsilon)
