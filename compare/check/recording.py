"""Reads recordings of training steps, which a program in any language has written.

A recording is an array file of one or more steps. Its arrays have these names:

    step.1/...                       in front of each name below if there are several steps, counted from 1
    parameters/W1   inputs/x         the first argument of the loss, and its other arguments by their names
    loss            gradients/W1     the loss and its gradients, as the step computed them
    values/h        intermediates/h  values that the loss marks with tap, and the gradients with respect to them
    next/W1                          the parameters after the update

The writers in `compare.check.writers` and docs/recording.md quote these rules; a test compares them.

The parts of a name are separated by slashes or by dots. The parameters are a dict whose keys are the rest of the name
after `parameters/`, with dots. An input whose name has more than one part is a dict as well: `inputs/frozen/a.weight`
is the argument `frozen`, {"a.weight": ...}. If the loss has no argument with the name of an input, the inputs are its
arguments in the order of the file. Values are compared if there are two recordings, and ignored if a recording is
compared with a loss.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import BadInput
from compare.pytrees import LOSS

PARTS = ("parameters", "inputs", "gradients", "values", "intermediates", "next", LOSS)


@dataclass
class RecordedStep:
    """The arrays of one step. Each part of the recording is a dict of arrays by name, except for the loss."""

    number: int
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    intermediates: dict[str, np.ndarray] = field(default_factory=dict)
    next: dict[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray | None = None

    def by_hand(self) -> Callable[..., Any]:
        """A function that returns the recorded results, whatever its arguments, in the form that a check takes."""

        def recorded(parameters: Any, *args: Any) -> Any:
            return self.loss, self.gradients, self.intermediates

        return recorded


def parsed(name: str) -> tuple[int, str, str]:
    """Split the name of an array in a recording.

    Args:
        name: the name. It need not be a valid one.

    Returns:
        The number of the step (1 if the name has none), the part, such as "gradients", and the rest of the name.
    """
    words = re.split(r"[/.]", name)
    number = 1
    if words[0] == "step" and len(words) > 1 and re.fullmatch("[0-9]{1,9}", words[1]):
        number, words = int(words[1]), words[2:]
    return number, words[0] if words else "", ".".join(words[1:])


def recorded_steps(arrays: dict[str, np.ndarray]) -> list[RecordedStep]:
    """The steps of a recording.

    Args:
        arrays: the arrays of a recording, by name.

    Returns:
        The steps, in the order of their numbers.

    Raises:
        BadInput: a ValueError, if a name is invalid or occurs twice, if parameters or gradients are missing, or if the
            parameters of two steps have different names, shapes or dtypes.
    """
    steps: dict[int, RecordedStep] = {}
    for name, array in arrays.items():
        number, part, leaf = parsed(name)
        if part not in PARTS or (not leaf) != (part == LOSS):
            raise BadInput(
                f"{name!r} is no name of a recording. Names are loss, or begin with {', '.join(PARTS[:-1])}, as in "
                "parameters/W1; with several steps, step.1/parameters/W1."
            )
        step = steps.setdefault(number, RecordedStep(number))
        if step.loss is not None if part == LOSS else leaf in getattr(step, part):
            raise BadInput(
                f"{name!r} is in the recording twice. Slashes and dots mean the same, and so do names with and without "
                "step.1."
            )
        if part == LOSS:
            if array.size != 1:
                raise BadInput(
                    f"{name!r} is an array of shape {array.shape}, but a loss is one number. Record its sum or mean."
                )
            step.loss = array.reshape(())  # a program in C may record a number as an array with one entry
        else:
            getattr(step, part)[leaf] = array
    if not steps:
        raise BadInput("the recording holds no arrays.")
    found = [steps[number] for number in sorted(steps)]
    for step in found:
        _refuse(step, found[0])
    return found


def _refuse(step: RecordedStep, first: RecordedStep) -> None:
    """Raises BadInput for a step that is incomplete, or whose parameters differ in form from those of the first."""
    where = f"step {step.number}"
    for part in ("parameters", "gradients"):
        if not getattr(step, part):
            raise BadInput(f"{where} of the recording has no {part}/..., which each step must have.")
    extra = next((name for name in step.parameters if name not in first.parameters), None)
    if extra is not None:
        raise BadInput(f"{where} of the recording has parameters/{extra}, but step {first.number} does not.")
    for name, array in first.parameters.items():
        other = step.parameters.get(name)
        if other is None:
            raise BadInput(f"{where} of the recording has no parameters/{name}, but step {first.number} does.")
        if other.shape != array.shape or other.dtype != array.dtype:
            raise BadInput(
                f"parameters/{name} is {other.dtype} of shape {other.shape} at {where}, and {array.dtype} of shape "
                f"{array.shape} at step {first.number}."
            )
    extra = next((name for name in step.next if name not in step.parameters), None)
    if extra is not None:
        raise BadInput(f"{where} of the recording has next/{extra}, but no parameters/{extra}.")


def arguments(step: RecordedStep, loss: Callable[..., Any]) -> tuple[tuple[Any, ...], list[str]]:
    """The arguments of a loss after the parameters, from the inputs of a recorded step.

    Args:
        step: the step.
        loss: a function `loss(parameters, *inputs)`.

    Returns:
        The arguments in their order, and the names of the inputs that the loss does not take.

    Raises:
        BadInput: a ValueError, if the step lacks an input that the loss needs.
    """
    inputs = _trees(step)
    try:
        signature = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # builtin functions may have no signature
        signature = ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = {one.name: one.default for one in list(signature)[1:] if one.kind in positional}
    if not takes.keys() & inputs.keys():
        return tuple(inputs.values()), []
    given = [inputs.get(name, default) for name, default in takes.items()]
    lacking = [name for name, value in zip(takes, given, strict=True) if value is inspect.Parameter.empty]
    if lacking:
        raise BadInput(
            f"step {step.number} of the recording has no inputs/{lacking[0]}, which the loss needs; it has "
            f"{', '.join(f'inputs/{name}' for name in inputs)}."
        )
    return tuple(given), [name for name in inputs if name not in takes]


def _trees(step: RecordedStep) -> dict[str, Any]:
    """The inputs by the first part of their names: arrays, or dicts of arrays by the rest of the name."""
    inputs: dict[str, Any] = {}
    for name, array in step.inputs.items():
        first, dot, rest = name.partition(".")
        known = inputs.setdefault(first, {} if dot else array)
        if dot:
            if not isinstance(known, dict):
                raise BadInput(
                    f"inputs/{first} and inputs/{name} are both in the recording, but an input is an array or a dict."
                )
            known[rest] = array
        elif known is not array:
            raise BadInput(
                f"inputs/{first}/... and inputs/{first} are both in the recording, but an input is an array or a dict."
            )
    return inputs
