"""The page of `backproof museum --html PATH`: published bugs, why they were not noticed, and how the judge finds them.

Without its script the page shows all exhibits, one after another. The script shows one at a time.
"""

import re
from collections.abc import Callable, Sequence

from compare.html.judgement import announced, judgement
from compare.html.mathml import formulas
from compare.html.page import Html, asset, code_pair, facts, figure, heading, html, page, table, tag
from compare.html.plots import BAD, GOOD, Curve, drawing, two_curves
from compare.museum.tour import Tour, Visit

# owner/name with a number or a commit, from which the address on GitHub follows without a guess.
GITHUB = re.compile(
    r"(?P<repository>[A-Za-z0-9-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]),? "
    r"(?:#(?P<issue>\d+)|issue (?P<named>\d+)|pull request (?P<pull>\d+)|commit (?P<commit>[0-9a-f]{7,40})\b)"
)
PASSES = {True: "It accepts the bug.", False: "It rejects the bug."}


def museum_page(visits: Sequence[Visit]) -> str:
    """The page on one exhibit, or on many, of which the reader chooses one."""
    if len(visits) == 1:
        top = heading("backproof museum", "A gradient bug in published code")
        return page(f"{visits[0].exhibit.title} · backproof museum", html(top, exhibit(visits[0])))
    top = heading(
        "backproof museum",
        "Gradient bugs in published code",
        tag(
            "p",
            "Every mistake on this page was in code that people used. It was often not noticed, because the network "
            "still trained. Each exhibit shows the wrong and the right line, a small training run, a test that did "
            "not detect the mistake, and what the judge says about it.",
            class_="lead",
        ),
        tag("p", Tour(visits).sentence),
        tag(
            "p",
            "Each mistake is rebuilt in a few lines of NumPy. The test is the project's own (the original check) or, "
            "if that is not known, one that is common in tutorials (a usual check). All numbers were computed when "
            "this page was made.",
        ),
    )
    body = html(top, _chooser(visits), *map(exhibit, visits), _overview(visits))
    return page("Gradient bugs in published code · backproof museum", body, script=asset("museum.js"))


def exhibit(visit: Visit) -> Html:
    """The article on one exhibit."""
    e = visit.exhibit
    return tag(
        "article",
        tag("h2", e.title, id=f"{visit.name}-title"),
        tag("p", "Source: ", linked(e.source), class_="soft"),
        code_pair(e.wrong, e.right),
        _as_formulas(e.wrong, e.right),
        tag("h3", "How it trains"),
        _training(visit),
        tag("h3", "Why it was not noticed"),
        tag("p", e.unseen),
        tag("h3", "What a usual check says" if e.typical else "What the project's own check said"),
        tag("p", *_check(visit)),
        tag("h3", "What the judge says"),
        judgement(visit.report, f"What the judge found in {visit.name}"),
        tag("p", "With the right line: ", announced(visit.corrected.verdict, visit.corrected.sentence)),
        tag("h3", "What to learn from it"),
        tag("p", e.lesson, class_="lesson"),
        id=visit.name,
        aria_labelledby=f"{visit.name}-title",
    )


def linked(source: str) -> Html:
    """The source, with a link for every issue, pull request or commit on GitHub that it names in full."""
    parts, end = [], 0
    for found in GITHUB.finditer(source):
        if issue := found["issue"] or found["named"]:
            place = f"issues/{issue}"
        else:
            place = f"pull/{found['pull']}" if found["pull"] else f"commit/{found['commit']}"
        address = f"https://github.com/{found['repository']}/{place}"
        parts += [source[end : found.start()], tag("a", found[0], href=address, rel="noreferrer")]
        end = found.end()
    return html(*parts, source[end:])


def _as_formulas(wrong: str, right: str) -> Html:
    """Both lines as formulas; nothing if one of them is not code."""
    try:
        lines = {"Wrong": formulas(wrong), "Right": formulas(right)}
    except ValueError:
        return html()
    written = {name: html(*(tag("span", one, class_="formula") for one in line)) for name, line in lines.items()}
    return facts(written)


