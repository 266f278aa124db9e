"""Paths and terms of a gradient that are missing or have a wrong factor, and other quantities in its place."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from compare.judge.diagnosis.evidence import MARGIN, Evidence
from compare.judge.diagnosis.hypotheses.constants import factor_in_words, name_factor
from compare.judge.diagnosis.predictions import UNNAMED, Term
from compare.judge.reports.verdict import Diagnosis


def missing_path(e: Evidence) -> Iterator[Diagnosis]:
    """No gradient flows back through one or two tapped values, as if they were constants."""
    parts = _telling_parts(e)
    for count in (1, 2):
        for names in combinations(parts, count):
            rest = e.expected - sum(parts[name] for name in names)
            if e.explains(rest):
                what = "it as a constant" if count == 1 else "them as constants"
                message = f"no gradient flows back through {' and '.join(names)}: the backward pass treats {what}."
                yield e.says("missing-path", message, 0.0)
                return


def weighted_path(e: Evidence) -> Iterator[Diagnosis]:
    """The gradient that flows back through one tapped value has a wrong factor."""
    if e.expected.size < 2:
        return  # a factor on any path explains a single number
    for name, part in _telling_parts(e).items():
        if (np.abs(part - e.expected) <= e.tolerance).all():
            continue  # the whole gradient takes this path: `constant_factor` reports a factor on it
        times = 1 + float(np.vdot(part, e.actual - e.expected) / np.vdot(part, part))
        times = round(times) if abs(times - round(times)) < 1e-9 else times
        if times != 1 and e.explains(e.expected + (times - 1) * part, abs(times), fitted=1):
            precision = float(np.clip(e.tolerance.max() / np.abs(part).max(), 1e-12, 1.0))
            amount, named = factor_in_words(times, precision), name_factor(times, e, precision)
            known = f" ({amount} = {named})" if named and named != amount else ""
            message = f"the gradient that flows back through {name} has the factor {amount}{known}, and should have 1."
            yield e.says("path", message, times)
            return


def missing_term(e: Evidence) -> Iterator[Diagnosis]:
    """One or two terms of a mean or a variance are missing in sums of the backward pass."""
    telling = [term for term in e.terms.values() if _is_telling(term.part, e)]
    for term in telling:
        if term.instead is not None and e.explains(e.expected - term.part):
            yield e.says("wrong-factor", f"the factor is {term.instead}.")
            return
    yield from _missing(e, [term for term in telling if term.instead is None and term.words != UNNAMED])


def missing_unnamed_term(e: Evidence) -> Iterator[Diagnosis]:
    """One or two terms of any kind are missing in sums of the backward pass."""
    yield from _missing(e, [t for t in e.terms.values() if _is_telling(t.part, e) and t.instead is None])


def _missing(e: Evidence, telling: list[Term]) -> Iterator[Diagnosis]:
    for count in (1, 2):
        for some in combinations(telling, count):
            if e.explains(e.expected - sum(term.part for term in some)):
                words = list(dict.fromkeys(term.words for term in some))
                if len(words) < count:
                    words = ["two of the terms" if words == [UNNAMED] else f"two terms, each {words[0]},"]
                rest = "is missing: it is" if count == 1 else "are missing: they are"
                constant = "a constant" if count == 1 else "constants"
                yield e.says(
                    "missing-term",
                    f"{' and '.join(words)} {rest} treated as {constant}.",
                    0.0,
                )
                return


def weighted_term_of_a_norm(e: Evidence) -> Iterator[Diagnosis]:
    """The term of a mean or a variance in the backward pass has a wrong factor."""
    yield from _weighted(e, [term for term in e.terms.values() if term.words != UNNAMED])


def weighted_term(e: Evidence) -> Iterator[Diagnosis]:
    """One term of a sum in the backward pass has a wrong factor."""
    yield from _weighted(e, list(e.terms.values()))


def _weighted(e: Evidence, terms: list[Term]) -> Iterator[Diagnosis]:
    if e.expected.size < 2:
        return  # a factor on any term explains a single number
    telling = [term for term in terms if _is_telling(term.part, e) and term.instead is None]
    for term in telling:
        if sum(np.allclose(term.part, other.part, rtol=1e-9, atol=0) for other in telling) > 1:
            continue  # equal terms, such as those of x * x, cannot be told apart
        times = 1 + float(np.vdot(term.part, e.error) / np.vdot(term.part, term.part))
        if e.explains(e.expected + (times - 1) * term.part, abs(times), fitted=1):
            precision = float(np.clip(e.tolerance.max() / np.abs(term.part).max(), 1e-12, 1.0))
            amount = factor_in_words(times, precision)
            message = f"{term.words} has the factor {amount} in a sum of the backward pass, and should have 1."
            yield e.says("term", message, times)
            return


def _telling_parts(e: Evidence) -> dict[str, np.ndarray]:
    """The gradients through tapped values, without those below the tolerance, of which any multiple would fit."""
    return {name: part for name, part in e.paths.items() if _is_telling(part, e)}


def _is_telling(part: np.ndarray, e: Evidence) -> bool:
    return bool(np.linalg.norm(part) > np.linalg.norm(e.tolerance))


def another_array(e: Evidence) -> Iterator[Diagnosis]:
    """It is a known array, unchanged."""
    if e.expected.size < 2:
        return
    if e.parameter is not None and e.parameter.any() and e.explains(e.parameter):
        yield e.says("other-quantity", "it is the value of the parameter itself, and should be its gradient.")
        return
    for name, value in _of_its_shape(e).items():
        if e.explains(value):
            yield e.says("other-quantity", f"it is {name} itself, unchanged.")
            return


def _of_its_shape(e: Evidence) -> dict[str, np.ndarray]:
    return {name: value for name, value in e.known.items() if value.shape == e.expected.shape and np.ptp(value) > 0}


def another_quantity(e: Evidence) -> Iterator[Diagnosis]:
    """It is a known array times a known factor, or a sum of a known array."""
    if e.expected.size < 2:
        return
    same = _of_its_shape(e)
    # A pair of an array and a factor is first compared at some entries, because there are many pairs.
    some = np.linspace(0, e.expected.size - 1, min(e.expected.size, 64)).astype(int)
    actual, slack = e.actual.ravel()[some], MARGIN * e.tolerance.ravel()[some] + 1e-14 * np.abs(e.actual.ravel()[some])
    factors = {name: f for name, f in e.factors.items() if f.shape == e.expected.shape and np.ptp(f) > 0}
    for name, value in same.items():
        for factor, f in factors.items():
            near = (np.abs(value.ravel()[some] * f.ravel()[some] - actual) <= 2 * slack).all()
            if near and factor != name and e.explains(value * f):
                yield e.says("other-quantity", f"it is the elementwise product of {name} and {factor}.")
                return
    for name, value in e.known.items():
        for axis in range(value.ndim):
            total = value.sum(axis)
            if total.size == e.expected.size and e.explains(total.reshape(e.expected.shape)):
                yield e.says("other-quantity", f"it is the sum of {name} over axis {axis}, which is another quantity.")
                return
