"""The judge's checks, put to what a learner wrote."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compare import GradientReport, TrajectoryReport, check_gradients, check_trajectory, check_vjp
from compare.exercise import EXERCISES
from compare.exercise.entry import Exercise, normal
from compare.exercise.references import REFERENCES
from compare.exercise.sheet import function_name

Report = GradientReport | TrajectoryReport
STEPS = 3  # of an optimizer: what depends on the count shows at the second


def report_on(name: str, functions: Mapping[str, Callable[..., Any]]) -> Report:
    """What the judge says of a learner's functions, which it gets by their names.

    The reference is right, so that finite differences need not be asked which side is wrong.
    """
    exercise, own, reference = EXERCISES[name], functions[function_name(name)], REFERENCES[name]
    if exercise.door == "step":
        return _of_steps(own, exercise, reference)
    given = functions[name]
    if exercise.door == "backward":
        return check_vjp(given, own, reference, *exercise.inputs, references=False)

    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> tuple[Any, ...]:  # whose names are in the report
        loss, cache = given(parameters, x, y)
        found = own(parameters, cache)
        return (loss, *found) if isinstance(found, tuple) else (loss, found)

    return check_gradients(loss_and_gradients, reference, *exercise.inputs, references=False)


def _of_steps(own: Callable[..., Any], exercise: Exercise, reference: Callable[..., Any]) -> TrajectoryReport:
    """The gradients are data here: what is judged is what is done with them."""
    p = {"p": normal(3, 2)}
    names = exercise.inputs
    state = {"t": np.zeros((), np.int32)} | {name: {"p": np.zeros_like(p["p"])} for name in names}
    batches = [({"p": normal(3, 2, seed=step + 1)},) for step in range(STEPS)]

    def step(parameters: Any, state: dict[str, Any], gradients: Any) -> tuple[Any, dict[str, Any]]:
        t = state["t"] + 1
        new, *kept = own(parameters["p"], gradients["p"], *(state[name]["p"] for name in names), int(t))
        return {"p": new}, {"t": t} | {name: {"p": value} for name, value in zip(names, kept, strict=True)}

    return check_trajectory(step, reference, p, batches, state=state)
