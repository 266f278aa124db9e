"""Predictions of a quantity's values if the reference's gradient were computed with some mistake.

The functions have arguments in common: `check` is the check, `point` has both sides' values at one point, and `path` is
the name of the quantity that is predicted.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.diagnosis.edits import MOST_ENTRIES, Effort, Traced
from compare.judge.evaluation.perturbed_points import is_symmetric
from compare.judge.evaluation.point import Check, Point
from compare.judge.program.evaluated import Evaluated
from compare.judge.program.inputs import Inputs
from compare.judge.program.plan import Plan, Step, as_it_is, is_narrow
from compare.judge.program.primitives.indexing import scatter
from compare.judge.program.trace import Taps
from compare.pytrees import LOSS

# The largest number of terms of sums that are left out one by one: those nearest to the parameters.
MOST_TERMS = 32
# The largest number of additions for which a sum is accumulated term by term: larger ones take too long.
MOST_SUMMED = 50_000_000
# The description of a term that belongs neither to a mean nor to a variance.
UNNAMED = "one of the terms"

Rule = Callable[[Step, list[Any]], list[Any]]


def alternatives(check: Check, point: Point, path: str) -> dict[tuple[str, str], np.ndarray]:
    """The values that a quantity would have after an error upstream of it.

    The errors are: an upstream gradient of which a part is lost, an upstream gradient in the place of another one, and
    a square parameter that is transposed in the backward pass.

    Returns:
        The predicted values, by kind and message of the diagnosis.
    """
    if path == LOSS:
        return {}
    upstream = point.upstream(check.taps)

    def value(inputs: Inputs, upstream: Any) -> np.ndarray:
        return _gradient(check, inputs, path, Taps(upstream))

    found: dict[tuple[str, str], np.ndarray] = {}
    for name, gradient in upstream.items():
        if name == path:
            continue
        for axis, n in enumerate(gradient.shape):
            for words, kept in (
                ("only the last", [n - 1]),
                ("only the first", [0]),
                ("all but the last", range(n - 1)),
            ):
                mask = np.zeros_like(gradient)
                mask[(slice(None),) * axis + (list(kept),)] = 1
                message = f"it is computed from {words} index of d{name} along axis {axis}, and should sum over all."
                found["missing-sum", message] = value(point.inputs, upstream | {name: gradient * mask})
        for other, swapped in upstream.items():
            if other != name and swapped.shape == gradient.shape and other != path:
                message = f"it is computed from d{other}, and should be computed from d{name}."
                found["wrong-factor", message] = value(point.inputs, upstream | {name: swapped})
    leaves, tree = jax.tree.flatten(point.inputs.parameters)
    for i, (name, leaf) in enumerate(point.inputs.leaves.items()):
        if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1] > 1:
            # The gradients upstream are given, so that only the last part of the backward pass uses the transpose.
            turned = jax.tree.unflatten(tree, [*leaves[:i], leaf.T, *leaves[i + 1 :]])
            found["transpose", f"it is computed with the transpose of {name}."] = value(
                replace(point.inputs, parameters=turned), upstream
            )
    return found


def _gradient(check: Check, inputs: Inputs, path: str, taps: Taps, rule: Rule = as_it_is) -> np.ndarray:
    """One quantity's gradient, with the upstream gradients in `taps`, and with each step evaluated by `rule`."""
    _, gradients = check.loss.gradient(inputs.parameters, *inputs.args, taps=taps, rule=rule)
    found = taps.gradients | gradients
    return np.asarray(found[path] if path in found else np.zeros(check.taps[path].shape))


def paths(check: Check, point: Point, path: str) -> dict[str, np.ndarray]:
    """The nonzero parts of a quantity's gradient that flow back through each tapped value, by name."""
    if path == LOSS or not check.taps:
        return {}
    cut = point.upstream(check.taps)

    def value(upstream: Any, without: str | None = None) -> np.ndarray:
        weights = {} if without is None or without in cut else {without: 0.0}
        return _gradient(check, point.inputs, path, Taps(upstream, weights))

    whole = value(cut)
    parts = {
        name: whole - value(cut | {name: 0 * cut[name]} if name in cut else cut, name)
        for name in check.taps
        if name != path
    }
    return {name: part for name, part in parts.items() if part.any()}


