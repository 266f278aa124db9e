"""Compares two training runs: the hand-written side restarted at every step, and both sides running freely.

Restarting the hand-written side from the reference's parameters gives the error of each step alone, which is compared
with the rounding tolerance of that step. Running freely gives the drift between the two runs. Drift also grows where
the problem amplifies rounding errors. How fast it does is measured by a perturbed reference run. That run starts one
unit in the last place away, and each of its steps is perturbed at random by as much as the two sides differ there, up
to a unit in the last place; a larger perturbation would hide errors. Perturbing the start alone is not enough,
because the run may converge back before the problem becomes chaotic. Drift without a wrong step is INCONCLUSIVE,
because a chaotic problem looks the same. Only the current parameters are kept in memory.
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

# The tolerance of the drift is this many times that of the perturbed reference run, whose errors have random signs,
PERTURBED_RUN = 8.0
# plus this many u times the distance travelled, because the rounding errors of the steps may all have the same sign.
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
        loss_and_gradients, loss: as for `check_gradients`. With both, the gradients at a wrong step are also checked,
            so that the report says whether the gradient or the update rule is wrong.
        seed: the seed of everything random in the check.
        free: whether both sides also run freely. Without it, less memory is needed and there is no drift.
        entries: how many random entries of a larger array are compared; None for all. Fewer need less memory.
        progress: called with the number of each finished step.

    Returns:
        The report. `side_effects` has those of the hand-written step: what it writes to, and whether it keeps state
        between calls.

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
    ours, perturbed_run = (start, (_one_place_away(start[0], random), start[1])) if free else (None, None)
    theirs = both_leaves(start)
    rows = {path: ParameterPath(path, leaf.shape) for path, leaf in theirs.items()}
    drift, share, step, before, batch, alone = Curve(), Curve(), 0, start, (), []
    del start  # one copy fewer in memory, which matters for huge models

    def reference_from(both: Pytree, batch: Pytree) -> Any:
        return jax.tree.map(np.asarray, settled(reference_step(both, *batch), both))

    for step, given in enumerate(batches, start=1):
        before, befores, batch = reference, theirs, as_arguments(given, step)
        restarted = own_step(before, *batch)
        mine = both_leaves(restarted)
        if free:
            # The two runs start from the same place, so the first free step is the first restarted one.
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
            except (TypeError, ValueError) as error:  # the error that was found is reported all the same
                side_effects.append(Diagnosis(None, "unchecked", f"the gradients there could not be checked: {error}"))
    return TrajectoryReport(step, list(rows.values()), drift, diagnoses, gradients, free, share, side_effects)


def _one_place_away(parameters: Pytree, random: np.random.Generator) -> Any:
    def neighbor(leaf: np.ndarray) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        direction = np.where(random.random(leaf.shape) < 0.5, -1, 1)
        return (leaf + direction * last_place(leaf)).astype(leaf.dtype)

    return jax.tree.map(neighbor, parameters)


def _perturbed(run: Any, ours: Leaves, theirs: Leaves, random: np.random.Generator) -> Any:
    """The perturbed reference run, changed by as much as the results of the two sides differ, with random signs.

    An entry keeps its sign, because an optimizer takes roots of its second moments. Arrays that cannot be compared are
    not perturbed.
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
    """The rows with this step added.

    `free_run` and `perturbed_run` are the hand-written side's free run and the perturbed reference run, if any.
    """
    followed = dict(rows)
    for judged in alone:
        path = judged.path
        row = followed.get(path, ParameterPath(path, judged.shape))
        if judged.verdict is Verdict.DISAGREE:
            followed[path] = replace(row, wrong_step=step, message=judged.message)
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
        # The errors of single steps add up like a random walk.
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
        # Where the runs converge again, there was no drift.
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
