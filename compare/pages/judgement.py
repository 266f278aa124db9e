"""What a report says, on a page: the verdict and its sentence, what else there is to say, and the table."""

from compare import report as gradients
from compare import trajectory_report as trajectories
from compare.agreement import Verdict
from compare.pages.page import Html, badge, html, table, tag
from compare.report import GradientReport
from compare.trajectory_report import TrajectoryReport


def announced(verdict: Verdict, sentence: str) -> Html:
    """The sentence, whose first word is the verdict, with that word as a badge."""
    rest = sentence.removeprefix(verdict.name).removeprefix(":").strip()
    return html(badge(verdict.value), " ", rest)


def judgement(report: GradientReport | TrajectoryReport, caption: str) -> Html:
    """All that the report prints on a terminal."""
    first, *others = report.lines()
    headers = gradients.HEADERS if isinstance(report, GradientReport) else trajectories.HEADERS
    return html(
        tag("p", announced(report.verdict, first)),
        *(tag("p", line) for line in others),
        table(headers, report.cells(), caption=caption),
    )
