"""Compares two trees of arrays leaf by leaf, matched by path and not by position, and describes their differences."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jax.numpy as jnp
import numpy as np

from compare.judge.program.blocks import blocks, blockwise
from compare.judge.roundoff.tolerance import DEVIATIONS, norm
from compare.judge.roundoff.whole import Departure, Part, departures
from compare.pytrees import Leaves


class Verdict(Enum):
    AGREE = "agree"
    DISAGREE = "disagree"
    INCONCLUSIVE = "inconclusive"

    def __bool__(self) -> bool:
        raise TypeError("a verdict is not a truth value; compare it: verdict is Verdict.AGREE")

    @staticmethod
    def of(verdicts: "list[Verdict]") -> "Verdict":
        """The verdict on several parts together.

        Args:
            verdicts: the verdicts on the parts.

        Returns:
            DISAGREE if any part has this verdict, otherwise INCONCLUSIVE if any part has that, otherwise AGREE.
        """
        for verdict in (Verdict.DISAGREE, Verdict.INCONCLUSIVE):
            if verdict in verdicts:
                return verdict
        return Verdict.AGREE


@dataclass(frozen=True)
class Row:
    """The comparison of one quantity: the loss, an output, or the gradient of an intermediate or a parameter.

    Attributes:
        path: the name of the quantity.
        verdict: the verdict on it.
        shape, dtype: the expected shape and dtype.
        norm: the Euclidean norm of the expected values.
        error, tolerance, manual_value, autodiff_value: the error, the tolerance and the values of both sides at
            `worst_index`.
        worst_index: the index of the entry whose error is the largest multiple of its tolerance.
        digits: the number of correct decimal digits, from |error| / |reference| for the whole leaf; None if one of the
            norms is not finite or if the reference is 0.
        available: the number of digits that can be correct, given the rounding tolerance.
        visible: the smallest relative error of the whole leaf, of a line or of an entry that would have been detected;
            infinity if none would.
        departure: the whole leaf or one of its lines, if its error exceeds the tolerance of such a part.
        message: a description of the difference; empty if the two sides agree.
    """

    path: str
    verdict: Verdict
    shape: tuple[int, ...]
    dtype: str
    norm: float
    error: float = float("nan")
    tolerance: float = float("nan")
    worst_index: tuple[int, ...] | None = None
    manual_value: float | None = None
    autodiff_value: float | None = None
    digits: float | None = None
    available: float | None = None
    visible: float | None = None
    departure: Departure | None = None
    message: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """A cause of a disagreement, or a side effect.

    Attributes:
        path: the name of the quantity; None if the cause does not concern a single one.
        kind: the name of the cause, such as "factor", "sign" or "transpose".
        message: the cause in words.
        factor: the number in the message, such as a wrong factor; None if it has none.
    """

    path: str | None
    kind: str
    message: str
    factor: float | None = None


@dataclass(frozen=True)
class Derivative:
    """The derivative along one direction, by the gradient and by finite differences of the loss.

    Attributes:
        by_gradient: the inner product of the gradient and the direction.
        by_differences: the finite difference of the loss along the direction.
        error: the tolerance of their difference, from the estimated error of the finite difference.
        taylor_slope: the order in the step of the Taylor remainder: 2 for a correct gradient; None if it is not known.
        miss: an upper bound of the probability that an error as large as the gradient itself is missed along this
            random direction, because its component in this direction is less than `error`; None if it is not known.
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
    actual: Leaves,
    model: Leaves,
    reference: Leaves,
    tolerance: Leaves,
    mismatched: Mapping[str, str] | None = None,
    parts: Mapping[str, list[Part]] | None = None,
    wider: Collection[str] = (),
) -> list[Row]:
    """Compare trees leaf by leaf. All arguments are by path.

    Args:
        actual: the values of the hand-written side.
        model: arrays with the expected shapes and dtypes.
        reference: the expected values, in the same or a wider dtype.
        tolerance: the rounding tolerance of each entry.
        mismatched: a message for each leaf at which the structures of the two trees differ.
        parts: the rounding tolerances of whole leaves and of their lines.
        wider: the leaves that may have any floating dtype.

    Returns:
        A row for each leaf in the order of `model`, then one for each leaf that only the hand-written side has.
    """
    mismatched, parts = mismatched or {}, parts or {}
    rows = [
        mismatched_row(path, leaf, mismatched[path])
        if path in mismatched
        else compare_leaf(
            path, actual.get(path), leaf, reference[path], tolerance[path], parts.get(path, []), path in wider
        )
        for path, leaf in model.items()
    ]
    if mismatched:
        return rows  # superfluous leaves are part of the reported mismatch of the structure
    return rows + [
        Row(path, Verdict.DISAGREE, leaf.shape, str(leaf.dtype), norm(leaf), message="no leaf of this name is expected")
        for path, leaf in actual.items()
        if path not in model
    ]


