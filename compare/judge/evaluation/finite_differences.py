"""Compares a gradient with its loss, without automatic differentiation.

There are three methods:

- Central differences, extrapolated to a step of zero, with an error estimate (Ridders, "Accurate computation of
  F'(x) and F'(x)F''(x)", Advances in Engineering Software 4, 1982).
- Complex steps, which are exact up to rounding if the function is analytic (Squire and Trapp, "Using complex variables
  to estimate derivatives of real functions", SIAM Review 40, 1998).
- Taylor remainders: |f(p + h d) - f(p) - h g.d| is of order h^2 for the gradient g, and of order h for a wrong g.

Each method uses derivatives along a random direction d. An error is missed only if it is nearly orthogonal to d.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from compare.judge.program.plan import Step
from compare.judge.program.trace import Program, widened
from compare.judge.reports.verdict import Derivative
from compare.judge.roundoff.tolerance import norm
from compare.pytrees import Pytree, laid_out, paths

STEPS = 6  # the number of steps h of an extrapolation
SHRINK = 2.0  # the factor between two steps
LARGEST = (2.0**-5, 2.0**-15)  # the largest step, relative to the parameters' size; the second is for rough losses
MARGIN = 10.0  # the tolerance, in multiples of the error estimate


Loss = Callable[[Any], float]  # parameters -> loss


def random_direction(
    parameters: Pytree, seed: int, only: set[str] | None = None, entry: tuple[int, ...] | None = None
) -> Any:
    """A random direction in the space of the parameters.

    Args:
        parameters: the parameters.
        seed: the seed of the random signs.
        only: the paths of the leaves in which the direction is not zero; None for all floating-point leaves.
        entry: the index of the only entry of each leaf in which the direction is not zero; None for all entries.

    Returns:
        A tree like the parameters. Its entries are random signs times the root mean square of the leaf.
    """
    random = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(parameters)

    def direction(name: str, leaf: np.ndarray) -> np.ndarray:
        signs = random.choice((-1.0, 1.0), leaf.shape)
        if (only is not None and name not in only) or not np.issubdtype(np.asarray(leaf).dtype, np.floating):
            return np.zeros(leaf.shape)
        if entry is not None:
            alone = np.zeros(leaf.shape)
            alone[entry] = 1
            signs = alone
        return signs * max(float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) if leaf.size else 0.0, 1e-3)

    return jax.tree.unflatten(structure, map(direction, paths(structure), leaves))


def along_entry(parameters: Pytree, path: str, index: tuple[int, ...]) -> Any:
    """The direction of one entry of one leaf, scaled to the root mean square of the leaf."""
    direction = random_direction(parameters, 0, {path})

    def keep(leaf: np.ndarray) -> np.ndarray:
        result = np.zeros_like(leaf)
        if leaf.any():
            result[index] = np.abs(leaf[index])
        return result

    return jax.tree.map(keep, direction)


def moved(parameters: Pytree, direction: Pytree, step: float) -> Any:
    """`parameters + step * direction`, in float64 and in the memory layouts of the parameters."""
    return jax.tree.map(lambda p, d: laid_out(np.asarray(p, np.float64) + step * d, p), parameters, direction)


def slope_along(gradient: Pytree, direction: Pytree) -> float:
    """The directional derivative: the inner product of the gradient and the direction."""
    products = jax.tree.map(lambda g, d: float(np.sum(np.asarray(g, np.float64) * d)), gradient, direction)
    return float(sum(jax.tree.leaves(products)))


def ridders(values: np.ndarray, steps: np.ndarray) -> tuple[float, float]:
    """The derivative of a function f at 0, from f(+h) and f(-h) for decreasing steps h.

    Args:
        values: (2, steps), f(+h) and f(-h).
        steps: (steps,), the steps h, each smaller than the previous one by the factor SHRINK.

    Returns:
        The derivative and an estimate of its error.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        table = [(values[0] - values[1]) / (2 * steps)]
        best, error = float(table[0][0]), np.inf
        for order in range(1, len(steps)):
            factor = SHRINK ** (2 * order)
            better = (factor * table[-1][1:] - table[-1][:-1]) / (factor - 1)
            errors = np.maximum(np.abs(better - table[-1][1:]), np.abs(better - table[-1][:-1]))
            table.append(better)
            if np.isfinite(errors).any():
                i = int(np.nanargmin(errors))
                if errors[i] < error:
                    best, error = float(better[i]), float(errors[i])
    return best, error


