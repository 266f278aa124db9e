"""How far apart two correct computations may be: measured at the point in question, not guessed.

JAX traces the computation into a list of elementary operations. It is then run again several times with
each operation's result moved at random by what its rounding may be (Monte Carlo arithmetic: Parker,
"Monte Carlo Arithmetic", 1997). How far the final results scatter is how much rounding matters here, in
this dtype, for every single entry: cancellation, saturation and long sums are all seen as they are.

Two refinements make it fair to a correct program that computes the same thing in another way.

- A sum of n products errs in proportion to what is summed, not to what is left of it. Its noise is
  u (|a| |b| + sqrt(n) |a.b|), Euclidean norms over the summed axes, which is the standard deviation for
  terms of either sign and for terms of one sign.
- JAX may know a derivative to full relative accuracy where a textbook formula cancels: at saturation
  `A2 - y` and `1 - A1**2` round to 0 where JAX keeps 1e-18. What rounding may do there is set by the size
  of that derivative away from saturation. So the derivative of each smooth elementwise function moves by u
  times its largest value on the way from its argument to zero.

u is the unit roundoff of the dtype under test. The noisy runs themselves are done in float64.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.decisions import Decisions
from compare.judge.program.plan import Rule
from compare.judge.program.trace import Program, Taps
from compare.judge.roundoff.perturbation import Noise, RoundingNoise, unit_roundoff, working_dtype
from compare.judge.roundoff.whole import ACROSS, ALONE, Part, axes_of, component, summed
from compare.pytrees import LOSS, Leaves, Pytree, leaves_by_path

SAMPLES = 1
CONFIRMED = (4, 16)  # before anything is blamed: first with a few more, which clears most
# Allowed: this many standard deviations. A leaf may have a million entries, one sample estimates a deviation only
# roughly (a disagreement is looked at again with more), and another program may round where JAX does not.
DEVIATIONS = 16.0
# Entries of a leaf share a part of their noise estimate, so that none is judged by a lucky draw.
SHARED = 1 / 4


def measure(
    program: Program, *args: Pytree, dtype: Any, samples: int = SAMPLES, seed: int = 0
) -> tuple[Pytree, Pytree]:
    """Evaluate a program in float64, and measure what rounding in `dtype` may do to every entry of its result.

    Returns (result, tolerance), two trees of NumPy arrays of the same structure. An entry's tolerance is DEVIATIONS
    standard deviations of the noisy runs, of which a part (SHARED) is common to its leaf, plus two units in the last
    place of the result, because both sides store theirs rounded, plus the smallest normal number.
    """
    program = program.at(*args)
    size = program.plan.largest_value()
    decisions = Decisions()
    values, structure = jax.tree.flatten(program(*args, rule=decisions.recording()))
    scatters = [Scatter(value, whole=False) for value in values]
    for sample in range(samples):
        rule = RoundingNoise(noise(size, sample, seed, dtype), decisions.repeated())
        moved = jax.tree.leaves(program(*args, rule=rule))
        # Taken out one by one: of a huge model, not everything fits into memory at once.
        for scatter in scatters:
            scatter.add(moved.pop(0))
    tolerances = []
    while scatters:
        tolerances.append(scatters.pop(0).tolerance(dtype))
    return jax.tree.unflatten(structure, values), jax.tree.unflatten(structure, tolerances)


@dataclass(frozen=True)
class Measured:
    """Of each quantity, by name: its value in float64, what rounding may do to its entries, and to it as a whole."""

    values: Leaves
    tolerances: Leaves
    parts: dict[str, list[Part]]


def measure_gradient(
    program: Program,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    *,
    taps: Mapping[str, Any],
    dtype: Any,
    outputs: Mapping[str, Any] = MappingProxyType({}),
    upstream: Mapping[str, np.ndarray] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    steady: bool = True,
    accumulate: Any = None,
    intermediates: Any = None,
) -> Measured:
    """The same for the loss, its gradients and those of the taps, each by its name, from one trace of the gradient.

    Args:
        taps: arrays like the gradients of marked values that are to be measured, by name.
        outputs: arrays like the marked values that are to be measured themselves, by name.
        dtype: the widest of the parameters; each parameter's gradient is rounded to its own.
        upstream: gradients that are put in the place of those that arrive at marked values.
        steady: whether noise leaves every comparison as it is in the still run. If not, it may turn those between
            numbers that rounding cannot tell apart.
        accumulate: the dtype in which sums of 16-bit numbers are formed; float32 if None.
        intermediates: a dtype of 16 bits in which intermediate results are stored, though the program has float32.
    """
    program = program.at(parameters, *args)
    own = leaves_by_path(parameters)
    stored = {LOSS: dtype}
    stored |= {name: like.dtype for name, like in (*outputs.items(), *taps.items(), *own.items())}
    decisions = Decisions(steady)

    def evaluate(rule: Rule) -> Leaves:
        at_taps = Taps(upstream=dict(upstream or {}))
        loss, gradients = program.gradient(parameters, *args, rule=rule, taps=at_taps)
        found = {name: at_taps.gradients.get(name, np.zeros(like.shape)) for name, like in taps.items()}
        shown = {name: at_taps.values[name] for name in outputs}
        return {LOSS: loss, **shown, **found, **dict(zip(own, jax.tree.leaves(gradients), strict=True))}

    values = evaluate(decisions.recording())
    scatters = {name: Scatter(value) for name, value in values.items()}
    size = program.gradient_plan.largest_value()
    for sample in range(samples):
        draws = noise(size, sample, seed, dtype, accumulate)
        moved = evaluate(RoundingNoise(draws, decisions.repeated(), accumulate, intermediates))
        for name, scatter in scatters.items():
            scatter.add(moved.pop(name))
    tolerances, parts = {}, {}
    for name in values:
        scatter = scatters.pop(name)
        # A gradient of float32 beside parameters of float64 is formed in float32.
        narrower = stored[name] != dtype and np.dtype(stored[name]).itemsize > 2
        times = max(1.0, unit_roundoff(stored[name]) / unit_roundoff(dtype)) if narrower else 1.0
        tolerances[name] = scatter.tolerance(stored[name], times)
        parts[name] = scatter.parts(stored[name], times)
    return Measured(values, tolerances, parts)


def noise(size: int, sample: int, seed: int, dtype: Any, accumulate: Any = None) -> Noise:
    """Draws for a moved run: of the unit roundoff in which work in `dtype` is done."""
    return Noise(size, 1009 * seed + sample, unit_roundoff(working_dtype(dtype, accumulate)))


class Scatter:
    """How far the moved runs scatter about the still one: of one quantity, its entries and its parts."""

    def __init__(self, value: np.ndarray, whole: bool = True) -> None:
        self.value, self.samples = value, 0
        self.total: np.ndarray | None = None
        self.axes = list(axes_of(value)) if whole and np.isfinite(value).all() else []
        with np.errstate(all="ignore"):
            self.norms = [np.sqrt(summed(axis, value, value)) for axis in self.axes]
        self.along = [np.zeros(norm.shape) for norm in self.norms]

    def add(self, moved: Any) -> None:
        """One more run. Distances are combined as hypot does: squares of large numbers would overflow."""
        moved = np.asarray(moved)
        self.samples += 1
        with np.errstate(all="ignore"):
            if not jnp.issubdtype(self.value.dtype, jnp.number):  # of truth values: whether they differ
                distance = np.asarray(moved != self.value, np.float64)
            else:
                difference = moved - self.value
                for i, axis in enumerate(self.axes):
                    self.along[i] += np.square(component(difference, self.value, axis, self.norms[i]))
                distance = np.asarray(np.abs(difference), np.float64)
            self.total = distance if self.total is None else np.hypot(self.total, distance, out=self.total)

    @functools.cached_property
    def deviation(self) -> np.ndarray:
        """The standard deviation of every entry, of which a part is common to the leaf."""
        assert self.total is not None  # there was a run
        with np.errstate(all="ignore"):  # what is not finite is allowed nothing by whoever compares
            largest = np.max(self.total, initial=0.0)
            scale = largest if 0 < largest < np.inf else 1.0  # so that no square overflows
            deviation = np.asarray(self.total / scale)
            if deviation.size:
                np.square(deviation, out=deviation)
                deviation += SHARED**2 * deviation.mean()
                np.sqrt(deviation, out=deviation)
            deviation *= scale / np.sqrt(self.samples)
            return deviation

    def tolerance(self, dtype: Any, times: float = 1.0) -> np.ndarray:
        """Of every entry, stored in `dtype`; `times`: how much coarser the work is than the noise."""
        with np.errstate(all="ignore"):
            tolerance = np.asarray(DEVIATIONS * times * self.deviation)
            if jnp.issubdtype(self.value.dtype, jnp.inexact):  # integers are stored as they are
                tolerance += 4 * unit_roundoff(dtype) * np.abs(self.value) + float(jnp.finfo(dtype).tiny)
        return tolerance

    def parts(self, dtype: Any, times: float = 1.0) -> list[Part]:
        """Of the whole and of each line: what entries have in common shows in the runs, and the rest adds up."""
        if not self.axes:
            return []
        found, unit, tiny = [], unit_roundoff(dtype), float(jnp.finfo(dtype).tiny)
        with np.errstate(all="ignore"):
            weights, squares = np.square(self.value), np.square(self.deviation)
            squares *= times**2
            entries = weights * unit**2
            entries += squares  # stored, each is rounded by itself
            for axis, norm, along in zip(self.axes, self.norms, self.along, strict=True):
                scatter, alone = (
                    np.where(norm > 0, summed(axis, variances, weights) / np.square(norm), 0.0)
                    for variances in (squares, entries)
                )
                common = np.maximum(np.square(times) * along / self.samples - scatter, 0.0)
                common = common + SHARED**2 * common.mean()
                # A whole unit, for there are kernels that cut numbers off instead of rounding them.
                times_alone = ALONE if axis is None else DEVIATIONS  # one whole, and many lines
                tolerance = np.sqrt(DEVIATIONS**2 * common + times_alone**2 * alone) + unit * norm + tiny
                across = ACROSS * np.sqrt(summed(axis, entries)) + tolerance
                found.append(Part(axis, norm, tolerance, across))
        return found


def last_place(array: np.ndarray) -> np.ndarray:
    """2 u |x| of every entry, in float64: a unit in its last place, or up to two of them; 0 of integers."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return np.zeros(array.shape)
    return 2 * unit_roundoff(array.dtype) * np.abs(np.asarray(array, np.float64))


def norm(array: np.ndarray) -> float:
    """The Euclidean norm, in float64 whatever the dtype, scaled where a square would overflow or vanish."""
    wide = np.asarray(np.abs(array) if np.iscomplexobj(array) else array, np.float64).ravel()
    with np.errstate(over="ignore", under="ignore"):
        plain = float(np.sqrt(np.add.reduce(np.square(wide))))  # no BLAS: its threads would spin where JAX's are to run
    if 1e-150 < plain < 1e150 or not wide.size:
        return plain
    largest = float(np.max(np.abs(wide)))
    return largest * float(np.linalg.norm(wide / largest)) if 0 < largest < np.inf else largest
