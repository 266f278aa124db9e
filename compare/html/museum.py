"""`backproof museum --html PATH`: choose a bug, and see what was written, why nobody saw it, and how it is found.

Without its script the page shows all exhibits one after another; the script shows one at a time.
"""

import re
from collections.abc import Callable, Sequence

from compare.html.judgement import announced, judgement
from compare.html.mathml import formulas
from compare.html.page import Html, asset, code_pair, facts, figure, heading, html, page, table, tag
from compare.html.plots import BAD, GOOD, Curve, drawing, two_curves
from compare.museum.tour import Tour, Visit

# owner/name and a number or a commit: what can be turned into an address without a guess.
GITHUB = re.compile(
    r"(?P<repository>[A-Za-z0-9-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]),? "
    r"(?:#(?P<issue>\d+)|issue (?P<named>\d+)|pull request (?P<pull>\d+)|commit (?P<commit>[0-9a-f]{7,40})\b)"
)
PASSES = {True: "It passes the bug.", False: "It fails on the bug."}


def museum_page(visits: Sequence[Visit]) -> str:
    """One page for one exhibit or for many; of many, one is chosen."""
    if len(visits) == 1:
        top = heading("backproof museum", "A gradient bug that was really shipped")
        return page(f"{visits[0].exhibit.title} · backproof museum", html(top, exhibit(visits[0])))
    top = heading(
        "backproof museum",
        "Gradient bugs that were really shipped",
        tag(
            "p",
            "Every mistake on this page was in code that people used. The loss still fell, so nobody noticed. Each is "
            "shown as the wrong line and the right one, with how it trains, what a test said of it, and what the judge "
            "says.",
            class_="lead",
        ),
        tag("p", Tour(visits).sentence),
        tag(
            "p",
            "Each is rebuilt in a few lines. The test is the one that its project relied on, or a usual one where none "
            "is known. All numbers here were computed when this page was made.",
        ),
    )
    body = html(top, _chooser(visits), *map(exhibit, visits), _overview(visits))
    return page("Gradient bugs that were really shipped · backproof museum", body, script=asset("museum.js"))


def exhibit(visit: Visit) -> Html:
    """Everything that an exhibit did, in the order in which it is told."""
    e = visit.exhibit
    return tag(
        "article",
        tag("h2", e.title, id=f"{visit.name}-title"),
        tag("p", "Source: ", linked(e.source), class_="soft"),
        code_pair(e.wrong, e.right),
        _as_formulas(e.wrong, e.right),
        tag("h3", "How it trains"),
        _training(visit),
        tag("h3", "Why nobody saw it"),
        tag("p", e.unseen),
        tag("h3", "What a usual check says" if e.typical else "What its own check said"),
        tag("p", *_check(visit)),
        tag("h3", "What the judge says"),
        judgement(visit.report, f"What the judge found in {visit.name}"),
        tag("p", "With the right line: ", announced(visit.corrected.verdict, visit.corrected.sentence)),
        tag("h3", "What to take along"),
        tag("p", e.lesson, class_="lesson"),
        id=visit.name,
        aria_labelledby=f"{visit.name}-title",
    )


def linked(source: str) -> Html:
    """The source, with a link wherever it names an issue, a pull request or a commit on GitHub in full."""
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
    """Both lines as mathematics, if both are code and nothing but code."""
    try:
        lines = {"Wrong": formulas(wrong), "Right": formulas(right)}
    except ValueError:
        return html()
    written = {name: html(*(tag("span", one, class_="formula") for one in line)) for name, line in lines.items()}
    return facts(written)


def _check(visit: Visit) -> Sequence[object]:
    if visit.check_passes is None:
        return ("None is known.",)
    kind = "disagree" if visit.check_passes else "agree"  # for a bug, passing is the bad news
    said = tag("strong", PASSES[visit.check_passes], class_=kind)
    whose = "No check of the project is known. A usual one" if visit.exhibit.typical else "It"
    return (f"{whose} {visit.exhibit.checked}. ", said)


def _training(visit: Visit) -> Html:
    """Both curves. Their ends are said in words too."""
    with_bug, without = visit.curves
    steps = range(1, len(with_bug) + 1)
    with drawing(height=2.6) as (chart, finish):
        axes = chart.subplots()
        axes.set_title("loss", loc="left")
        two_curves(axes, steps, Curve("without", without, GOOD), Curve("with the bug", with_bug, BAD))
        ends = [f"from {curve[0]:.3g} to {curve[-1]:.3g}" for curve in visit.curves]
        words = f"Loss over {len(with_bug)} steps of training: with the bug {ends[0]}, without {ends[1]}."
        return figure(finish(visit.name, words), words)


def _chooser(visits: Sequence[Visit]) -> Html:
    """Hidden until the script is there to serve it."""
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


# By what the list of all is narrowed down, in the order of its columns.
FILTERS: dict[str, Callable[[Visit], str]] = {
    "op": lambda visit: visit.exhibit.op,
    "cause": lambda visit: visit.cause,
    "project": lambda visit: visit.exhibit.project,
}


def _words(visit: Visit) -> str:
    """What is searched: names, and what is said of the exhibit."""
    e = visit.exhibit
    kinds = (kind(visit) for kind in FILTERS.values())
    return " ".join([visit.name, e.title, e.source, e.wrong, e.right, e.unseen, e.lesson, *kinds]).lower()


def _filters(visits: Sequence[Visit]) -> Html:
    """Hidden until the script is there to serve them."""

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
    checks = {True: "passes", False: "fails", None: "none known"}
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
    unknown = tag("p", "The address names no exhibit. These are there:", id="unknown", role="status", hidden=True)
    return tag("section", tag("h2", "All exhibits"), unknown, _filters(visits), listed, id="all", class_="wordy")
