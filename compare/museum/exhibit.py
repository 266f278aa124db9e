"""What an exhibit is: one bug that was really shipped, beside its repair, and three things to do with either.

A version is whatever the judge takes: a backward pass, a function that returns gradients, a training step. The faulty
one and the sound one differ in a line or two, so that whoever reads an exhibit sees nothing but the bug.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from compare.judge.gradients import check_gradients
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.trajectory import check_trajectory
from compare.judge.vjp import check_vjp

Report = GradientReport | TrajectoryReport
Judge = Callable[..., Report]


@dataclass(frozen=True)
class Exhibit:
    """`wrong` and `right` are the lines in question, in our conventions; `source` is where the bug is public.

    `op` is what the wrong line belongs to, one of a few words by which exhibits are found.

    `judge`, `train` and `check` are each called with a version; `judge` takes options of the judge's besides. `check`
    is the one that its project relied on, rebuilt here, or, if it is `typical`, a usual one that passes the bug where
    none of the project is known; None without either. `checked` says in words what it does.
    """

    title: str
    op: str
    source: str
    wrong: str
    right: str
    unseen: str
    lesson: str
    faulty: Any
    sound: Any
    judge: Judge
    train: Callable[[Any], Sequence[float]]
    check: Callable[[Any], Any] | None = None
    checked: str = ""
    typical: bool = False

    def report(self) -> Report:
        """What the judge says of the bug."""
        return self.judge(self.faulty)

    def corrected(self) -> Report:
        """What it says once the bug is mended."""
        return self.judge(self.sound)

    @property
    def project(self) -> str:
        """The one that the source names first: owner/name, or what stands before the first number or comma."""
        owned = re.search(r"[\w.-]+/[\w.-]+", self.source)
        if owned:
            return owned[0].removesuffix(",")
        return re.split(r",| #|: ", self.source)[0]

    @property
    def whose_check(self) -> str:
        return "A usual check" if self.typical else "The original check"

    def check_passes(self) -> bool | None:
        """Whether the check passes the bug. None if there is none."""
        return None if self.check is None else bool(self.check(self.faulty))

    def training_curves(self) -> tuple[list[float], list[float]]:
        """The losses of a small run with the bug, and of the same run without it."""
        with_bug, without = (list(map(float, self.train(version))) for version in (self.faulty, self.sound))
        return with_bug, without


def by_gradients(loss: Callable[..., Any], parameters: Any, *args: Any, **options: Any) -> Judge:
    """A version is `loss_and_gradients(parameters, *args)`. The situation shows the bug, so probes are not needed."""
    options = {"probes": False} | options
    return lambda version, **asked: check_gradients(version, loss, parameters, *args, **options | asked)


def by_vjp(forward: Callable[..., Any], function: Callable[..., Any], *inputs: Any, **options: Any) -> Judge:
    """A version is `backward(output_gradient, cache)`, and `function` is `forward` in JAX; inputs go by its names."""
    names = tuple(inspect.signature(forward).parameters)
    options = {"probes": False, "names": names} | options
    return lambda version, **asked: check_vjp(forward, version, function, *inputs, **options | asked)


def by_steps(step: Callable[..., Any], parameters: Any, batches: Sequence[tuple[Any, ...]], **options: Any) -> Judge:
    """A version is a training step by hand, `step` the same one in JAX."""
    return lambda version, **asked: check_trajectory(version, step, parameters, batches, **options | asked)