def mismatched_row(path: str, expected: np.ndarray, message: str) -> Row:
    """The row of a leaf in a part of the tree whose structure differs, which `message` describes."""
    return Row(path, Verdict.DISAGREE, expected.shape, str(expected.dtype), float("nan"), message=message.rstrip("."))


def compare_leaf(
    path: str,
    manual: np.ndarray | None,
    expected: np.ndarray,
    reference: np.ndarray,
    tolerance: np.ndarray,
    parts: list[Part] | None = None,
    any_dtype: bool = False,
) -> Row:
    """Compare one leaf.

    Args:
        path: its name.
        manual: the value of the hand-written side; None if it is missing.
        expected: an array with the expected shape and dtype.
        reference: the expected values.
        tolerance: the rounding tolerance of each entry.
        parts: the rounding tolerances of the whole leaf and of its lines.
        any_dtype: whether the value may have any floating dtype.

    Returns:
        The row.
    """

    size = float(parts[0].norm) if parts and parts[0].axis is None else 0.0
    if not 1e-150 < size < 1e150:  # a square may have overflowed or underflowed
        size = norm(reference)

    def row(verdict: Verdict, message: str = "", **values: Any) -> Row:
        return Row(path, verdict, expected.shape, str(expected.dtype), size, message=message, **values)

    if manual is None:
        return row(Verdict.DISAGREE, "missing on the manual side")
    if manual.shape != expected.shape:
        return row(Verdict.DISAGREE, f"shape is {manual.shape}, expected {expected.shape}")
    other_dtype = manual.dtype != expected.dtype and not (any_dtype and jnp.issubdtype(manual.dtype, jnp.floating))
    complaint = f"dtype is {manual.dtype}, expected {expected.dtype}" if other_dtype else ""
    if other_dtype and not jnp.issubdtype(manual.dtype, jnp.number):
        return row(Verdict.DISAGREE, complaint)
    if manual.size == 0:
        return row(Verdict.DISAGREE if complaint else Verdict.AGREE, complaint, error=0.0, tolerance=0.0)
    with np.errstate(all="ignore"):
        if manual.dtype.kind in "iu" and reference.dtype.kind in "iu":  # float64 cannot represent all 64-bit integers
            larger, smaller = np.maximum(manual, reference), np.minimum(manual, reference)
            error = np.asarray(larger - smaller, np.float64)
        elif np.iscomplexobj(manual) or np.iscomplexobj(reference):
            error = np.asarray(np.abs(np.asarray(manual, np.complex128) - reference))
        else:
            error = np.asarray(np.subtract(manual, reference, dtype=np.float64))
        excess = np.asarray(blockwise(_excess, error, tolerance))
        undecided = not np.isfinite(np.max(tolerance))
        if undecided:  # if a tolerance is not finite, only a value that is not finite is an error
            excess[~np.isfinite(tolerance) & np.isfinite(error)] = 0
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), error.shape))  # NaN counts as the largest
    agree = bool(excess[worst] <= 1)  # False for NaN
    if not agree:
        if not np.isfinite(reference).all():
            where = _first(~np.isfinite(reference))
            return row(Verdict.INCONCLUSIVE, f"the reference is {reference[where]} at {_at(where)}")
        if not np.isfinite(manual).all():
            where = _first(~np.isfinite(manual))
            if np.abs(reference).max() > float(jnp.finfo(expected.dtype).max):
                size = np.abs(reference).max()
                return row(
                    Verdict.INCONCLUSIVE, f"the expected values reach {size:.3g}, which {expected.dtype} cannot hold"
                )
            return row(Verdict.DISAGREE, f"{manual[where]} at {_at(where)}, where {reference[where]:.6g} is expected")
    if agree and undecided:
        where = _first(~np.isfinite(tolerance))
        unknown = f"the rounding tolerance is {tolerance[where]} at {_at(where)}"
        if complaint:  # another dtype is an error for any tolerance
            return row(Verdict.DISAGREE, f"{complaint}; its values cannot be compared, because {unknown}")
        return row(Verdict.INCONCLUSIVE, unknown)
    left = departures(error, reference, parts) if parts else []
    ours, right = _number(manual[worst]), _number(reference[worst])
    if not agree:
        message = _difference_message(ours, right, _at(worst))
    elif left:
        message = _part_message(left[0])
    else:
        message = complaint and f"{complaint}; its values agree"
    return row(
        Verdict.DISAGREE if message else Verdict.AGREE,
        message,
        error=abs(float(error[worst])),
        tolerance=float(tolerance[worst]),
        worst_index=worst,
        manual_value=ours if isinstance(ours, float) else None,
        autodiff_value=right if isinstance(right, float) else None,
        digits=_digits(norm(error), size),
        available=_digits(norm(tolerance) / DEVIATIONS, size),
        visible=_visible(reference, tolerance, parts or []),
        departure=left[0] if left else None,
    )


