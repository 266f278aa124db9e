"""Leaves as a whole, and their rows and columns: many small errors that point one way are no rounding.

An entry that is wrong by 2% may be within what rounding does to one entry in bfloat16. A thousand entries that are all
2% too large are not: the errors of rounding point either way, and their sum hardly grows. So beside its entries, the
projection of a leaf's error on the reference is judged, and the size of the error, for the whole leaf and for every
line of it (a row, a column, whatever stands at one index of an axis): a factor, a dropped example, a wrong head.

For an error e and a reference r, the component along r is <e, r> / |r|. Where rounding errors are independent, of
standard deviation s_i, its deviation is |s r| / |r|. What they have in common shows in the runs that are made anyway:
as far as the component scatters more there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Lines that are shorter, and the leaves with so few entries, are judged by their entries alone.
SHORTEST = 8
# Whole errors are held to fewer deviations of their size than entries are: of many entries, none may be the largest.
ACROSS = 8.0
# And so is the component of a whole leaf, as far as its entries err alone: the deviation of a sum over many is known
# far better than that of one entry, or of what they have in common, is from a few runs. Lines are many: one may stand
# out.
ALONE = 8.0


@dataclass(frozen=True)
class Part:
    """The whole of a leaf (`axis` None), or each of its lines across `axis`.

    Args:
        norm: the reference's Euclidean norm, for each line.
        along: the tolerance of the error's component along the reference.
        across: the tolerance of the error's norm.
    """

    axis: int | None
    norm: np.ndarray
    along: np.ndarray
    across: np.ndarray

    def visible(self) -> float:
        """The smallest relative change of a line that would be seen."""
        with np.errstate(all="ignore"):
            shares = np.where(self.norm > 0, self.along / self.norm, np.inf)
        return float(np.min(shares, initial=np.inf))


@dataclass(frozen=True)
class Departure:
    """A part whose error is no rounding: which line of which axis, and its component along the reference over |r|."""

    axis: int | None
    line: int
    factor: float
    excess: float

    @property
    def place(self) -> str:
        return "as a whole" if self.axis is None else f"at {self.line} of axis {self.axis}"


def axes_of(value: np.ndarray) -> Iterator[int | None]:
    """The ways in which a leaf is looked at as a whole: none, if it has few entries."""
    if value.dtype.kind != "f" or value.size < SHORTEST:
        return
    yield None
    for axis, n in enumerate(value.shape):
        if n > 1 and value.size // n >= SHORTEST:
            yield axis


def summed(axis: int | None, *factors: np.ndarray) -> np.ndarray:
    """Sums of the entries' products, over the whole or over each line across an axis."""
    axes = list(range(factors[0].ndim))
    operands = [operand for factor in factors for operand in (factor, axes)]
    return np.asarray(np.einsum(*operands, [] if axis is None else [axis]))


def component(error: np.ndarray, reference: np.ndarray, axis: int | None, norm: np.ndarray) -> np.ndarray:
    """<error, reference> / |reference|, for the whole or for each line."""
    with np.errstate(all="ignore"):
        return np.where(norm > 0, summed(axis, error, reference) / norm, 0.0)


def departures(error: np.ndarray, reference: np.ndarray, parts: list[Part]) -> list[Departure]:
    """The parts of a leaf whose error is more than rounding, the furthest first."""
    found = []
    with np.errstate(all="ignore"):
        for part in parts:
            along = np.atleast_1d(component(error, reference, part.axis, part.norm))
            across = np.atleast_1d(np.sqrt(summed(part.axis, error, error)))
            excess = np.maximum(np.abs(along) / part.along, across / part.across)
            line = int(np.nanargmax(np.where(np.isfinite(excess), excess, 0.0)))
            if excess[line] > 1:
                norm = float(np.atleast_1d(part.norm)[line])
                factor = 1 + float(along[line]) / norm if norm > 0 else float("nan")
                found.append(Departure(part.axis, line, factor, float(excess[line])))
    return sorted(found, key=lambda departure: -departure.excess)
