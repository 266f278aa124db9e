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

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.plan import Rule, as_it_is
from compare.judge.program.trace import Program, Taps
from compare.judge.roundoff.perturbation import Noise, RoundingNoise, unit_roundoff
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
    return _measured(lambda rule: program(*args, rule=rule), size, dtype, samples, seed)


def measure_gradient(
    program: Program,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    *,
    taps: Mapping[str, Any],
    dtype: Any,
    upstream: Mapping[str, np.ndarray] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[Leaves, Leaves]:
    """The same for the loss, its gradients and those of the taps, each by its name, from one trace of the gradient.

    `taps` are those to be measured, by name, with their shapes; `upstream` is put in the place of the gradients that
    arrive at them. Each parameter's gradient is rounded to that parameter's dtype, and has the tolerance of it.
    """
    program = program.at(parameters, *args)
    own = leaves_by_path(parameters)

    def evaluate(rule: Rule) -> Leaves:
        at_taps = Taps(upstream=dict(upstream or {}))
        loss, gradients = program.gradient(parameters, *args, rule=rule, taps=at_taps)
        found = {name: at_taps.gradients.get(name, np.zeros(tap.shape)) for name, tap in taps.items()}
        return {LOSS: loss, **found, **dict(zip(own, jax.tree.leaves(gradients), strict=True))}

    values, tolerances = _measured(evaluate, program.gradient_plan.largest_value(), dtype, samples, seed)
    for path, leaf in own.items():
        if leaf.dtype != dtype:
            times = unit_roundoff(leaf.dtype) / unit_roundoff(dtype)
            tolerances[path] = tolerances[path] * times + float(jnp.finfo(leaf.dtype).tiny)
    return values, tolerances


def _measured(
    evaluate: Callable[[Rule], Pytree], size: int, dtype: Any, samples: int, seed: int
) -> tuple[Pytree, Pytree]:
    unit = unit_roundoff(dtype)
    values, structure = jax.tree.flatten(evaluate(as_it_is))
    moves: list[Any] = [None] * len(values)
    for sample in range(samples):
        moved = jax.tree.leaves(evaluate(RoundingNoise(Noise(size, 1009 * seed + sample, unit))))
        # Taken out one by one: of a huge model, not everything fits into memory at once.
        moves = [_farther(moves.pop(0), moved.pop(0), value) for value in values]
    options = {"samples": samples, "unit": unit, "tiny": float(jnp.finfo(dtype).tiny)}
    tolerances = [_tolerance(moves.pop(0), value, **options) for value in values]
    return jax.tree.unflatten(structure, values), jax.tree.unflatten(structure, tolerances)


def _farther(total: np.ndarray | None, moved: Any, still: np.ndarray) -> np.ndarray:
    """The distance between moved and still, or of truth values whether they differ, combined with that of others.

    As hypot does: squares of large or small numbers would over- or underflow.
    """
    moved = np.asarray(moved)
    with np.errstate(all="ignore"):
        apart = np.abs(moved - still) if jnp.issubdtype(still.dtype, jnp.number) else moved != still
        distance = np.asarray(apart, np.float64)
        return distance if total is None else np.hypot(total, distance, out=total)


def _tolerance(move: np.ndarray, value: np.ndarray, *, samples: int, unit: float, tiny: float) -> np.ndarray:
    """Of the entries of a leaf that noise moved by `move`, in root mean square times sqrt(samples)."""
    with np.errstate(all="ignore"):  # what is not finite is allowed nothing by whoever compares
        largest = np.max(move, initial=0.0)
        scale = largest if 0 < largest < np.inf else 1.0  # so that no square overflows
        deviation = np.asarray(move / scale)
        if move.size:
            np.square(deviation, out=deviation)
            deviation += SHARED**2 * deviation.mean()
            np.sqrt(deviation, out=deviation)
        deviation *= DEVIATIONS * scale / np.sqrt(samples)
        if jnp.issubdtype(value.dtype, jnp.inexact):  # integers are stored as they are
            deviation += 4 * unit * np.abs(value) + tiny
    return deviation


def last_place(array: np.ndarray) -> np.ndarray:
    """2 u |x| of every entry, in float64: a unit in its last place, or up to two of them; 0 of integers."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return np.zeros(array.shape)
    return 2 * unit_roundoff(array.dtype) * np.abs(np.asarray(array, np.float64))


def norm(array: np.ndarray) -> float:
    """The Euclidean norm, in float64 whatever the dtype, scaled where a square would overflow or vanish."""
    wide = np.asarray(array, np.float64).ravel()
    with np.errstate(over="ignore", under="ignore"):
        plain = float(np.sqrt(np.add.reduce(np.square(wide))))  # no BLAS: its threads would spin where JAX's are to run
    if 1e-150 < plain < 1e150 or not wide.size:
        return plain
    largest = float(np.max(np.abs(wide)))
    return largest * float(np.linalg.norm(wide / largest)) if 0 < largest < np.inf else largest
