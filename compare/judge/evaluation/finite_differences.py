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
import jax.numpy as jnp
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.perturbed_points import is_symmetric
from compare.judge.evaluation.point import Check, Point
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs
from compare.judge.program.plan import Step
from compare.judge.program.trace import Program, widened
from compare.judge.reports.verdict import Derivative
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import norm
from compare.pytrees import LOSS, Leaves, as_array, copies

STEPS = 6  # the number of steps h of an extrapolation
SHRINK = 2.0  # the factor between two steps
LARGEST = (2.0**-5, 2.0**-15)  # the largest step, relative to the parameters' size; the second is for rough losses
MARGIN = 10.0  # the tolerance, in multiples of the error estimate


# (direction, steps) -> the losses at the point + step * direction, where a direction has an array for each leaf
Losses = Callable[[Leaves, np.ndarray], np.ndarray]


def random_direction(
    leaves: Leaves, seed: int, only: set[str] | None = None, entry: tuple[int, ...] | None = None
) -> Leaves:
    """A random direction in the space of the parameters.

    Args:
        leaves: the parameters, by path.
        seed: the seed of the random signs.
        only: the paths of the leaves in which the direction is not zero; None for all floating-point leaves.
        entry: the index of the only entry of each leaf in which the direction is not zero; None for all entries.

    Returns:
        An array for each leaf, by path. Its entries are random signs times the root mean square of the leaf.
    """
    random = np.random.default_rng(seed)

    def direction(name: str, leaf: np.ndarray) -> np.ndarray:
        signs = random.choice((-1.0, 1.0), leaf.shape)
        if (only is not None and name not in only) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape)
        if entry is not None:
            alone = np.zeros(leaf.shape)
            alone[entry] = 1
            signs = alone
        return signs * max(float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) if leaf.size else 0.0, 1e-3)

    return {path: direction(path, leaf) for path, leaf in leaves.items()}


def along_entry(leaves: Leaves, path: str, index: tuple[int, ...]) -> Leaves:
    """The direction of one entry of one leaf, scaled to the root mean square of the leaf."""
    direction = random_direction(leaves, 0, {path})[path]
    return only_in(leaves, path, _only_at(direction, index, np.abs(direction[index])))


def only_in(leaves: Leaves, path: str, values: np.ndarray) -> Leaves:
    """A direction with the given values in one leaf, and zeros in all others."""
    return {name: values if name == path else np.zeros(leaf.shape) for name, leaf in leaves.items()}


def _only_at(like: np.ndarray, index: tuple[int, ...], value: Any) -> np.ndarray:
    result = np.zeros_like(like)
    result[index] = value
    return result


def slope_along(gradient: Leaves, direction: Leaves) -> float:
    """The directional derivative: the inner product of the gradient and the direction."""
    return float(sum(float(np.sum(np.asarray(gradient[path], np.float64) * d)) for path, d in direction.items()))


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
    losses: Losses, direction: Leaves, gradient: Leaves, unit: float, start: float, gradient_unit: float
) -> Derivative:
    """Compare a gradient with finite differences of a loss along a direction.

    Args:
        losses: the loss along lines through the point.
        direction: the direction.
        gradient: the gradient, by path; may have more values.
        unit: the unit roundoff of the loss.
        start: the loss at the point.
        gradient_unit: the unit roundoff of the gradient.

    Returns:
        Both derivatives and the tolerance of their difference, for the first value of LARGEST with which they agree. If
        they never agree, the comparison with the smallest tolerance is returned.
    """
    tried = []
    for largest in LARGEST:
        steps = largest * SHRINK ** -np.arange(STEPS)
        values = both_ways(losses, direction, steps)
        tried.append(_judged(values, steps, direction, gradient, unit, start, gradient_unit))
        if tried[-1].consistent:
            return tried[-1]
    return min(tried, key=lambda opinion: opinion.error)


def both_ways(losses: Losses, direction: Leaves, steps: np.ndarray) -> np.ndarray:
    """The losses at positive and at negative steps along a direction, (2, steps)."""
    return losses(direction, np.concatenate([steps, -steps])).reshape(2, -1)


