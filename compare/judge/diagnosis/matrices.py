"""Causes of a wrong Jacobian or Hessian as a matrix: its sparsity pattern, its triangles, its rows."""

from typing import Any

import numpy as np

from compare.judge.reports.verdict import Diagnosis


def of_pattern(given: Any, dense: np.ndarray, expected: np.ndarray, allowed: float) -> Diagnosis | None:
    """Compares the sparsity pattern of a matrix with the expected matrix.

    Args:
        given: the hand-written sparse matrix.
        dense: the same as a dense array.
        expected: the reference.
        allowed: the tolerance of an entry.

    Returns:
        A diagnosis if every wrong entry is missing in the pattern, or if every one should be 0; else None.
    """
    coordinates = given.tocoo()
    declared = np.zeros(given.shape, bool)
    declared[coordinates.row, coordinates.col] = True
    wrong = np.abs(dense - expected) > allowed
    for found, words in ((wrong & ~declared, "lacks"), (wrong & (expected == 0), "should not have")):
        if not found.any() or (wrong & ~found).any():
            continue
        i, j = (int(k) for k in np.argwhere(found)[0])
        more = f" and {np.count_nonzero(found) - 1} more entries" if np.count_nonzero(found) > 1 else ""
        value = f"{expected[i, j]:.6g}, and is not stored" if words == "lacks" else f"0, and is {dense[i, j]:.6g}"
        message = f"its sparsity pattern {words} [{i}, {j}]{more}: [{i}, {j}] should be {value}. The rest is right."
        return Diagnosis("matrix", "pattern", message)
    return None


def of_matrix(
    dense: np.ndarray, expected: np.ndarray, allowed: float, name: str, path: str | None = "matrix"
) -> Diagnosis | None:
    """Finds a cause that explains every entry of a wrong matrix.

    Args:
        dense: the hand-written matrix.
        expected: the reference.
        allowed: the tolerance of an entry.
        name: "hessian", which is symmetric, or "jacobian".
        path: the name of the quantity in the report.

    Returns:
        A diagnosis, or None if there is no such cause.
    """
    square = expected.shape[0] == expected.shape[1]
    return _one_row(dense, expected, allowed, path) or (
        _of_square(dense, expected, allowed, name, path) if square else None
    )


def _one_row(dense: np.ndarray, expected: np.ndarray, allowed: float, path: str | None) -> Diagnosis | None:
    """Every row equals the same expected row."""
    if len(expected) < 2 or np.ptp(expected, axis=0).max(initial=0.0) <= allowed:
        return None
    for i, row in enumerate(expected):
        if np.abs(row).max(initial=0.0) > allowed and (np.abs(dense - row) <= allowed).all():
            return Diagnosis(path, "one-row", f"every row is the expected row of output {i}.")
    return None


def _of_square(
    dense: np.ndarray, expected: np.ndarray, allowed: float, name: str, path: str | None
) -> Diagnosis | None:
    def equals(other: np.ndarray) -> bool:
        return bool((np.abs(dense - other) <= allowed).all())

    diagonal = np.diag(np.diag(expected))
    rest = expected - diagonal
    if not (np.abs(rest) > allowed).any():
        return None
    for factor, word in ((2.0, "doubled"), (0.5, "halved")):
        if equals(diagonal + factor * rest):
            words = f"its entries off the diagonal are {word}, and the diagonal is right."
            return Diagnosis(path, f"off-diagonal-{word}", words)
    for triangle, word in ((np.triu, "upper"), (np.tril, "lower")):
        if equals(triangle(expected)) and not equals(expected):
            return Diagnosis(path, "triangle", f"only its {word} triangle is filled, and its entries there are right.")
    gap = np.abs(dense - dense.T)
    if name != "hessian" or gap.max() <= allowed:
        return None
    i, j = (int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
    numbers = f"[{i}, {j}] is {dense[i, j]:.6g}, and [{j}, {i}] is {dense[j, i]:.6g}"
    return Diagnosis(path, "not-symmetric", f"a Hessian is symmetric, and this matrix is not: {numbers}.")
