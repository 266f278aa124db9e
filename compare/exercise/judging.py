"""Applies the judge's checks to the functions that a learner wrote."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compare import GradientReport, TrajectoryReport, check_gradients, check_trajectory, check_vjp
from compare.exercise import EXERCISES
from compare.exercise.entry import Exercise, normal
from compare.exercise.references import REFERENCES
from compare.exercise.sheet import function_name

Report = GradientReport | TrajectoryReport
STEPS = 3  # The number of steps of an optimizer. A mistake in its step count shows at the second step.


def report_on(name: str, functions: Mapping[str, Callable[..., Any]]) -> Report:
    """The judge's report on a learner's functions.

    The reference is known to be right, so that no finite differences are needed to tell which side is wrong.

    Args:
        name: The exercise.
        functions: The learner's functions by their names.
    """
    exercise, own, reference = EXERCISES[name], functions[function_name(name)], REFERENCES[name]
    if exercise.door == "step":
        return _of_steps(own, exercise, reference)
    given = functions[name]
    if exercise.door == "backward":
        return check_vjp(given, own, reference, *exercise.inputs, references=False)

    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> tuple[Any, ...]:  # the report uses these names
        loss, cache = given(parameters, x, y)
        found = own(parameters, cache)
        return (loss, *found) if isinstance(found, tuple) else (loss, found)

    return check_gradients(loss_and_gradients, reference, *exercise.inputs, references=False)


def _of_steps(own: Callable[..., Any], exercise: Exercise, reference: Callable[..., Any]) -> TrajectoryReport:
    """The report on some steps of an optimizer. The gradients are given as data."""
    p = {"p": normal(3, 2)}
    names = exercise.inputs
    state = {"t": np.zeros((), np.int32)} | {name: {"p": np.zeros_like(p["p"])} for name in names}
    batches = [({"p": normal(3, 2, seed=step + 1)},) for step in range(STEPS)]

    def step(parameters: Any, state: dict[str, Any], gradients: Any) -> tuple[Any, dict[str, Any]]:
        t = state["t"] + 1
        new, *kept = own(parameters["p"], gradients["p"], *(state[name]["p"] for name in names), int(t))
        return {"p": new}, {"t": t} | {name: {"p": value} for name, value in zip(names, kept, strict=True)}

    return check_trajectory(step, reference, p, batches, state=state)
