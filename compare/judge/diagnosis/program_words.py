"""A traced program's values in words: as formulas of its inputs, with the line that they come from."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.extend import source_info_util

from compare.judge.program.plan import Plan, Step
from compare.judge.program.trace import DERIVED

BETWEEN = {"add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/", "dot_general": "@", "rem": "%"} | {
    "gt": ">",
    "lt": "<",
    "ge": ">=",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
}
# What changes nothing that a formula would show.
SEEN_THROUGH = {
    "nudged",
    "bent",
    "marked",
    "name",
    "convert_element_type",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
} | {
    "copy",
    "stop_gradient",
    "arrives",
}
NOUNS = {
    "add": "sum",
    "add_any": "sum",
    "sub": "difference",
    "mul": "product",
    "div": "quotient",
    "dot_general": "matrix product",
    "integer_pow": "power",
    "pow": "power",
    "reduce_sum": "sum",
    "select_n": "choice",
    "neg": "change of sign",
}
BACK = re.compile(r"transpose\(")
NUMBER = re.compile(re.escape(DERIVED) + r"(\d+)")
LONGEST = 60
GRADIENT = "the gradient"


class Words:
    """Names for what is in a plan.

    Args:
        names: of the plan's inputs, by place.
        backward: the identities of the steps that the function itself does not need.
        values: what is there, by place; nothing is known of it inside of a loop.
    """

    def __init__(
        self, plan: Plan, names: Mapping[int, str], backward: set[int], values: Sequence[Any] | None = None
    ) -> None:
        self.plan, self.names, self.backward = plan, dict(names), backward
        for step in plan:
            if step.name == "marked":
                self.names.setdefault(step.inputs[0], step.params["name"])
            elif step.name == "arrives":
                self.names.setdefault(step.inputs[0], f"{GRADIENT} of {step.params['name']}")
        self.values = plan.values if values is None else values
        self.producers = {place: step for step in plan for place in step.outputs}
        self.sources: dict[str, Step] = {}  # the function's operations, by number
        for step in plan:
            number = operation_of(step)
            if number is not None and id(step) not in backward and step.name not in SEEN_THROUGH:
                self.sources.setdefault(number, step)

    def of_a_loop(self, plan: Plan, step: Step) -> "Words":
        """The words for what a step repeats."""
        return Words(plan, {}, {id(inside) for inside in plan} if id(step) in self.backward else set())

    def is_mask(self, place: int) -> bool:
        """Whether it is known to hold both 0 and 1, and nothing else."""
        value = self.values[place]
        if value is None or np.ndim(value) == 0 or np.asarray(value).dtype.kind not in "fiub":
            return False
        return set(np.unique(value).tolist()) == {0, 1}

    def value(self, place: int, depth: int = 2) -> str:
        """A formula, short enough to be read."""
        for fewer in range(depth, -1, -1):
            words = self._formula(place, fewer)
            if len(words) <= LONGEST:
                return words
        return "..."

    def _formula(self, place: int, depth: int) -> str:
        if place in self.names:
            return self.names[place]
        step = self.producers.get(place)
        if step is None:
            constant = self.plan.values[place]
            return _constant(constant) if constant is not None else "an item of the loop"
        if step.name in SEEN_THROUGH:
            return self._formula(step.inputs[0], depth)
        if id(step) in self.backward and self._is_back(step):
            return self._gradient(step)
        if depth == 0:
            return "(...)" if step.name in NOUNS else f"{step.name}(...)"
        inner = [self._formula(at, depth - 1) for at in step.inputs]
        if step.name in BETWEEN:
            return f" {BETWEEN[step.name]} ".join(_in_brackets(words) for words in inner)
        if step.name == "pow":
            return f"{_in_brackets(inner[0])}**{_in_brackets(inner[1])}"
        if step.name == "integer_pow":
            return f"{_in_brackets(inner[0])}**{step.params['y']}"
        if step.name == "square":
            return f"{_in_brackets(inner[0])}**2"
        if step.name == "neg":
            return f"-{_in_brackets(inner[0])}"
        name = "sum" if step.name == "reduce_sum" else step.name
        return f"{name}({', '.join(inner)})"

    def _gradient(self, step: Step) -> str:
        """What a value on the way back is the gradient of, if that is clear."""
        source = self.sources.get(operation_of(step) or "")
        if source is None:
            return GRADIENT
        shape = step.equation.outvars[0].aval.shape
        to = {
            place
            for place, atom in zip(source.inputs, source.equation.invars, strict=True)
            if atom.aval.shape == shape and place not in step.inputs and self.plan.values[place] is None
        }
        if len(to) == 1 and step.name in ("mul", "div", "dot_general", "neg", "broadcast_in_dim"):
            return f"{GRADIENT} of {_in_brackets(self._formula(to.pop(), 1))}"
        return GRADIENT

    def _is_back(self, step: Step) -> bool:
        return bool(BACK.search(str(step.equation.source_info.name_stack)))

    def where(self, step: Step) -> str:
        """The line, and whether it is on the way back from there."""
        line = line_of(step)
        if id(step) in self.backward:
            return f" on the way back{f' from {line}' if line else ''}"
        return f" ({line})" if line else ""


def line_of(step: Step) -> str:
    """The line of the reference that an operation comes from: file and number; empty if nobody knows."""
    summary = source_info_util.summarize(step.equation.source_info).split(" ")[0]
    path, _, rest = summary.partition(":")
    number = rest.partition(":")[0]
    return f"{Path(path).name}:{number}" if number.isdigit() else ""


def operation_of(step: Step) -> str | None:
    """The number of the function's operation that a step was derived from: the innermost, of one in a loop."""
    found = NUMBER.findall(str(step.equation.source_info.name_stack))
    return found[-1] if found else None


def _constant(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{float(value):.6g}" if np.asarray(value).dtype.kind in "fiub" else str(value)
    return f"a constant of shape {np.shape(value)}"


def _in_brackets(words: str) -> str:
    """The words in brackets, if they are a formula of several parts."""
    deep = 0
    for letter in "" if words.startswith(("a constant", GRADIENT)) else words:
        deep += (letter == "(") - (letter == ")")
        if letter == " " and not deep:
            return f"({words})"
    return words