def _check(visit: Visit) -> Sequence[object]:
    if visit.check_passes is None:
        return ("None is known.",)
    kind = "disagree" if visit.check_passes else "agree"  # red if the check accepts the bug
    said = tag("strong", PASSES[visit.check_passes], class_=kind)
    whose = "The project's own check is not known. A usual one" if visit.exhibit.typical else "It"
    return (f"{whose} {visit.exhibit.checked}. ", said)


def _training(visit: Visit) -> Html:
    """The loss curves with and without the bug. The caption tells their first and last values."""
    with_bug, without = visit.curves
    steps = range(1, len(with_bug) + 1)
    with drawing(height=2.6) as (chart, finish):
        axes = chart.subplots()
        axes.set_title("loss", loc="left")
        two_curves(axes, steps, Curve("without", without, GOOD), Curve("with the bug", with_bug, BAD))
        ends = [f"from {curve[0]:.3g} to {curve[-1]:.3g}" for curve in visit.curves]
        words = f"The loss over {len(with_bug)} steps of training: with the bug {ends[0]}, without it {ends[1]}."
        return figure(finish(visit.name, words), words)


def _chooser(visits: Sequence[Visit]) -> Html:
    """The selection of an exhibit. It is hidden until the script runs."""
    options = (tag("option", visit.exhibit.title, value=visit.name) for visit in visits)
    return tag(
        "div",
        tag("label", "Exhibit", for_="chooser"),
        tag("select", *options, id="chooser"),
        tag("button", "←", type="button", id="previous", aria_label="Previous exhibit"),
        tag("button", "→", type="button", id="next", aria_label="Next exhibit"),
        tag("output", id="place", for_="chooser"),
        tag("a", "Search", href="#all"),
        class_="controls chooser",
        hidden=True,
    )


# The filters of the list of all exhibits, in the order of its columns.
FILTERS: dict[str, Callable[[Visit], str]] = {
    "op": lambda visit: visit.exhibit.op,
    "cause": lambda visit: visit.cause,
    "project": lambda visit: visit.exhibit.project,
}


def _words(visit: Visit) -> str:
    """The text that a search looks through: the name and all texts of the exhibit."""
    e = visit.exhibit
    kinds = (kind(visit) for kind in FILTERS.values())
    return " ".join([visit.name, e.title, e.source, e.wrong, e.right, e.unseen, e.lesson, *kinds]).lower()


def _filters(visits: Sequence[Visit]) -> Html:
    """The search field and the filters. They are hidden until the script runs."""

    def choice(name: str) -> Html:
        values = sorted({FILTERS[name](visit) for visit in visits}, key=str.lower)
        options = (tag("option", value, value=value) for value in values)
        chosen = tag("select", tag("option", "any", value=""), *options, id=f"by-{name}", autocomplete="off")
        return tag("p", tag("label", name.capitalize(), for_=f"by-{name}"), chosen)

    search = tag("input", type="search", id="search", autocomplete="off")
    return tag(
        "div",
        tag("p", tag("label", "Search", for_="search"), search),
        *map(choice, FILTERS),
        tag("p", id="found", role="status"),
        class_="controls filters",
        hidden=True,
    )


def _overview(visits: Sequence[Visit]) -> Html:
    checks = {True: "accepts it", False: "rejects it", None: "none known"}
    rows = [
        (
            tag("a", visit.exhibit.title, href=f"#{visit.name}", data_words=_words(visit)),
            *(kind(visit) for kind in FILTERS.values()),
            visit.report.verdict.value,
            visit.report.first_wrong or "–",
            checks[visit.check_passes] + (" (usual)" if visit.exhibit.typical else ""),
        )
        for visit in visits
    ]
    headers = ("exhibit", *FILTERS, "verdict", "first wrong", "check")
    listed = table(headers, rows, caption="All exhibits", left=4 + len(FILTERS))
    unknown = tag("p", "The address names no exhibit. These exist:", id="unknown", role="status", hidden=True)
    return tag("section", tag("h2", "All exhibits"), unknown, _filters(visits), listed, id="all", class_="wordy")
