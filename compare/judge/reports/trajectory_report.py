"""The report of a comparison of two training runs."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NoReturn

from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.tables import html_report, plain_text, table
from compare.judge.reports.verdict import Diagnosis, Verdict, plain

# If rounding errors alone can separate the free runs by this share of the distance travelled, the drift shows nothing.
CHAOS = 1e-2

# The verdict on each side effect, if every step is correct. An update in place is reported, but it is not an error.
SIDE_EFFECTS = {"modifies-arguments": Verdict.DISAGREE, "depends-on-earlier-calls": Verdict.INCONCLUSIVE}

HEADERS = ("parameter", "shape", "travelled", "drift", "drift/travelled", "step error", "verdict")


class TrajectoryMismatch(AssertionError):
    """Raised if the verdict is not AGREE. The attribute `report` is the report, whose text is the message."""

    def __init__(self, report: "TrajectoryReport") -> None:
        super().__init__(f"\n{report}")
        self.report = report


@dataclass(frozen=True)
class ParameterPath:
    """One parameter over the whole run. Distances are Euclidean norms.

    In a free run, each step starts from the result of the previous one. Each single step is also compared alone: then
    the step under test starts from the reference's parameters.

    Attributes:
        path: the parameter's name.
        shape: its shape.
        distance: the distance that the reference has travelled: the sum of the norms of its updates.
        drift: the distance between the two free runs at the end.
        largest_drift: the largest ratio of drift to distance at any step.
        tolerance: the tolerance of `drift`: how far rounding errors can separate the two runs.
        perturbed: the largest distance of the perturbed reference run from the reference.
        step_error: the largest error of an entry in a single step.
        step_tolerance: the tolerance of `step_error`.
        wrong_step: the first wrong single step, counted from 1; None if there is none.
        adrift_step: the first step at which the drift exceeds its tolerance or cannot be compared; None if there is
            none.
        message: a description of the error; empty if there is none.
    """

    path: str
    shape: tuple[int, ...]
    distance: float = 0.0
    drift: float = 0.0
    largest_drift: float = 0.0
    tolerance: float = 0.0
    perturbed: float = 0.0
    step_error: float = 0.0
    step_tolerance: float = 0.0
    wrong_step: int | None = None
    adrift_step: int | None = None
    message: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.wrong_step is not None:
            return Verdict.DISAGREE
        return Verdict.AGREE if self.adrift_step is None and not self.chaotic else Verdict.INCONCLUSIVE

    def undecided(self) -> "ParameterPath":
        """The same row with INCONCLUSIVE in place of DISAGREE."""
        return replace(self, wrong_step=None, adrift_step=self.wrong_step or self.adrift_step, message="")

    @property
    def share(self) -> float:
        """The drift divided by its tolerance. Rounding errors do not explain a value above 1."""
        if self.tolerance == 0:
            return 0.0 if self.drift == 0 else float("inf")
        return self.drift / self.tolerance

    @property
    def chaotic(self) -> bool:
        """Whether rounding errors alone can separate the free runs by a large share of the distance travelled."""
        return self.tolerance > CHAOS * self.distance > 0


@dataclass
class Curve:
    """A curve of a bounded number of points. When it is full, it drops every other point and records half as often.

    Attributes:
        capacity: the largest number of points.
        every: the number of steps between two points.
        steps: the steps of the points.
        values: their values.
    """

    capacity: int = 1000
    every: int = 1
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Add a point, unless the step is skipped."""
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
    """The result of comparing two training runs.

    Attributes:
        steps: the number of steps that were compared.
        rows: one row for each parameter and each array of the optimizer's state.
        drift: at each step, the largest ratio of drift to distance travelled.
        diagnoses: the causes of the error in the first wrong step.
        gradients: the check of the gradients at that step; None without `loss_and_gradients` and `loss`.
        free: whether free runs were made. Without them, there is no drift.
        share: at each step, the largest ratio of a drift to its tolerance.
        side_effects: the side effects of the step under test: the arguments that it modifies, and whether its results
            depend on earlier calls.
    """

    steps: int
    rows: list[ParameterPath]
    drift: Curve
    diagnoses: list[Diagnosis] = field(default_factory=list)
    gradients: GradientReport | None = None
    free: bool = True
    share: Curve = field(default_factory=Curve)
    side_effects: list[Diagnosis] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([SIDE_EFFECTS.get(note.kind, Verdict.AGREE) for note in self.side_effects] + self._verdicts)

    @property
    def _verdicts(self) -> list[Verdict]:
        return [row.verdict for row in self.rows]

    @property
    def wrong_step(self) -> int | None:
        """The first wrong single step, counted from 1; None if there is none."""
        return min((row.wrong_step for row in self.rows if row.wrong_step is not None), default=None)

    @property
    def first_wrong(self) -> str | None:
        """The name of the parameter that is wrong in that step; None if there is none."""
        step = self.wrong_step
        return next((row.path for row in self.rows if step is not None and row.wrong_step == step), None)

    @property
    def wrong_side(self) -> Literal["manual", "autodiff", "loss"] | None:
        """The side whose gradients are wrong at the first wrong step; None if that is not known."""
        return None if self.gradients is None else self.gradients.wrong_side

    @property
    def largest_drift(self) -> float:
        return max((row.largest_drift for row in self.rows), default=0.0)

    @property
    def sentence(self) -> str:
        """The first line: the verdict and, if the runs differ, the first wrong step and the cause."""
        for note in self.side_effects:
            verdict = SIDE_EFFECTS.get(note.kind)
            if verdict is self.verdict and (verdict is Verdict.INCONCLUSIVE or Verdict.DISAGREE not in self._verdicts):
                at = f"step {self.steps}: " if verdict is Verdict.INCONCLUSIVE else ""
                return f"{self.verdict.name}: {at}{note.message}"
        if self.verdict is Verdict.AGREE and not self.free:
            return f"AGREE: {self.steps} steps are the same, each compared alone and started from JAX's parameters."
        if self.verdict is Verdict.AGREE:
            return (
                f"AGREE: {self.steps} steps are the same; the free runs never drifted apart by more than "
                f"{self.largest_drift:.1e} of the distance travelled."
            )
        if self.verdict is Verdict.DISAGREE:
            row = next(row for row in self.rows if row.path == self.first_wrong)
            cause = self.diagnoses[0] if self.diagnoses else None
            path, what = (row.path, f"{row.message}.") if cause is None else (cause.path or row.path, cause.message)
            # The comparison usually ends at the wrong step, so that this is no number of all steps.
            of = f" of {self.steps}" if self.steps != row.wrong_step else ""
            return f"DISAGREE: step {row.wrong_step}{of}, {path}: {what}"
        row = next(row for row in self.rows if row.verdict is Verdict.INCONCLUSIVE)
        if row.message:
            return f"INCONCLUSIVE: step {row.adrift_step}, {row.path}: {row.message}."
        if row.chaotic:
            return (
                f"INCONCLUSIVE: every single step is correct, but rounding errors alone can separate the free runs by "
                f"{row.tolerance / row.distance:.1e} of the distance travelled ({row.path}), as a perturbed reference "
                "run shows. Try fewer iterations, a smaller learning rate or float64."
            )
        return (
            f"INCONCLUSIVE: every single step is correct, but from step {row.adrift_step} on the free runs are "
            f"further apart than rounding errors explain ({row.path}: {row.drift:.1e}, with a tolerance of "
            f"{row.tolerance:.1e})."
        )

    def lines(self) -> list[str]:
        """All lines above the table, the most useful first."""
        lines = [self.sentence, *(f"Also: {d.path}: {d.message}" for d in self.diagnoses[1:])]
        if self.gradients is not None:
            right = self.gradients.verdict is Verdict.AGREE
            lines.append(
                "The gradients at that step agree, so the update rule is wrong."
                if right
                else f"The gradients at that step: {self.gradients.sentence}"
            )
        lines += [f"Note: {note.message}" for note in self.side_effects if note.message not in lines[0]]
        hidden = len(self.rows) - len(self._shown)
        if hidden:
            wrong = any(row.path.startswith("state.") for row in self._shown)
            agrees = "The rest of the state agrees" if wrong else "The state agrees too"
            lines.append(f"{agrees}: {hidden} array{'s' if hidden > 1 else ''}, not shown.")
        return lines

    @property
    def _shown(self) -> list[ParameterPath]:
        """The rows of the table: all but those of the optimizer's state that agree.

        With Adam, for example, these would make the table three times as long.
        """
        return [row for row in self.rows if not row.path.startswith("state.") or row.verdict is not Verdict.AGREE]

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of the table, one tuple for each row."""
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
            for row in self._shown
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as a dict of values that JSON can represent."""
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "steps": self.steps,
                "first_wrong": self.first_wrong,
                "wrong_step": self.wrong_step,
                "wrong_side": self.wrong_side,
                "diagnoses": list(map(asdict, self.diagnoses)),
                "side_effects": list(map(asdict, self.side_effects)),
                "largest_drift": self.largest_drift,
                "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
                "free": self.free,
                "drift": {"steps": self.drift.steps, "values": self.drift.values},
                "share": {"steps": self.share.steps, "values": self.share.values},
                "gradients": None if self.gradients is None else self.gradients.to_dict(),
            }
        )

    def __str__(self) -> str:
        return plain_text(*self.lines(), table(HEADERS, self.cells()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_report(self.lines(), HEADERS, self.cells())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict, or call assert_trajectory_agrees")
