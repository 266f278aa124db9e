"""Compares leaves as a whole, and their rows and columns: many small errors of one sign are not rounding errors.

In bfloat16, an error of 2% in one entry may be a rounding error. If a thousand entries are all 2% too large, they are
not rounding errors, because these have random signs and mostly cancel in a sum. So two numbers are also compared with
tolerances, for the whole leaf and for each line of it (a row, a column, the entries at one index of an axis): the
component of the error along the reference, and the norm of the error. They reveal a wrong factor, a dropped example or
a wrong attention head.

For an error e and a reference r, the component along r is <e, r> / |r|. If the rounding errors are independent with
standard deviations s_i, the standard deviation of the component is |s r| / |r|, with the entrywise product s r. If they
are correlated, the component scatters more than that in the perturbed runs, and its tolerance grows accordingly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Lines and leaves with fewer entries than this are compared by their entries only.
SHORTEST = 8
# The tolerance of a norm, in standard deviations. Entries need a larger one, because one of many may be an outlier.
ACROSS = 8.0
# The tolerance of a whole leaf's component, in standard deviations, for the independent errors of its entries. The
# standard deviation of a sum over many entries is known better than that of one entry. Lines need a larger one, because
# one of many may be an outlier.
ALONE = 8.0


@dataclass(frozen=True)
class Part:
    """The tolerances of a whole leaf, or of each of its lines.

    Attributes:
        axis: the axis whose indices number the lines; None for the whole leaf.
        norm: the Euclidean norm of the reference, for each line.
        along: the tolerance of the error's component along the reference.
        across: the tolerance of the error's norm.
    """

    axis: int | None
    norm: np.ndarray
    along: np.ndarray
    across: np.ndarray

    def visible(self) -> float:
        """The smallest relative change of a line that would be detected."""
        with np.errstate(all="ignore"):
            shares = np.where(self.norm > 0, self.along / self.norm, np.inf)
        return float(np.min(shares, initial=np.inf))


@dataclass(frozen=True)
class Departure:
    """A part whose error exceeds its tolerance.

    Attributes:
        axis: the axis whose indices number the lines; None for the whole leaf.
        line: the index of the line; 0 for the whole leaf.
        factor: the factor between the actual and the expected values, 1 + <e, r> / |r|^2 for an error e.
        excess: the error in multiples of its tolerance.
    """

    axis: int | None
    line: int
    factor: float
    excess: float

    @property
    def place(self) -> str:
        return "as a whole" if self.axis is None else f"at index {self.line} of axis {self.axis}"


def axes_of(value: np.ndarray) -> list[int | None]:
    """The axes of a leaf's parts: None for the whole leaf, and each axis whose lines have at least SHORTEST entries.

    Small leaves have no parts.
    """
    if value.dtype.kind != "f" or value.size < SHORTEST:
        return []
    return [None, *(axis for axis, n in enumerate(value.shape) if n > 1 and value.size // n >= SHORTEST)]


def summed(axes: Sequence[int | None], *factors: np.ndarray) -> list[np.ndarray]:
    """The sums of the entrywise products of the factors, over the whole leaf or over each line.

    Args:
        axes: for each result, the axis whose indices number the lines; None for the whole leaf.
        *factors: arrays of one shape.
    """
    every = list(range(factors[0].ndim))
    operands = [operand for factor in factors for operand in (factor, every)]
    found: dict[int | None, np.ndarray] = {}
    for axis in axes:
        if axis is not None:
            found[axis] = np.asarray(np.einsum(*operands, [axis]))
    if None in axes:  # the sum of the lines' sums, which takes less time than another pass over the leaf
        lines = next(iter(found.values()), None)
        found[None] = np.asarray(np.einsum(*operands, []) if lines is None else lines.sum())
    return [found[axis] for axis in axes]


def components(
    error: np.ndarray, reference: np.ndarray, axes: Sequence[int | None], norms: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """<error, reference> / |reference|, for the whole leaf or for each line. `norms` holds |reference| by axis."""
    with np.errstate(all="ignore"):
        products = summed(axes, error, reference)
        return [np.where(norm > 0, product / norm, 0.0) for product, norm in zip(products, norms, strict=True)]


def departures(error: np.ndarray, reference: np.ndarray, parts: list[Part]) -> list[Departure]:
    """The parts of a leaf whose error exceeds its tolerance, sorted by the excess.

    Args:
        error: the error of the leaf.
        reference: the expected values.
        parts: the tolerances of the leaf's parts.

    Returns:
        The whole leaf, and the worst line of each axis, as far as they exceed their tolerances; the largest excess
        first.
    """
    found, axes = [], [part.axis for part in parts]
    with np.errstate(all="ignore"):
        all_along = components(error, reference, axes, [part.norm for part in parts])
        for part, along, squares in zip(parts, all_along, summed(axes, error, error), strict=True):
            along, across = np.atleast_1d(along), np.atleast_1d(np.sqrt(squares))
            excess = np.maximum(np.abs(along) / part.along, across / part.across)
            line = int(np.nanargmax(np.where(np.isfinite(excess), excess, 0.0)))
            if excess[line] > 1:
                norm = float(np.atleast_1d(part.norm)[line])
                factor = 1 + float(along[line]) / norm if norm > 0 else float("nan")
                found.append(Departure(part.axis, line, factor, float(excess[line])))
    return sorted(found, key=lambda departure: -departure.excess)
