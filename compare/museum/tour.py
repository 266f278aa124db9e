"""The museum on the terminal: a table of all exhibits, or one exhibit in detail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.errors import unknown
from compare.judge.reports.tables import plain_text, table
from compare.judge.reports.verdict import Verdict, plain
from compare.museum import EXHIBITS
from compare.museum.exhibit import Exhibit, Report

HEADERS = ("exhibit", "what was wrong", "verdict", "first wrong", "check")
CHECKS = {True: "accepts", False: "rejects", None: "-"}  # what the project's own check does with the bug
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Visit:
    """The results of one exhibit."""

    name: str
    exhibit: Exhibit
    report: Report
    corrected: Report
    check_passes: bool | None
    curves: tuple[list[float], list[float]]  # with the bug, without

    @property
    def caught(self) -> bool:
        """Whether the judge rejects the bug."""
        return self.report.verdict is Verdict.DISAGREE

    @property
    def explained(self) -> bool:
        """Whether the judge names a cause."""
        return bool(self.report.diagnoses)

    @property
    def cause(self) -> str:
        """The kind of the judge's first diagnosis, in words."""
        return self.report.diagnoses[0].kind.replace("-", " ") if self.report.diagnoses else "none named"

    @property
    def as_it_should_be(self) -> bool:
        """Whether the judge rejects the bug, names a cause, and accepts the corrected version."""
        return self.caught and self.explained and self.corrected.verdict is Verdict.AGREE

    def cells(self) -> tuple[str, ...]:
        """The exhibit's row in the table."""
        verdict = self.report.verdict.value
        if self.caught and self.corrected.verdict is not Verdict.AGREE:
            verdict = f"{verdict}, and {self.corrected.verdict.value} when corrected"
        first = self.report.first_wrong or "-"
        usual = " (usual)" if self.exhibit.typical else ""
        return self.name, self.exhibit.title, verdict, first, CHECKS[self.check_passes] + usual

    def __str__(self) -> str:
        e = self.exhibit
        check = "none is known." if e.check is None else f"it {e.checked}. It {CHECKS[self.check_passes]} the bug."
        with_bug, without = self.curves
        scale = [min(with_bug + without), max(with_bug + without)]
        lines = [
            f"{self.name}: {e.title}",
            f"Source: {e.source}",
            "",
            f"  wrong   {e.wrong}",
            f"  right   {e.right}",
            "",
            f"Why it was not noticed: {e.unseen}",
            f"{e.whose_check}: {check}",
            f"Lesson: {e.lesson}",
            "",
            "What the judge says",
            str(self.report),
            "",
            f"With the right line: {self.corrected.sentence}",
            "",
            f"Loss over {len(with_bug)} steps of training",
            f"  with the bug  {sparkline(with_bug, scale)}  {with_bug[0]:.3g} to {with_bug[-1]:.3g}",
            f"  without       {sparkline(without, scale)}  {without[0]:.3g} to {without[-1]:.3g}",
        ]
        return plain_text(*lines)

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON types."""
        e = self.exhibit
        texts = ("title", "source", "wrong", "right", "unseen", "lesson", "checked")
        with_bug, without = self.curves
        return plain(
            {"name": self.name, "op": e.op, "cause": self.cause, "project": e.project}
            | {text: getattr(e, text) for text in texts}
            | {
                "report": self.report.to_dict(),
                "corrected": self.corrected.to_dict(),
                "original_check_passes": None if e.typical else self.check_passes,
                "usual_check_passes": self.check_passes if e.typical else None,
                "training": {"with_bug": with_bug, "without": without},
                "as_it_should_be": self.as_it_should_be,
            }
        )


def visit(name: str) -> Visit:
    """Run one exhibit.

    Raises:
        BadInput: if there is no exhibit of this name.
    """
    if name not in EXHIBITS:
        raise unknown("exhibit", name, EXHIBITS)
    e = EXHIBITS[name]
    return Visit(name, e, e.report(), e.corrected(), e.check_passes(), e.training_curves())


@dataclass(frozen=True)
class Tour:
    """The results of all exhibits."""

    visits: Sequence[Visit]

    @property
    def as_it_should_be(self) -> bool:
        """Whether every exhibit is."""
        return all(visit.as_it_should_be for visit in self.visits)

    @property
    def sentence(self) -> str:
        """A summary in one sentence."""
        located = sum(visit.caught and visit.report.first_wrong is not None for visit in self.visits)
        elsewhere = sum(visit.caught and visit.report.first_wrong is None for visit in self.visits)
        side_effect = f" ({elsewhere} more is a side effect, which has no location)" if elsewhere else ""
        corrected = sum(visit.corrected.verdict is Verdict.AGREE for visit in self.visits)
        return (
            f"Of {len(self.visits)} bugs, the judge caught {sum(v.caught for v in self.visits)}, located "
            f"{located}{side_effect} and explained {sum(visit.explained for visit in self.visits)}. It accepts "
            f"{corrected} corrected versions. The bug is accepted by {self._checks(typical=False)} original checks and "
            f"by {self._checks(typical=True)} usual checks."
        )

    def _checks(self, *, typical: bool) -> str:
        passes = [v.check_passes for v in self.visits if v.exhibit.check and v.exhibit.typical is typical]
        return f"{sum(map(bool, passes))} of {len(passes)}"

    def __str__(self) -> str:
        return plain_text(table(HEADERS, [visit.cells() for visit in self.visits], left=5), self.sentence)

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON types."""
        return {"summary": self.sentence, "exhibits": [visit.to_dict() for visit in self.visits]}


SECONDS_EACH = 0.25  # An exhibit takes a sixth of a second on an idle machine.


def expected_seconds() -> float:
    """An estimate of the time that all exhibits take."""
    return SECONDS_EACH * len(EXHIBITS)


def tour(progress: Callable[[str, int], None] = lambda what, done: None) -> Tour:
    """Run all exhibits. `progress` is called with the current work and the number of exhibits that are done."""
    visits = []
    for done, name in enumerate(EXHIBITS):
        progress(f"looking at {name}", done)
        visits.append(visit(name))
    return Tour(visits)


def sparkline(values: Sequence[float], scale: Sequence[float], width: int = 40) -> str:
    """The values as a row of bars. The scale is the pair of values with an empty and with a full bar."""
    low, high = scale
    picked = [values[i] for i in np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int)]
    span = (high - low) or 1.0
    return "".join(BARS[min(int((value - low) / span * len(BARS)), len(BARS) - 1)] for value in picked)
