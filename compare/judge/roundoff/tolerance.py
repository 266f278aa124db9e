"""Measures the rounding tolerance between two correct computations at the point of the check.

JAX traces the computation into elementary operations. The trace is evaluated several times, and each time the result of
every operation is perturbed at random by an amount of the size of its rounding error (Parker, "Monte Carlo Arithmetic",
1997). The scatter of the final results is the effect of rounding errors at this point and in this dtype, for each
entry. It includes cancellation, saturation and long sums.

A correct program may compute the same value in another way than JAX. So the perturbations are larger than JAX's own
rounding errors in two cases:

- The rounding error of a sum of n products is proportional to the terms, even if they cancel. Its standard deviation is
  u (|a| |b| + sqrt(n) |a.b|), with Euclidean norms over the summed axes. This holds for terms of random signs and for
  terms of one sign.
- JAX may compute a derivative to full relative accuracy where a textbook formula cancels: at saturation, `A2 - y` and
  `1 - A1**2` round to 0, and JAX computes 1e-18. The rounding error of the formula is proportional to the derivative
  away from saturation. So the derivative of each smooth elementwise function is perturbed by u times its largest value
  between its argument and zero.

u is the unit roundoff of the dtype under test. The perturbed runs are evaluated in float64.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.blocks import blockwise
from compare.judge.program.decisions import Decisions
from compare.judge.program.inputs import Inputs
from compare.judge.program.plan import Rule
from compare.judge.program.trace import Program, Taps
from compare.judge.roundoff.perturbation import Noise, RoundingNoise, unit_roundoff, working_dtype
from compare.judge.roundoff.whole import ACROSS, ALONE, Part, axes_of, components, summed
from compare.pytrees import LOSS, Leaves, Pytree

SAMPLES = 1  # the number of perturbed runs for the first comparison
CONFIRMED = (4, 16)  # the numbers of runs that confirm a disagreement; the first one refutes most false ones
# The tolerance in standard deviations. It is large because a leaf may have a million entries, because one sample is a
# rough estimate of a deviation, and because another program may round where JAX does not.
DEVIATIONS = 16.0
# This share of the leaf's mean deviation is added to the deviation of each entry, which may be too small by chance.
SHARED = 1 / 4


def measure(
    program: Program, *args: Pytree, dtype: Any, samples: int = SAMPLES, seed: int = 0
) -> tuple[Pytree, Pytree]:
    """Evaluate a program in float64, and measure the rounding tolerance of each entry of its result.

    The tolerance of an entry is the sum of three terms: DEVIATIONS standard deviations of the perturbed runs, of which
    a part (SHARED) is common to the leaf; two ULPs of the result, because both sides round it when they store it; and
    the smallest normal number.

    Args:
        program: the program.
        *args: its arguments.
        dtype: the dtype whose rounding errors are measured.
        samples: the number of perturbed runs.
        seed: the seed of the perturbations.

    Returns:
        (result, tolerance), two trees of NumPy arrays of the same structure.
    """
    program = program.at(*args)
    size = program.plan.largest_value()
    decisions = Decisions()
    values, structure = jax.tree.flatten(program(*args, rule=decisions.recording()))
    scatters = [Scatter(value, whole=False) for value in values]
    for sample in range(samples):
        rule = RoundingNoise(noise(size, sample, seed, dtype), decisions.repeated())
        moved = jax.tree.leaves(program(*args, rule=rule))
        # Leaves are freed one by one, because the leaves of a huge model do not fit into memory twice.
        for scatter in scatters:
            scatter.add(moved.pop(0))
    tolerances = []
    while scatters:
        tolerances.append(scatters.pop(0).tolerance(dtype))
    return jax.tree.unflatten(structure, values), jax.tree.unflatten(structure, tolerances)


@dataclass(frozen=True)
class Measured:
    """The reference values and their tolerances.

    Attributes:
        values: the value of each quantity in float64, by name.
        tolerances: the tolerance of each of its entries.
        parts: the tolerances of the whole and of its lines.
    """

    values: Leaves
    tolerances: Leaves
    parts: dict[str, list[Part]]


def measure_gradient(
    program: Program,
    inputs: Inputs,
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
    """Evaluate a loss and its gradients in float64, and measure their rounding tolerances.

    Args:
        program: the traced loss.
        inputs: the parameters and the arguments.
        taps: for each marked value whose gradient is measured, an array of the gradient's shape and dtype, by name.
        dtype: the widest dtype of the parameters. Each gradient is rounded to the dtype of its parameter.
        outputs: for each marked value that is measured itself, an array of its shape and dtype, by name.
        upstream: gradients, by tap, that replace those of the backward pass.
        samples: the number of perturbed runs.
        seed: the seed of the perturbations.
        steady: whether perturbed runs repeat all comparisons of the unperturbed run. If not, a comparison of two
            numbers that differ by rounding errors may have another result.
        accumulate: the dtype in which 16-bit numbers are summed; float32 if None.
        intermediates: a 16-bit dtype to which results with float32 in the trace are also rounded; None for none.

    Returns:
        Values, tolerances and parts by name.
    """
    program = program.at(inputs.parameters, *inputs.args)
    stored = {LOSS: dtype}
    stored |= {name: like.dtype for name, like in (*outputs.items(), *taps.items(), *inputs.leaves.items())}
    decisions = Decisions(steady)

    def evaluate(rule: Rule) -> Leaves:
        at_taps = Taps(upstream=dict(upstream or {}))
        loss, gradients = program.gradient(inputs.parameters, *inputs.args, rule=rule, taps=at_taps)
        arrived = at_taps.gradients
        found = {name: arrived[name] if name in arrived else np.zeros(like.shape) for name, like in taps.items()}
        shown = {name: at_taps.values[name] for name in outputs}
        return {LOSS: loss, **shown, **found, **gradients}

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
        # A float32 gradient among float64 parameters is computed in float32.
        rounds = jnp.issubdtype(stored[name], jnp.inexact)
        narrower = rounds and stored[name] != dtype and np.dtype(stored[name]).itemsize > 2
        times = max(1.0, unit_roundoff(stored[name]) / unit_roundoff(dtype)) if narrower else 1.0
        tolerances[name] = scatter.tolerance(stored[name], times)
        parts[name] = scatter.parts(stored[name], times)
    return Measured(values, tolerances, parts)


def noise(size: int, sample: int, seed: int, dtype: Any, accumulate: Any = None) -> Noise:
    """The random numbers of a perturbed run.

    Args:
        size: the number of entries of the program's largest value.
        sample: the number of the run.
        seed: the seed of the check.
        dtype: the dtype under test.
        accumulate: the dtype in which 16-bit numbers are summed; float32 if None.

    Returns:
        Random numbers whose standard deviation is the unit roundoff of the working dtype.
    """
    return Noise(size, 1009 * seed + sample, unit_roundoff(working_dtype(dtype, accumulate)))


class Scatter:
    """The scatter of the perturbed runs around the unperturbed run, for the entries and parts of one quantity.

    Args:
        value: the result of the unperturbed run.
        whole: whether the scatter of parts is also measured.
    """

    def __init__(self, value: np.ndarray, whole: bool = True) -> None:
        self.value, self.samples = value, 0
        self.total: np.ndarray | None = None
        self.axes = axes_of(value) if whole and np.isfinite(value).all() else []
        with np.errstate(all="ignore"):
            self.norms = [np.sqrt(squares) for squares in summed(self.axes, value, value)]
        self.along = [np.zeros(norm.shape) for norm in self.norms]

    def add(self, moved: Any) -> None:
        """Add the result of a perturbed run. Distances are combined by hypot, because squares might overflow."""
        moved = np.asarray(moved)
        self.samples += 1
        with np.errstate(all="ignore"):
            if not jnp.issubdtype(self.value.dtype, jnp.number):  # two booleans have a distance of 0 or 1
                distance = np.asarray(moved != self.value, np.float64)
            else:
                difference = moved - self.value
                along = components(difference, self.value, self.axes, self.norms)
                self.along = [before + np.square(more) for before, more in zip(self.along, along, strict=True)]
                own = difference if difference.dtype == np.float64 and difference.ndim else None
                distance = np.asarray(np.abs(difference, out=own), np.float64)
            self.total = distance if self.total is None else np.hypot(self.total, distance, out=self.total)

    @functools.cached_property
    def deviation(self) -> np.ndarray:
        """The standard deviation of each entry, of which a part is common to the leaf."""
        assert self.total is not None  # at least one run has been added
        with np.errstate(all="ignore"):  # a tolerance that is not finite counts as 0 in the comparison
            largest = np.max(self.total, initial=0.0)
            scale = largest if 0 < largest < np.inf else 1.0  # keeps the squares from overflowing
            shared = np.square(SHARED * norm(self.total) / scale) / max(self.total.size, 1)

            def deviation(total: np.ndarray) -> np.ndarray:
                found = np.asarray(np.square(total / scale))
                found += shared
                return np.multiply(scale / np.sqrt(self.samples), np.sqrt(found, out=found), out=found)

            return np.asarray(blockwise(deviation, self.total))

    def tolerance(self, dtype: Any, times: float = 1.0) -> np.ndarray:
        """The tolerance of each entry.

        Args:
            dtype: the dtype in which the quantity is stored.
            times: the unit roundoff of the working dtype, divided by the standard deviation of the noise.

        Returns:
            The tolerances, in float64.
        """
        exact = not jnp.issubdtype(self.value.dtype, jnp.inexact)  # integers are stored without rounding
        unit, tiny = (0.0, 0.0) if exact else (4 * unit_roundoff(dtype), float(jnp.finfo(dtype).tiny))

        def tolerance(deviation: np.ndarray, value: np.ndarray) -> np.ndarray:
            return DEVIATIONS * times * deviation + (unit * np.abs(value) + tiny)

        with np.errstate(all="ignore"):
            return np.asarray(blockwise(tolerance, self.deviation, self.value))

    def parts(self, dtype: Any, times: float = 1.0) -> list[Part]:
        """The tolerances of the whole leaf and of its lines.

        The variances of the entries' independent errors are added up. The correlated part is estimated from the runs.
        The arguments are those of `tolerance`.
        """
        if not self.axes:
            return []
        found, unit, tiny = [], unit_roundoff(dtype), float(jnp.finfo(dtype).tiny)
        with np.errstate(all="ignore"):
            weights = np.square(self.value)
            squares = np.square(self.deviation)
            of_runs = summed(self.axes, squares, weights)
            total = summed(self.axes, squares)
            weights *= unit  # before they are squared, which might overflow
            of_storing = summed(self.axes, weights, weights)
            for i, (axis, norm, along) in enumerate(zip(self.axes, self.norms, self.along, strict=True)):
                scatter = np.where(norm > 0, np.square(times) * of_runs[i] / np.square(norm), 0.0)
                # Each entry is rounded independently when it is stored.
                alone = scatter + np.where(norm > 0, of_storing[i] / np.square(norm), 0.0)
                common = np.maximum(np.square(times) * along / self.samples - scatter, 0.0)
                common = common + SHARED**2 * common.mean()
                times_alone = ALONE if axis is None else DEVIATIONS
                # `unit * norm` is the error of a kernel that truncates instead of rounding.
                tolerance = np.sqrt(DEVIATIONS**2 * common + times_alone**2 * alone) + unit * norm + tiny
                across = ACROSS * np.sqrt(np.square(times) * total[i] + np.square(unit * norm)) + tolerance
                found.append(Part(axis, norm, tolerance, across))
        return found


def last_place(array: np.ndarray) -> np.ndarray:
    """2 u |x| for each entry, in float64, which is one to two ULPs; 0 for integers."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return np.zeros(array.shape)
    return 2 * unit_roundoff(array.dtype) * np.abs(np.asarray(array, np.float64))


def norm(array: np.ndarray) -> float:
    """The Euclidean norm, computed in float64 for all dtypes, and scaled if a square would overflow or underflow."""
    wide = np.asarray(np.abs(array) if np.iscomplexobj(array) else array, np.float64)
    with np.errstate(all="ignore"):
        # This does not call BLAS, whose threads would spin and slow down JAX's.
        plain = float(np.sqrt(summed([None], wide, wide)[0]))
    if 1e-150 < plain < 1e150 or not wide.size:
        return plain
    largest = float(np.max(np.abs(wide)))
    return largest * float(np.linalg.norm((wide / largest).ravel())) if 0 < largest < np.inf else largest