@dataclass(frozen=True)
class Term:
    """One term of a sum in the gradient's program.

    Attributes:
        words: the description of the term.
        part: its contribution to the quantity.
        instead: the factor that a derivative has without this term, and the right one, if JAX writes as a sum what is
            one product when written by hand.
    """

    words: str
    part: np.ndarray
    instead: str | None = None


def terms(check: Check, point: Point, path: str) -> list[Term]:
    """The contributions to a quantity of the terms of sums in the backward pass."""
    plan = _plan(check, point)
    if path == LOSS or plan is None:
        return []
    adding = [step for step in plan if step.name == "add_any"][-MOST_TERMS // 2 :]
    if not adding:
        return []
    upstream = point.upstream(check.taps)
    words = _Words(plan, adding)
    whole = _gradient(check, point.inputs, path, Taps(upstream), words.rule)

    def without(number: int, operand: int) -> np.ndarray:
        def rule(step: Step, inputs: list[Any]) -> list[Any]:
            if (
                id(step) in words.cancelled
            ):  # no mistake in another place brings back what a derivation by hand leaves out
                return [np.zeros_like(value) for value in step.run(inputs, as_it_is)]
            if step is adding[number]:
                inputs = [np.zeros_like(value) if i == operand else value for i, value in enumerate(inputs)]
            return step.run(inputs, as_it_is)

        return _gradient(check, point.inputs, path, Taps(upstream), rule)

    found = []
    for number in range(len(adding)):
        for operand in range(2):
            part = whole - without(number, operand)
            if part.any() and np.isfinite(part).all():
                description, axes = words.of[number, operand], _constant_along(part)
                if description == UNNAMED and axes and words.comes_from_a_sum(adding[number].inputs[operand]):
                    description = f"the term of the sum or mean over {_axes_in_words(axes)}"
                found.append(Term(description, part, words.instead(adding[number], operand)))
    return found


class _Words:
    """A rule that evaluates each step unchanged, and collects descriptions of the terms of some sums.

    Args:
        plan: the gradient's program.
        adding: the sums of two terms.
    """

    def __init__(self, plan: Plan, adding: list[Step]) -> None:
        self.numbers = {id(step): number for number, step in enumerate(adding)}
        self.plan = plan
        self.producers = {place: step for step in plan for place in step.outputs}
        self.cancelled: set[int] = set()  # the `id`s of the sums whose terms cancel
        self.inputs: dict[int, list[Any]] = {}  # the inputs of each product, by `id`
        self.of: dict[tuple[int, int], str] = {}

    def rule(self, step: Step, inputs: list[Any]) -> list[Any]:
        if step.name in ("mul", "div"):
            self.inputs[id(step)] = inputs
        result = step.run(inputs, as_it_is)
        if step.name == "reduce_sum" and step.dtypes[0].kind == "f" and np.any(inputs[0]):
            total, most = np.abs(result[0]).max(initial=0), np.abs(inputs[0]).max()
            self.cancelled |= {id(step)} if total <= 1e-12 * most else set()
        number = self.numbers.get(id(step))
        if number is not None:
            for operand, (place, value) in enumerate(zip(step.inputs, inputs, strict=True)):
                self.of[number, operand] = self._words(place, np.asarray(value))
        return result

    def comes_from_a_sum(self, place: int) -> bool:
        """Whether a value depends on a reduction, which may explain why it is constant along an axis."""
        waiting, seen = [place], set()
        while waiting:
            step = self.producers.get(waiting.pop())
            if step is None or id(step) in seen:
                continue
            seen.add(id(step))
            if step.name in ("reduce_sum", "dot_general"):
                return True
            waiting += step.inputs
        return False

    def instead(self, adding: Step, operand: int) -> str | None:
        """The factor instead of tanh's derivative if a term is missing, and the right one; None for any other sum.

        JAX writes g (1 - t**2) as g (1 - t) + g (1 - t) t, with t = tanh(x).
        """
        for times, other in (adding.inputs, adding.inputs[::-1]):
            factors, terms = self._factors(times), self._summed(other)
            for t in factors if not terms.isdisjoint(factors) else ():
                tanh = self.producers.get(t)
                if tanh is None or tanh.name != "tanh":
                    continue
                rest = {s.outputs[0] for s in self.plan if s.name == "sub" and s.inputs[1] == t}
                # In forward mode, JAX writes (g + g t) (1 - t).
                after = [s.inputs for s in self.plan if s.name == "mul" and adding.outputs[0] in s.inputs]
                if any(not rest.isdisjoint(some) for some in (*after, *map(self._factors, terms))):
                    shape = tanh.equation.outvars[0].aval.shape
                    taken = "1 - t" if adding.inputs[operand] == times else "t (1 - t)"
                    return f"{taken}, and should be 1 - t**2, the derivative of t = tanh(...) of shape {shape}"
        return None

    def _summed(self, place: int) -> set[int]:
        """The terms of a nested sum, or the value itself."""
        step = self.producers.get(place)
        return (
            {place}.union(*map(self._summed, step.inputs)) if step is not None and step.name == "add_any" else {place}
        )

    def _factors(self, place: int) -> list[int]:
        """The operands if the value is a product, else none."""
        step = self.producers.get(place)
        return step.inputs if step is not None and step.name == "mul" else []

    def _words(self, place: int, value: np.ndarray) -> str:
        """The description of a term.

        The term of a mean is constant along its axes. That of a variance is the product of an array that is constant
        along them and one whose mean over them is 0.
        """
        axes = _constant_along(value)
        if axes and self.comes_from_a_sum(place):
            return f"the term of the sum or mean over {_axes_in_words(axes)}"
        for _ in range(6):
            step = self.producers.get(place)
            if step is None:
                break
            shapes = [np.shape(v) for v in self.inputs.get(id(step), ())]
            if shapes and np.broadcast_shapes(*shapes) == value.shape:
                both = [np.broadcast_to(np.asarray(v), value.shape) for v in self.inputs[id(step)] if np.ndim(v)]
                for one, other in ((0, 1), (1, 0)) if len(both) == 2 else ():
                    axes = _constant_along(both[one])
                    if axes and _is_centered(both[other], axes):
                        return f"the term of the variance over {_axes_in_words(axes)}"
            larger = [at for at in step.inputs if at in self.producers]
            if len(larger) != 1 or step.name == "add_any":
                break
            place = larger[0]
        return UNNAMED


def _constant_along(value: np.ndarray) -> tuple[int, ...]:
    """The axes along which an array is constant up to rounding errors, while it is not 0."""
    if value.size < 2:
        return ()
    largest = np.abs(value).max()
    return tuple(
        axis
        for axis, n in enumerate(value.shape)
        if n > 1 and largest > 0 and (np.ptp(value, axis=axis) <= 1e-14 * largest).all()
    )


def _is_centered(value: np.ndarray, axes: tuple[int, ...]) -> bool:
    """Whether the sums over some axes are 0 up to rounding errors."""
    sizes = np.abs(value).sum(axes)
    return bool(sizes.any() and (np.abs(value.sum(axes)) <= 1e-9 * sizes).all())


def _axes_in_words(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def overwriting(check: Check, point: Point, path: str) -> dict[str, np.ndarray]:
    """The values that a quantity would have if contributions to one entry overwrote each other, instead of being added.

    Returns:
        The values by the contribution that remains, "last" or "first"; empty if no contributions share an entry.
    """
    plan = _plan(check, point)
    if path == LOSS or plan is None:
        return {}
    adding = {id(step) for step in _backward(plan) if step.name == "scatter-add"}
    if not adding:
        return {}

    def rule(first: bool) -> Rule:
        def overwritten(step: Step, inputs: list[Any]) -> list[Any]:
            if id(step) not in adding:
                return step.run(inputs, as_it_is)
            operand, indices, updates = inputs
            numbers = step.params["dimension_numbers"]
            if first:  # the last one that is written remains, so the order is reversed
                rows = tuple(i for i in range(updates.ndim) if i not in numbers.update_window_dims)
                indices, updates = np.flip(indices, tuple(range(indices.ndim - 1))), np.flip(updates, rows)
            written = scatter(
                operand, indices, np.ascontiguousarray(updates), dimension_numbers=numbers, mode=step.params["mode"]
            )
            return [written.astype(step.dtypes[0])]

        return overwritten

    upstream = point.upstream(check.taps)
    return {
        name: _gradient(check, point.inputs, path, Taps(upstream), rule(name == "first")) for name in ("last", "first")
    }


def accumulated(check: Check, point: Point, path: str) -> tuple[np.ndarray, int] | None:
    """A parameter's gradient if its last sum were accumulated in 16 bits, and the number of terms of that sum.

    Returns:
        None if the quantity is no parameter's gradient in 16 bits, or is not computed by a sum.
    """
    plan, names = _plan(check, point), check.loss.names
    if plan is None or path not in names or not is_narrow(check.dtype):
        return None
    producers = {place: step for step in plan for place in step.outputs}
    step = producers.get(plan.outputs[1 + names.index(path)])
    while step is not None and len(step.inputs) == 1 and not (step.name == "reduce_sum" and _shrinks(step)):
        step = producers.get(step.inputs[0])
    if step is None or step.name not in ("reduce_sum", "dot_general"):
        return None
    last, count = step, 0

    def rule(step: Step, inputs: list[Any]) -> list[Any]:
        nonlocal count
        if step is not last:
            return step.run(inputs, as_it_is)
        total = np.zeros(step.equation.outvars[0].aval.shape, check.dtype)
        summands, count = _summands(step, inputs)
        if count * total.size > MOST_SUMMED:
            return step.run(inputs, as_it_is)
        for summand in summands:
            total = (total.astype(np.float32) + summand.astype(check.dtype).astype(np.float32)).astype(check.dtype)
        return [total.astype(step.dtypes[0])]

    value = _gradient(check, point.inputs, path, Taps(point.upstream(check.taps)), rule)
    return value, count


def _shrinks(step: Step) -> bool:
    return step.equation.invars[0].aval.size > step.equation.outvars[0].aval.size


def _summands(step: Step, inputs: list[Any]) -> tuple[Iterator[np.ndarray], int]:
    """The terms of a sum or of a matrix product, and their number."""
    if step.name == "reduce_sum":
        axes = tuple(step.params["axes"])
        moved = np.moveaxis(inputs[0], axes, tuple(range(len(axes))))
        flat = moved.reshape(-1, *moved.shape[len(axes) :])
        return iter(flat), len(flat)
    (left_sum, right_sum), (left_same, right_same) = step.params["dimension_numbers"]

    def arranged(value: np.ndarray, summed: Any, same: Any) -> np.ndarray:
        """The array with three axes: the contracted axes, the batch axes, and the rest, each flattened."""
        rest = [i for i in range(value.ndim) if i not in (*summed, *same)]
        sizes = [int(np.prod([value.shape[i] for i in axes], dtype=int)) for axes in (summed, same, rest)]
        return value.transpose(*summed, *same, *rest).reshape(sizes)

    left, right = arranged(inputs[0], left_sum, left_same), arranged(inputs[1], right_sum, right_same)
    shape = step.equation.outvars[0].aval.shape
    return ((a[:, :, None] * b[:, None, :]).reshape(shape) for a, b in zip(left, right, strict=True)), len(left)


def errors_nearby(check: Check, point: Point, path: str, count: int = 8) -> np.ndarray | None:
    """A quantity's errors at `count` points whose parameters differ by about 1%.

    Rounding errors differ from point to point, while the error of a wrong formula is about the same.

    Returns:
        The errors, (count, *shape of the quantity); None if they cannot be computed at all of the points.
    """
    found = [error for _, error in _nearby(check, point, path, count)]
    return np.array(found) if len(found) == count else None


def decays_nearby(check: Check, point: Point, path: str, count: int = 2) -> np.ndarray | None:
    """The multiple of the parameter that is closest to its gradient's error, at `count` points nearby.

    Returns:
        The multiples, (count,); None if they cannot be computed at all of the points.
    """
    found = [np.vdot(p, error) / np.vdot(p, p) for p, error in _nearby(check, point, path, count) if p is not None]
    return np.array(found) if len(found) == count else None


def _nearby(check: Check, point: Point, path: str, count: int) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Yields, at up to `count` points nearby, the parameter (None for another quantity) and the quantity's error."""
    for there in points_nearby(check, point, count):
        if path not in there.actual or path == LOSS:
            return
        expected = _gradient(check, there.inputs, path, Taps(there.upstream(check.taps)))
        actual = there.actual[path]
        if actual.shape != expected.shape:
            return
        yield there.inputs.leaves.get(path), np.asarray(actual, np.float64) - expected


def traced_gradient(check: Check, point: Point, path: str, effort: Effort) -> Traced | None:
    """The gradient's program, evaluated at the point, with the quantity as its target.

    Args:
        effort: the number of steps that may be evaluated again by all edits of all quantities.

    Returns:
        The program; None if it is too large, or does not compute the quantity.
    """
    plan = _plan(check, point)
    target = None if plan is None else _place(check, point, plan, path)
    if plan is None or target is None or plan.entries() > MOST_ENTRIES:
        return None
    inputs = point.inputs
    rest = [inputs.label(name, path) for name in inputs.names[1:] for path in inputs.by_argument[name]]
    names = dict(zip(plan.inputs, [*inputs.leaves, "origin", *rest], strict=True))
    given = check.given(*inputs.args) if check.given else {}

    def evaluated(at: Point) -> Evaluated:
        values = [*jax.tree.leaves(at.inputs.parameters), np.float64(0), *jax.tree.leaves(at.inputs.args)]
        return Evaluated(plan, values, Taps(given | at.upstream(check.taps)).around)

    def elsewhere() -> list[tuple[Evaluated, np.ndarray, float]]:
        found = []
        for there in points_nearby(check, point, 2):
            actual = there.actual.get(path)
            if actual is None or actual.shape != np.shape(point.actual[path]) or not np.isfinite(actual).all():
                return []
            found.append((evaluated(there), np.asarray(actual, np.float64), 0.0))
        return found

    back = {id(step) for step in _backward(plan)}
    return Traced(
        evaluated(point),
        target,
        names,
        effort,
        back,
        of_the_reference=not check.own,
        elsewhere=functools.cache(elsewhere),
    )


def _place(check: Check, point: Point, plan: Plan, path: str) -> int | None:
    """The index of a quantity among the values of the gradient's program; None if it is not there."""
    if path == LOSS:
        return plan.outputs[0]
    names = check.loss.names
    if path in names:
        return plan.outputs[1 + names.index(path)]
    mark = "marked" if path in check.outputs else "arrives"
    return next((s.inputs[0] for s in plan if s.name == mark and s.params["name"] == path), None)


def points_nearby(check: Check, point: Point, count: int) -> Iterator[Point]:
    """Yields points whose parameters differ by about 1%, with the hand-written results, until the code fails at one."""
    random = np.random.default_rng(check.seed)

    def moved(leaf: np.ndarray) -> np.ndarray:
        by = random.standard_normal(leaf.shape)
        by = (by + np.swapaxes(by, -1, -2)) / 2 if is_symmetric(leaf) else by
        return (leaf * (1 + 1e-2 * by)).astype(leaf.dtype)

    for _ in range(count):
        there = replace(point.inputs, parameters=jax.tree.map(moved, point.inputs.parameters))
        try:
            answer = check.answer(check.by_hand.unwatched(there), there)
        except CodeUnderTestFailed:  # the code under test does not work at that point
            return
        yield Point(there, answer, {}, {}, [], 0)


def _plan(check: Check, point: Point) -> Plan | None:
    try:
        return check.loss.at(point.inputs.parameters, *point.inputs.args).gradient_plan
    except CodeUnderTestFailed:
        return None


def _backward(plan: Plan) -> list[Step]:
    """The steps of the backward pass: those on which the loss does not depend."""
    needed = {plan.outputs[0]}
    forward = set()
    for step in reversed(plan.steps):
        if not needed.isdisjoint(step.outputs):
            needed.update(step.inputs)
            forward.add(id(step))
    return [step for step in plan if id(step) not in forward]
