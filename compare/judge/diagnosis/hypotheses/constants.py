"""Constant factors and signs, and what a factor consists of."""

from collections.abc import Iterator

import numpy as np

from compare.judge.diagnosis.evidence import MARGIN, Evidence, at_indices
from compare.judge.reports.verdict import Diagnosis
from compare.judge.roundoff.whole import ALONE, SHORTEST

# The largest probability that some dimension equals a factor by chance, for a dimension to be named as its reason.
COINCIDENCE = 0.01
# Factors are assumed to be spread uniformly over this many powers of e.
RANGE = 10.0


def conjugated(e: Evidence) -> Iterator[Diagnosis]:
    """All imaginary parts have the wrong sign."""
    if e.of_complex and e.explains(e.expected * np.array([1.0, -1.0]), log_tried=1.0):
        yield e.says(
            "conjugated",
            "it is the complex conjugate of the expected value: PyTorch conjugates the output gradient, and JAX does "
            "not.",
        )


def constant_factor(e: Evidence) -> Iterator[Diagnosis]:
    """actual = c expected for one number c, which is not 0: see `zeros` for that."""
    weight = np.where(e.expected != 0, 1 / np.maximum(e.tolerance, 1e-300), 0)  # as in weighted least squares
    weight = weight / weight.max(initial=1e-300)
    bottom = float(np.sum((weight * e.expected) ** 2))
    c = float(np.sum(weight**2 * e.actual * e.expected)) / bottom if bottom > 0 else 0.0
    if c == 0:
        return
    precision = precision_of_factor(e)
    if abs(c + 1) <= max(1e-6, precision) and e.explains(-e.expected, log_tried=1.0):
        exactly = "exactly " if precision < 1e-4 else ""
        yield e.says("sign", f"the sign is wrong: {e.itself} is {exactly}minus what it should be.", -1.0)
        return
    named = name_factor(c, e, precision)
    if np.count_nonzero(e.expected) == 1:
        # One number is always a multiple of another, so that only a factor with a known meaning is a cause.
        if named is None or not e.explains(c * e.expected, abs(c), log_tried=np.log(100)):
            return
    elif not e.explains(c * e.expected, abs(c), fitted=1):
        return
    amount = factor_in_words(c, precision)
    known = f" ({amount} = {named})" if named and named != amount else ""
    yield e.says("factor", f"{e.itself} is {amount} times what it should be{known}.", c)


def common_factor(e: Evidence) -> Iterator[Diagnosis]:
    """actual = c expected, where c is so close to 1 that only all entries together show it.

    The rounding errors of the entries may be as large as the error that the factor explains. So every line along every
    axis must have the factor, too.
    """
    found = e.common_factor() if e.expected.size >= SHORTEST else None
    if found is None:
        return
    c, error = found
    left = e.actual - c * e.expected
    if not abs(c - 1) > ALONE * error or not (np.abs(left) <= MARGIN * max(1.0, abs(c)) * e.tolerance).all():
        return
    if not e.is_rounding(left, max(1.0, abs(c)) * e.tolerance) or not _lines_are_alike(e, c):
        return
    precision = max(2 * error, 1e-12)
    amount, named = factor_in_words(c, precision), name_factor(c, e, precision)
    known = f" ({amount} = {named})" if named and named != amount else ""
    unseen = "" if e.wrong.any() else ", though no single entry exceeds its tolerance"
    yield e.says("factor", f"as a whole {e.itself} is {amount} times what it should be{known}{unseen}.", c)


def _lines_are_alike(e: Evidence, c: float) -> bool:
    """Whether each line along each axis has the factor `c`, to within the standard error of its own factor."""
    for axis, n in enumerate(e.expected.shape):
        places = np.indices(e.expected.shape, sparse=True)[axis]
        for line in range(n):
            found = e.common_factor(np.broadcast_to(places == line, e.expected.shape))
            if found is not None and abs(found[0] - c) > max(ALONE * found[1], abs(c - 1) / 3):
                return False
    return True


def factor_of_a_part(e: Evidence) -> Iterator[Diagnosis]:
    """One line along an axis has a factor, though each of its entries is within its tolerance; the rest is right."""
    if e.departure is None or e.departure.axis is None or e.wrong.any() or not np.isfinite(e.departure.factor):
        return
    axis, line, c = e.departure.axis, e.departure.line, e.departure.factor
    part = np.indices(e.expected.shape)[axis] == line
    left, error = e.actual[part] - c * e.expected[part], e.error[part]
    if not e.is_rounding(left, e.tolerance[part]) or not e.is_rounding(e.error[~part], e.tolerance[~part]):
        return
    if e.departs(~part):
        return
    if np.linalg.norm(left) > 0.5 * np.linalg.norm(error):
        return
    amount = factor_in_words(c, max(abs(c - 1) / 10, 1e-9))
    unseen = "though no single entry exceeds its tolerance"
    words = f"{at_indices([line], axis)} it is {amount} times what it should be, {unseen}."
    yield e.says("line-factors", words, c)


