"""Whole training runs, step by step: both sides running free, and the manual side restarted at every step.

Restarting the manual side from the reference's parameters shows the error of each step alone, which is held against
what rounding allows for that step. Running free shows the drift between the two runs, which also grows when rounding
errors feed on themselves; how fast they do is measured by a twin, a third run of the reference. It starts one unit in
the last place away, and at each step it is moved at random by as much as the two sides differ there, up to a unit in
the last place: more, and a fault would excuse itself. A twin that is moved at its start only may forget it before the
problem turns chaotic, and then a correct run looks guilty. So a wrong step and a chaotic problem are told apart; that
is also why drift alone convicts nobody. Only the current parameters are kept, never a history of them.
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

# Two free runs may be apart by this many times what the twin has been, whose errors have no common sign, ...
TWIN = 8.0
# ... and by this many u of the distance travelled: every step rounds, and the errors may all have one sign.
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
    """Follow two training runs from the same parameters through the same batches.

    `step(parameters, *batch) -> parameters`, on the manual side with NumPy arrays (or what `np.asarray` takes), on
    the other with JAX. With `state`, any tree that is not None, `step(parameters, state, *batch) -> (parameters,
    state)`; both sides must keep it in the same structure, and it is compared like the parameters. The comparison
    ends at the first step that is wrong or cannot be judged: after it there is nothing left to learn from.

    With `loss_and_gradients` and `loss`, as for `check_gradients`, the gradients at a wrong step are checked too, so
    that a wrong update rule and a wrong gradient are told apart. With `free=False` every step is judged by itself
    only, from where the reference is; with `entries`, only so many entries of a larger leaf, drawn at random, are held
    against rounding. Both save memory where models are huge. `progress` is called with the number of each
    finished step.

    The manual side works on copies, so it cannot spoil the caller's data; `conduct` says what it writes to, and whether
    it answers differently to the same question. Raises ValueError if there are no batches, and BadInput, which is one,
    if a batch is no tuple of arguments or a step does not return what it was given.
    """
    reference_step = with_state(autodiff_step, "autodiff_step", state)
    judge = Alone(reference_step, entries, seed)
    own_step = Careful(with_state(manual_step, "manual_step", state), judge.some)
    start = start_of(parameters, state)
    reference = restarted = start
    random = np.random.default_rng(seed)
    ours, twin = (start, (_one_place_away(start[0], random), start[1])) if free else (None, None)
    theirs = both_leaves(start)
    rows = {path: ParameterPath(path, leaf.shape) for path, leaf in theirs.items()}
    drift, share, step, before, batch, alone = Curve(), Curve(), 0, start, (), []
    del start  # of huge models every copy counts

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
                twin = _astray(reference_from(twin, batch), mine, theirs, random)
            alone = judge.judge(before, batch, mine, theirs)
        frees, twins = (both_leaves(ours), both_leaves(twin)) if free else (None, None)
        rows = _follow(rows, step, alone, befores, theirs, frees, twins)
        drift.add(step, max((row.largest_drift for row in rows.values()), default=0.0))
        share.add(step, max((row.share for row in rows.values()), default=0.0))
        if progress:
            progress(step)
        if any(row.message for row in rows.values()):
            break
    if step == 0:
        raise ValueError("batches is empty: there is no step to compare. Give at least one batch.")
    diagnoses, gradients, conduct = [], None, list(own_step.conduct)
    found = [row.verdict for row in rows.values()]
    if Verdict.of(found) is not Verdict.AGREE and own_step.answers_otherwise(
        restarted, before, batch, reference, alone
    ):
        conduct.append(KEEPS_STATE)
        rows = {path: row.undecided() for path, row in rows.items()}
    elif Verdict.DISAGREE in found:
        with precise(before, batch):
            diagnoses = explain_step(own_step, reference_step, before, batch, alone, step)
        if loss_and_gradients is not None and loss is not None:
            try:
                gradients = check_gradients(loss_and_gradients, loss, before[0], *batch, probes=False)
            except (TypeError, ValueError) as error:  # the fault that was found is not lost for that
                conduct.append(Diagnosis(None, "unchecked", f"the gradients there could not be checked: {error}"))
    return TrajectoryReport(step, list(rows.values()), drift, diagnoses, gradients, free, share, conduct)


def _one_place_away(parameters: Pytree, random: np.random.Generator) -> Any:
    def neighbor(leaf: np.ndarray) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        direction = np.where(random.random(leaf.shape) < 0.5, -1, 1)
        return (leaf + direction * last_place(leaf)).astype(leaf.dtype)

    return jax.tree.map(neighbor, parameters)


def _astray(twin: Any, ours: Leaves, theirs: Leaves, random: np.random.Generator) -> Any:
    """The twin, moved by as much as this step's two results differ, each entry one way or the other.

    An entry keeps its sign, because an optimizer takes roots of its second moments. What cannot be compared
    does not move the twin.
    """

    def moved(path: str, leaf: np.ndarray) -> np.ndarray:
        mine = ours.get(path)
        if mine is None or mine.shape != leaf.shape or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        with np.errstate(invalid="ignore"):
            error = np.minimum(np.abs(_difference(mine, theirs[path])), last_place(leaf))
        error = np.where(error < np.abs(np.asarray(leaf, np.float64)), error, 0.0)
        return (leaf + np.where(random.random(leaf.shape) < 0.5, -error, error)).astype(leaf.dtype)

    leaves = both_leaves(twin)
    return jax.tree.unflatten(jax.tree.structure(twin), [moved(path, leaf) for path, leaf in leaves.items()])


def _follow(
    rows: dict[str, ParameterPath],
    step: int,
    alone: list[Row],
    befores: Leaves,
    theirs: Leaves,
    frees: Leaves | None,
    twins: Leaves | None,
) -> dict[str, ParameterPath]:
    """The rows with this step added; `frees` and `twins` are where the free run and its twin are, if there are any."""
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
        drift = norm(_difference(frees[path], after)) if frees else 0.0
        twin_drift = max(row.twin, norm(_difference(twins[path], after))) if twins else 0.0
        # What was allowed for single steps adds up like a random walk.
        slack = max(row.slack, judged.tolerance)
        walk = (slack * after.size**0.5 + 4 * u * norm(after)) * step**0.5
        allowed = TWIN * twin_drift + TRAVEL * u * distance + walk if frees else 0.0
        row = replace(
            row,
            distance=distance,
            drift=drift,
            allowed=allowed,
            twin=twin_drift,
            largest_drift=max(row.largest_drift, drift / distance if distance else 0.0),
            step_error=max(row.step_error, judged.error),
            slack=slack,
        )
        # Runs that find together again were not adrift.
        followed[path] = replace(row, adrift_step=None if drift <= allowed else row.adrift_step or step)
    return followed


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64) - np.asarray(b, np.float64)


def assert_trajectory_agrees(*args: Any, **options: Any) -> None:
    """`check_trajectory`, but raise TrajectoryMismatch unless the verdict is AGREE."""
    report = check_trajectory(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise TrajectoryMismatch(report)
