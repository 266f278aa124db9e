"""Causes that concern some of the entries: zeros, masks, lost contributions, ties, clipping; and lost precision."""

from collections.abc import Iterator

import numpy as np

from compare.judge.diagnosis.evidence import CHANCE, MARGIN, Evidence, at_indices, in_places, in_words
from compare.judge.reports.verdict import Diagnosis
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import DEVIATIONS

# The largest correlation between rounding errors at points near each other.
COMMON = 0.6
# Magnitudes that differ by less than this share of the largest count as equal.
ONE_SIZE = 0.01


def zeros(e: Evidence) -> Iterator[Diagnosis]:
    """It is zero where it should not be: everywhere, below or above a threshold of a tapped value, or elsewhere."""
    wrong = e.wrong
    if not e.expected.any() and e.actual.any() and e.expected.size > 1:
        yield e.says("zeros", "the reference is zero everywhere: does it stop this gradient?")
        return
    if (e.actual[wrong] != 0).any():
        return
    if wrong.sum() == np.count_nonzero(e.expected):
        yield e.says("zeros", "it is zero everywhere: no gradient arrives.")
        return
    where = in_places(wrong)
    for name, values in sorted(e.thresholds.items(), key=lambda item: item[0] != e.path):  # the quantity's own first
        if values.shape != wrong.shape:
            continue
        for side, inside, outside in (
            ("below", values[wrong], values[~wrong]),
            ("above", -values[wrong], -values[~wrong]),
        ):
            nonzero = outside[(e.actual[~wrong] != 0)]
            if nonzero.size and inside.max() <= nonzero.min():
                edge = (inside.max() + nonzero.min()) / 2 * (1 if side == "below" else -1)
                yield e.says("zeros", f"it is zero where {name} is {side} about {edge:.3g}: a mask cuts it off.")
                return
    yield e.says("zeros", f"it is zero {where}, where it should not be.")


def lost_repeats(e: Evidence) -> Iterator[Diagnosis]:
    """Rows with several contributions are one of these contributions, or their mean, instead of their sum.

    The values are compared, because padding that is not masked makes the same rows wrong.
    """
    for words, value in e.overwriting.items():
        if e.explains(value):
            rows = np.flatnonzero(e.wrong.reshape(len(e.wrong), -1).any(axis=1)) if e.wrong.ndim else np.array([])
            where = f" (rows {in_words(rows.tolist())})" if 1 < len(rows) < len(e.wrong) else ""
            yield e.says(
                "lost-repeats",
                f"rows whose index is repeated hold only their {words} contribution{where}: contributions overwrite "
                "each other, and should be added, as np.add.at does.",
            )
            return
    for name, ids in e.ids.items():
        if not e.expected.ndim or ids.size == 0 or ids.min() < 0 or ids.max() >= len(e.expected):
            continue
        counts = np.bincount(ids.ravel(), minlength=len(e.expected)).astype(float)
        each = counts.reshape(-1, *[1] * (e.expected.ndim - 1))
        if counts.max() > 1 and e.explains(e.expected / np.maximum(each, 1)):
            yield e.says(
                "averaged-repeats",
                f"every row is divided by the number of times that its index occurs in {name}: contributions are "
                "averaged, and should be added.",
            )
            return


def masked(e: Evidence) -> Iterator[Diagnosis]:
    """Whole lines along an axis, such as those of padding, are not 0 and should be."""
    for axis in range(e.expected.ndim):
        others = tuple(i for i in range(e.expected.ndim) if i != axis)
        lines, wrong = (
            (~e.expected.any(axis=others), e.wrong.any(axis=others)) if others else (e.expected == 0, e.wrong)
        )
        if not (wrong.any() and (wrong <= lines).all() and lines.mean() <= 0.9 and e.wrong.sum() > 1):
            continue
        at = np.flatnonzero(wrong)
        times = ""
        for name, ids in e.ids.items():
            count = int(np.isin(ids, at).sum())
            if axis == 0 and count:
                times = f", whose index occurs {count} times in {name}"
                break
        yield e.says(
            "missing-mask",
            f"it should be 0 {at_indices(at.tolist(), axis)}{times}, and is not; the rest is right. Is padding not "
            "masked?",
        )
        return


