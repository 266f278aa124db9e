"""An exhibit: a published bug and its correction, with the judge's check, a training run, and the project's own check.

A version is a backward pass, a function that returns gradients, or a training step. The wrong and the corrected version
differ only in a line or two.
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
    """A bug, its correction, and functions that judge, train and check both versions.

    Attributes:
        title: A sentence that says what is wrong.
        op: The kind of operation that the wrong line belongs to. Exhibits can be filtered by it.
        source: Where the bug was published.
        wrong, right: The line before and after the correction, in the conventions of this project.
        unseen: Sentences that say why the bug was not noticed.
        lesson: Sentences that say what can be learned from it.
        faulty, sound: The wrong and the corrected version.
        judge: `(version, **options) -> report`.
        train: `version -> losses` of a small training run.
        check: `version -> bool`: whether the project's own check accepts the version. If `typical`, a check that is
            common in tutorials, because the project's own is not known. None if there is no check.
        checked: What the check does, as the rest of a sentence that begins with "It".
        typical: Whether the check is a common one and not the project's own.
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
        """The report on the bug."""
        return self.judge(self.faulty)

    def corrected(self) -> Report:
        """The report on the corrected version."""
        return self.judge(self.sound)

    @property
    def project(self) -> str:
        """The project: the first owner/name in the source, or the text before the first number or comma."""
        owned = re.search(r"[\w.-]+/[\w.-]+", self.source)
        if owned:
            return owned[0].removesuffix(",")
        return re.split(r",| #|: ", self.source)[0]

    @property
    def whose_check(self) -> str:
        """The beginning of a sentence on the check."""
        return "A usual check" if self.typical else "The original check"

    def check_passes(self) -> bool | None:
        """Whether the check passes the bug. None if there is none."""
        return None if self.check is None else bool(self.check(self.faulty))

    def training_curves(self) -> tuple[list[float], list[float]]:
        """The losses of a small run with the bug, and of the same run without it."""
        with_bug, without = (list(map(float, self.train(version))) for version in (self.faulty, self.sound))
        return with_bug, without


def by_gradients(loss: Callable[..., Any], parameters: Any, *args: Any, **options: Any) -> Judge:
    """A judge for versions `loss_and_gradients(parameters, *args)`. It checks no perturbed points, to save time.

    Args:
        loss: The loss in JAX.
        parameters: Its parameters.
        args: Its other arguments.
        options: Options of `check_gradients`.
    """
    options = {"probes": False} | options
    return lambda version, **extra: check_gradients(version, loss, parameters, *args, **options | extra)


def by_vjp(forward: Callable[..., Any], function: Callable[..., Any], *inputs: Any, **options: Any) -> Judge:
    """A judge for versions `backward(output_gradient, cache)`.

    Args:
        forward: The forward pass in NumPy, `(*inputs) -> (value, cache)`.
        function: The same function in JAX, without the cache.
        inputs: The inputs of both.
        options: Options of `check_vjp`.
    """
    names = tuple(inspect.signature(forward).parameters)
    options = {"probes": False, "names": names} | options
    return lambda version, **extra: check_vjp(forward, version, function, *inputs, **options | extra)


def by_steps(step: Callable[..., Any], parameters: Any, batches: Sequence[tuple[Any, ...]], **options: Any) -> Judge:
    """A judge for versions that are training steps.

    Args:
        step: The same step in JAX.
        parameters: The initial parameters.
        batches: The other arguments of each step.
        options: Options of `check_trajectory`.
    """
    return lambda version, **extra: check_trajectory(version, step, parameters, batches, **options | extra)
