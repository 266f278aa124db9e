"""What is known about one wrong quantity, and when an explanation of its error counts as its cause."""

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

MARGIN = 4.0  # tolerances; a prediction may differ by more than the reference, because it is computed once more
# Functions of a larger parameter are not tried as factors of its gradient.
MOST_OF_ITS_OWN = 100_000
# A prediction explains an error only if it leaves at most this share of it,
DECISIVE = 0.1
# and if one as good would be found by chance, among all that are tried, at most this often.
CHANCE = 1e-3


class WhenAsked(Mapping[Any, Any]):
    """A mapping that is computed when it is first used, because it may take a hundred evaluations of the gradient.

    Args:
        make: computes it.
        about: an estimate of its length.
    """

    def __init__(self, make: Callable[[], Mapping[Any, Any]], about: int) -> None:
        self.make, self.about = make, about

    @functools.cached_property
    def made(self) -> Mapping[Any, Any]:
        return self.make()

    def __getitem__(self, key: Any) -> Any:
        return self.made[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)


def _about(items: Any) -> int:
    return items.about if isinstance(items, WhenAsked) else len(items)


@dataclass(frozen=True)
class Evidence:
    """One wrong quantity, and what is known about it.

    Attributes:
        path: its name.
        actual: its hand-written value.
        expected: the reference value.
        tolerance: the rounding tolerance of each entry.
        sizes: dimensions, by name (`x.shape[1]`).
        scalars: other numbers, by name.
        factors: arrays that may be elementwise factors of it (`1 - A1**2`), by name.
        summands: arrays whose sum over some axes it may be, by name.
        thresholds: the marked values, by name, of which a mask may be made.
        alternatives: what it would be after another error upstream, by kind and message.
        parameter: the parameter whose gradient it is, if it is one.
        dtype: the dtype under test.
        ids: integer arguments that may index rows, by name.
        paths: the part of it that passes through each marked value, by name.
        known: values, arguments and other gradients, by name, which may have been used in its place.
        overwriting: what it would be if contributions overwrote each other, by the contribution that is kept.
        terms: the terms of the sums in the backward pass, with their parts of it.
        accumulated: what it would be if its last sum were formed in 16 bits, and the number of terms of that sum.
        errors_nearby: computes its errors at points nearby.
        decays_nearby: computes there what multiple of the parameter comes closest to the error.
        traced: traces the program that computes it.
        of_complex: whether the last axis has real and imaginary parts.
        of_a_step: whether it is what a training step adds to a parameter, and no gradient.
        departure: the whole or the line whose error exceeds its tolerance, though every entry may be within its own.
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
        """About the number of predictions that are tried, each of which may fit by chance."""
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
        """Whether the actual values are `prediction` to within rounding, and are so by chance with low probability.

        Args:
            prediction: the values that the hypothesis predicts.
            strength: the factor by which it enlarges the expected values, and so their rounding errors.
            fitted: how many numbers in it were fitted.
            log_tried: the logarithm of the number of predictions like it; by default, of all candidates.
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
        """Whether an explanation that leaves `residual` of `error` is within `tolerance`, far better than none, and
        unlikely by chance.

        An entry with the error e is within t of a random prediction with a probability of about t / e. For n entries
        with errors in a random direction, the probability that a share q of the error is left is about q^n. Each
        fitted number explains one entry.
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
        spread = size**4 / float(np.sum(error**4))  # how many entries the error is spread over
        chance = min(float(entries.sum()), max(spread - fitted, 0.0) * np.log(max(left / size, 1e-16)))
        return chance + (np.log(self.candidates) if log_tried is None else log_tried) <= np.log(CHANCE)

    def is_rounding(self, errors: np.ndarray, allowed: np.ndarray) -> bool:
        """Whether the root mean square of errors is not much larger than the expected rounding error."""
        shares = errors * DEVIATIONS / np.maximum(allowed, 1e-300)
        return not shares.size or bool(np.sqrt(np.mean(np.square(shares))) <= 3)

    def common_factor(self, part: np.ndarray | None = None) -> tuple[float, float] | None:
        """The factor between expected and actual values of a part, and its standard error, by weighted least squares.

        The standard error is that of the scatter of the entries, and at least that of rounding. None if it cannot be
        estimated.
        """
        chosen = self.expected != 0 if part is None else part & (self.expected != 0)
        unit = np.maximum(self.tolerance[chosen], 1e-300) / DEVIATIONS
        with np.errstate(over="ignore"):
            came, right = self.actual[chosen] / unit, self.expected[chosen] / unit
        largest = float(np.abs([came, right]).max(initial=0.0))
        if right.size < 2 or not 0 < largest < np.inf:
            return None
        came, right = came / largest, right / largest
        telling = max(float(np.vdot(right, right)), 1e-300)
        c = float(np.vdot(right, came)) / telling
        scatter = float(np.linalg.norm(came - c * right)) / (right.size - 1) ** 0.5
        return c, max(scatter, 1 / largest) / telling**0.5

    def departs(self, part: np.ndarray) -> bool:
        """Whether a part has a common factor that rounding does not explain, though it may explain each entry."""
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


def in_places(wrong: np.ndarray) -> str:
    """A description of where the wrong entries are."""
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        lines = np.flatnonzero(wrong.any(axis=others)) if others else np.flatnonzero(wrong)
        if 0 < len(lines) <= max(1, wrong.shape[axis] // 4):
            return f"at {in_words(lines.tolist())} of axis {axis}"
    return f"in {wrong.sum()} of {wrong.size} entries"


def gather(
    check: Check,
    point: Point,
    path: str,
    came: Any,
    right: Any,
    allowed: Any,
    departure: Departure | None = None,
    effort: Effort | None = None,
) -> Evidence:
    """What is known about one wrong quantity. `effort` is shared by all quantities that are explained together."""
    arguments = dict(zip(check.names, (point.parameters, *point.args), strict=True))
    sizes: dict[str, int] = {}
    scalars: dict[str, float] = {}
    ids: dict[str, np.ndarray] = {}
    known: dict[str, np.ndarray] = {}
    for name, argument in arguments.items():
        for leaf_path, leaf in _readable_leaves(argument).items():
            label = check.label(name, leaf_path)
            if leaf.ndim == 0 and leaf.dtype.kind in "fiu":
                scalars[label] = float(leaf)
            for axis, n in enumerate(leaf.shape):
                if n not in sizes.values():
                    sizes[f"shape[{axis}] of {label}" if " " in label else f"{label}.shape[{axis}]"] = n
            if leaf.dtype.kind in "iu" and leaf.ndim:
                ids[label] = leaf
            if leaf.dtype.kind == "f" and leaf.ndim and not (name == check.names[0] and leaf_path == path):
                known[label] = np.asarray(leaf, np.float64)
    marked = tapped_values(check.loss, point.parameters, *point.args)
    values = {name: np.asarray(value) for name, value in marked.items() if not np.iscomplexobj(value)}
    parameters = leaves_by_path(point.parameters)
    # The gradient of an elementwise function of the parameter has a factor that is a function of it.
    own = {path: parameters[path]} if path in parameters and parameters[path].size <= MOST_OF_ITS_OWN else {}
    upstream = point.upstream(check.taps)
    gradients = {name: value for name, value in point.actual.items() if name != LOSS and name not in check.taps}
    known = values | {f"d{name}": value for name, value in (gradients | upstream).items() if name != path} | known
    of_complex = np.iscomplexobj(came) or np.iscomplexobj(right)
    if of_complex:
        came, right = (np.stack([np.real(value), np.imag(value)], -1) for value in (came, right))
        allowed = np.stack([allowed, allowed], -1)
    return Evidence(
        path,
        np.asarray(came, np.float64),
        np.asarray(right),
        np.asarray(allowed),
        sizes=sizes,
        scalars=scalars,
        factors=_factors(values | own),
        alternatives=WhenAsked(
            functools.partial(alternatives, check, point, path),
            sum(3 * value.ndim + len(upstream) for value in upstream.values()) + len(parameters),
        ),
        summands=upstream,
        thresholds=values,
        dtype=check.dtype,
        parameter=None if path not in parameters else np.asarray(parameters[path], np.float64),
        ids=ids,
        paths=WhenAsked(functools.partial(paths, check, point, path), len(check.taps)),
        known=known,
        overwriting=WhenAsked(functools.partial(overwriting, check, point, path), 3),
        terms=WhenAsked(lambda: dict(enumerate(terms(check, point, path))), 16),
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
    """Possible elementwise factors of a derivative: each marked value, and derivatives that are written with it."""
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
    """The derivatives of v P(v), P being the normal distribution or its form by tanh; and of both, mixed."""
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
