"""The evidence about one wrong quantity, and the criterion by which a prediction explains its error."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr

from compare.judge.diagnosis.edits import Effort, Traced
from compare.judge.diagnosis.predictions import (
    Term,
    accumulated,
    alternatives,
    decays_nearby,
    errors_nearby,
    overwriting,
    paths,
    terms,
    traced_gradient,
)
from compare.judge.evaluation.intermediates import tapped_values
from compare.judge.evaluation.point import Check, Point
from compare.judge.reports.verdict import Diagnosis
from compare.judge.roundoff.tolerance import DEVIATIONS
from compare.judge.roundoff.whole import ALONE, Departure
from compare.pytrees import LOSS, leaves_by_path

# The factor by which tolerances are enlarged for predictions, which have rounding errors of their own.
MARGIN = 4.0
# The largest size of a parameter whose own functions are tried as elementwise factors of its gradient.
MOST_OF_ITS_OWN = 100_000
# The largest share of an error that may remain if a prediction explains the error.
DECISIVE = 0.1
# The largest probability that one of all tried predictions fits by chance.
CHANCE = 1e-3


class LazyMapping(Mapping[Any, Any]):
    """A mapping that is computed when it is first used, because it may take a hundred evaluations of the gradient.

    Args:
        compute: computes the mapping.
        about: an estimate of its length, for use before it is computed.
    """

    def __init__(self, compute: Callable[[], Mapping[Any, Any]], about: int) -> None:
        self.compute, self.about = compute, about

    @functools.cached_property
    def computed(self) -> Mapping[Any, Any]:
        return self.compute()

    def __getitem__(self, key: Any) -> Any:
        return self.computed[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.computed)

    def __len__(self) -> int:
        return len(self.computed)


def _about(items: Any) -> int:
    return items.about if isinstance(items, LazyMapping) else len(items)


@dataclass(frozen=True)
class Evidence:
    """One wrong quantity, and what is known about it. Names are those of the reports.

    Attributes:
        path: the name of the quantity.
        actual: its hand-written value.
        expected: the reference value.
        tolerance: the rounding tolerance of each entry.
        sizes: dimensions of the arguments, by name (`x.shape[1]`).
        scalars: scalar arguments, by name.
        factors: arrays that may be elementwise factors of the quantity (`1 - A1**2`), by name.
        summands: arrays whose sum over some axes the quantity may be, by name.
        thresholds: the tapped values, by name, from which a mask may be computed.
        alternatives: the values that the quantity would have after an error upstream, by kind and message.
        parameter: the parameter whose gradient the quantity is; None for another quantity.
        dtype: the dtype under test.
        ids: integer arguments that may index rows, by name.
        paths: the part of the gradient that flows back through each tapped value, by name.
        known: tapped values, arguments and other gradients, by name, which may be used by mistake.
        overwriting: the values that the quantity would have if contributions to the same entry overwrote each other
            instead of being added, for "first" and "last" as the contribution that remains.
        terms: the terms of the sums in the backward pass, with their contributions to the quantity, by number.
        accumulated: the values that the quantity would have if its last sum were accumulated in 16 bits, and the number
            of terms of that sum.
        errors_nearby: computes the quantity's errors at points nearby.
        decays_nearby: computes there the multiple of the parameter that is closest to the error.
        traced: returns the program that computes the quantity, evaluated at the point.
        of_complex: whether the last axis contains real and imaginary parts.
        of_a_step: whether the quantity is the update that a training step adds to a parameter, and not a gradient.
        departure: the array as a whole or the line that exceeds its tolerance, even if each entry is within its own.
    """

    path: str
    actual: np.ndarray
    expected: np.ndarray
    tolerance: np.ndarray
    sizes: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    summands: dict[str, np.ndarray] = field(default_factory=dict)
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)
    alternatives: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    parameter: np.ndarray | None = None
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float64))
    ids: dict[str, np.ndarray] = field(default_factory=dict)
    paths: Mapping[str, np.ndarray] = field(default_factory=dict)
    known: dict[str, np.ndarray] = field(default_factory=dict)
    overwriting: Mapping[str, np.ndarray] = field(default_factory=dict)
    terms: Mapping[int, Term] = field(default_factory=dict)
    accumulated: tuple[np.ndarray, int] | None = None
    errors_nearby: Callable[[], np.ndarray | None] | None = None
    decays_nearby: Callable[[], np.ndarray | None] | None = None
    traced: Callable[[], Traced | None] | None = None
    of_complex: bool = False
    of_a_step: bool = False
    departure: Departure | None = None

    @property
    def itself(self) -> str:
        """The words for the quantity as the subject of a sentence."""
        return "its step" if self.of_a_step and self.parameter is not None else "it"

    @property
    def wrong(self) -> np.ndarray:
        return ~(np.abs(self.actual - self.expected) <= self.tolerance)

    @property
    def error(self) -> np.ndarray:
        return self.actual - self.expected

    @property
    def below_tolerance(self) -> bool:
        """Whether the expected values are below their tolerance, so that they may consist of rounding errors."""
        return bool((np.abs(self.expected) <= self.tolerance).all())

    @functools.cached_property
    def candidates(self) -> int:
        """An estimate of the number of predictions that are tried, each of which may fit by chance."""
        same = sum(f.shape == self.expected.shape for f in self.factors.values())
        arrays = len(self.known) * (same + 3)
        return (
            100
            + same**2
            + arrays
            + _about(self.alternatives)
            + _about(self.paths) ** 2
            + 10 * len(self.summands)
            + _about(self.terms) ** 2
        )

    def explains(
        self, prediction: np.ndarray, strength: float = 1.0, fitted: int = 0, log_tried: float | None = None
    ) -> bool:
        """Whether the actual values equal a prediction up to rounding errors, and this is unlikely to be by chance.

        Args:
            prediction: the values that the hypothesis predicts.
            strength: the factor by which the prediction is larger than the expected values, and so its rounding errors.
            fitted: the number of parameters of the hypothesis that were fitted to the actual values.
            log_tried: the logarithm of the number of similar predictions that are tried; by default, of `candidates`.
        """
        if prediction.shape != self.actual.shape or not np.isfinite(prediction).all():
            return False
        tolerance = MARGIN * max(1.0, strength) * self.tolerance + 1e-14 * np.abs(prediction)
        return self.decides(self.actual - prediction, tolerance, self.error, fitted, log_tried)

    def decides(
        self,
        residual: np.ndarray,
        tolerance: np.ndarray,
        error: np.ndarray,
        fitted: int = 0,
        log_tried: float | None = None,
    ) -> bool:
        """Whether an explanation leaves a residual within the tolerance, and this is unlikely to be by chance.

        A random prediction is within t of an entry whose error is e with a probability of about t / e. For n entries
        with errors in a random direction, the probability that a share q of the error remains is about q^n. Each fitted
        parameter explains one entry.

        Args:
            residual: the part of the error that remains.
            tolerance: the largest residual of each entry.
            error: the error to be explained.
            fitted: the number of fitted parameters.
            log_tried: the logarithm of the number of similar explanations that are tried; by default, of `candidates`.
        """
        residual, error = np.abs(residual), np.abs(error)
        largest = float(error.max(initial=0.0))
        if not (residual <= tolerance).all() or not 0 < largest < np.inf:
            return False
        error, residual = error / largest, residual / largest
        size, left = float(np.linalg.norm(error)), float(np.linalg.norm(residual))
        if not left <= DECISIVE * size:
            return False
        shares = np.minimum(tolerance / largest / np.maximum(error, 1e-300), 1.0)
        entries = np.sort(np.log(np.maximum(shares, 1e-300)), axis=None)[fitted:]
        spread = size**4 / float(np.sum(error**4))  # the effective number of wrong entries
        chance = min(float(entries.sum()), max(spread - fitted, 0.0) * np.log(max(left / size, 1e-16)))
        return chance + (np.log(self.candidates) if log_tried is None else log_tried) <= np.log(CHANCE)

    def is_rounding(self, errors: np.ndarray, allowed: np.ndarray) -> bool:
        """Whether the root mean square of errors is at most three times that of rounding errors.

        Args:
            errors: the errors.
            allowed: their rounding tolerances, DEVIATIONS standard deviations each.
        """
        shares = errors * DEVIATIONS / np.maximum(allowed, 1e-300)
        return not shares.size or bool(np.sqrt(np.mean(np.square(shares))) <= 3)

    def common_factor(self, part: np.ndarray | None = None) -> tuple[float, float] | None:
        """The factor c of actual = c expected, and its standard error, by weighted least squares.

        Args:
            part: a mask of the entries to use; None for all.

        Returns:
            The factor and its standard error, which is estimated from the scatter of the entries and is at least that
            of their rounding errors; None if it cannot be estimated.
        """
        chosen = self.expected != 0 if part is None else part & (self.expected != 0)
        unit = np.maximum(self.tolerance[chosen], 1e-300) / DEVIATIONS
        with np.errstate(over="ignore"):
            actual, expected = self.actual[chosen] / unit, self.expected[chosen] / unit
        largest = float(np.abs([actual, expected]).max(initial=0.0))
        if expected.size < 2 or not 0 < largest < np.inf:
            return None
        actual, expected = actual / largest, expected / largest
        telling = max(float(np.vdot(expected, expected)), 1e-300)
        c = float(np.vdot(expected, actual)) / telling
        scatter = float(np.linalg.norm(actual - c * expected)) / (expected.size - 1) ** 0.5
        return c, max(scatter, 1 / largest) / telling**0.5

    def departs(self, part: np.ndarray) -> bool:
        """Whether a part has a common factor that differs from 1 significantly, even if no single entry does."""
        found = self.common_factor(part)
        return found is not None and abs(found[0] - 1) > ALONE * found[1]

    def says(self, kind: str, message: str, factor: float | None = None) -> Diagnosis:
        return Diagnosis(self.path, kind, message, factor)


def in_words(items: list[int]) -> str:
    """A list of indices as text, shortened."""
    runs = all(b == a + 1 for a, b in pairwise(items)) and len(items) > 3
    if runs:
        return f"{items[0]} to {items[-1]}"
    return ", ".join(map(str, items[:8])) + (", ..." if len(items) > 8 else "")


def at_indices(items: list[int], axis: int) -> str:
    """A list of indices along an axis as text."""
    return f"at {'index' if len(items) == 1 else 'indices'} {in_words(items)} of axis {axis}"


def in_places(wrong: np.ndarray) -> str:
    """A description of where the wrong entries are."""
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        lines = np.flatnonzero(wrong.any(axis=others)) if others else np.flatnonzero(wrong)
        if 0 < len(lines) <= max(1, wrong.shape[axis] // 4):
            return at_indices(lines.tolist(), axis)
    return f"in {wrong.sum()} of {wrong.size} entries"


def gather(
    check: Check,
    point: Point,
    path: str,
    actual: Any,
    expected: Any,
    allowed: Any,
    departure: Departure | None = None,
    effort: Effort | None = None,
) -> Evidence:
    """Collects the evidence about one wrong quantity.

    Args:
        check: the check.
        point: both sides' values at the point.
        path: the name of the quantity.
        actual: its hand-written value.
        expected: its reference value.
        allowed: the rounding tolerance of each entry.
        departure: the whole or the line that exceeds its tolerance.
        effort: the limit on the evaluations of edited programs, which all quantities of a report share.
    """
    inputs = point.inputs
    sizes: dict[str, int] = {}
    scalars: dict[str, float] = {}
    ids: dict[str, np.ndarray] = {}
    known: dict[str, np.ndarray] = {}
    for name, argument in inputs.by_name.items():
        for leaf_path, leaf in _readable_leaves(argument).items():
            label = inputs.label(name, leaf_path)
            if leaf.ndim == 0 and leaf.dtype.kind in "fiu":
                scalars[label] = float(leaf)
            for axis, n in enumerate(leaf.shape):
                if n not in sizes.values():
                    sizes[f"shape[{axis}] of {label}" if " " in label else f"{label}.shape[{axis}]"] = n
            if leaf.dtype.kind in "iu" and leaf.ndim:
                ids[label] = leaf
            if leaf.dtype.kind == "f" and leaf.ndim and not (name == inputs.names[0] and leaf_path == path):
                known[label] = np.asarray(leaf, np.float64)
    marked = tapped_values(check.loss, inputs)
    values = {name: np.asarray(value) for name, value in marked.items() if not np.iscomplexobj(value)}
    parameters = inputs.leaves
    given = dict(known)
    # A loss with an elementwise function of the parameter has a gradient with a factor that is a function of it.
    own = {path: parameters[path]} if path in parameters and parameters[path].size <= MOST_OF_ITS_OWN else {}
    upstream = point.upstream(check.taps)
    gradients = {name: value for name, value in point.actual.items() if name != LOSS and name not in check.taps}
    known = values | {f"d{name}": value for name, value in (gradients | upstream).items() if name != path} | known
    of_complex = np.iscomplexobj(actual) or np.iscomplexobj(expected)
    if of_complex:
        actual, expected = (np.stack([np.real(value), np.imag(value)], -1) for value in (actual, expected))
        allowed = np.stack([allowed, allowed], -1)
    return Evidence(
        path,
        np.asarray(actual, np.float64),
        np.asarray(expected),
        np.asarray(allowed),
        sizes=sizes,
        scalars=scalars,
        factors=given | _factors(values | own),
        alternatives=LazyMapping(
            functools.partial(alternatives, check, point, path),
            sum(3 * value.ndim + len(upstream) for value in upstream.values()) + len(parameters),
        ),
        summands=upstream,
        thresholds=values,
        dtype=check.dtype,
        parameter=None if path not in parameters else np.asarray(parameters[path], np.float64),
        ids=ids,
        paths=LazyMapping(functools.partial(paths, check, point, path), len(check.taps)),
        known=known,
        overwriting=LazyMapping(functools.partial(overwriting, check, point, path), 3),
        terms=LazyMapping(lambda: dict(enumerate(terms(check, point, path))), 16),
        accumulated=accumulated(check, point, path),
        of_complex=of_complex,
        departure=departure,
        errors_nearby=functools.partial(errors_nearby, check, point, path),
        decays_nearby=functools.partial(decays_nearby, check, point, path),
        traced=functools.cache(functools.partial(traced_gradient, check, point, path, effort or Effort())),
    )


def _readable_leaves(argument: Any) -> dict[str, np.ndarray]:
    arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, np.ndarray | float | int) else None, argument)
    return leaves_by_path(arrays)


def _factors(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Possible elementwise factors of a gradient: each value, and derivatives of common functions at it, by name."""
    factors: dict[str, np.ndarray] = {}
    for name, value in values.items():
        v = np.asarray(value, np.float64)
        s = np.where(v >= 0, 1, np.exp(-np.abs(v))) / (1 + np.exp(-np.abs(v)))
        factors |= {
            f"1 - {name}**2": 1 - v**2,
            f"{name} (1 - {name})": v * (1 - v),
            f"1 - {name}": 1 - v,
            f"1 - |{name}|": 1 - np.abs(v),
            f"{name}": v,
            f"{name}**2": v**2,
            f"{name} > 0": (v > 0).astype(float),
            f"1 - tanh({name})**2": 1 - np.tanh(v) ** 2,
            f"1 + {name}**2": 1 + v**2,
            f"sigmoid({name}) (1 - sigmoid({name}))": s * (1 - s),
            f"sigmoid({name})": s,
            f"silu'({name})": s * (1 + v * (1 - s)),
        } | _gelu_slopes(name, v)
    return factors


def _gelu_slopes(name: str, v: np.ndarray) -> dict[str, np.ndarray]:
    """The derivatives of gelu(v) = v P(v), with the normal distribution function P, exact or by tanh, or mixed."""
    root = np.sqrt(2 / np.pi)
    bent = np.tanh(root * (v + 0.044715 * v**3))
    inner = root * (1 + 3 * 0.044715 * v**2)
    by_tanh = (bent + 1) / 2, (1 - bent**2) / 2 * inner
    exact = ndtr(v), np.exp(-(v**2) / 2) / np.sqrt(2 * np.pi)
    return {
        f"gelu'({name}) in its tanh form": by_tanh[0] + v * by_tanh[1],
        f"gelu'({name}) in its exact form": exact[0] + v * exact[1],
        f"gelu'({name}) of mixed forms, its distribution by tanh and its density exact,": by_tanh[0] + v * exact[1],
        f"gelu'({name}) of mixed forms, its distribution exact and its density by tanh,": exact[0] + v * by_tanh[1],
        f"gelu'({name}) of mixed forms, its distribution P exact and its density 2 P (1 - P) u' as by tanh,": (
            exact[0] + v * 2 * exact[0] * (1 - exact[0]) * inner
        ),
    }
