"""A program evaluated at one point, with all values kept, and again with a few of its operations done otherwise.

Only what follows from those operations is done again, so that hundreds of changes can be tried.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from compare.judge.program.plan import Plan, Rule, Step, settled

Array = Any
# So many entries take as long as a step on a few.
AS_LONG = 4096
# (step, inputs) -> outputs, in the place of the step's own.
Change = Callable[[Step, list[Array]], list[Array]]


def plainly(step: Step, inputs: list[Array]) -> list[Array]:
    """The operation as it is; its inputs stay as they are, too."""
    return step.run(inputs, plainly)


class Evaluated:
    """The values of a plan, each step done by `around(plainly)`.

    Args:
        inputs: of the plan.
        around: makes a rule of another, for what is put in on the way; what it does not change is done by that.
    """

    def __init__(self, plan: Plan, inputs: Sequence[Array], around: Callable[[Rule], Rule] = lambda rule: rule) -> None:
        self.plan, self.around = plan, around
        self.done = 0  # how many steps were done again, those on large arrays counted for as many as they take
        self.values = plan.values.copy()
        for place, value in zip(plan.inputs, inputs, strict=True):
            self.values[place] = value
        rule = around(plainly)
        with np.errstate(all="ignore"):
            for step in plan.steps:
                for place, value in zip(step.outputs, rule(step, self.given(step, {})), strict=True):
                    self.values[place] = value
        self.outermost: dict[int, int] = {}  # by the identity of a step inside of a loop, the number of the loop
        for number, step in enumerate(plan.steps):
            self.outermost |= {id(inside): number for inside in steps_inside(step)}
        self.ancestors: dict[int, list[int]] = {}  # by place, the numbers of the steps that it depends on

    def given(self, step: Step, others: Mapping[int, Array]) -> list[Array]:
        """What a step is given, with some values by place in the place of those that were kept."""
        values = [others[place] if place in others else self.values[place] for place in step.inputs]
        for i, dtype in step.raw:
            values[i] = settled(values[i], dtype)
        return values

    def leading_to(self, target: int) -> list[int]:
        """The numbers of the steps that the value at a place depends on, in order."""
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
        """The value at `target`, with the steps in `changes`, by identity, done otherwise.

        Args:
            seen_by: the identities of the only steps that see what the changed ones make; all do by default.
            rewired: by identity, the places from which a step has operands instead of its own, by their number.
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
    """The steps of the programs inside of a step that was done once, at any depth."""
    for plan in step.programs.values():
        for inside in plan.steps:
            yield inside
            yield from steps_inside(inside)
