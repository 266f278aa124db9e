"""What a perturbed point may convict of: a finite value that no rounding explains, and nothing else.

Code that is right where its caller is, and overflows at a thousand times the parameters, is right and fragile. So is
a probability that is kept away from 0 by a clip. That is said, and blames nobody.
"""

from dataclasses import replace

import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.perturbed_points import scaled
from compare.judge.evaluation.point import Check, Point
from compare.judge.program.plan import is_narrow
from compare.judge.reports.verdict import Row, Verdict
from compare.pytrees import LOSS


def convicted(check: Check, here: Point, there: Point, name: str) -> tuple[Point, list[str]]:
    """The perturbed point, with only those rows wrong that it may convict of, and what it shows of the arithmetic."""
    far = f"at the perturbed point {name!r}"
    words = [f"{far}, {what}" for what in there.arithmetic.values()]
    if there.verdict is Verdict.AGREE:
        return there, words
    if not np.isfinite(there.expected[LOSS]).all():
        return _undecided(there, there.wrong, "the reference's loss is not finite there"), words
    if not np.isfinite(there.actual[LOSS]).all():
        value = float(there.actual[LOSS])
        words.append(f"{far}, the hand-written loss is {value:.3g}, where {float(there.expected[LOSS]):.6g} is right.")
        return _undecided(there, there.wrong, f"the hand-written loss is {value:.3g} there"), words
    if is_narrow(check.dtype):  # which of its results a kernel stores in 16 bits is no matter of the derivation
        explained = there.wrong - check.stored(there).wrong
        there = _undecided(there, explained, f"results on the way that are rounded to {check.dtype} explain it there")
    lost = {path for path in there.wrong if path in there.actual and not _is_finite(there, path)}
    words += [f"{far}, the hand-written gradient of {path} is not finite." for path in sorted(lost)]
    there = _undecided(there, lost, "what was returned is not finite there")
    if there.wrong and there.wrong <= {LOSS, *check.outputs} and not _near_too(check, here):
        words.append(
            f"{far}, the hand-written loss is {float(there.actual[LOSS]):.9g}, where "
            f"{float(there.expected[LOSS]):.9g} is right; the gradients agree there, and nearby the losses do: it "
            "is clipped, or loses digits."
        )
        there = _undecided(there, there.wrong, "the losses differ there, and not nearby")
    return there, words


def _is_finite(point: Point, path: str) -> bool:
    value = point.actual[path]
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def _undecided(point: Point, paths: set[str], message: str) -> Point:
    def row(row: Row) -> Row:
        return replace(row, verdict=Verdict.INCONCLUSIVE, message=message) if row.path in paths else row

    return replace(point, rows=[row(r) if r.verdict is Verdict.DISAGREE else r for r in point.rows])


def _near_too(check: Check, here: Point) -> bool:
    """Whether the losses differ near the caller's point as well: a formula that is wrong is wrong there, too."""
    random = np.random.default_rng(check.seed)
    try:
        with np.errstate(all="ignore"):
            near = check.at(*scaled(1.0)(here.parameters, here.args, random))
    except CodeUnderTestFailed:  # it may refuse what its caller never gave it
        return False
    return bool(near.wrong) and near.loss_is_finite
