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
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.agreement import Diagnosis, Row, Verdict, compare_trees
from compare.gradients import check_gradients
from compare.platform import precise
from compare.remembered import Remembered
from compare.rounding import CONFIRMED, SAMPLES, measure, norm, unit_roundoff
from compare.stepping import KEEPS_STATE, Careful, Step, as_arguments, both_leaves, settled, start_of, with_state
from compare.steps import explain_step
from compare.trajectory_report import Curve, ParameterPath, TrajectoryMismatch, TrajectoryReport

# Two free runs may be apart by this many times what the twin has been, whose errors have no common sign, ...
TWIN = 8.0
# ... and by this many u of the distance travelled: every step rounds, and the errors may all have one sign.
TRAVEL = 64.0


def check_trajectory(
    manual_step: Step,
    autodiff_step: Step,
    parameters: Any,
    batches: Iterable[tuple[Any, ...]],
    *,
    state: Any = None,
    loss_and_gradients: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
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
    own_step = Careful(with_state(manual_step, "manual_step", state))
    reference_step = with_state(autodiff_step, "autodiff_step", state)
    start = start_of(parameters, state)
    reference = restarted = start
    random = np.random.default_rng(seed)
    ours, twin = (start, (_one_place_away(start[0], random), start[1])) if free else (None, None)
    rows = {path: ParameterPath(path, leaf.shape) for path, leaf in both_leaves(start).items()}
    drift, share, step, before, batch, alone = Curve(), Curve(), 0, start, (), []
    del start  # of huge models every copy counts
    remembered, some = Remembered(), partial(_some, entries, seed)

    def judged_step(both: Any, *batch: Any) -> Any:
        return some(reference_step(both, *batch))

    for step, given in enumerate(batches, start=1):
        before, batch = reference, as_arguments(given, step)
        restarted = own_step(before, *batch)
        if free:
            # The two runs start from the same place, so the first free step is the first restarted one.
            ours = restarted if step == 1 else own_step(ours, *batch)
        with precise(before, batch):
            reference = jax.tree.map(np.asarray, settled(reference_step(before, *batch), before))
            if free:
                twin = jax.tree.map(np.asarray, settled(reference_step(twin, *batch), before))
                twin = _astray(twin, restarted, reference, random)
            judged = some(reference)
            remembered.begin(step, some(before), judged)
            alone = _judge_alone(judged_step, before, batch, some(restarted), judged, remembered)
        rows = _follow(rows, step, alone, before, reference, ours, twin)
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


def _some(entries: int | None, seed: int, tree: Any) -> Any:
    """`entries` of every leaf that has more, always the same; by default all of all."""

    def of(leaf: Any) -> Any:
        if entries is None or leaf.size <= entries:
            return leaf
        return leaf.reshape(-1)[np.random.default_rng([seed, leaf.size]).integers(0, leaf.size, entries)]

    return jax.tree.map(of, tree)


def _one_place_away(parameters: Any, random: np.random.Generator) -> Any:
    def neighbor(leaf: np.ndarray) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        direction = np.where(random.random(leaf.shape) < 0.5, -1, 1)
        return (leaf * (1 + 2 * unit_roundoff(leaf.dtype) * direction)).astype(leaf.dtype)

    return jax.tree.map(neighbor, parameters)


def _astray(twin: Any, restarted: Any, reference: Any, random: np.random.Generator) -> Any:
    """The twin, moved by as much as this step's two results differ, each entry one way or the other.

    An entry keeps its sign, because an optimizer takes roots of its second moments. What cannot be compared
    does not move the twin.
    """
    ours, theirs = both_leaves(restarted), both_leaves(reference)

    def moved(path: str, leaf: np.ndarray) -> np.ndarray:
        mine = ours.get(path)
        if mine is None or mine.shape != leaf.shape or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        with np.errstate(invalid="ignore"):
            error = np.abs(_difference(mine, theirs[path]))
            place = 2 * unit_roundoff(leaf.dtype) * np.abs(np.asarray(leaf, np.float64))
        error = np.minimum(error, place)
        error = np.where(error < np.abs(np.asarray(leaf, np.float64)), error, 0.0)
        return (leaf + np.where(random.random(leaf.shape) < 0.5, -error, error)).astype(leaf.dtype)

    leaves = both_leaves(twin)
    return jax.tree.unflatten(jax.tree.structure(twin), [moved(path, leaf) for path, leaf in leaves.items()])


def _judge_alone(
    reference_step: Step, before: Any, batch: Any, restarted: Any, reference: Any, remembered: Remembered
) -> list[Row]:
    """One step by itself. Most steps differ by no more than what is surely allowed; the others are measured."""
    ours, theirs = both_leaves(restarted), both_leaves(reference)
    rows = compare_trees(ours, theirs, theirs, remembered.allowance(theirs))
    if all(row.verdict is Verdict.AGREE for row in rows):
        return rows
    floating = [leaf.dtype for leaf in jax.tree.leaves(before[0]) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    dtype = np.result_type(*floating) if floating else np.dtype(np.float64)
    program = remembered.program(reference_step, before, *batch)
    for samples in (SAMPLES, *CONFIRMED):  # a disagreement is looked at again before it is one
        remembered.allowed = {}  # of huge models, one measurement fits into memory and two do not
        right, allowed = map(both_leaves, measure(program, before, *batch, dtype=dtype, samples=samples))
        remembered.remember(allowed)
        rows = compare_trees(ours, theirs, right, allowed)
        if all(row.verdict is Verdict.AGREE for row in rows):
            break
        del right, allowed
    return [_undecided(row, theirs[row.path]) if row.path in theirs else row for row in rows]


def _undecided(row: Row, theirs: np.ndarray) -> Row:
    """The row, but no fault where JAX's own step, in its own dtype, is not finite either: the run diverges."""
    lost = ~np.isfinite(np.asarray(theirs, np.float64))
    if row.verdict is not Verdict.DISAGREE or not lost.any():
        return row
    return replace(
        row, verdict=Verdict.INCONCLUSIVE, message=f"JAX's own step has {int(lost.sum())} entries not finite"
    )


def _follow(
    rows: dict[str, ParameterPath], step: int, alone: list[Row], before: Any, reference: Any, ours: Any, twin: Any
) -> dict[str, ParameterPath]:
    befores, references = both_leaves(before), both_leaves(reference)
    frees, twins = (both_leaves(ours), both_leaves(twin)) if ours is not None else (references, references)
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
        after = references[path]
        if not jnp.issubdtype(after.dtype, jnp.inexact):
            continue
        u = unit_roundoff(after.dtype)
        distance = row.distance + norm(_difference(after, befores[path]))
        drift = norm(_difference(frees[path], after))
        twin_drift = max(row.twin, norm(_difference(twins[path], after)))
        # What was allowed for single steps adds up like a random walk.
        slack = max(row.slack, judged.allowed)
        walk = (slack * after.size**0.5 + 4 * u * norm(after)) * step**0.5
        allowed = TWIN * twin_drift + TRAVEL * u * distance + walk if ours is not None else 0.0
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
