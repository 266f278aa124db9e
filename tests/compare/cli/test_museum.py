"""`backproof museum` as one types it."""

import re
from dataclasses import replace

import pytest

from compare.museum import EXHIBITS, tour
from tests.command import assert_no_traceback, assert_refused, invoke, strict
from tests.compare.museum.exhibits import seen


def test_the_list_ends_with_one_sentence(remembered, tmp_path):
    result = invoke("museum", "--json", tmp_path / "museum.json")
    assert_no_traceback(result)
    assert result.exit_code == 0, result.stdout
    for name in EXHIBITS:
        assert re.search(rf"^ {name} .* disagree ", result.stdout, flags=re.MULTILINE), name
    last = " ".join(result.stdout.rstrip().split("\n\n")[-1].split())  # in as many lines as the terminal needs
    value = strict((tmp_path / "museum.json").read_text(encoding="utf-8"))
    assert value["summary"] == last
    assert last.startswith(f"Of {len(EXHIBITS)} bugs, the judge caught {len(EXHIBITS)}, ")
    assert [exhibit["name"] for exhibit in value["exhibits"]] == list(EXHIBITS)
    assert all(exhibit["as_it_should_be"] for exhibit in value["exhibits"])


def test_one_is_shown_at_length(remembered, tmp_path):
    result = invoke("museum", "bias-mean", "--json", tmp_path / "bias.json")
    assert_no_traceback(result)
    assert result.exit_code == 0
    exhibit = EXHIBITS["bias-mean"]
    for text in (exhibit.title, exhibit.source, exhibit.wrong, exhibit.right, "It accepts the bug.", "1 / x.shape[0]"):
        assert " ".join(text.split()) in " ".join(result.stdout.split())
    assert "without       █" in result.stdout
    value = strict((tmp_path / "bias.json").read_text(encoding="utf-8"))
    assert value["original_check_passes"] is True
    assert value["report"]["verdict"] == "disagree"
    assert value["corrected"]["verdict"] == "agree"
    assert len(value["training"]["with_bug"]) == len(value["training"]["without"])


def test_a_name_that_there_is_not_is_refused():
    assert_refused(invoke("museum", "bias-meen"), "'bias-meen'")


def test_a_bug_that_escapes_ends_with_1(monkeypatch):
    escaped = replace(seen("bias-mean"), report=seen("bias-mean").corrected)
    monkeypatch.setattr(tour, "visit", lambda name: escaped)
    result = invoke("museum", "bias-mean")
    assert_no_traceback(result)
    assert result.exit_code == 1


def test_paths_are_tried_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(tour, "visit", lambda name: pytest.fail("the work began before the mistake was found"))
    assert_refused(invoke("museum", "--html", tmp_path), r"is a directory")
    both = tmp_path / "a"
    assert_refused(invoke("museum", "--html", both, "--json", both), r"for both --json and --html")
    assert list(tmp_path.iterdir()) == []


def test_one_exhibit_is_a_page_of_its_own(remembered, tmp_path):
    result = invoke("museum", "bias-mean", "--html", tmp_path / "one.html")
    assert result.exit_code == 0
    assert result.stderr.endswith(f"Written: {tmp_path / 'one.html'}\n")
    assert (tmp_path / "one.html").read_text(encoding="utf-8").count("<article") == 1


def test_a_page_without_a_path_is_named_after_the_command(remembered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["bias-mean", "--html"], ["--html", "--json", "museum.json", "bias-mean"]):
        result = invoke("museum", *arguments)
        assert result.exit_code == 0
        assert "Written: museum.html\n" in result.stderr
        (tmp_path / "museum.html").unlink()
