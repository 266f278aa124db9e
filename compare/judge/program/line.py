"""Evaluates a program at many points of one line, as finite differences need it.

What does not depend on the changing inputs is evaluated once. What depends on them linearly, such as the matrix product
of a first layer, is evaluated at two points and interpolated. Only the rest is evaluated at every point.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from compare.judge.program.plan import Plan, Step, as_it_is, settled
from compare.judge.program.primitives.row import Kind, Rounds

Array = Any

ADDITIONS = {"add", "add_any", "sub"}  # linear in all inputs together; other linear operations are linear in each input
WIDE = np.dtype(np.float64)


def along(
    plan: Plan, start: Sequence[Array], direction: Sequence[Array | None], steps: Iterable[float]
) -> list[list[Array]]:
    """The plan's results at inputs `start + step * direction`, for each step; None stands for a direction of 0."""
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
                    changes[place] = np.where(
                        at_end == at_start, 0.0, at_end - at_start
                    )  # equal infinities differ by 0
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
    """The steps whose results are constant or linear, and those that must be evaluated at every point."""
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
    """Whether a step is linear in its changing inputs, whose number is `moving`. Conversions are not, as they round."""
    row = step.row
    linear = row.kind is Kind.LINEAR and row.analytic and row.rounds is not Rounds.IF_NARROWER
    together = moving == 1 or step.name in ADDITIONS
    return linear and together and all(dtype == WIDE for dtype in step.dtypes)
