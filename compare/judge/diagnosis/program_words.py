"""Descriptions of a traced program's values: formulas of its inputs, and the lines of code that compute them."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compare.judge.program import trace
from compare.judge.program.plan import Plan, Step
from compare.judge.program.trace import DERIVED

# The binary operators, as they are written between their operands.
BETWEEN = {"add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/", "dot_general": "@", "rem": "%"} | {
    "gt": ">",
    "lt": "<",
    "ge": ">=",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
}
# Operations that a formula leaves out, because they only change the dtype or the shape, or mark a value.
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
# The precedence of operators: those with a higher number bind more tightly.
BINDS = {">": 1, "<": 1, ">=": 1, "<=": 1, "==": 1, "!=": 1, "+": 2, "-": 2, "*": 3, "/": 3, "@": 3, "%": 3}
# The usual names of functions for which JAX's primitives have other names.
CALLED = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "all",
    "reduce_or": "any",
    "select_n": "where",
    "rev": "reversed",
    "logistic": "sigmoid",
    "clamp": "clip",
    "iota": "arange",
    "conv_general_dilated": "convolution",
    "scatter-add": "scatter_add",
    "while": "loop",
    "scan": "loop",
    "cond": "branch",
} | dict.fromkeys(("gather", "slice", "dynamic_slice"), "items")
# The depth of nested operations from which on a formula shows "..." instead of operands.
DEEPEST = 5
# The names of the results of operations.
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
# JAX marks the operations of a backward pass as a transpose in their name stack.
BACK = re.compile(r"transpose\(")
NUMBER = re.compile(re.escape(DERIVED) + r"(\d+)")
# The largest number of characters of a formula.
LONGEST = 60
GRADIENT = "the gradient"
# Folders of code that is not the user's.
NOT_THE_USERS = tuple(
    f"{folder}{os.sep}" for folder in (Path(jax.__file__).parent, Path(np.__file__).parent, Path(__file__).parents[2])
)


class Words:
    """Descriptions of the values and steps of a plan. A value is identified by its index in the plan's values.

    Args:
        plan: the traced program.
        names: the names of the plan's inputs, by index.
        backward: the `id`s of the steps of the backward pass.
        values: the values by index, as they were evaluated; by default only the plan's constants, because the values
            inside of a loop are not kept.
        of_the_reference: whether the lines are those of a reference, and not of the code under test.
    """

    def __init__(
        self,
        plan: Plan,
        names: Mapping[int, str],
        backward: set[int],
        values: Sequence[Any] | None = None,
        of_the_reference: bool = False,
    ) -> None:
        self.of_the_reference = of_the_reference
        self.plan, self.names, self.backward = plan, dict(names), backward
        for step in plan:
            if step.name == "marked":
                self.names.setdefault(step.inputs[0], step.params["name"])
            elif step.name == "arrives":
                self.names.setdefault(step.inputs[0], f"{GRADIENT} of {step.params['name']}")
        self.values = plan.values if values is None else values
        self.producers = {place: step for step in plan for place in step.outputs}
        self.sources: dict[str, Step] = {}  # the operations of the forward pass, by number
        for step in plan:
            number = operation_of(step)
            if number is not None and id(step) not in backward and step.name not in SEEN_THROUGH:
                self.sources.setdefault(number, step)

    def of_a_loop(self, plan: Plan, step: Step) -> "Words":
        """The descriptions of the values in the body of a loop or branch."""
        backward = {id(inside) for inside in plan} if id(step) in self.backward else set()
        return Words(plan, {}, backward, of_the_reference=self.of_the_reference)

    def is_mask(self, place: int) -> bool:
        """Whether a value is known, and contains both 0 and 1, and nothing else."""
        value = self.values[place]
        if value is None or np.ndim(value) == 0 or np.asarray(value).dtype.kind not in "fiub":
            return False
        return set(np.unique(value).tolist()) == {0, 1}

    def is_zero(self, place: int) -> bool:
        """Whether a value is known, and is 0 in every entry."""
        value = self.values[place]
        return value is not None and np.asarray(value).dtype.kind in "fiub" and not np.any(value)

    def value(self, place: int, depth: int = DEEPEST) -> str:
        """The formula of a value, with at most `depth` nested operations and LONGEST characters."""
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
            return _constant(constant) if constant is not None else "a loop variable"
        if step.name in SEEN_THROUGH:
            return self._formula(step.inputs[0], depth)
        if id(step) in self.backward and self._is_back(step):
            return self._gradient(step)
        mask = self._mask_of_an_extreme(step, depth)
        if mask:
            return mask
        if depth == 0:
            return "..." if step.name in {*BETWEEN, *NOUNS, "square"} else f"{_called(step)}(...)"
        inner = [self._formula(at, depth - 1) for at in step.inputs]
        if step.name in BETWEEN:
            sign = BETWEEN[step.name]
            return f" {sign} ".join(_in_brackets(words, BINDS[sign]) for words in inner)
        if step.name == "select_n" and len(inner) == 3:
            return f"where({inner[0]}, {inner[2]}, {inner[1]})"
        if step.name == "pow":
            return f"{_in_brackets(inner[0])}**{_in_brackets(inner[1])}"
        if step.name == "integer_pow":
            return f"{_in_brackets(inner[0])}**{step.params['y']}"
        if step.name == "square":
            return f"{_in_brackets(inner[0])}**2"
        if step.name == "neg":
            return f"-{_in_brackets(inner[0])}"
        return f"{_called(step)}({', '.join(inner)})"

    def _mask_of_an_extreme(self, step: Step, depth: int) -> str | None:
        """The derivative of max(a, b) with respect to a, as the mask `a > b`; None for any other step.

        JAX computes that derivative as a quotient of selected constants, which is 1/2 at a tie.
        """
        source = self.source(step)
        if source is None or source.name not in ("max", "min") or step.name != "div" or id(step) == id(source):
            return None
        chosen = self.producers.get(step.inputs[0])
        compared = self.producers.get(chosen.inputs[0]) if chosen is not None and chosen.name == "select_n" else None
        if compared is None or compared.name != "eq":
            return None
        one, other = source.inputs if compared.inputs[0] == source.inputs[0] else reversed(source.inputs)
        if compared.inputs[0] != one:
            return None
        words = [_in_brackets(self._formula(at, max(depth - 1, 0)), BINDS[">"]) for at in (one, other)]
        return f" {'>' if source.name == 'max' else '<'} ".join(words)

    def source(self, step: Step) -> Step | None:
        """The operation of the forward pass whose derivative a step belongs to; None if there is none."""
        found = self.sources.get(operation_of(step) or "")
        return None if found is step else found

    def of_source(self, step: Step) -> str:
        """The function of which a step computes the derivative, as ` (of max(z, 0))`; empty for an operator."""
        source = self.source(step)
        if source is None or source.name in {*BETWEEN, "select_n"}:
            return ""
        words = self.value(source.outputs[0], 3)
        return f" (of {words})" if words != "..." else ""

    def _gradient(self, step: Step) -> str:
        """The name of a value of the backward pass: "the gradient of z", or "the gradient" if z is ambiguous."""
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

    def derivatives_between(self, leading: Sequence[int], start: int) -> tuple[str, str]:
        """The part of the backward pass between two gradients, such as "the derivative of exp(x)".

        Args:
            leading: the numbers of the steps that lead to the later gradient.
            start: the earlier gradient.

        Returns:
            What is left out if the earlier gradient is used instead of the later one, and the kind of that mistake. The
            description is empty if the later gradient does not depend on the earlier one, or if it is not known of
            which functions the derivatives are.
        """
        reached: set[int] = {start}
        between: dict[int, Step] = {}  # the steps between, by the place of the function's result
        for step in (self.plan.steps[number] for number in leading):
            if reached.isdisjoint(step.inputs):
                continue
            source = self.source(step)
            if source is not None and source.name not in SEEN_THROUGH | {"add", "sub", "neg"}:
                between.setdefault(source.outputs[0], step)
            reached.update(step.outputs)
        if not between:
            return "", ""
        last = max(between)
        source, value = self.producers[last], self.value(last, 3)
        if len(between) == 1 and source.name == "tanh":
            return f"the factor 1 - {value}**2, the derivative of {value},", "missing-factor"
        if len(between) == 1 and source.name == between[last].name == "mul":
            factor = next(place for place in between[last].inputs if place not in reached)
            noun = "mask" if self.is_mask(factor) else "factor"
            return f"the {noun} {self.value(factor)}", f"missing-{noun}"
        named = value if value != "..." else f"a {NOUNS.get(source.name, _called(source))}"
        return f"the derivative of {named}", "missing-factor"

    def _is_back(self, step: Step) -> bool:
        return bool(BACK.search(str(step.equation.source_info.name_stack)))

    def where(self, step: Step) -> str:
        """The line of code of a step, in brackets, and whether the step belongs to the backward pass of that line."""
        line = line_of(step)
        if id(step) in self.backward:
            of = f" of {'the reference, ' if self.of_the_reference else ''}{line}" if line else ""
            return f" (in the backward pass{of})"
        return f" ({line}{', in the reference' if self.of_the_reference else ''})" if line else ""

    def term(self, place: int, other: int) -> str:
        """The name of one of two gradients that are added, by the function through which it flows back."""
        source, beside = (self._source_of(at) for at in (place, other))
        value = "..." if source is None else self.value(source.outputs[0], 3)
        if value == "...":
            return "a term"
        return (
            f"a term of the derivative of {value}" if source is beside else f"the term that flows back through {value}"
        )

    def _source_of(self, place: int) -> Step | None:
        step = self.producers.get(place)
        while step is not None and step.name in SEEN_THROUGH:
            step = self.producers.get(step.inputs[0])
        return None if step is None else self.source(step)


def line_of(step: Step) -> str:
    """The line of the user's code that an operation was traced from, as file and line; empty if there is none.

    It is the innermost line outside of this package, JAX and NumPy.
    """
    found = step.equation.source_info.traceback
    for frame in found.frames if found is not None else ():  # the innermost first
        if frame.file_name == trace.__file__:
            break  # the frames further out are the code that called the check
        if not frame.file_name.startswith(NOT_THE_USERS) and not frame.file_name.startswith("<"):
            return f"{_file(frame.file_name)}:{frame.line_num}"
    return ""


@functools.lru_cache(maxsize=256)
def _file(path: str) -> str:
    """A file's name, with the package that it is in, because several packages may have a file of that name."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if (file.parent / "__init__.py").exists() else file.name


def operation_of(step: Step) -> str | None:
    """The number of the forward operation that a step was derived from: in a loop, of the operation in its body."""
    found = NUMBER.findall(str(step.equation.source_info.name_stack))
    return found[-1] if found else None


def _constant(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{float(value):.6g}" if np.asarray(value).dtype.kind in "fiub" else str(value)
    return f"a constant of shape {np.shape(value)}"


def _called(step: Step) -> str:
    """The usual name of the function that a step computes."""
    if step.name.startswith("custom_"):
        called = step.params.get("call_jaxpr")
        name = getattr(getattr(called, "jaxpr", None), "debug_info", None)
        return name.func_name if name is not None and name.func_name.isidentifier() else "f"
    return CALLED.get(step.name, step.name)


def _in_brackets(words: str, binds: int = 4) -> str:
    """The formula in brackets, if its outermost operator has at most the precedence `binds`; else unchanged."""
    deep = 0
    for part in [] if words.startswith(("a constant", GRADIENT)) else words.split(" "):
        if not deep and BINDS.get(part, 9) <= binds:
            return f"({words})"
        deep += part.count("(") - part.count(")")
    return f"({words})" if words.startswith("-") and binds > 2 else words