def derivative(
    losses: Callable[[Any, Any, np.ndarray], np.ndarray],
    parameters: Pytree,
    direction: Pytree,
    gradient: Pytree,
    unit: float,
    start: float,
    gradient_unit: float,
) -> Derivative:
    """Compare `gradient` with finite differences of a loss along `direction`.

    Args:
        losses: `(parameters, direction, steps) -> values`: the loss at `parameters + step * direction` for each step.
        parameters: the point.
        direction: a tree like the parameters.
        gradient: a tree like the parameters.
        unit: the unit roundoff of the loss.
        start: the loss at the parameters.
        gradient_unit: the unit roundoff of the gradient.

    Returns:
        Both derivatives and the tolerance of their difference, for the first value of LARGEST with which they agree. If
        they never agree, the comparison with the smallest tolerance is returned.
    """
    tried = []
    for largest in LARGEST:
        steps = largest * SHRINK ** -np.arange(STEPS)
        values = losses(parameters, direction, np.concatenate([steps, -steps])).reshape(2, STEPS)
        tried.append(_judged(values, steps, direction, gradient, unit, start, gradient_unit))
        if tried[-1].consistent:
            return tried[-1]
    return min(tried, key=lambda opinion: opinion.error)


def _judged(
    values: np.ndarray,
    steps: np.ndarray,
    direction: Pytree,
    gradient: Pytree,
    unit: float,
    start: float,
    gradient_unit: float,
) -> Derivative:
    by_differences, error = ridders(values, steps)
    by_gradient = slope_along(gradient, direction)
    # Ridders' estimate does not include the rounding error of the loss. Its effect at the middle step is added.
    rounding = 8 * unit * float(np.nanmax(np.abs(values), initial=abs(start))) / float(steps[STEPS // 2])
    size = math.hypot(*jax.tree.leaves(jax.tree.map(lambda g, d: norm(g * d), gradient, direction)))
    tolerance = MARGIN * (error + rounding + gradient_unit * size) + 1e-9 * abs(by_differences)
    miss = min(1.0, float(np.sqrt(2 / np.pi)) * tolerance / size) if size > 0 else None
    return Derivative(by_gradient, by_differences, tolerance, _taylor_slope(values, steps, start, by_gradient), miss)


def _taylor_slope(values: np.ndarray, steps: np.ndarray, start: float, slope: float) -> float | None:
    """The order in h of the Taylor remainder: 2 for a correct gradient; None if rounding errors hide it."""
    with np.errstate(invalid="ignore"):  # the loss may not be finite
        remainders = np.abs(values[0] - start - steps * slope)
    seen = remainders > 1e3 * np.finfo(float).eps * max(abs(start), 1e-300)
    if np.count_nonzero(seen) < 3:
        return None
    return float(np.polyfit(np.log(steps[seen]), np.log(remainders[seen]), 1)[0])


def reference_losses(loss: Program, args: tuple[Pytree, ...]) -> Callable[[Any, Any, np.ndarray], np.ndarray]:
    """A function that evaluates the reference's loss along a direction, in float64."""

    def losses(parameters: Pytree, direction: Pytree, steps: np.ndarray) -> np.ndarray:
        return np.array(loss.along(parameters, direction, steps, *args), np.float64)

    return losses


def hand_losses(loss: Loss) -> Callable[[Any, Any, np.ndarray], np.ndarray]:
    """A function that evaluates the hand-written loss along a direction, with one call for each step."""

    def losses(parameters: Pytree, direction: Pytree, steps: np.ndarray) -> np.ndarray:
        return np.array([loss(moved(parameters, direction, float(h))) for h in steps], np.float64)

    return losses


def complex_step(loss: Program, parameters: Pytree, direction: Pytree, *args: Pytree) -> float | None:
    """The derivative along a direction by a complex step, Im f(p + i h d) / h.

    Args:
        loss: the traced loss.
        parameters: the point p.
        direction: the direction d.
        *args: the other arguments of the loss.

    Returns:
        The derivative; None if an operation of the loss has no analytic continuation.
    """
    h = 1e-30
    turned = jax.tree.map(lambda p, d: np.asarray(p) + 1j * h * d, parameters, direction)
    leaves = [*jax.tree.leaves(turned), *jax.tree.leaves(widened(args))]
    try:
        with np.errstate(all="ignore"):
            (value,) = loss.at(parameters, *args).plan(leaves, _continued, as_given=True)
    except NotContinued:
        return None
    return float(np.imag(value)) / h


class NotContinued(Exception):
    """An operation of the function has no continuation to complex numbers."""


def _continued(step: Step, inputs: list[Any]) -> list[Any]:
    """The rule that evaluates an operation on complex numbers: comparisons use the real parts, and |z| is z or -z."""
    if not any(np.iscomplexobj(value) for value in inputs):
        return step.run(inputs, _continued)
    if step.name in ("custom_jvp_call", "custom_vjp_call"):
        return step.inner("call_jaxpr")(inputs, _continued, as_given=True)
    evaluate = step.row.continued or (step.row.evaluate if step.row.analytic else None)
    if evaluate is None or any(np.dtype(dtype).kind == "c" for dtype in step.dtypes):
        raise NotContinued(step.name)
    result = evaluate(*inputs, **step.params)
    return list(result) if step.multiple else [result]
