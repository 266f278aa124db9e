"""Decides which differences at a perturbed point are errors: only finite values that no rounding errors explain.

Code that is correct at the caller's point and overflows at a thousand times its parameters is correct, but fragile. So
is code that clips a probability away from 0. Both are reported as notes and do not change the verdict.
"""

import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.perturbed_points import scaled_by
from compare.judge.evaluation.point import Check, Point
from compare.judge.evaluation.wider import keeps_most_digits
from compare.judge.program.plan import is_narrow
from compare.judge.reports.verdict import Verdict
from compare.pytrees import LOSS, all_finite


def convicted(check: Check, here: Point, there: Point, name: str, clips: bool = True) -> tuple[Point, list[str]]:
    """Keeps DISAGREE at a perturbed point only for errors, and changes it to INCONCLUSIVE for all other differences.

    Args:
        check: the functions.
        here: the caller's point.
        there: the perturbed point.
        name: the name of the perturbed point.
        clips: whether a loss that differs at the perturbed point but not near the caller's point is taken to be
            clipped, which is not an error.

    Returns:
        The perturbed point, and notes on the arithmetic there.
    """
    far = f"at the perturbed point {name!r}"
    words = [f"{far}, {what}" for what in there.arithmetic.values()]
    if there.verdict is Verdict.AGREE:
        return there, words
    if not np.isfinite(there.expected[LOSS]).all():
        return there.undecided(there.wrong, "the reference's loss is not finite there"), words
    if not np.isfinite(there.actual[LOSS]).all():
        value = float(there.actual[LOSS])
        words.append(
            f"{far}, the hand-written loss is {value:.3g}, where {float(there.expected[LOSS]):.6g} is expected."
        )
        return there.undecided(there.wrong, f"the hand-written loss is {value:.3g} there"), words
    if is_narrow(check.dtype):  # a kernel may store some of its intermediate results in 16 bits
        explained = there.wrong - check.stored(there).wrong
        there = there.undecided(explained, f"intermediate results rounded to {check.dtype} explain the difference")
    lost = {path for path in there.wrong if path in there.actual and not all_finite(there.actual[path])}
    words += [f"{far}, the hand-written gradient of {path} is not finite." for path in sorted(lost)]
    there = there.undecided(lost, "the returned values are not finite there")
    # In float64, an error this small is one of digits, also if buffers in float64 kept a wider run from showing it.
    undecided = [row for row in there.rows if np.dtype(check.dtype) == np.float64 or row.path not in there.wider]
    imprecise = {row.path for row in undecided if row.verdict is Verdict.DISAGREE and keeps_most_digits(row, there)}
    words += [f"{far}, the hand-written {path} loses digits." for path in sorted(imprecise)]
    there = there.undecided(imprecise, "the difference there may be a loss of digits")
    if clips and not there.wrong.isdisjoint({LOSS, *check.outputs}) and not _also_differ_nearby(check, here):
        words.append(
            f"{far}, the hand-written loss is {float(there.actual[LOSS]):.9g}, where "
            f"{float(there.expected[LOSS]):.9g} is expected. Near the caller's point both sides agree, so it is "
            "clipped or loses digits."
        )
        there = there.undecided(there.wrong, "the losses differ there, but not near the caller's point")
    return there, words


def _also_differ_nearby(check: Check, here: Point) -> bool:
    """Whether the two sides also differ near the caller's point, as with a wrong formula."""
    random = np.random.default_rng(check.seed)
    try:
        with np.errstate(all="ignore"):
            near = check.at(scaled_by(1.0, here.inputs, random))
    except CodeUnderTestFailed:  # it may reject values that its caller never passes
        return False
    return bool(near.wrong) and near.loss_is_finite