def _judged(
    values: np.ndarray,
    steps: np.ndarray,
    direction: Leaves,
    gradient: Leaves,
    unit: float,
    start: float,
    gradient_unit: float,
) -> Derivative:
    by_differences, error = ridders(values, steps)
    by_gradient = slope_along(gradient, direction)
    # Ridders' estimate does not include the rounding error of the loss. Its effect at the middle step is added.
    rounding = 8 * unit * float(np.nanmax(np.abs(values), initial=abs(start))) / float(steps[STEPS // 2])
    size = math.hypot(*(norm(gradient[path] * d) for path, d in direction.items()))
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


def reference_losses(loss: Program, inputs: Inputs) -> Losses:
    """The reference's loss along lines through a point, in float64."""

    def losses(direction: Leaves, steps: np.ndarray) -> np.ndarray:
        return np.array(loss.along(inputs.parameters, direction, steps, *inputs.args), np.float64)

    return losses


def hand_losses(by_hand: Watched, inputs: Inputs, dtype: np.dtype) -> tuple[Losses, float]:
    """The hand-written loss along lines through a point, with one call for each step.

    Args:
        by_hand: the hand-written side.
        inputs: the point.
        dtype: the dtype under test.

    Returns:
        The losses, in float64 if the function works in float64, else in its own dtype; and their unit roundoff.
    """
    wide = inputs.converted(widened)
    try:
        in_float64 = as_array(by_hand.unwatched(wide)[0]).dtype == np.float64
    except CodeUnderTestFailed:  # it does not work in float64
        in_float64 = False
    args = wide.args if in_float64 else inputs.args

    def loss(direction: Leaves, step: float) -> float:
        parameters = inputs.along(direction, step).parameters  # new arrays, which need not be copied
        if not in_float64:
            parameters = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), parameters, inputs.parameters)
        return float(by_hand.function(parameters, *copies(args))[0])

    def losses(direction: Leaves, steps: np.ndarray) -> np.ndarray:
        return np.array([loss(direction, float(h)) for h in steps], np.float64)

    return losses, unit_roundoff(np.float64) if in_float64 else unit_roundoff(dtype)


def opinions_on(
    check: Check, point: Point, directions: dict[str, Leaves], sides: Any = ("manual", "autodiff")
) -> dict[str, Derivative]:
    """Compares each side's gradient with finite differences of its loss along directions.

    Args:
        check: the check.
        point: the point.
        directions: the directions, by name.
        sides: the sides to compare.

    Returns:
        The derivatives by gradient and by finite differences, by "side, name of the direction".
    """
    opinions, exact = {}, unit_roundoff(np.float64)
    for name, direction in directions.items():
        if "autodiff" in sides:
            losses, value = reference_losses(check.loss, point.inputs), float(point.expected[LOSS])
            # The constants of a float32 loss are rounded to float32, so that 0.9 + 0.1 is 1 only to that precision.
            own = unit_roundoff(check.dtype)
            opinions[f"autodiff, {name}"] = derivative(losses, direction, point.expected, exact, value, own)
        if "manual" in sides:
            losses, unit = (
                (reference_losses(check.loss, point.inputs), exact)
                if point.answer.without_loss
                else hand_losses(check.by_hand, point.inputs, check.dtype)
            )
            noise = 64 * max(unit_roundoff(leaf.dtype) for leaf in point.inputs.leaves.values())
            value = float(point.actual[LOSS])
            opinions[f"manual, {name}"] = derivative(losses, direction, point.actual, unit, value, noise)
    return opinions


def fits_its_loss(check: Check, point: Point) -> dict[str, Derivative]:
    """Compares a gradient on which both sides agree with the loss, along one random direction of all parameters.

    Args:
        check: the check.
        point: the point.

    Returns:
        The derivatives by gradient and by finite differences.
    """

    # Some functions read one triangle of a symmetric matrix, while JAX gives each triangle half of the gradient.
    def symmetrized(leaf: np.ndarray, direction: np.ndarray) -> np.ndarray:
        return (direction + np.swapaxes(direction, -1, -2)) / 2 if is_symmetric(leaf) else direction

    leaves = point.inputs.leaves
    drawn = {path: symmetrized(leaves[path], d) for path, d in random_direction(leaves, check.seed).items()}
    return opinions_on(check, point, {"random": drawn}, sides=("autodiff",))


def complex_step(loss: Program, inputs: Inputs, direction: Leaves) -> float | None:
    """The derivative along a direction by a complex step, Im f(p + i h d) / h.

    Args:
        loss: the traced loss.
        inputs: the point, with the parameters p.
        direction: the direction d.

    Returns:
        The derivative; None if an operation of the loss has no analytic continuation.
    """
    h = 1e-30
    turned = [np.asarray(leaf, np.float64) + 1j * h * direction[path] for path, leaf in inputs.leaves.items()]
    others = (
        np.asarray(leaf) if isinstance(leaf, complex | float | int) else leaf for leaf in jax.tree.leaves(inputs.args)
    )
    leaves = [*turned, *map(widened, others)]
    try:
        with np.errstate(all="ignore"):
            (value,) = loss.at(inputs.parameters, *inputs.args).plan(leaves, _continued, as_given=True)
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
