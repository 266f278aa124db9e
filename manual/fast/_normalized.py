"""Functions for batch and group normalization: sums per channel, and an affine function of each channel.

    y = scale x + shift            dx = scale dy - slope x + shift

need fewer passes over memory than x - mean, divided by s. But where a channel lies far from 0, products of x lose the
digits that tell its entries apart. There the mean is subtracted first: see `origin`.
"""

import math
from functools import lru_cache

import numpy as np

ROWS = 16  # This many rows are added in the dtype of the work, and their sums in float64, which is slower.


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

    `in_parts` adds the sums of its parts in float64.
    """
    rows, names = math.prod(factors[0].shape[:-1]), ",".join(["rn"] * len(factors)) + "->n"
    flat = [x.reshape(rows, x.shape[-1]) for x in factors]
    return np.einsum(names, *flat) if rows <= ROWS else sums_of_products(*(x[None] for x in flat))[0]


def origin(mean: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
    """What to subtract from x before its products are added: the mean of a channel that is far from 0, and 0 of others.

    A channel is near 0 if its mean is within its standard deviation. Then E[x^2] is at most twice the variance, and
    subtracting the square of the mean from it loses one bit. With s^2 in place of the variance, a sum of dy x loses at
    most the rounding error of a sum of dy s.

    Returns:
        The vector, or None if all channels are near 0, and nothing needs to be subtracted.
    """
    square = mean.astype(np.float64) ** 2
    near = (square <= variance) & np.isfinite(variance)
    return None if near.all() else np.where(near, mean.dtype.type(0), mean)


def remainder(mean: np.ndarray, subtracted: np.ndarray | None) -> np.ndarray:
    """The part of the mean that is not subtracted from x."""
    return mean if subtracted is None else mean - subtracted


def affine(y: np.ndarray, x: np.ndarray, subtracted: np.ndarray | None, scale: np.ndarray, shift: np.ndarray) -> None:
    """Write scale (x - subtracted) + shift into y, for vectors of channels that broadcast against x."""
    if subtracted is None:
        np.multiply(x, scale, out=y)
    else:
        np.subtract(x, subtracted, out=y)
        y *= scale
    y += shift


@lru_cache
def repeats(rows: int, channels: int, buffers: int = 1) -> int:
    """How many rows to join to one, with vectors of channels repeated as often; 1 if no such number divides `rows`.

    To broadcast a row that is shorter than its buffer, NumPy copies it there again and again, which takes as long as
    the arithmetic. So a row is made as long as this many `buffers` at least, and four times as many at most.
    """
    enough = -(-buffers * np.getbufsize() // max(channels, 1))
    return next((k for k in range(enough, min(4 * enough, rows) + 1) if rows % k == 0), 1)


def long_row(vectors: np.ndarray, k: int) -> np.ndarray:
    """(..., channels) -> (..., k channels): each vector k times, one after another."""
    if k == 1:
        return vectors
    return vectors[..., None, :].repeat(k, axis=-2).reshape(*vectors.shape[:-1], k * vectors.shape[-1])
