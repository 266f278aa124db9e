"""The museum's page: everything that an exhibit says is on it, as text, and links lead to where its source says."""

import re
from dataclasses import replace

import pytest

from compare.html.judgement import without_verdict
from compare.html.museum import exhibit, linked, museum_page
from compare.judge.reports.verdict import Verdict
from compare.museum import EXHIBITS, tour
from compare.museum.tour import Tour
from tests.command import assert_no_traceback, assert_refused, invoke
from tests.compare.html.test_page import HOSTILE, Outline
from tests.compare.museum.test_exhibits import seen


@pytest.fixture
def remembered(monkeypatch):
    monkeypatch.setattr(tour, "visit", seen)


def words(markup):
    """The text of a piece of markup, spaces as one."""
    return re.sub(r"\s+", " ", "".join(Outline(markup).data))


@pytest.mark.parametrize("name", EXHIBITS)
def test_an_exhibit_says_all_that_it_says_on_the_terminal(name):
    visit = seen(name)
    text = words(exhibit(visit))
    e = visit.exhibit
    said = [e.title, e.source, e.wrong, e.right, e.unseen, e.checked, e.lesson]
    said += [without_verdict(Verdict.DISAGREE, visit.report.sentence), *visit.report.lines()[1:]]
    said += [cell for row in visit.report.cells() for cell in row]
    said += [f"{curve[0]:.3g} to {curve[-1]:.3g}" for curve in visit.curves]
    for part in said:
        assert re.sub(r"\s+", " ", part) in text
    assert ("It passes the bug." in text) is (visit.check_passes is True)
    assert "None is known." in text or e.check
    assert ("What a usual check says" in text) is e.typical


def test_the_page_holds_every_exhibit_once_and_a_way_to_each(remembered, tmp_path):
    result = invoke("museum", "--html", tmp_path / "museum.html", "--json", tmp_path / "museum.json")
    assert_no_traceback(result)
    assert result.exit_code == 0
    text = (tmp_path / "museum.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    outline = Outline(text)
    assert [a["id"] for name, a in outline.elements if name == "article"] == list(EXHIBITS)
    assert [a["value"] for name, a in outline.elements if name == "option"] == list(EXHIBITS)
    links = [a["href"] for name, a in outline.elements if name == "a"]
    assert {f"#{name}" for name in EXHIBITS} <= set(links)
    assert Tour([seen(name) for name in EXHIBITS]).sentence in "".join(outline.data)
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert exhibit(seen("bias-mean")) in text  # the same again, to the last character


def test_one_exhibit_is_a_page_without_a_choice(remembered, tmp_path):
    result = invoke("museum", "bias-mean", "--html", tmp_path / "one.html")
    assert result.exit_code == 0
    outline = Outline((tmp_path / "one.html").read_text(encoding="utf-8"))
    assert [a["id"] for name, a in outline.elements if name == "article"] == ["bias-mean"]
    assert not {"select", "script"} & {name for name, _ in outline.elements}


def test_paths_are_tried_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(tour, "visit", lambda name: pytest.fail("the work began before the mistake was found"))
    assert_refused(invoke("museum", "--html", tmp_path), r"is a directory")
    both = tmp_path / "a"
    assert_refused(invoke("museum", "--html", both, "--json", both), r"for both --json and --html")
    assert list(tmp_path.iterdir()) == []


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
    assert exhibit(seen("max-ties")).count("<math") == 0
