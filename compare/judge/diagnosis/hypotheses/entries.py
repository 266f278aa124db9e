"""Faults of single entries, rows or regions, and of precision."""

from collections.abc import Iterator

import numpy as np

from compare.judge.diagnosis.evidence import SLACK, Evidence, in_words
from compare.judge.reports.verdict import Diagnosis
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import DEVIATIONS


def zeros(e: Evidence) -> Iterator[Diagnosis]:
    wrong = e.wrong
    if not e.right.any() and e.came.any() and e.right.size > 1:
        yield e.says("zeros", "the reference is zero everywhere: does the JAX side stop this gradient?")
        return
    if (e.came[wrong] != 0).any():
        return
    if wrong.sum() == np.count_nonzero(e.right):
        yield e.says("zeros", "it is zero everywhere: no gradient arrives.")
        return
    where = _pattern(wrong)
    for name, values in sorted(e.thresholds.items(), key=lambda item: item[0] != e.path):  # its own value first
        if values.shape != wrong.shape:
            continue
        for side, inside, outside in (
            ("below", values[wrong], values[~wrong]),
            ("above", -values[wrong], -values[~wrong]),
        ):
            nonzero = outside[(e.came[~wrong] != 0)]
            if nonzero.size and inside.max() <= nonzero.min():
                edge = (inside.max() + nonzero.min()) / 2 * (1 if side == "below" else -1)
                yield e.says("zeros", f"it is zero where {name} is {side} about {edge:.3g}: a mask cuts it off.")
                return
    yield e.says("zeros", f"it is zero {where}, where it should not be.")


def lost_repeats(e: Evidence) -> Iterator[Diagnosis]:
    rows = np.flatnonzero(e.wrong.reshape(len(e.wrong), -1).any(axis=1)) if e.right.ndim else np.array([])
    for name, ids in e.ids.items():
        values, counts = np.unique(ids, return_counts=True)
        repeated = set(values[counts > 1].tolist())
        if len(rows) and set(rows.tolist()) <= repeated:
            yield e.says(
                "lost-repeats",
                f"only rows that {name} names more than once are wrong ({in_words(rows.tolist())}): contributions "
                "overwrite each other instead of adding up; use np.add.at.",
            )
            return


def overwritten(e: Evidence) -> Iterator[Diagnosis]:
    """Every wrong entry is one of the numbers that should have been added up there."""
    wrong = e.wrong
    if wrong.sum() < 2:
        return  # one number, such as 1, is found in many an array
    if (np.abs(e.right[wrong]) <= e.allowed[wrong]).any() or len(np.unique(e.came[wrong])) < wrong.sum():
        return  # a sum over nothing is 0, and a limit that many entries share is a clip
    for name, terms in e.known.items():
        if terms.size < 2:
            continue
        ordered = np.sort(terms, axis=None)
        after = np.searchsorted(ordered, e.came[wrong]).clip(1, terms.size - 1)
        nearest = np.minimum(*(np.abs(ordered[i] - e.came[wrong]) for i in (after - 1, after)))
        if (nearest <= SLACK * e.allowed[wrong]).all():
            yield e.says(
                "lost-repeats",
                f"each of its {int(wrong.sum())} wrong entries is a single entry of {name}: contributions overwrite "
                "each other instead of adding up.",
            )
            return


def ties(e: Evidence) -> Iterator[Diagnosis]:
    """Only entries whose value occurs more than once are wrong, as where a maximum is attained twice."""
    candidates = ({} if e.parameter is None else {"its value": e.parameter}) | e.thresholds
    for name, values in candidates.items():
        if values.shape != e.right.shape:
            continue
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        tied = (counts > 1)[inverse].reshape(values.shape)
        if not tied.all() and (tied | ~e.wrong).all():
            yield e.says(
                "ties",
                f"only entries where {name} occurs more than once are wrong: more of them get a gradient than should.",
            )
            return