def overwritten(e: Evidence) -> Iterator[Diagnosis]:
    """Every wrong entry equals one entry of a known array, of which it should be a sum."""
    wrong = e.wrong
    if wrong.sum() < 2:
        return  # a single number, such as 1, occurs in many arrays
    if (np.abs(e.expected[wrong]) <= e.tolerance[wrong]).any() or len(np.unique(e.actual[wrong])) < wrong.sum():
        return  # an expected 0 has no contributions, and equal values come from clipping
    for name, terms in e.known.items():
        if terms.size < 2:
            continue
        ordered = np.sort(terms, axis=None)
        after = np.searchsorted(ordered, e.actual[wrong]).clip(1, terms.size - 1)
        nearest = np.minimum(*(np.abs(ordered[i] - e.actual[wrong]) for i in (after - 1, after)))
        tolerance = MARGIN * e.tolerance[wrong]
        if (nearest <= tolerance).all() and _hardly_by_chance(e.actual[wrong], tolerance, ordered, len(e.known)):
            yield e.says(
                "lost-repeats",
                f"each of its {int(wrong.sum())} wrong entries is a single entry of {name}: contributions overwrite "
                "each other, and should be added.",
            )
            return


def _hardly_by_chance(numbers: np.ndarray, tolerance: np.ndarray, ordered: np.ndarray, arrays: int) -> bool:
    """Whether it is unlikely that all these numbers occur by chance, within their tolerances, in one of some arrays.

    The density of the array's values around a number is estimated from those within half of its magnitude. The chance
    of a match is that density times twice the tolerance. Among thousands of 16-bit values, a match is certain.
    """
    values, size = np.unique(ordered), np.maximum(np.abs(numbers), tolerance)
    around = np.searchsorted(values, numbers + size / 2) - np.searchsorted(values, numbers - size / 2)
    found = np.minimum(2 * tolerance / np.maximum(size, 1e-300) * np.maximum(around, 1), 1.0)
    return float(np.log(np.maximum(found, 1e-300)).sum() + np.log(arrays)) <= np.log(CHANCE)


def ties(e: Evidence) -> Iterator[Diagnosis]:
    """The gradient of equal values, such as two maxima, is distributed among them in another way than expected.

    Every wrong entry has the gradient of another entry of its group of equal values, or an equal share of the group's.
    """
    wrong = np.flatnonzero(e.wrong)
    candidates = ({} if e.parameter is None else {e.path: e.parameter}) | e.thresholds
    for name, values in candidates.items():
        if values.shape != e.expected.shape or len(wrong) < 1:
            continue
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        group = group.ravel()
        if (counts[group[wrong]] < 2).any():
            continue
        actual, expected = e.actual.ravel(), e.expected.ravel()
        prediction, ways = expected.copy(), 1
        for i in wrong:
            mates = np.flatnonzero(group == group[i])
            total = expected[mates].sum()
            shares = [total / n for n in range(2, len(mates) + 1)] if np.count_nonzero(expected[mates]) == 1 else []
            options = np.array([*expected[mates[mates != i]], *shares])
            prediction[i] = options[np.argmin(np.abs(options - actual[i]))]
            ways = max(ways, len(options))
        if e.explains(prediction.reshape(e.expected.shape), log_tried=np.log(100) + len(wrong) * np.log(ways)):
            message = f"entries at which {name} is tied get the gradient of another tied entry, or a share of it."
            yield e.says("ties", message)
            return


def clipping(e: Evidence) -> Iterator[Diagnosis]:
    """All wrong entries have the same magnitude, because they, or values upstream of them, are clipped."""
    wrong = e.wrong
    sizes = np.abs(e.actual[wrong])
    if (
        sizes.size
        and sizes.min() < 0.5 * sizes.max()
        and np.ptp(large := sizes[sizes > 0.5 * sizes.max()]) < 1e-5 * large[0]
    ):
        # A probability that is clipped away from both 0 and 1 leads to entries near 0 and near 1, of which only the
        # small ones show the limit.
        wrong = wrong & (np.abs(e.actual) < 0.5 * sizes.max())
        sizes = np.abs(e.actual[wrong])
    if not sizes.size or not sizes.all():
        return
    rounding = float(e.tolerance[wrong].min()) / DEVIATIONS  # an entry computed as 1 - p has the rounding error of p
    limit = float(sizes.max())
    equal = 1e-5 * limit + rounding
    if np.ptp(sizes) > equal or not (
        sizes.size < 3 or e.decides(sizes - sizes.mean(), np.full(sizes.shape, equal), e.error[wrong], fitted=1)
    ):
        return
    expected = np.abs(e.expected[wrong])
    if np.ptp(expected) < ONE_SIZE * expected.max():
        return  # the expected magnitudes are equal, too, as in Adam's first step: nothing is clipped
    cut = (expected > limit) & (np.sign(e.actual[wrong]) == np.sign(e.expected[wrong]))
    if sizes.size > 1 and cut.all() and (np.abs(e.actual) <= limit * (1 + 1e-9)).all():
        yield e.says("clipping", f"it is clipped to ±{limit:.6g}: larger entries are cut off.", limit)
        return
    if not (expected < limit).all():
        return
    # One or two entries show a clip only if their value is a power of ten such as 1e-7, or that over a dimension.
    round_number = next((v for n in (1, *e.sizes.values()) if _is_power_of_ten(v := limit * n)), None)
    if sizes.size > 2 or round_number is not None:
        known = f", {round_number:.0e} divided by a dimension" if round_number not in (None, limit) else ""
        yield e.says(
            "clipping",
            f"{sizes.size} of its entries are ±{limit:.3g}{known}, and should be smaller: an intermediate is clipped, "
            "such as a probability that is kept away from 0 and 1.",
            limit,
        )


