"""What may be wrong with a matrix of derivatives as a matrix: its pattern, one of its halves, its rows."""

from typing import Any

import numpy as np

from compare.judge.reports.verdict import Diagnosis


def of_pattern(given: Any, dense: np.ndarray, expected: np.ndarray, allowed: float) -> Diagnosis | None:
    coordinates = given.tocoo()
    declared = np.zeros(given.shape, bool)
    declared[coordinates.row, coordinates.col] = True
    wrong = np.abs(dense - expected) > allowed
    for found, words in ((wrong & ~declared, "lacks"), (wrong & (expected == 0), "should not have")):
        if not found.any() or (wrong & ~found).any():
            continue
        i, j = (int(k) for k in np.argwhere(found)[0])
        more = f", and {np.count_nonzero(found) - 1} more" if np.count_nonzero(found) > 1 else ""
        is_what = f"is {expected[i, j]:.6g}" if words == "lacks" else f"is 0, and {dense[i, j]:.6g} is given"
        message = f"its pattern {words} [{i}, {j}]{more}: that entry {is_what}. All other entries are right."
        return Diagnosis("matrix", "pattern", message)
    return None


def of_matrix(
    dense: np.ndarray, expected: np.ndarray, allowed: float, name: str, path: str | None = "matrix"
) -> Diagnosis | None:
    """What is wrong with a whole matrix, if that explains every entry of it.

    Args:
        dense: as it was given.
        expected: as it should be.
        allowed: by how much an entry may be off.
        name: "hessian", which is symmetric, or "jacobian".
        path: of the quantity, for the report.
    """
    square = expected.shape[0] == expected.shape[1]
    return _one_row(dense, expected, allowed, path) or (
        _of_square(dense, expected, allowed, name, path) if square else None
    )


def _one_row(dense: np.ndarray, expected: np.ndarray, allowed: float, path: str | None) -> Diagnosis | None:
    """Every row is the same one of those that should be there."""
    if len(expected) < 2 or np.ptp(expected, axis=0).max(initial=0.0) <= allowed:
        return None
    for i, row in enumerate(expected):
        if np.abs(row).max(initial=0.0) > allowed and (np.abs(dense - row) <= allowed).all():
            return Diagnosis(path, "one-row", f"each of its rows is that of output {i}.")
    return None


def _of_square(
    dense: np.ndarray, expected: np.ndarray, allowed: float, name: str, path: str | None
) -> Diagnosis | None:
    def is_it(other: np.ndarray) -> bool:
        return bool((np.abs(dense - other) <= allowed).all())

    diagonal = np.diag(np.diag(expected))
    rest = expected - diagonal
    if not (np.abs(rest) > allowed).any():
        return None
    for factor, word in ((2.0, "doubled"), (0.5, "halved")):
        if is_it(diagonal + factor * rest):
            words = f"its entries off the diagonal are {word}, and the diagonal is right."
            return Diagnosis(path, f"off-diagonal-{word}", words)
    for triangle, word in ((np.triu, "upper"), (np.tril, "lower")):
        if is_it(triangle(expected)) and not is_it(expected):
            return Diagnosis(path, "triangle", f"only its {word} triangle is filled, and that is right.")
    gap = np.abs(dense - dense.T)
    if name != "hessian" or gap.max() <= allowed:
        return None
    i, j = (int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
    numbers = f"[{i}, {j}] is {dense[i, j]:.6g}, and [{j}, {i}] {dense[j, i]:.6g}"
    return Diagnosis(path, "not-symmetric", f"it is not symmetric, as a Hessian is: {numbers}.")
