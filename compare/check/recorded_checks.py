"""Checks recorded steps: the gradients of each step, and the updates of the parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import Tracer

from autodiff.optimizers import Optimizer
from compare.check.recording import RecordedStep, arguments
from compare.errors import BadInput
from compare.judge.gradients import check_gradients
from compare.judge.program.trace import Program
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.tables import plain_text
from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.reports.verdict import Diagnosis, Verdict, plain
from compare.judge.trajectory import check_trajectory
from compare.platform import precise


@dataclass(frozen=True)
class RecordingReport:
    """A report on the gradients of each recorded step and, if they could be checked, a report on the updates."""

    gradients: dict[int, GradientReport]
    updates: TrajectoryReport | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        verdicts = [report.verdict for report in self.gradients.values()]
        return Verdict.of(verdicts + ([] if self.updates is None else [self.updates.verdict]))

    @property
    def wrong_step(self) -> int | None:
        return next((step for step, report in self.gradients.items() if report.verdict is Verdict.DISAGREE), None)

    @property
    def first_wrong(self) -> str | None:
        step = self.wrong_step
        if step is not None:
            return self.gradients[step].first_wrong
        return None if self.updates is None else self.updates.first_wrong

    @property
    def diagnoses(self) -> list[Diagnosis]:
        step = self.wrong_step
        if step is not None:
            return self.gradients[step].diagnoses
        return [] if self.updates is None else self.updates.diagnoses

    @property
    def sentence(self) -> str:
        for step, report in self.gradients.items():
            if report.verdict is self.verdict and report.verdict is not Verdict.AGREE:
                verdict, _, what = report.sentence.partition(": ")
                return f"{verdict}: step {step}: {what}"
        if self.updates is not None and self.updates.verdict is not Verdict.AGREE:
            return self.updates.sentence
        count = len(self.gradients)
        steps = "the recorded step" if count == 1 else f"each of {count} recorded steps"
        also = "" if self.updates is None else ", and so are the updates"
        return f"AGREE: the gradients of {steps} are right{also}."

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "wrong_step": self.wrong_step,
                "first_wrong": self.first_wrong,
                "gradients": {str(step): report.to_dict() for step, report in self.gradients.items()},
                "updates": None if self.updates is None else self.updates.to_dict(),
                "notes": self.notes,
            }
        )

    def __str__(self) -> str:
        parts = [self.sentence, *(f"Note: {note}" for note in self.notes)]
        for step, report in self.gradients.items():
            if report.verdict is not Verdict.AGREE or len(self.gradients) == 1:
                parts += ["", f"Step {step}:", str(report)]
        if self.updates is not None:
            parts += ["", "The updates:", str(self.updates)]
        return plain_text(*parts)

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict")


def check_recording(
    steps: list[RecordedStep],
    loss: Callable[..., Any],
    *,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    **options: Any,
) -> RecordingReport:
    """Compare the recorded gradients with those of a loss in JAX, up to the first wrong step.

    A recording has the gradients at the recorded parameters only. They cannot be checked at perturbed points, so an
    error that shows only at other parameters is not found.

    Args:
        steps: the steps of the recording, in their order.
        loss: a function `loss(parameters, *inputs)` that JAX can trace.
        optimizer: the update rule, one of `autodiff.optimizers`. Each recorded update is compared with the update by
            this rule from the recorded parameters; None to check no updates.
        seed: the seed of everything random in the check.
        **options: options of `check_gradients`.

    Returns:
        A report that has one on each step that was checked, and one on the updates.

    Raises:
        BadInput: a ValueError, if a step lacks a parameter or an input of the loss.
    """
    reports, notes = {}, []
    for step in steps:
        args, extra = arguments(step, loss)
        if extra and step is steps[0]:
            names = ", ".join(f"inputs/{name}" for name in extra)
            notes.append(f"not used, because the loss has no such argument: {names}.")
        try:
            report = check_gradients(
                step.by_hand(), loss, step.parameters, *args, seed=seed, probes=False, references=False, **options
            )
        except KeyError as error:
            if error.args[0] in step.parameters:
                raise
            known = ", ".join(step.parameters)
            raise BadInput(
                f"the loss needs the parameter {error}; the parameters of the recording are {known}."
            ) from None
        reports[step.number] = replace(report, notes=[note for note in report.notes if "returns no loss" not in note])
        if report.verdict is Verdict.DISAGREE and step is not steps[-1]:
            notes.append(f"the gradients of the steps after step {step.number}, the first wrong one, were not checked.")
            break
    notes += _broken_chain(steps)
    if any(step.loss is None for step in steps):
        notes.append("the loss was not compared at steps for which the recording has no loss.")
    recorded = [step for step in steps if step.next]
    unfit = _unfit(recorded)
    if optimizer is None or not recorded or unfit:
        if recorded and optimizer is None:
            notes.append("the recording has parameters after the update. Give the rule, --optimizer, to check them.")
        if optimizer is not None:
            notes.append(f"the updates were not checked: {unfit or 'the recording has no next/...'}.")
        return RecordingReport(reports, None, notes)
    return RecordingReport(reports, _updates(recorded, optimizer), notes)


def _broken_chain(steps: list[RecordedStep]) -> list[str]:
    """A note on the first parameter whose value at a step is not that after the update of the step before."""
    for before, step in pairwise(steps):
        for name, ended in before.next.items() if step.number == before.number + 1 else ():
            if not np.array_equal(ended, step.parameters[name], equal_nan=True):
                return [f"parameters/{name} of step {step.number} differs from next/{name} of step {before.number}."]
    return []


def _unfit(steps: list[RecordedStep]) -> str:
    """The reason why the update rule cannot be applied to the recorded gradients; empty if it can."""
    for step in steps:
        for name, parameter in step.parameters.items():
            if name not in step.gradients:
                return f"step {step.number} has no gradients/{name}"
            gradient = step.gradients[name]
            if (gradient.shape, gradient.dtype) != (parameter.shape, parameter.dtype):
                return f"at step {step.number}, gradients/{name} has another shape or dtype than parameters/{name}"
    return ""


def _updates(steps: list[RecordedStep], optimizer: Optimizer) -> TrajectoryReport:
    """Compare each recorded update with the update by the rule from the recorded parameters and gradients.

    The optimizer's state is computed by the rule from the recorded gradients of all earlier steps. Raises BadInput, a
    ValueError, if some of these steps are missing.
    """
    first = steps[0]
    with precise(first.parameters, ()):
        try:
            initial = Program(optimizer.initialize, first.parameters)
        except ValueError as error:
            raise BadInput(f"the update rule cannot be applied to these parameters: {error}") from None
        following = Program(optimizer.update, first.parameters, _found(first), initial.output)
    missing = next((number for number, step in enumerate(steps, start=1) if step.number != number), None)
    if missing is not None and len(jax.tree.leaves(initial.output)) > 1:  # the state is more than the count of steps
        raise BadInput(
            f"step {missing} of the recording is missing, or has no next/...: the state of this rule depends on the "
            "gradients of all steps. Record all steps from the first, or leave --optimizer out."
        )
    state = _rounded(initial(first.parameters), initial.output)
    report = None
    for step in steps:
        report = _update(step, optimizer, following, state)
        if report.verdict is not Verdict.AGREE:
            rows = [replace(row, wrong_step=row.wrong_step and step.number) for row in report.rows]
            return replace(report, rows=rows, steps=len(steps))
        state = _rounded(following(step.parameters, _found(step), state)[1], initial.output)
    assert report is not None  # there is at least one step
    return replace(report, steps=len(steps))


def _update(step: RecordedStep, optimizer: Optimizer, following: Program, state: Any) -> TrajectoryReport:
    """Compare one recorded update with the rule, whose traced program is `following`."""

    def recorded(parameters: Any, gradients: Any, state: Any) -> Any:
        return step.next

    def by_rule(parameters: Any, gradients: Any, state: Any) -> Any:
        given = (step.parameters | parameters, gradients, state)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
            updated, _ = optimizer.update(*given)
        else:  # evaluated from the trace, because JAX would compile each operation for each shape, which takes seconds
            updated, _ = _rounded(following(*given), following.output)
        return {name: updated[name] for name in parameters}

    start = {name: leaf for name, leaf in step.parameters.items() if name in step.next}
    return check_trajectory(recorded, by_rule, start, [(_found(step), state)], free=False)


def _rounded(values: Any, kinds: Any) -> Any:
    """The results of a program, which are in float64, in the dtypes that the function itself returns."""
    return jax.tree.map(lambda value, kind: np.asarray(value).astype(kind.dtype), values, kinds)


def _found(step: RecordedStep) -> dict[str, np.ndarray]:
    """The recorded gradients of the parameters, without other recorded gradients."""
    return {name: step.gradients[name] for name in step.parameters}
