"""The page of `backproof check --report PATH`: one report."""

from typing import Any

from compare.check.recorded_checks import RecordingReport
from compare.html.judgement import judgement, without_verdict
from compare.html.page import Html, badge, code, html, page, section, tag
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.trajectory_report import TrajectoryReport


def checked_page(report: Any, name: str) -> str:
    """The page on a report of any kind. `name` is the name of the checked functions or file."""
    verdict, sentence = report.verdict, report.sentence
    top = tag(
        "header",
        tag("p", f"backproof check · {name}", class_="kicker"),
        tag("p", badge(verdict.value)),
        tag("h1", without_verdict(verdict, sentence)),
        *(tag("p", f"Note: {note}") for note in (report.notes if isinstance(report, RecordingReport) else [])),
        class_="verdict",
    )
    return page(f"{verdict.name}: {name} · backproof check", html(top, *_parts(report)))


def _parts(report: Any) -> list[Html]:
    if isinstance(report, GradientReport | TrajectoryReport):
        return [section("The report", judgement(report, "Every quantity"), name="report")]
    if isinstance(report, RecordingReport):
        parts = [
            section(f"Step {step}", judgement(found, f"Gradients of step {step}"), name=f"step-{step}")
            for step, found in report.gradients.items()
        ]
        if report.updates is not None:
            parts.append(section("The updates", judgement(report.updates, "Updates"), name="updates"))
        return parts
    return [section("The report", code(str(report)), name="report")]
