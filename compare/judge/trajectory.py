"""Compares two training runs: the hand-written side restarted at every step, and both sides running freely.

If the hand-written side is restarted from the reference's parameters at every step, the error of each step is known,
and can be compared with the rounding tolerance of that step. If both sides run freely, their difference is the drift.

Drift also grows if the problem amplifies rounding errors. A perturbed reference run measures how fast it grows. That
run starts one ULP away, and each of its steps is perturbed at random by the difference between the two sides at that
step, up to one ULP, because a larger perturbation would hide errors. Perturbing only the start would not be enough: the
run may converge back before the problem becomes chaotic. Drift without a wrong step is INCONCLUSIVE, because a chaotic
problem looks the same. Only the current parameters are kept in memory.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.diagnosis.update_rules import explain_step
from compare.judge.evaluation.single_step import Alone, Leaves
from compare.judge.evaluation.steps import (
    KEEPS_STATE,
    Careful,
    Step,
    as_arguments,
    both_leaves,
    settled,
    start_of,
    with_state,
)
from compare.judge.gradients import check_gradients
from compare.judge.reports.trajectory_report import Curve, ParameterPath, TrajectoryMismatch, TrajectoryReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from compare.judge.roundoff.tolerance import last_place, norm, unit_roundoff
from compare.platform import precise
from compare.pytrees import GradientFunction, Loss, Pytree

# The tolerance of the drift has two main terms. The first is the drift of the perturbed reference run times this
# factor, because that run's errors have random signs.
PERTURBED_RUN = 8.0
# The second is the unit roundoff times the distance travelled and this factor, because the rounding errors of all steps
# may have the same sign.
TRAVEL = 64.0


def check_trajectory(
    manual_step: Step,
    autodiff_step: Step,
    parameters: Pytree,
    batches: Iterable[tuple[Any, ...]],
    *,
    state: Pytree = None,
    loss_and_gradients: GradientFunction | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    free: bool = True,
    entries: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrajectoryReport:
    """Compare two training runs from the same parameters through the same batches.

    The comparison ends at the first step that is wrong or cannot be judged. The hand-written side gets copies, so it
    cannot change the caller's data.

    Args:
        manual_step: the hand-written training step, `(parameters, *batch) -> parameters`, on NumPy arrays. With
            `state`, `(parameters, state, *batch) -> (parameters, state)`.
        autodiff_step: the same step in JAX.
        parameters: the initial parameters, in any pytree.
        batches: the arguments of each step, a tuple for each.
        state: the initial state of the optimizer, in any pytree; None if there is none. Both sides must keep its
            structure, and it is compared like the parameters.
        loss_and_gradients, loss: as for `check_gradients`. If both are given, the gradients at a wrong step are checked
            as well, so that the report says whether the gradient or the update rule is wrong.
        seed: the seed of everything random in the check.
        free: whether both sides also run freely. If not, less memory is needed, and no drift is measured.
        entries: the number of random entries of a larger array that are compared, which saves memory; None for all.
        progress: called with the number of each finished step.

    Returns:
        The report. Its `side_effects` are those of the hand-written step: the arguments that it modifies, and whether
        it keeps state between calls.

    Raises:
        ValueError: if there are no batches.
        BadInput: a ValueError, if a batch is no tuple, or a step does not return parameters and state like those that
            it gets.
    """
    reference_step = with_state(autodiff_step, "autodiff_step", state)
    judge = Alone(reference_step, entries, seed)
    own_step = Careful(with_state(manual_step, "manual_step", state), judge.some)
    start = start_of(parameters, state)
    reference = restarted = start
    random = np.random.default_rng(seed)
    ours, perturbed_run = (start, (_one_ulp_away(start[0], random), start[1])) if free else (None, None)
    theirs = both_leaves(start)
    rows = {path: ParameterPath(path, leaf.shape) for path, leaf in theirs.items()}
    drift, share, step, before, batch, alone = Curve(), Curve(), 0, start, (), []
    del start  # to keep one copy fewer of a huge model

    def reference_from(both: Pytree, batch: Pytree) -> Any:
        return jax.tree.map(np.asarray, settled(reference_step(both, *batch), both))

    for step, given in enumerate(batches, start=1):
        before, befores, batch = reference, theirs, as_arguments(given, step)
        restarted = own_step(before, *batch)
        mine = both_leaves(restarted)
        if free:
            # Both runs start from the same parameters, so the first step is the same in both.
            ours = restarted if step == 1 else own_step(ours, *batch)
        with precise(before, batch):
            reference = reference_from(before, batch)
            theirs = both_leaves(reference)
            if free:
                perturbed_run = _perturbed(reference_from(perturbed_run, batch), mine, theirs, random)
            alone = judge.judge(before, batch, mine, theirs)
        runs = (both_leaves(ours), both_leaves(perturbed_run)) if free else (None, None)
        rows = _follow(rows, step, alone, befores, theirs, *runs)
        drift.add(step, max((row.largest_drift for row in rows.values()), default=0.0))
        share.add(step, max((row.share for row in rows.values()), default=0.0))
        if progress:
            progress(step)
        if any(row.message for row in rows.values()):
            break
    if step == 0:
        raise ValueError("batches is empty: there is no step to compare. Give at least one batch.")
    diagnoses, gradients, side_effects = [], None, list(own_step.side_effects)
    found = [row.verdict for row in rows.values()]
    if Verdict.of(found) is not Verdict.AGREE and own_step.answers_otherwise(
        restarted, before, batch, reference, alone
    ):
        side_effects.append(KEEPS_STATE)
        rows = {path: row.undecided() for path, row in rows.items()}
    elif Verdict.DISAGREE in found:
        with precise(before, batch):
            diagnoses = explain_step(own_step, reference_step, before, batch, alone, step)
        if loss_and_gradients is not None and loss is not None:
            try:
                gradients = check_gradients(loss_and_gradients, loss, before[0], *batch, probes=False)
            except (TypeError, ValueError) as error:  # the wrong step is reported even so
                side_effects.append(
                    Diagnosis(None, "unchecked", f"the gradients at that step could not be checked: {error}")
                )
    return TrajectoryReport(step, list(rows.values()), drift, diagnoses, gradients, free, share, side_effects)


def _one_ulp_away(parameters: Pytree, random: np.random.Generator) -> Any:
    def neighbor(leaf: np.ndarray) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        direction = np.where(random.random(leaf.shape) < 0.5, -1, 1)
        return (leaf + direction * last_place(leaf)).astype(leaf.dtype)

    return jax.tree.map(neighbor, parameters)


def _perturbed(run: Any, ours: Leaves, theirs: Leaves, random: np.random.Generator) -> Any:
    """The result of a step of the perturbed reference run, perturbed by the difference of the two sides at that step.

    The perturbations have random signs. They do not change the sign of an entry, because optimizers take square roots
    of second moments. Arrays that cannot be compared are not perturbed.
    """

    def moved(path: str, leaf: np.ndarray) -> np.ndarray:
        mine = ours.get(path)
        if mine is None or mine.shape != leaf.shape or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        with np.errstate(invalid="ignore"):
            error = np.minimum(np.abs(_difference(mine, theirs[path])), last_place(leaf))
        error = np.where(error < np.abs(np.asarray(leaf, np.float64)), error, 0.0)
        return (leaf + np.where(random.random(leaf.shape) < 0.5, -error, error)).astype(leaf.dtype)

    leaves = both_leaves(run)
    return jax.tree.unflatten(jax.tree.structure(run), [moved(path, leaf) for path, leaf in leaves.items()])


def _follow(
    rows: dict[str, ParameterPath],
    step: int,
    alone: list[Row],
    befores: Leaves,
    theirs: Leaves,
    free_run: Leaves | None,
    perturbed_run: Leaves | None,
) -> dict[str, ParameterPath]:
    """The rows of the report, updated by one step.

    Args:
        rows: the rows so far, by path.
        step: the number of the step.
        alone: the judged leaves of the restarted step.
        befores: the reference's leaves before the step.
        theirs: the reference's leaves after the step.
        free_run: the leaves of the hand-written side's free run after the step; None if there is none.
        perturbed_run: those of the perturbed reference run.
    """
    followed = dict(rows)
    for judged in alone:
        path = judged.path
        row = followed.get(path, ParameterPath(path, judged.shape))
        if judged.verdict is Verdict.DISAGREE:
            row = replace(row, wrong_step=step, message=judged.message)
            after, own = theirs.get(path), (free_run or {}).get(path)
            if after is not None and jnp.issubdtype(after.dtype, jnp.inexact):
                row = replace(row, distance=row.distance + norm(_difference(after, befores[path])))
                if np.isfinite(judged.error):
                    row = replace(row, step_error=max(row.step_error, judged.error))
                if own is not None and own.shape == after.shape and np.isfinite(own).all():
                    drift = norm(_difference(own, after))
                    largest = max(row.largest_drift, drift / row.distance if row.distance else 0.0)
                    row = replace(row, drift=drift, largest_drift=largest)
            followed[path] = row
            continue
        if judged.verdict is Verdict.INCONCLUSIVE:
            followed[path] = replace(row, adrift_step=row.adrift_step or step, message=judged.message)
            continue
        after = theirs[path]
        if not jnp.issubdtype(after.dtype, jnp.inexact):
            continue
        u = unit_roundoff(after.dtype)
        distance = row.distance + norm(_difference(after, befores[path]))
        drift = norm(_difference(free_run[path], after)) if free_run else 0.0
        perturbed = max(row.perturbed, norm(_difference(perturbed_run[path], after))) if perturbed_run else 0.0
        # The rounding errors of the steps accumulate like a random walk.
        step_tolerance = max(row.step_tolerance, judged.tolerance)
        walk = (step_tolerance * after.size**0.5 + 4 * u * norm(after)) * step**0.5
        tolerance = PERTURBED_RUN * perturbed + TRAVEL * u * distance + walk if free_run else 0.0
        row = replace(
            row,
            distance=distance,
            drift=drift,
            tolerance=tolerance,
            perturbed=perturbed,
            largest_drift=max(row.largest_drift, drift / distance if distance else 0.0),
            step_error=max(row.step_error, judged.error),
            step_tolerance=step_tolerance,
        )
        # If the runs converge again, an earlier drift does not count.
        followed[path] = replace(row, adrift_step=None if drift <= tolerance else row.adrift_step or step)
    return followed


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64) - np.asarray(b, np.float64)


def assert_trajectory_agrees(*args: Any, **options: Any) -> None:
    """`check_trajectory` for tests, with the same arguments.

    Raises:
        TrajectoryMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_trajectory(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise TrajectoryMismatch(report)
