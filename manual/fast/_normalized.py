"""What all normalization shares: sums in float64, and rows that are taken together."""

import math
from functools import lru_cache

import numpy as np

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
