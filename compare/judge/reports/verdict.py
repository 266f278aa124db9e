"""Two trees of arrays in, one verdict out, and the words for it. Leaves are matched by path, never by position."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jax.numpy as jnp
import numpy as np

from compare.judge.roundoff.tolerance import norm
from compare.pytrees import Leaves


class Verdict(Enum):
    AGREE = "agree"
    DISAGREE = "disagree"
    INCONCLUSIVE = "inconclusive"

    def __bool__(self) -> bool:
        raise TypeError("a verdict is not a truth value; compare it: verdict is Verdict.AGREE")

    @staticmethod
    def of(verdicts: "list[Verdict]") -> "Verdict":
        """One wrong part makes the whole wrong; else one undecided part leaves it undecided."""
        for verdict in (Verdict.DISAGREE, Verdict.INCONCLUSIVE):
            if verdict in verdicts:
                return verdict
        return Verdict.AGREE


@dataclass(frozen=True)
class Row:
    """One leaf. `norm` is the reference's Euclidean norm.

    `worst_index` is the entry whose difference is the largest multiple of what rounding allows for it;
    `error`, `allowed`, `manual_value` and `autodiff_value` are those of that entry. `message` is empty if
    the leaf agrees.
    """

    path: str
    verdict: Verdict
    shape: tuple[int, ...]
    dtype: str
    norm: float
    error: float = float("nan")
    allowed: float = float("nan")
    worst_index: tuple[int, ...] | None = None
    manual_value: float | None = None
    autodiff_value: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """A cause. `path` is the leaf or intermediate (None for the whole), `factor` the number in it, if any."""

    path: str | None
    kind: str
    message: str
    factor: float | None = None


@dataclass(frozen=True)
class Derivative:
    """The derivative along a direction: what the gradient says, what the loss says, and the error of the latter.

    `miss` bounds the probability that a wrong gradient looks right along this random direction: the fault, in
    the direction's own random signs, would have to cancel to within the error. It is relative to a fault of the
    size of the gradient itself.
    """

    by_gradient: float
    by_differences: float
    error: float
    taylor_slope: float | None = None
    miss: float | None = None

    @property
    def consistent(self) -> bool:
        return abs(self.by_gradient - self.by_differences) <= self.error


def compare_leaves(
    actual: Leaves, model: Leaves, reference: Leaves, tolerance: Leaves, mismatched: Mapping[str, str] | None = None
) -> list[Row]:
    """One row a leaf, in the order of `model`; leaves that only the manual side has come last.

    Args:
        actual: what the manual side returned.
        model: the shapes and dtypes that it must have.
        reference: the expected values, in the same or a wider dtype.
        tolerance: how far each entry may be from them.
        mismatched: leaves at which the two trees have another structure, and how, in words.
    """
    mismatched = mismatched or {}
    rows = [
        mismatched_row(path, leaf, mismatched[path])
        if path in mismatched
        else compare_leaf(path, actual.get(path), leaf, reference[path], tolerance[path])
        for path, leaf in model.items()
    ]
    if mismatched:
        return rows  # what else there is belongs to what has another structure
    return rows + [
        Row(path, Verdict.DISAGREE, leaf.shape, str(leaf.dtype), norm(leaf), message="there should be no such leaf")
        for path, leaf in actual.items()
        if path not in model
    ]


def mismatched_row(path: str, expected: np.ndarray, message: str) -> Row:
    return Row(path, Verdict.DISAGREE, expected.shape, str(expected.dtype), float("nan"), message=message.rstrip("."))


def compare_leaf(
    path: str, manual: np.ndarray | None, expected: np.ndarray, reference: np.ndarray, allowed: np.ndarray
) -> Row:
    """One row: shape and dtype must be those of `expected`, values within `allowed` of `reference`."""

    def row(verdict: Verdict, message: str = "", **values: Any) -> Row:
        size = norm(reference)
        return Row(path, verdict, expected.shape, str(expected.dtype), size, message=message, **values)

    if manual is None:
        return row(Verdict.DISAGREE, "missing on the manual side")
    if manual.shape != expected.shape:
        return row(Verdict.DISAGREE, f"shape is {manual.shape}, expected {expected.shape}")
    if manual.dtype != expected.dtype:
        return row(Verdict.DISAGREE, f"dtype is {manual.dtype}, expected {expected.dtype}")
    if manual.size == 0:
        return row(Verdict.AGREE, error=0.0, allowed=0.0)
    with np.errstate(all="ignore"):
        if manual.dtype.kind in "iu" and reference.dtype.kind in "iu":  # float64 has not all of 64 bits
            larger, smaller = np.maximum(manual, reference), np.minimum(manual, reference)
            error = np.asarray(larger - smaller, np.float64)
        else:
            error = np.asarray(np.subtract(manual, reference, dtype=np.float64))
        np.abs(error, out=error)
        excess = np.asarray(np.maximum(allowed, np.finfo(np.float64).tiny))
        np.divide(error, excess, out=excess)
        undecided = not np.isfinite(np.max(allowed))
        if undecided:  # where an allowance is not finite nothing passes, and nothing is blamed but what is no number
            excess[~np.isfinite(allowed) & np.isfinite(error)] = 0
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), error.shape))  # NaN counts as the largest
    agree = bool(excess[worst] <= 1)  # this way round, so that NaN is not agreement
    if not agree:
        if not np.isfinite(reference).all():
            where = _first(~np.isfinite(reference))
            return row(Verdict.INCONCLUSIVE, f"the reference is {reference[where]} at {_at(where)}")
        if not np.isfinite(manual).all():
            where = _first(~np.isfinite(manual))
            if np.abs(reference).max() > float(jnp.finfo(expected.dtype).max):
                size = np.abs(reference).max()
                return row(
                    Verdict.INCONCLUSIVE, f"the right values reach {size:.3g}, which {expected.dtype} cannot hold"
                )
            return row(Verdict.DISAGREE, f"{manual[where]} at {_at(where)}, where {reference[where]:.6g} is expected")
    if agree and undecided:
        where = _first(~np.isfinite(allowed))
        return row(Verdict.INCONCLUSIVE, f"what rounding allows is {allowed[where]} at {_at(where)}")
    ours, right = float(manual[worst]), float(reference[worst])
    return row(
        Verdict.AGREE if agree else Verdict.DISAGREE,
        "" if agree else f"{ours:.9g} at {_at(worst)}, where {right:.9g} is expected",
        error=float(error[worst]),
        allowed=float(allowed[worst]),
        worst_index=worst,
        manual_value=ours,
        autodiff_value=right,
    )


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else "its only entry"


def plain(value: Any) -> Any:
    """Reports as JSON knows them: enums by value, arrays and tuples as lists, NaN and infinity as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