def _excess(error: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    return np.abs(error) / np.maximum(tolerance, np.finfo(np.float64).tiny)


def _number(value: Any) -> float | complex:
    return complex(value) if np.iscomplexobj(value) else float(value)


def _digits(error: float, size: float) -> float | None:
    """The number of correct decimal digits, from the norms of error and value.

    None if a norm is not finite or if the value is 0.
    """
    if not (np.isfinite(error) and np.isfinite(size)) or size == 0:
        return None
    return float(min(17.0, max(0.0, -np.log10(max(error / size, 1e-17)))))


def _visible(reference: np.ndarray, tolerance: np.ndarray, parts: list[Part]) -> float:
    """The smallest relative error of an entry, a line or the whole leaf that exceeds its rounding tolerance."""

    def least(tolerance: np.ndarray, reference: np.ndarray) -> float:
        shares = tolerance / np.abs(reference)
        found = float(np.min(shares, initial=np.inf))
        return found if found >= 0 else float(np.min(shares[reference != 0], initial=np.inf))  # 0 / 0 is NaN

    with np.errstate(all="ignore"):
        entries = [least(tolerance[block], reference[block]) for block in blocks(reference.shape)]
    return float(np.fmin.reduce([*entries, *(part.visible() for part in parts)]))


def _part_message(left: Departure) -> str:
    unseen = "though no single entry exceeds its tolerance"
    if np.isfinite(left.factor) and abs(left.factor - 1) > 1e-12:
        amount = abs(left.factor - 1)
        times = f"{left.factor:.4g}" if amount > 1e-3 else f"1 {'+' if left.factor > 1 else '-'} {amount:.2g}"
        return f"{left.place} it is {times} times what is expected, {unseen}"
    return f"{left.place} its error is {left.excess:.2g} times the rounding tolerance, {unseen}"


def _difference_message(ours: Any, right: Any, place: str) -> str:
    """The message for two numbers, with as many digits as are needed to show the difference."""
    one, other = f"{ours:.9g}", f"{right:.9g}"
    for digits in (12, 15, 17):
        if one != other:
            break
        one, other = f"{ours:.{digits}g}", f"{right:.{digits}g}"
    gap = abs(ours - right) / abs(right) if right else 0.0
    more = f" (a relative difference of {gap:.1e})" if 0 < gap < 1e-5 else ""
    return f"{one} at {place}, where {other} is expected{more}"


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else "its only entry"


def plain(value: Any) -> Any:
    """Converts a value to types that JSON can represent.

    Args:
        value: a value of a report. Enums become their values, arrays and tuples become lists, and NaN and infinity
            become strings.

    Returns:
        The converted value.
    """
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
