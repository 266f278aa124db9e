"""Why a gradient is wrong: the first hypothesis that explains the error up to rounding errors."""

import numpy as np

from compare.judge.diagnosis.evidence import Evidence
from compare.judge.diagnosis.hypotheses import HYPOTHESES, OF_COMPLEX, OF_RIGHT_VALUES, OF_WRONG_ENTRIES
from compare.judge.reports.verdict import Diagnosis


def diagnose(evidence: Evidence) -> list[Diagnosis]:
    """Tries the hypotheses in order, the simplest first.

    Args:
        evidence: the wrong quantity, and what is known about it.

    Returns:
        A list of the first diagnosis that explains the error, or an empty list.
    """
    for hypothesis in HYPOTHESES:
        if evidence.below_tolerance and hypothesis in OF_RIGHT_VALUES:
            continue
        if hypothesis in OF_WRONG_ENTRIES and not evidence.wrong.any():
            continue
        if evidence.of_complex and hypothesis not in OF_COMPLEX:
            continue
        found = list(hypothesis(evidence))
        if found:
            return found[:1]
    return []


def shape_or_dtype(path: str, actual: np.ndarray, expected: np.ndarray) -> Diagnosis | None:
    """A diagnosis of a wrong shape or dtype, for which no value is compared; None if both are right.

    Args:
        path: the name of the quantity.
        actual: the hand-written array.
        expected: an array of the expected shape and dtype.
    """
    if actual.shape != expected.shape:
        kept = tuple(n for n in actual.shape if n != 1) == tuple(n for n in expected.shape if n != 1)
        hint = ""
        if actual.ndim > expected.ndim and kept:
            hint = f" An axis of length 1 is superfluous: drop it (sum without keepdims=True) to get {expected.shape}."
        elif actual.ndim < expected.ndim and kept:
            hint = f" An axis of length 1 is missing: keep the summed axis (keepdims=True) to get {expected.shape}."
        elif actual.shape == expected.shape[::-1]:
            hint = " That is the shape of the transpose."
        elif actual.size == expected.size:
            hint = f" The size is right: reshape it to {expected.shape}."
        return Diagnosis(path, "shape", f"the shape is {actual.shape} and should be {expected.shape}.{hint}")
    if actual.dtype != expected.dtype:
        what = f"the dtype is {actual.dtype} and should be {expected.dtype}, the parameter's"
        return Diagnosis(path, "dtype", f"{what}: a constant or a buffer of another dtype converted it.")
    return None
