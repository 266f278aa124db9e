"""Evaluates a program at one point, keeps all intermediate values, and reevaluates it with a few operations replaced.

A reevaluation repeats only the steps that depend on a replaced operation, so that hundreds of replacements can be
tried.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from compare.judge.program.plan import Plan, Rule, Step, settled

Array = Any
# A step costs one unit of effort, and one more for each AS_LONG entries of its results: processing that many entries
# takes about as long as the overhead of a step on a small array.
AS_LONG = 4096
# (step, inputs) -> outputs: the function that replaces the evaluation of a step.
Change = Callable[[Step, list[Array]], list[Array]]


def plainly(step: Step, inputs: list[Array]) -> list[Array]:
    """The rule that evaluates the operation unchanged and does not overwrite its inputs, which are kept."""
    return step.run(inputs, plainly)


class Evaluated:
    """All intermediate values of a plan, with each step evaluated by the rule `around(plainly)`.

    Args:
        plan: the plan to evaluate.
        inputs: the plan's inputs, in order.
        around: returns a rule that replaces the results of some steps, such as the gradients at taps, and leaves all
            other steps to the rule that `around` is called with.

    Attributes:
        done: the effort of all reevaluations, in the units of AS_LONG.
        values: the kept value at each place of the plan.
        outermost: for each step inside a loop or branch, by its identity, the number of the plan's step around it.
        ancestors: for each place, the numbers of the steps that its value depends on.
    """

    def __init__(self, plan: Plan, inputs: Sequence[Array], around: Callable[[Rule], Rule] = lambda rule: rule) -> None:
        self.plan, self.around = plan, around
        self.done = 0
        self.values = plan.values.copy()
        for place, value in zip(plan.inputs, inputs, strict=True):
            self.values[place] = value
        rule = around(plainly)
        with np.errstate(all="ignore"):
            for step in plan.steps:
                for place, value in zip(step.outputs, rule(step, self.given(step, {})), strict=True):
                    self.values[place] = value
        self.outermost: dict[int, int] = {}
        for number, step in enumerate(plan.steps):
            self.outermost |= {id(inside): number for inside in steps_inside(step)}
        self.ancestors: dict[int, list[int]] = {}

    def given(self, step: Step, others: Mapping[int, Array]) -> list[Array]:
        """The inputs of a step: the value in `others` for the places that it contains, the kept value for the rest."""
        values = [others[place] if place in others else self.values[place] for place in step.inputs]
        for i, dtype in step.raw:
            values[i] = settled(values[i], dtype)
        return values

    def leading_to(self, target: int) -> list[int]:
        """The numbers of the steps that the value at the place `target` depends on, in order of evaluation."""
        if target not in self.ancestors:
            needed, found = {target}, []
            for number in reversed(range(len(self.plan.steps))):
                step = self.plan.steps[number]
                if not needed.isdisjoint(step.outputs):
                    needed.update(step.inputs)
                    found.append(number)
            self.ancestors[target] = found[::-1]
        return self.ancestors[target]

    def again(
        self,
        changes: Mapping[int, Change],
        target: int,
        seen_by: set[int] | None = None,
        rewired: Mapping[int, Mapping[int, int]] = MappingProxyType({}),
    ) -> Array:
        """The value at the place `target` when some steps are replaced.

        Args:
            changes: the replacement of each changed step, by the step's identity.
            target: the place of the requested value.
            seen_by: the identities of the steps that use the changed results. All other steps use the kept ones. None
                if every step uses the changed results.
            rewired: for a step, by its identity: the number of each operand that is read from another place, and that
                place.

        Returns:
            The reevaluated value, or the kept one if it does not depend on a changed step.
        """

        def changed(step: Step, inputs: list[Array]) -> list[Array]:
            change = changes.get(id(step))
            outputs = step.run(inputs, rule) if change is None else change(step, inputs)
            self.done += 1 + sum(map(np.size, outputs)) // AS_LONG
            return outputs

        rule = self.around(changed)
        outer = {self.outermost[at] for at in changes if at in self.outermost}
        others: dict[int, Array] = {}
        seen: dict[int, Array] = {}
        with np.errstate(all="ignore"):
            for number in self.leading_to(target):
                step = self.plan.steps[number]
                sees = seen if seen_by is not None and id(step) in seen_by else {}
                itself = id(step) in changes or id(step) in rewired or number in outer
                if not itself and others.keys().isdisjoint(step.inputs) and sees.keys().isdisjoint(step.inputs):
                    continue
                given = self.given(step, {**sees, **others} if sees else others)
                for i, place in rewired.get(id(step), {}).items():
                    given[i] = self.values[place]
                outputs = rule(step, given)
                (others if seen_by is None or not itself else seen).update(zip(step.outputs, outputs, strict=True))
        return others.get(target, self.values[target])


def steps_inside(step: Step) -> Iterator[Step]:
    """The steps of the programs inside a step, such as a loop's body, at any depth.

    They exist only after the step has been evaluated once.
    """
    for plan in step.programs.values():
        for inside in plan.steps:
            yield inside
            yield from steps_inside(inside)
