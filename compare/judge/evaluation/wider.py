"""Compares results of the code under test in a wider dtype, to distinguish a wrong derivation from lost digits.

Code in float16 and bfloat16 is run in float32, float32 in float64, and float64 in `np.longdouble`. An error of the
derivation remains as large. An error of the arithmetic, such as an overflow, disappears. If the code does not work in
the wider dtype, because it calls a C function or has a float32 constant, the run decides nothing.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from compare.judge.program.inputs import Inputs
from compare.judge.program.plan import is_narrow
from compare.judge.reports.verdict import Row, Verdict
from compare.judge.roundoff.tolerance import norm
from compare.pytrees import Leaves

WIDER = {"f2": np.float32, "f4": np.float64, "f8": np.longdouble, "c8": np.complex128, "c16": np.clongdouble}
GONE = 1 / 16  # an error that falls to this share or less in the wider dtype was a rounding error


def decided(
    rows: list[Row], actual: Leaves, expected: Leaves, wide: Leaves, most: float = np.inf
) -> tuple[list[Row], dict[str, str]]:
    """Changes DISAGREE to AGREE in the rows whose error disappears in the wider dtype.

    Args:
        rows: the rows of the run in the dtype under test.
        actual, expected: the values of both sides in that run, by path.
        wide: the results of the code under test in the wider dtype, by path.
        most: the largest error of an entry, relative to a typical entry, that may be a rounding error. A larger error
            remains an error, whatever the wider run shows.

    Returns:
        The rows, and a note on the lost digits of each row that changed, by path.
    """
    settled, arithmetic = [], {}
    for row in rows:
        path = row.path
        if _has_wrong_numbers(row, actual, expected) and path in wide and _is_wider(wide[path], actual[path]):
            error, before = (_error(side[path], expected[path]) for side in (wide, actual))
            if error <= GONE * before < np.inf and _largest(actual, expected, path) <= most:
                arithmetic[path] = _lost(row)
                row = replace(row, verdict=Verdict.AGREE, message="", departure=None)
        settled.append(row)
    return settled, arithmetic


def _largest(actual: Leaves, expected: Leaves, path: str) -> float:
    """The largest error of an entry, relative to the root mean square of the expected values."""
    reference = expected[path]
    typical = norm(reference) / max(reference.size, 1) ** 0.5
    with np.errstate(all="ignore"):
        largest = float(np.max(np.abs(np.asarray(actual[path] - reference, np.float64)), initial=0.0))
    return largest / typical if typical > 0 else np.inf


def _has_wrong_numbers(row: Row, actual: Leaves, expected: Leaves) -> bool:
    """Whether the row disagrees because of its values, and not because of its shape or dtype."""
    value, reference = actual.get(row.path), expected.get(row.path)
    if row.verdict is not Verdict.DISAGREE or row.worst_index is None or value is None or reference is None:
        return False
    same_kind = value.shape == reference.shape and str(value.dtype) == row.dtype
    return same_kind and bool(np.isfinite(reference).all())


def _error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the error."""
    with np.errstate(all="ignore"):
        return float(norm(np.asarray(actual - expected, np.float64)))


def _lost(row: Row) -> str:
    digits = "" if row.digits is None else f": {row.digits:.0f} digits are correct"
    more = "" if row.available is None or row.digits is None else f", and {row.available:.0f} are possible"
    return f"{row.path} loses digits in {row.dtype}{digits}{more}. It is correct in a wider dtype."


def _is_wider(value: np.ndarray, than: np.ndarray) -> bool:
    of_numbers = value.dtype.kind in "fc" and jnp.issubdtype(than.dtype, jnp.inexact)
    return of_numbers and value.shape == than.shape and _eps(value.dtype) <= _eps(than.dtype)


def is_widened(value: np.ndarray | None, than: np.ndarray) -> bool:
    """Whether a result is in a wider dtype, and not only the arguments it was computed from."""
    if value is None or not _is_wider(value, than) or _eps(value.dtype) >= _eps(than.dtype):
        return False
    return not np.array_equal(value, than)  # equal results were computed in the narrower dtype


def keeps_most_digits(row: Row, point: Any) -> bool:
    """Whether two thirds of the digits of a row are correct."""
    actual, expected = point.actual.get(row.path), point.expected.get(row.path)
    if actual is None or expected is None or actual.shape != expected.shape:
        return False
    if actual.dtype.kind != expected.dtype.kind or (row.worst_index is None and row.departure is None):
        return False  # it disagrees because of its dtype or structure
    if str(actual.dtype) != row.dtype and row.path in point.inputs.leaves:
        return False
    return jnp.issubdtype(actual.dtype, jnp.inexact) and in_last_third(actual, expected)


def in_last_third(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Whether all errors are in the last third of the digits of a typical entry, in the dtype of the actual values."""
    digits = float(jnp.finfo(actual.dtype).eps) ** (2 / 3)
    typical = np.sqrt(np.mean(np.square(expected))) if expected.size else 0.0
    with np.errstate(all="ignore"):
        return bool(np.max(np.abs(actual - expected), initial=0.0) <= digits * typical)


def _eps(dtype: Any) -> float:
    return float(np.finfo(dtype).eps) if dtype in (np.longdouble, np.clongdouble) else float(jnp.finfo(dtype).eps)


def widened_once(inputs: Inputs) -> Inputs:
    """The inputs with their floating-point arrays in the next wider dtype, and all other leaves unchanged."""

    def wide(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray | np.generic):
            return leaf
        if leaf.dtype.str[1:] in WIDER:
            return leaf.astype(WIDER[leaf.dtype.str[1:]])
        return leaf.astype(np.float32) if is_narrow(leaf.dtype) else leaf

    return inputs.converted(wide)
