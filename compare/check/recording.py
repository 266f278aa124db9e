"""Steps that were recorded elsewhere, in any language, judged from their file.

The naming rule of a recording, which is an array file of one or more steps:

    parameters/W1   inputs/x   gradients/W1      what the step worked on, and what it found
    loss            intermediates/h              the loss, and gradients with respect to marked values, if there are any
    next/W1         state/m/W1  next_state/m/W1  the parameters after the update, and the optimizer's state, likewise
    step.3/...                                   in front of all of these, if there are several steps, from 1 on

Slashes and dots both separate; the inputs are arguments of the loss by name, or in the order of the file.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import BadInput
from compare.pytrees import LOSS

PARTS = ("parameters", "inputs", "gradients", "intermediates", "next", "state", "next_state", LOSS)


@dataclass
class RecordedStep:
    """One step by part: arrays by name in each, but the loss alone."""

    number: int
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    intermediates: dict[str, np.ndarray] = field(default_factory=dict)
    next: dict[str, np.ndarray] = field(default_factory=dict)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    next_state: dict[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray | None = None

    def by_hand(self) -> Callable[..., Any]:
        """The recorded answer as the function that it came from: it knows one question only."""

        def recorded(parameters: Any, *args: Any) -> Any:
            return self.loss, self.gradients, self.intermediates

        return recorded


def recorded_steps(arrays: dict[str, np.ndarray]) -> list[RecordedStep]:
    """The steps of a recording.

    Args:
        arrays: by the names that the naming rule gives them.

    Returns:
        The steps, in the order of their numbers.

    Raises:
        BadInput: a ValueError, for names of another form or twice, for what is missing, and for parameters that are
            others at a later step.
    """
    steps: dict[int, RecordedStep] = {}
    for name, array in arrays.items():
        words = re.split(r"[/.]", name)
        number = 1
        if words[0] == "step" and len(words) > 1 and re.fullmatch("[0-9]{1,9}", words[1]):
            number, words = int(words[1]), words[2:]
        part, leaf = (words[0], ".".join(words[1:])) if words else ("", "")
        if part not in PARTS or (not leaf) != (part == LOSS):
            raise BadInput(
                f"{name!r} is no name of a recording. Names are loss, or begin with {', '.join(PARTS[:-1])}, as in "
                "parameters/W1; with several steps, step.1/parameters/W1."
            )
        step = steps.setdefault(number, RecordedStep(number))
        if step.loss is not None if part == LOSS else leaf in getattr(step, part):
            raise BadInput(
                f"{name!r} is in the recording twice: slashes and dots both separate, and step 1 needs no name."
            )
        if part == LOSS:
            step.loss = array
        else:
            getattr(step, part)[leaf] = array
    if not steps:
        raise BadInput("the recording holds no arrays.")
    found = [steps[number] for number in sorted(steps)]
    for step in found:
        _refuse(step, found[0])
    return found


def _refuse(step: RecordedStep, first: RecordedStep) -> None:
    where = f"step {step.number}"
    for part in ("parameters", "gradients"):
        if not getattr(step, part):
            raise BadInput(f"{where} of the recording has no {part}/...: each step must have them.")
    extra = next((name for name in step.parameters if name not in first.parameters), None)
    if extra is not None:
        raise BadInput(f"{where} of the recording has parameters/{extra}, and step {first.number} has not.")
    for name, array in first.parameters.items():
        other = step.parameters.get(name)
        if other is None:
            raise BadInput(f"{where} of the recording has no parameters/{name}, and step {first.number} has.")
        if other.shape != array.shape or other.dtype != array.dtype:
            raise BadInput(
                f"parameters/{name} is {other.dtype} of shape {other.shape} at {where}, and {array.dtype} of shape "
                f"{array.shape} at step {first.number}."
            )


def arguments(step: RecordedStep, loss: Callable[..., Any]) -> tuple[np.ndarray, ...]:
    """The inputs of a step in the order in which the loss takes them. Raises BadInput, a ValueError."""
    try:
        names = list(inspect.signature(loss).parameters)[1:]
    except (TypeError, ValueError):  # a builtin
        names = []
    if set(step.inputs) <= set(names):
        lacking = [name for name in names[: len(step.inputs)] if name not in step.inputs]
        if lacking:
            raise BadInput(f"step {step.number} of the recording has no inputs/{lacking[0]}, which the loss takes.")
        return tuple(step.inputs[name] for name in names if name in step.inputs)
    return tuple(step.inputs.values())