def clipping(e: Evidence) -> Iterator[Diagnosis]:
    wrong = e.wrong
    sizes = np.abs(e.came[wrong])
    if (
        sizes.size
        and sizes.min() < 0.5 * sizes.max()
        and np.ptp(large := sizes[sizes > 0.5 * sizes.max()]) < 1e-5 * large[0]
    ):
        # A probability clipped away from both 0 and 1 leaves entries near 0 and near 1: the small ones tell.
        wrong = wrong & (np.abs(e.came) < 0.5 * sizes.max())
        sizes = np.abs(e.came[wrong])
    if not sizes.size or not sizes.all():
        return
    rounding = float(e.allowed[wrong].min()) / DEVIATIONS  # where they are what is left of 1
    if np.ptp(sizes) > 1e-5 * sizes.max() + rounding:
        return
    limit = float(sizes.max())
    if sizes.size > 1 and (np.abs(e.right[wrong]) > limit).all() and (np.abs(e.came) <= limit * (1 + 1e-9)).all():
        yield e.says("clipping", f"it is clipped at ±{limit:.6g}: entries beyond that are cut off.", limit)
        return
    if not (np.abs(e.right[wrong]) < limit).all():
        return
    # A single entry tells a clip only if its value is a round number such as 1e-7, perhaps over a size.
    round_number = next((v for n in (1, *e.sizes.values()) if _is_power_of_ten(v := limit * n)), None)
    if sizes.size > 2 or round_number is not None:
        known = f", {round_number:.0e} over one of the sizes" if round_number not in (None, limit) else ""
        yield e.says(
            "clipping",
            f"{sizes.size} of its entries are ±{limit:.3g}{known}, and should be smaller: something on the way is kept "
            "from getting small, as by a clip of a probability away from 0 and 1.",
            limit,
        )


def _is_power_of_ten(value: float) -> bool:
    return value < 0.01 and bool(np.isclose(np.log10(value), round(np.log10(value)), rtol=0, atol=1e-4))


def precision(e: Evidence) -> Iterator[Diagnosis]:
    """Errors of the size that a narrower type makes, in most of the entries that it can touch."""
    if e.dtype.kind in "biu":
        return
    for narrow in (np.float16, np.float32):
        eps = float(np.finfo(narrow).eps)
        if 2 * unit_roundoff(e.dtype) >= eps or not np.array_equal(e.came, e.came.astype(narrow)):
            continue
        if (np.abs(e.came - e.right) <= eps * np.abs(e.right) + e.allowed).all():
            name = np.dtype(narrow).name
            yield e.says("precision", f"its values are {name} numbers stored as {e.dtype}: a cast or a {name} buffer.")
            return
    error = np.abs(e.came - e.right)
    single = e.dtype == np.float64 and e.right.size > 1
    if single and (error <= e.allowed * 2.0**29).all() and (error > 8 * e.allowed).mean() > 0.5:
        yield e.says("precision", "its errors are as large as float32 makes them: precision is lost on the way.")


def few_entries(e: Evidence) -> Iterator[Diagnosis]:
    wrong = e.wrong
    count = int(wrong.sum())
    if count == 0 or count > max(1, 0.05 * wrong.size) or wrong.size < 2:
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"[{', '.join(map(str, index))}]"
    right, came = float(e.right[index]), float(e.came[index])
    if count == 1:
        times = f", {came / right:.12g} times what it should be" if right else ""
        yield e.says("single-entry", f"one entry of {wrong.size} is wrong: {place} is {came:.9g}{times}.")
    else:
        yield e.says("single-entry", f"only {count} of {wrong.size} entries are wrong, {_pattern(wrong)}.")


def _pattern(wrong: np.ndarray) -> str:
    """Where the wrong entries are, in words."""
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        lines = np.flatnonzero(wrong.any(axis=others)) if others else np.flatnonzero(wrong)
        if 0 < len(lines) <= max(1, wrong.shape[axis] // 4):
            return f"at {in_words(lines.tolist())} of axis {axis}"
    return f"in {wrong.sum()} of {wrong.size} entries"