def precision_of_factor(e: Evidence) -> float:
    """The relative uncertainty of a common factor of all entries, between 1e-12 and 1.

    It decreases with the square root of the number of entries that determine the factor, but not below 1/64 of their
    relative tolerance, because the rounding errors of entries are not independent.
    """
    accuracy = np.abs(e.expected) / np.maximum(e.tolerance, 1e-300)
    most = max(float(accuracy.max(initial=0)), 1e-300)
    count = max(float(np.sum((accuracy / most) ** 2)), 1.0)  # the number of entries that determine the factor
    share = float(accuracy.sum()) / most / count / most
    return float(np.clip(share * max(1 / 64, 1 / (4 * count**0.5)), 1e-12, 1.0))


def factor_in_words(c: float, precision: float = 1e-10) -> str:
    """A factor as text, with the digits that are known, and at least those that distinguish it from 1.

    Args:
        c: the factor.
        precision: its relative uncertainty.
    """
    apart = abs(c - 1)
    if 0 < apart <= 1e-6:
        return f"1 {'+' if c > 1 else '-'} {apart:.3g}"
    known = int(np.clip(np.floor(-np.log10(precision)), 2, 10))
    needed = int(np.clip(1 - np.floor(np.log10(max(apart, 1e-9))), 2, 10))
    return f"{c:.{max(known, needed)}g}"


def name_factor(c: float, e: Evidence, precision: float) -> str | None:
    """An expression for a factor: a common number, a dimension or its reciprocal, a scalar argument, n / (n - 1).

    Args:
        c: the factor.
        e: the dimensions and the scalar arguments.
        precision: the relative uncertainty of the factor.

    Returns:
        The expression; None if there is none, or if one would be as close by chance because the factor is not known
        well or the candidates are many. Composed expressions such as n / (n - 1) are not tried for a number of three
        digits or fewer, such as 1.5, which is an explanation itself.
    """
    near = float(np.clip(precision, 1e-12, 1.0))

    def first(candidates: dict[str, float]) -> str | None:
        for name, value in candidates.items():
            for sign, prefix in ((1, ""), (-1, "-")):
                if np.isclose(c, sign * value, rtol=min(near, 1e-3), atol=0):
                    return prefix + name
        return None

    common = {"2": 2, "1 / 2": 0.5, "1 / 3": 1 / 3, "3": 3, "4": 4, "1 / 4": 0.25, "1 / log 2": 1 / np.log(2)}
    sizes = {name: n for name, n in sorted(e.sizes.items(), key=lambda item: len(item[0])) if n > 4}
    whole = {name: float(n) for name, n in sizes.items()} | {f"1 / {name}": 1 / n for name, n in sizes.items()}
    arguments: dict[str, float] = {}
    for name, value in e.scalars.items():
        if value not in (0, 1):
            arguments |= {f"the argument {name}": value, f"1 / the argument {name}": 1 / value}
    for candidates in (common, whole, arguments):
        name = first(candidates)
        if name is not None and (candidates is common or _is_telling(len(candidates), near)):
            return name
    made: dict[str, float] = {}
    for name, n in sizes.items():
        made |= {
            f"n / (n - 1) for n = {name}": n / (n - 1),
            f"(n - 1) / n for n = {name}": (n - 1) / n,
            f"the square root of {name}": n**0.5,
            f"1 / the square root of {name}": n**-0.5,
            f"1 / {name} squared": n**-2.0,
        }
    # Many expressions n / (n - 1) are close to 1.
    known_well = _is_telling(len(made), near) and near <= COINCIDENCE * abs(abs(c) - 1)
    if known_well and not np.isclose(c, float(f"{c:.3g}"), rtol=near, atol=0):
        return first(made)
    return None


def _is_telling(candidates: int, near: float) -> bool:
    """Whether it is unlikely that one of `candidates` numbers is within the relative distance `near` by chance."""
    return 2 * near * candidates / RANGE <= COINCIDENCE


def name_constant(c: float, slack: float, e: Evidence) -> str | None:
    """An expression for an added constant, by the dimensions; None if there is none, or if rounding allows several.

    Args:
        c: the constant, positive.
        slack: its absolute uncertainty.
        e: the dimensions.
    """
    if slack > 1e-6 * c:
        return None
    constants = {"log(2 pi) / 2": np.log(2 * np.pi) / 2, "log 2": np.log(2), "1": 1.0, "1 / 2": 0.5}
    candidates = dict(constants)
    for size, n in sorted(e.sizes.items(), key=lambda item: len(item[0])):
        if n > 1:
            candidates |= {f"{name} times {size}": value * n for name, value in constants.items()} | {
                f"log({size})": np.log(n)
            }
    return next((name for name, value in candidates.items() if abs(c - value) <= slack), None)
