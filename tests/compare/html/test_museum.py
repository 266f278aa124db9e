"""The museum's page: everything that an exhibit says is on it, as text, and links lead to where its source says."""

import re
from dataclasses import replace

import pytest

from compare.html.judgement import without_verdict
from compare.html.museum import exhibit, linked, museum_page
from compare.judge.reports.verdict import Verdict
from compare.museum import EXHIBITS
from compare.museum.tour import Tour
from tests.compare.html.markup import HOSTILE, Outline
from tests.compare.museum.exhibits import seen, stand_in

# Their reports are of gradients, of steps of training, and of side effects.
RUN = ("bias-mean", "adam-multiplies", "never-cleared")


def words(markup):
    """The text of a piece of markup, spaces as one."""
    return re.sub(r"\s+", " ", "".join(Outline(markup).data))


@pytest.mark.sweep
@pytest.mark.parametrize("name", EXHIBITS)
def test_an_exhibit_says_all_that_it_says_on_the_terminal(name):
    visit = seen(name) if name in RUN else stand_in(name)
    text = words(exhibit(visit))
    e = visit.exhibit
    said = [e.title, e.source, e.wrong, e.right, e.unseen, e.checked, e.lesson]
    said += [without_verdict(Verdict.DISAGREE, visit.report.sentence), *visit.report.lines()[1:]]
    said += [cell for row in visit.report.cells() for cell in row]
    said += [f"{curve[0]:.3g} to {curve[-1]:.3g}" for curve in visit.curves]
    for part in said:
        assert re.sub(r"\s+", " ", part) in text
    assert ("It accepts the bug." in text) is (visit.check_passes is True)
    assert "None is known." in text or e.check
    assert ("What a usual check says" in text) is e.typical


@pytest.mark.campaign
def test_the_page_holds_every_exhibit_once_and_a_way_to_each():
    visits = [stand_in(name) for name in EXHIBITS]
    text = museum_page(visits)
    assert len(text.encode()) < 5_000_000
    outline = Outline(text)
    assert [a["id"] for name, a in outline.elements if name == "article"] == list(EXHIBITS)
    values = [a["value"] for name, a in outline.elements if name == "option"]
    assert values[: len(EXHIBITS)] == list(EXHIBITS)
    assert {"", "dense", "factor", "karpathy/llm.c"} <= set(values[len(EXHIBITS) :])  # by what the list is narrowed
    links = [a["href"] for name, a in outline.elements if name == "a"]
    assert {f"#{name}" for name in EXHIBITS} <= set(links)
    assert Tour(visits).sentence in "".join(outline.data)
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert exhibit(visits[0]) in text  # the same again, to the last character


def test_one_exhibit_is_a_page_without_a_choice():
    outline = Outline(museum_page([seen("bias-mean")]))
    assert [a["id"] for name, a in outline.elements if name == "article"] == ["bias-mean"]
    assert not {"select", "script"} & {name for name, _ in outline.elements}


def test_whatever_an_exhibit_says_is_text():
    visit = seen("bias-mean")
    texts = dict.fromkeys(("title", "source", "wrong", "right", "unseen", "lesson", "checked"), HOSTILE)
    report = replace(visit.report, notes=[HOSTILE], rows=[replace(visit.report.rows[0], path=HOSTILE)])
    hostile = replace(visit, exhibit=replace(visit.exhibit, **texts), report=report)
    text = museum_page([hostile, visit])
    outline = Outline(text)
    assert [name for name, _ in outline.elements].count("script") == 1
    assert not [a for name, a in outline.elements if name == "img" or any(key.startswith("on") for key in a)]
    assert text.count("alert(1)") == text.count("&lt;script&gt;alert(1)") + text.count("onerror=&quot;alert(1)")


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        ("kvfrans/notes #5", ["https://github.com/kvfrans/notes/issues/5"]),
        ("karpathy/llm.c, pull request 763, of his", ["https://github.com/karpathy/llm.c/pull/763"]),
        ("a/b, issue 8: c; d-e/f_g.h, commit 02364f8", ["a/b/issues/8", "d-e/f_g.h/commit/02364f8"]),
        ("mlpack/mlpack #2360, #3468 and #3470", ["https://github.com/mlpack/mlpack/issues/2360"]),
        ("a/b, X._bwd; also nn-zero-to-hero #57", []),
        ("CS231n #179", []),
        ("a/b, pull requests 70 and 107", []),
        ("docs/notebook.md, row minus-sign", []),
        ('a/b #1"><script>', ["https://github.com/a/b/issues/1"]),
    ],
)
def test_a_link_is_made_only_where_nothing_is_guessed(source, addresses):
    outline = Outline(linked(source))
    found = [a["href"] for name, a in outline.elements if name == "a"]
    assert found == [a if a.startswith("https:") else f"https://github.com/{a}" for a in addresses]
    assert "".join(outline.data) == source
    assert {name for name, _ in outline.elements} <= {"a"}


def test_formulas_stand_below_the_lines_where_both_can_be_written():
    assert exhibit(seen("bias-mean")).count("<math") == 2
    assert exhibit(stand_in("max-ties")).count("<math") == 0
