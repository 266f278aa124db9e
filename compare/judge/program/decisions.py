"""Records the discrete results of an evaluation (floor, comparisons, sorting) so that other evaluations repeat them.

If 5.0 is perturbed to 4.99, its floor changes from 5 to 4. If 5.0 is an input and not a computed value, no correct
program would round it to 4.99, and the effect of this jump is not a rounding error. So perturbed runs and finite
differences repeat the decisions of the unperturbed run.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.judge.program.plan import Rule, Step
from compare.judge.program.primitives.row import Kind

Array = Any


class Decisions:
    """The decisions of an evaluation, for each step.

    Args:
        steady: whether comparisons and sorting are repeated, and not only decisions about single numbers such as
            rounding to integers. False lets a perturbed run order two numbers differently that differ only by rounding
            errors, as another program may.
    """

    def __init__(self, steady: bool = True) -> None:
        self.steady = steady
        self.made: dict[int, list[Any]] = {}  # by the identity of the step, in the order of its evaluations

    def recording(self) -> Rule:
        """The rule of the run whose decisions are recorded."""
        self.made = {}

        def rule(step: Step, inputs: list[Array]) -> list[Array]:
            outputs = step.run(inputs, rule)
            if self.decides(step, inputs):
                self.made.setdefault(id(step), []).append(_decision(step, inputs, outputs))
            return outputs

        return rule

    def repeated(self) -> "Repeated":
        """The recorded decisions for another run."""
        return Repeated(self)

    def decides(self, step: Step, inputs: list[Array]) -> bool:
        """Whether the step makes a decision that is recorded."""
        kind = step.row.kind
        if kind is Kind.DISCRETE:
            return not step.keys
        if step.name == "convert_element_type":
            return step.dtypes[0].kind in "iu" and np.asarray(inputs[0]).dtype.kind not in "iub"
        if step.name == "rem":
            return step.dtypes[0].kind == "f"
        return self.steady and (kind is Kind.COMPARISON or step.name in ("sort", "top_k"))


class Repeated:
    """Returns the recorded decisions of each step in the order in which they were made."""

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions
        self.left: dict[int, Iterator[Any]] = {}

    def at(self, step: Step, inputs: list[Array]) -> list[Array] | None:
        """The results of a step with its next recorded decision; None if it makes no decision or none is recorded."""
        if not self.decisions.decides(step, inputs):
            return None
        left = self.left.setdefault(id(step), iter(self.decisions.made.get(id(step), ())))
        made = next(left, None)
        return None if made is None else _with_decision(step, inputs, made)

    def rule(self, step: Step, inputs: list[Array]) -> list[Array]:
        """The rule of an unperturbed run with the recorded decisions."""
        made = self.at(step, inputs)
        return step.run(inputs, self.rule) if made is None else made


def _decision(step: Step, inputs: list[Array], outputs: list[Array]) -> Any:
    """The recorded decision of a step: the outputs, or for some operations less.

    A sort records its permutation, top_k its indices, and a remainder the rounded quotient.
    """
    if step.name == "sort":
        return _order(step, inputs)
    if step.name == "top_k":
        return outputs[1]
    if step.name == "rem":
        x, y = inputs
        return np.round((x - outputs[0]) / np.where(y == 0, 1, y))
    return outputs


def _with_decision(step: Step, inputs: list[Array], made: Any) -> list[Array]:
    if step.name == "sort":
        return [np.take_along_axis(value, made, step.params["dimension"]) for value in inputs]
    if step.name == "top_k":
        return [np.take_along_axis(inputs[0], np.asarray(made, np.intp), step.params.get("axis", -1)), made]
    if step.name == "rem":
        x, y = inputs
        return [np.asarray(x - made * y)]
    return made


def _order(step: Step, inputs: list[Array]) -> Array:
    axis, shape = step.params["dimension"], inputs[0].shape
    places = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    evaluate = step.row.evaluate
    assert evaluate is not None  # sort has a rule
    return evaluate(*inputs, np.broadcast_to(places, shape).copy(), **step.params)[-1]
