"""A report on a page: the verdict with its sentence, the other sentences of the report, and its table."""

import re

from compare.html.page import Html, badge, html, table, tag
from compare.judge.reports import gradient_report as gradients
from compare.judge.reports import trajectory_report as trajectories
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.reports.verdict import Verdict


def announced(verdict: Verdict, sentence: str) -> Html:
    """The first sentence of a report. Its first word, the verdict, becomes a badge."""
    return html(badge(verdict.value), " ", without_verdict(verdict, sentence))


def without_verdict(verdict: Verdict, sentence: str) -> str:
    """The first sentence of a report without the verdict. It begins with a capital, unless it begins with a name."""
    rest = sentence.removeprefix(verdict.name).removeprefix(":").strip()
    return rest[:1].upper() + rest[1:] if re.match("[a-z]+ ", rest) else rest


def judgement(report: GradientReport | TrajectoryReport, caption: str) -> Html:
    """All that the report prints on a terminal. A long table is folded below the rows that do not agree."""
    first, *others = report.lines()
    headers = gradients.HEADERS if isinstance(report, GradientReport) else trajectories.HEADERS
    cells = report.cells()
    whole = table(headers, cells, caption=caption)
    if len(cells) > LONG:
        wrong = [row for row in cells if row[-1] != Verdict.AGREE.value]
        short = table(headers, wrong, caption=f"{caption}: the rows that do not agree") if wrong else ""
        whole = html(short, tag("details", tag("summary", f"All {len(cells)} rows"), whole))
    said = (tag("p", line) for line in others)
    return html(tag("p", announced(report.verdict, first)), *said, whole)


LONG = 30  # A table of more rows is folded.
