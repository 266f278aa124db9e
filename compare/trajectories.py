"""Whole training runs, step by step: both sides running free, and the manual side restarted at every step.

Running free shows the drift between the two runs, which also grows when rounding errors feed on themselves.
Restarting the manual side from the reference's parameters shows the error of each step alone. So a wrong
step and a chaotic problem are told apart. Only the current parameters are kept, never a history of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from compare.agreement import Row, Verdict, compare_trees, leaves_by_path, plain
from compare.platform import precise
from compare.rendering import html_table, plain_text, table
from compare.rounding import measure, norm, unit_roundoff

Step = Callable[..., Any]  # step(parameters, *batch) -> parameters

# In units of u, how far apart two free runs may be, over the distance travelled, before we call the run
# unstable: a thousand steps whose errors all add up. Storing a parameter rounds too, like a random walk.
DRIFT = 8192

HEADERS = ("parameter", "shape", "travelled", "drift", "drift/travelled", "step error", "verdict")


class TrajectoryMismatch(AssertionError):
    """The two runs do not agree, or could not be compared. `report` has the details."""

    def __init__(self, report: "TrajectoryReport") -> None:
        super().__init__(f"\n{report}")
        self.report = report


@dataclass(frozen=True)
class ParameterPath:
    """How one parameter fared over the run. Lengths are Euclidean norms.

    `distance` is the length of the reference's path; `drift` how far the free runs ended apart, and
    `largest_drift` the largest drift over distance at any step; `step_error` the largest error of any entry in
    a restarted step. `wrong_step` is the first step
    (from 1) that was wrong by itself, `adrift_step` the first at which the free runs were too far apart or
    could not be compared.
    """

    path: str
    shape: tuple[int, ...]
    distance: float = 0.0
    drift: float = 0.0
    largest_drift: float = 0.0
    step_error: float = 0.0
    wrong_step: int | None = None
    adrift_step: int | None = None
    message: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.wrong_step is not None:
            return Verdict.DISAGREE
        return Verdict.AGREE if self.adrift_step is None else Verdict.INCONCLUSIVE


@dataclass
class Curve:
    """A record of bounded length: when full, it drops every other point and then takes half as many."""

    capacity: int = 1000
    every: int = 1
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        if step % self.every:
            return
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) == self.capacity:
            self.every *= 2
            kept = [i for i, step in enumerate(self.steps) if step % self.every == 0]
            self.steps, self.values = [self.steps[i] for i in kept], [self.values[i] for i in kept]


@dataclass(frozen=True)
class TrajectoryReport:
    """What came out of comparing two training runs; `drift` is the largest drift over distance, over steps."""

    steps: int
    rows: list[ParameterPath]
    drift: Curve

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([row.verdict for row in self.rows])

    @property
    def wrong_step(self) -> int | None:
        """The first step (from 1) that was wrong by itself."""
        return min((row.wrong_step for row in self.rows if row.wrong_step is not None), default=None)

    @property
    def first_wrong(self) -> str | None:
        """The parameter that was wrong first."""
        step = self.wrong_step
        return next((row.path for row in self.rows if step is not None and row.wrong_step == step), None)

    @property
    def largest_drift(self) -> float:
        return max((row.largest_drift for row in self.rows), default=0.0)

    @property
    def sentence(self) -> str:
        if self.verdict is Verdict.AGREE:
            return (
                f"{self.steps} steps agree; the free runs never drifted apart by more than "
                f"{self.largest_drift:.1e} of the distance travelled."
            )
        if self.verdict is Verdict.DISAGREE:
            row = next(row for row in self.rows if row.path == self.first_wrong)
            return f"Step {row.wrong_step} of {self.steps} is wrong: {row.path}: {row.message}."
        row = min((row for row in self.rows if row.adrift_step), key=lambda row: row.adrift_step or 0)
        if row.message:
            return f"No verdict is possible from step {row.adrift_step} on: {row.path}: {row.message}."
        return (
            f"Every step is right by itself, but from step {row.adrift_step} on the free runs are further apart "
            f"({row.path}: {row.largest_drift:.1e} of the distance travelled) than rounding explains in a stable "
            "run. Try fewer iterations or a smaller learning rate."
        )

    def cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                f"{row.distance:.3g}",
                f"{row.drift:.1e}",
                f"{row.largest_drift:.1e}",
                f"{row.step_error:.1e}",
                row.verdict.value,
            )
            for row in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "steps": self.steps,
                "first_wrong": self.first_wrong,
                "wrong_step": self.wrong_step,
                "largest_drift": self.largest_drift,
                "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
                "drift": {"steps": self.drift.steps, "values": self.drift.values},
            }
        )

    def __str__(self) -> str:
        return plain_text(self.sentence, table(HEADERS, self.cells()))

    def _repr_html_(self) -> str:
        return html_table(self.sentence, HEADERS, self.cells())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict, or call assert_trajectory_agrees")


def check_trajectory(
    manual_step: Step,
    autodiff_step: Step,
    parameters: Any,
    batches: Iterable[tuple[Any, ...]],
    *,
    progress: Callable[[int], None] | None = None,
) -> TrajectoryReport:
    """Follow two training runs from the same parameters through the same batches.

    `step(parameters, *batch) -> parameters`, on the manual side with NumPy arrays (or what `np.asarray`
    takes), on the other with JAX. The comparison ends at the first step that is wrong by itself or cannot be
    judged: after it there is nothing left to learn from. `progress` is called with the number of each finished step.
    Raises ValueError if there are no batches.
    """
    free = reference = jax.tree.map(np.asarray, parameters)
    rows = {path: ParameterPath(path, leaf.shape) for path, leaf in leaves_by_path(reference).items()}
    drift = Curve()
    step = 0
    for step, batch in enumerate(batches, start=1):
        before = reference
        restarted = manual_step(jax.tree.map(np.copy, before), *batch)
        # The two runs start from the same place, so the first free step is the first restarted one.
        free = restarted if step == 1 else manual_step(free, *batch)
        with precise(before, batch):
            reference = jax.tree.map(np.asarray, autodiff_step(before, *batch))
            alone = _judge_alone(autodiff_step, before, batch, restarted, reference)
        rows = _follow(rows, step, alone, before, reference, free)
        drift.add(step, max((row.largest_drift for row in rows.values()), default=0.0))
        if progress:
            progress(step)
        if any(row.message for row in rows.values()):
            break
    if step == 0:
        raise ValueError("batches is empty: there is no step to compare. Give at least one batch.")
    return TrajectoryReport(step, list(rows.values()), drift)


def _judge_alone(autodiff_step: Step, before: Any, batch: Any, restarted: Any, reference: Any) -> list[Row]:
    """One step by itself. Storing a result rounds it on both sides; most steps differ by no more than that."""
    stored = jax.tree.map(_storage_allowance, reference)
    rows = compare_trees(restarted, reference, reference, stored)
    if all(row.verdict is Verdict.AGREE for row in rows):
        return rows
    dtype = np.result_type(*jax.tree.leaves(before))
    right, allowed = measure(autodiff_step, before, *batch, dtype=dtype)
    return compare_trees(restarted, reference, right, allowed)


def _storage_allowance(leaf: np.ndarray) -> np.ndarray:
    return 2 * unit_roundoff(leaf.dtype) * np.abs(leaf) + float(jnp.finfo(leaf.dtype).tiny)


def _follow(
    rows: dict[str, ParameterPath], step: int, alone: list[Row], before: Any, reference: Any, free: Any
) -> dict[str, ParameterPath]:
    befores, references, frees = map(leaves_by_path, (before, reference, free))
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
        distance = row.distance + norm(after - befores[path])
        drift = norm(np.asarray(frees[path], np.float64) - after)
        u = unit_roundoff(after.dtype)
        adrift = not drift <= DRIFT * u * distance + 2 * u * step**0.5 * norm(after)
        followed[path] = replace(
            row,
            distance=distance,
            drift=drift,
            largest_drift=max(row.largest_drift, drift / distance if distance else 0.0),
            step_error=max(row.step_error, judged.error),
            adrift_step=row.adrift_step or (step if adrift else None),
        )
    return followed


def assert_trajectory_agrees(*args: Any, **options: Any) -> None:
    """`check_trajectory`, but raise TrajectoryMismatch unless the verdict is AGREE."""
    report = check_trajectory(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise TrajectoryMismatch(report)