def _is_power_of_ten(value: float) -> bool:
    return value < 0.01 and bool(np.isclose(np.log10(value), round(np.log10(value)), rtol=0, atol=1e-4))


def precision(e: Evidence) -> Iterator[Diagnosis]:
    """The errors are as large as the rounding errors of a narrower dtype, and vary like these at points nearby."""
    if e.dtype.kind in "biu":
        return
    for narrow in (np.float16, np.float32):
        eps = float(np.finfo(narrow).eps)
        if 2 * unit_roundoff(e.dtype) >= eps or not np.array_equal(e.actual, e.actual.astype(narrow)):
            continue
        # Only entries whose expected value is not a number of the narrow dtype show that the values were rounded.
        telling = e.wrong & (e.expected != e.expected.astype(narrow))
        if telling.any() and (np.abs(e.error) <= eps * np.abs(e.expected) + e.tolerance).all():
            name = np.dtype(narrow).name
            yield e.says("precision", f"its values are rounded to {name}, by a cast or a {name} buffer.")
            return
    if e.dtype != np.float64 or e.expected.size < 2 or e.errors_nearby is None:
        return
    unit = e.tolerance / DEVIATIONS * 2.0**29  # the standard deviation of float32's rounding
    sizes = np.abs(e.error) / np.maximum(unit, 1e-300)
    if not (sizes <= DEVIATIONS).all() or np.sqrt(np.mean(np.square(sizes))) < 1 / 32 or (~e.wrong).mean() > 0.5:
        return
    errors = e.errors_nearby()
    if errors is not None and independent(np.array([e.error, *errors]) / np.maximum(unit, 1e-300)):
        yield e.says(
            "precision", "its errors are as large as float32's rounding errors: an intermediate has lost precision."
        )


def independent(errors: np.ndarray) -> bool:
    """Whether errors at points near each other are as little correlated as rounding errors.

    The square of the sum of n errors is n times the square of one error if they are independent, and n^2 times if they
    are equal. Rounding errors are correlated to some degree: float32's polynomial for tanh is always too small near
    some arguments, and too large near others.
    """
    total, sizes = np.square(errors.sum(axis=0)).sum(), np.square(errors).sum()
    return bool(np.isfinite(sizes) and sizes > 0 and total / sizes < 1 + COMMON * (len(errors) - 1))


def few_entries(e: Evidence) -> Iterator[Diagnosis]:
    """One entry, or a few, are wrong, and the others are right."""
    wrong = e.wrong
    count = int(wrong.sum())
    if count == 0 or count > max(1, 0.05 * wrong.size) or wrong.size < 2:
        return
    if e.departs(~wrong):
        return  # the others have a common wrong factor, though each is within its tolerance
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"[{', '.join(map(str, index))}]"
    expected, actual = float(e.expected[index]), float(e.actual[index])
    if count == 1:
        times = f", {actual / expected:.12g} times what it should be" if expected else ""
        yield e.says("single-entry", f"one entry of {wrong.size} is wrong: {place} is {actual:.9g}{times}.")
    else:
        # Errors within the tolerance of each other entry may together be too large for rounding errors.
        if not e.is_rounding(e.error[~wrong], e.tolerance[~wrong]):
            return
        where = in_places(wrong)
        place = f", {where}" if where.startswith("at") else f", the first at {place}"
        yield e.says("single-entry", f"only {count} of {wrong.size} entries are wrong{place}.")
