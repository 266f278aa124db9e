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


ROWS = 16  # that are added one after another in the dtype of the work, before sums go on in float64, which is slower


def sums_of_products(*factors: np.ndarray) -> np.ndarray:
    """(batch, rows, channels), each -> (batch, channels): the sum of the product over rows, in float64."""
    batch, rows, channels = factors[0].shape
    whole = rows - rows % ROWS
    first = [x[:, :whole].reshape(batch, ROWS, whole // ROWS, channels) for x in factors]
    some = np.einsum(",".join(["brnc"] * len(first)) + "->bnc", *first)
    rest = np.einsum(",".join(["brc"] * len(first)) + "->bc", *(x[:, whole:] for x in factors))
    return np.sum(some, axis=1, dtype=np.float64) + rest


def sum_over_examples(*factors: np.ndarray) -> np.ndarray:
    """The sum of the product over all axes but the last, in float64."""
    return sums_of_products(*(x.reshape(1, math.prod(x.shape[:-1]), x.shape[-1]) for x in factors))[0]


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
