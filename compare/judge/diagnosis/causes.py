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


def shape_or_dtype(path: str, came: np.ndarray, right: np.ndarray) -> Diagnosis | None:
    """A diagnosis of a wrong shape or dtype, for which no value is compared; None if both are right.

    Args:
        path: the name of the quantity.
        came: the hand-written array.
        right: an array of the expected shape and dtype.
    """
    if came.shape != right.shape:
        kept = tuple(n for n in came.shape if n != 1) == tuple(n for n in right.shape if n != 1)
        hint = ""
        if came.ndim > right.ndim and kept:
            hint = f" An axis of length 1 is superfluous: drop it (sum without keepdims=True) to get {right.shape}."
        elif came.ndim < right.ndim and kept:
            hint = f" An axis of length 1 is missing: keep the summed axis (keepdims=True) to get {right.shape}."
        elif came.shape == right.shape[::-1]:
            hint = " That is the shape of the transpose."
        elif came.size == right.size:
            hint = f" The size is right: reshape it to {right.shape}."
        return Diagnosis(path, "shape", f"the shape is {came.shape} and should be {right.shape}.{hint}")
    if came.dtype != right.dtype:
        what = f"the dtype is {came.dtype} and should be {right.dtype}, the parameter's"
        return Diagnosis(path, "dtype", f"{what}: a constant or a buffer of another dtype converted it.")
    return None
