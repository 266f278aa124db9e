"""Hypotheses that the hand-written values are those of the reference's program with one edit; see `edits.py`."""

from collections.abc import Iterator

import numpy as np
from scipy.special import gammaln

from compare.judge.diagnosis.edits import flipped, other_numbers, single_edits
from compare.judge.diagnosis.evidence import MARGIN, Evidence, in_places
from compare.judge.reports.verdict import Diagnosis

# An estimate of the largest number of edits that are tried, each of which may fit by chance.
MOST_EDITS = 5_000


def edited(e: Evidence) -> Iterator[Diagnosis]:
    """One edit of the program predicts every hand-written entry, at this point and at others."""
    traced = e.traced() if e.traced is not None else None
    if traced is None:
        return
    worst = np.unravel_index(np.argmax(np.abs(e.error)), e.error.shape)
    near = 2 * MARGIN * e.tolerance[worst] + 1e-12 * abs(e.actual[worst]) + 1e-3 * abs(e.error[worst])
    rounding = float(np.linalg.norm(e.tolerance))
    for edit in single_edits(traced):
        if traced.effort.left <= 0:
            return
        try:
            prediction = traced.predicts(edit)
        except (ValueError, TypeError, IndexError, NotImplementedError):  # the edited program cannot be evaluated
            continue
        if prediction.shape != e.actual.shape or not abs(prediction[worst] - e.actual[worst]) <= near:
            continue
        size = float(np.max(np.abs(prediction), initial=0) / max(np.max(np.abs(e.expected), initial=0), 1e-300))
        fits = e.explains(prediction, min(size, 1e3), log_tried=np.log(MOST_EDITS))
        if fits and traced.is_controlled(edit, prediction) and traced.holds_elsewhere(edit, rounding):
            masked = edit.kind == "missing-mask" and not e.expected[e.wrong].any() and not e.wrong.all()
            zero = f" It should be 0 {in_places(e.wrong)}, and is not." if masked else ""
            yield e.says(edit.kind, f"{edit.words}{edit.where}{edit.then}.{zero}")
            return


def other_mask(e: Evidence) -> Iterator[Diagnosis]:
    """A mask has the opposite value in the wrong entries, and only there."""
    traced = e.traced() if e.traced is not None else None
    if traced is None or not e.wrong.any():
        return
    count, of = int(e.wrong.sum()), e.wrong.size
    ways = gammaln(of + 1) - gammaln(count + 1) - gammaln(of - count + 1)
    for edit in flipped(traced, e.wrong):
        if e.explains(traced.predicts(edit), log_tried=ways + np.log(100)):
            words = edit.words.format(in_places(e.wrong))
            yield e.says(edit.kind, f"{words}{edit.where}.")
            return


def other_number(e: Evidence) -> Iterator[Diagnosis]:
    """The program multiplies or divides by another constant, which is fitted to all entries."""
    traced = e.traced() if e.traced is not None and e.expected.size > 1 else None
    if traced is None:
        return
    rounding = float(np.linalg.norm(e.tolerance))
    for _, without, times in other_numbers(traced):
        part = e.expected - traced.predicts(without)
        if not np.isfinite(part).all() or not np.linalg.norm(part) > np.linalg.norm(e.tolerance):
            continue
        share = 1 + float(np.vdot(part, e.error) / np.vdot(part, part))
        edit = times(share)
        prediction = traced.predicts(edit)
        if e.explains(prediction, max(1.0, abs(share)), fitted=1) and traced.holds_elsewhere(edit, rounding):
            yield e.says(edit.kind, f"{edit.words}{edit.where}.", share)
            return
