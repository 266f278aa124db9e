"""What all normalization shares: the cache of what is centered, sums, the dtype of the work, and what cannot be."""

import math
from functools import lru_cache
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


ROWS = 16  # so many are added in the dtype of the work, and these sums in float64, which is exacter and slower


def sums_of_products(*factors: np.ndarray) -> np.ndarray:
    """(batch, rows, channels), each -> (batch, channels): the sum of the product over rows, in float64."""
    batch, rows, channels = factors[0].shape
    whole = rows - rows % ROWS
    names, entries = ",".join(["brn"] * len(factors)) + "->bn", whole // ROWS * channels
    some = np.einsum(names, *(x[:, :whole].reshape(batch, ROWS, entries) for x in factors))
    total = some.reshape(batch, whole // ROWS, channels).sum(axis=1, dtype=np.float64)
    return total if whole == rows else total + np.einsum(names, *(x[:, whole:] for x in factors))


def sum_over_examples(*factors: np.ndarray) -> np.ndarray:
    """The sum of the product over all axes but the last: in float64, but of up to ROWS in the dtype of the work.

    `in_parts` goes on adding in float64 in either case.
    """
    rows, names = math.prod(factors[0].shape[:-1]), ",".join(["rn"] * len(factors)) + "->n"
    flat = [x.reshape(rows, x.shape[-1]) for x in factors]
    return np.einsum(names, *flat) if rows <= ROWS else sums_of_products(*(x[None] for x in flat))[0]


@lru_cache
def repeats(rows: int, channels: int, buffers: int = 1) -> int:
    """How many rows to take as one, with vectors of channels as often one after another; 1 if no such number divides.

    To broadcast a row that is shorter than its buffer, NumPy copies it there again and again: half the time is lost.
    So one gets a row of at least so many `buffers`, and of at most four times as many.
    """
    enough = -(-buffers * np.getbufsize() // max(channels, 1))
    return next((k for k in range(enough, min(4 * enough, rows) + 1) if rows % k == 0), 1)


def long_row(vectors: np.ndarray, k: int) -> np.ndarray:
    """(..., channels) -> (..., k channels): each vector k times over."""
    if k == 1:
        return vectors
    return vectors[..., None, :].repeat(k, axis=-2).reshape(*vectors.shape[:-1], k * vectors.shape[-1])


def of_shape(x: np.ndarray, output_gradient: np.ndarray) -> np.ndarray:
    """The output gradient. ValueError if its shape is another, as that of a transposed one: its numbers would fit."""
    if output_gradient.shape != x.shape:
        raise ValueError(f"the output gradient has shape {output_gradient.shape}, but the value has {x.shape}.")
    return output_gradient


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
