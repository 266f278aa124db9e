"""Evaluates a program at many points of one line, for finite differences.

Steps that do not depend on the changing inputs are evaluated once. Steps that depend on them linearly, such as the
matrix product of a first layer, are evaluated at two points and interpolated. Only the other steps are evaluated at
every point.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from compare.judge.program.plan import Plan, Step, as_it_is, settled
from compare.judge.program.primitives.row import Kind, Rounds

Array = Any

ADDITIONS = {"add", "add_any", "sub"}  # jointly linear in all inputs; other linear operations are linear in each input
WIDE = np.dtype(np.float64)


def along(
    plan: Plan, start: Sequence[Array], direction: Sequence[Array | None], steps: Iterable[float]
) -> list[list[Array]]:
    """The plan's results along a line.

    Args:
        plan: the program.
        start: the inputs at step 0.
        direction: for each input, its change per unit step; None if the input does not change.
        steps: the steps.

    Returns:
        The results at `start + step * direction`, in float64, for each step.
    """
    dtypes = dict(zip(plan.inputs, plan.in_dtypes, strict=True))
    changes = {place: change for place, change in zip(plan.inputs, direction, strict=True) if change is not None}
    values = plan.values.copy()
    for place, value in zip(plan.inputs, start, strict=True):
        values[place] = np.asarray(value, WIDE) if place in changes else settled(value, dtypes[place])
    curves = {place for place in changes if dtypes[place] != WIDE}  # inputs of other dtypes are rounded at each point
    once, each_time = _sorted_out(plan, changes.keys() - curves, curves)
    needed = {*plan.inputs, *plan.outputs, *(place for step in each_time for place in step.inputs)}
    with np.errstate(all="ignore"):
        for step in once:
            given = [values[place] for place in step.inputs]
            outputs = step.run(given, as_it_is)
            if not changes.keys().isdisjoint(step.inputs):
                ends = [x + changes[p] if p in changes else x for p, x in zip(step.inputs, given, strict=True)]
                for place, at_start, at_end in zip(step.outputs, outputs, step.run(ends, as_it_is), strict=True):
                    # The difference of equal infinities would be NaN.
                    changes[place] = np.where(at_end == at_start, 0.0, at_end - at_start)
            for place, value in zip(step.outputs, outputs, strict=True):
                values[place] = value
            for place in step.last:
                if place not in needed:
                    values[place] = None
                    changes.pop(place, None)

        def results(step: float) -> list[Array]:
            here = values.copy()
            for place, change in changes.items():
                value = np.asarray(step * change)
                value += values[place]
                here[place] = settled(value, dtypes.get(place, WIDE))
            for todo in each_time:
                outputs = todo.run([here[place] for place in todo.inputs], as_it_is)
                for place, value in zip(todo.outputs, outputs, strict=True):
                    here[place] = value
                for place in todo.last:
                    here[place] = None
            return [here[place] for place in plan.outputs]

        return [results(float(step)) for step in steps]


def _sorted_out(plan: Plan, lines: set[int], curves: set[int]) -> tuple[list[Step], list[Step]]:
    """The steps whose results are constant or linear, and the steps that must be evaluated at every point.

    `lines` are the places of values that change linearly, `curves` those of values that change in any other way.
    """
    once: list[Step] = []
    each_time: list[Step] = []
    lines, curves = set(lines), set(curves)
    for step in plan:
        moving = [place in lines for place in step.inputs]
        if not curves.isdisjoint(step.inputs) or (any(moving) and not _is_linear(step, sum(moving))):
            curves.update(step.outputs)
            each_time.append(step)
        else:
            once.append(step)
            if any(moving):
                lines.update(step.outputs)
    return once, each_time


def _is_linear(step: Step, moving: int) -> bool:
    """Whether a step is linear in its changing inputs, of which there are `moving`.

    A conversion is not linear, because it rounds.
    """
    row = step.row
    linear = row.kind is Kind.LINEAR and row.analytic and row.rounds is not Rounds.IF_NARROWER
    together = moving == 1 or step.name in ADDITIONS
    return linear and together and all(dtype == WIDE for dtype in step.dtypes)
