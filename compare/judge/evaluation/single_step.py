"""Compares single training steps that start from the reference's parameters, by the rounding tolerance of one step.

Measuring a tolerance takes as long as a step. A measured tolerance is therefore used again for the following steps,
scaled down if their parameters or updates are smaller.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.steps import Step, both_leaves
from compare.judge.program.trace import Program
from compare.judge.reports.verdict import Row, Verdict, compare_leaves
from compare.judge.roundoff.tolerance import CONFIRMED, SAMPLES, last_place, measure
from compare.pytrees import Pytree

# The number of steps for which a measured tolerance is used again.
LATELY = 32

Leaves = dict[str, np.ndarray]


class Alone:
    """Compares single steps.

    Args:
        reference_step: the reference's step.
        entries: the number of entries of a larger leaf that are compared, the same ones at every step; None for all.
        seed: the seed by which these entries are drawn.
    """

    def __init__(self, reference_step: Step, entries: int | None, seed: int) -> None:
        self.reference_step, self.entries, self.seed = reference_step, entries, seed
        self.step = self.measured = 0  # the number of the current step, and of the last one with a measured tolerance
        self.allowed: Leaves = {}  # the measured tolerance
        self.sizes: Leaves = {}  # the sizes of parameters and updates at that step
        self.programs: dict[Any, Program] = {}

    def judge(self, before: Pytree, batch: Pytree, ours: Leaves, theirs: Leaves) -> list[Row]:
        """Compare one step. The tolerance is measured only if the difference exceeds the tolerance known before.

        Args:
            before: the parameters and the state before the step.
            batch: the step's further arguments.
            ours: the result of the hand-written step, by path.
            theirs: the result of the reference's step, by path.

        Returns:
            A row for each leaf.
        """
        self.step += 1
        befores, ours, theirs = (
            {path: self.some(leaf) for path, leaf in leaves.items()} for leaves in (both_leaves(before), ours, theirs)
        )
        rows = compare_leaves(ours, theirs, theirs, self._known_tolerance(befores, theirs))
        if all(row.verdict is Verdict.AGREE for row in rows):
            return rows
        floating = [leaf.dtype for leaf in jax.tree.leaves(before[0]) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        dtype = np.result_type(*floating) if floating else np.dtype(np.float64)
        program = self._program(before, *batch)
        for samples in (SAMPLES, *CONFIRMED):  # a disagreement is reported only if more runs confirm it
            self.allowed = {}  # it is freed first, because memory may not suffice for two tolerances of a huge model
            right, allowed = map(both_leaves, measure(program, before, *batch, dtype=dtype, samples=samples))
            self.measured, self.allowed, self.sizes = self.step, allowed, _sizes(befores, theirs)
            rows = compare_leaves(ours, theirs, right, allowed)
            if all(row.verdict is Verdict.AGREE for row in rows):
                break
            del right, allowed
        return [_undecided(row, theirs[row.path]) if row.path in theirs else row for row in rows]

    def some(self, leaf: Any) -> Any:
        """The entries of a leaf that are compared."""
        if self.entries is None or leaf.size <= self.entries:
            return leaf
        return leaf.reshape(-1)[np.random.default_rng([self.seed, leaf.size]).integers(0, leaf.size, self.entries)]

    def _program(self, *args: Any) -> Program:
        """The reference's step, traced once for the structure and dtypes of its arguments."""

        def step(*args: Any) -> Any:
            return jax.tree.map(self.some, self.reference_step(*args))

        leaves, tree = jax.tree.flatten(args)
        kind = (tree, *(jnp.result_type(leaf) for leaf in leaves))
        if kind not in self.programs:
            self.programs[kind] = Program(step, *args, narrow_stays=True)
        return self.programs[kind]

    def _known_tolerance(self, befores: Leaves, theirs: Leaves) -> Leaves:
        """The tolerance known without measuring: one ULP, or half of the last measured tolerance if that is larger.

        The measured tolerance is scaled down if parameters or updates are smaller than at its measurement.
        """
        stored = {path: _storage_tolerance(leaf) for path, leaf in theirs.items()}
        if not self.allowed or self.step - self.measured > LATELY:
            return stored
        shares = {path: _share(size, self.sizes.get(path)) for path, size in _sizes(befores, theirs).items()}
        return {path: np.maximum(slack, shares.get(path, 0.0) * self.allowed[path]) for path, slack in stored.items()}


def _sizes(befores: Leaves, theirs: Leaves) -> Leaves:
    """The largest entry and the largest update of each leaf of the step's arguments."""
    return {path: _size(leaf, befores[path]) for path, leaf in theirs.items() if path in befores}


def _size(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    if after.shape != before.shape or not after.size:
        return np.zeros(2)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.asarray(after, np.float64)
        return np.array([np.abs(wide).max(), np.abs(wide - np.asarray(before, np.float64)).max()])


def _share(size: np.ndarray, size_then: np.ndarray | None) -> float:
    """The share of the measured tolerance that is used for this step.

    `size` has the largest entry and the largest update at this step, `size_then` those at the measurement.
    """
    if size_then is None:
        return 0.0
    now = np.divide(size, size_then, out=np.ones(2), where=size_then > 0)
    return 0.5 * float(min(1.0, *now)) if np.isfinite(now).all() else 0.0


def _storage_tolerance(leaf: np.ndarray) -> np.ndarray:
    exact = not jnp.issubdtype(leaf.dtype, jnp.inexact)
    return last_place(leaf) + (0.0 if exact else float(jnp.finfo(leaf.dtype).tiny))


def _undecided(row: Row, theirs: np.ndarray) -> Row:
    """The row, with INCONCLUSIVE if JAX's step is not finite in its own dtype either, because the run diverges."""
    lost = ~np.isfinite(np.asarray(theirs, np.float64))
    if row.verdict is not Verdict.DISAGREE or not lost.any():
        return row
    return replace(
        row, verdict=Verdict.INCONCLUSIVE, message=f"{int(lost.sum())} entries of JAX's own step are not finite"
    )
