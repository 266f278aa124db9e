"""`backproof lesson` as one types it."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import compare.lesson
import compare.lesson.playground
import manual
from compare.cli.terminal import width
from compare.lesson.playground import Playground
from compare.lesson.text import as_text
from tests.command import assert_no_traceback, assert_refused, invoke


def test_the_command_prints_the_lesson(monkeypatch, found):
    asked = []

    def taught(model, *, seed, progress, **given):
        asked.append((model, seed, given))
        return found

    monkeypatch.setattr(compare.lesson, "lesson", taught)
    result = invoke("lesson", "--seed", 3)
    given = {"hidden": 8, "dataset": "mine.csv", "activation": "relu", "learning_rate": 0.5, "iterations": 20}
    options = (word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value))
    invoke("lesson", *options)
    assert asked == [("shallow", 3, {}), ("shallow", 0, given)]
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert result.stdout.rstrip("\n") == as_text(found)


@pytest.mark.campaign
@pytest.mark.usefixtures("brief_lessons")
def test_a_fault_by_hand_is_said_and_ends_with_status_1(monkeypatch, tmp_path):
    right = manual.backpropagation

    def wrong(parameters, cache, x, y, *, intermediates=None):
        gradients = right(parameters, cache, x, y, intermediates=intermediates)
        return gradients | {"W1": 1.001 * gradients["W1"]}

    monkeypatch.setattr(manual, "backpropagation", wrong)
    asked = []
    made = Playground(
        {"moons": (np.zeros((2, 3)), np.zeros((1, 3)))}, {}, 4
    )  # which is judged in tests/compare/lesson/test_playground.py
    monkeypatch.setattr(
        compare.lesson.playground,
        "playground",
        lambda plane, *, seed, settings: asked.append((seed, settings["hidden"])) or made,
    )
    result = invoke("lesson", "--json", tmp_path / "lesson.json", "--html", tmp_path / "lesson.html")
    assert asked == [(0, 4)]
    assert result.stderr.splitlines()[-2:] == [f"Written: {tmp_path / name}" for name in ("lesson.html", "lesson.json")]
    assert_no_traceback(result)
    assert result.exit_code == 1
    assert result.stdout.startswith("After 0 steps of training: DISAGREE: the gradient of W1: it is 1.001 times")
    moments = json.loads((tmp_path / "lesson.json").read_text())["moments"]
    for moment in moments:
        verdicts = {label: numbers["verdict"] for label, numbers in moment["numbers"].items() if numbers["verdict"]}
        agreeing = ("loss", "dZ2", "dW2", "db2", "dA1", "dZ1", "db1")
        second = ("RdW1", "Rdb1", "RdW2", "Rdb2")  # which makes no use of the gradients themselves
        assert verdicts == dict.fromkeys((*agreeing, *second), "agree") | {"dW1": "disagree"}
    page = (tmp_path / "lesson.html").read_text(encoding="utf-8")
    assert "✗ DISAGREE" in page
    assert "✗ disagree" in page


def test_bad_input_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(compare.lesson, "taught", lambda *args, **options: pytest.fail("the work began"))
    assert_refused(invoke("lesson", "--model", "vgg"), "no lesson is called 'vgg'")
    assert_refused(invoke("lesson", "--seed", -1), "seed must be")
    assert_refused(invoke("lesson", "--html", tmp_path / "no" / "x.html"), "there is no directory")
    assert_refused(invoke("lesson", "--html", tmp_path / "x.png"), "a page is written as .html")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lesson.html").mkdir()
    for arguments in (["--html"], ["--html", "--seed", 3]):  # without a path, it is the command's own
        assert_refused(invoke("lesson", *arguments), "lesson.html is a directory")
    assert_refused(
        invoke("lesson", "--dataset", "moons", "--data", "a.csv"), "--dataset and --data are the same option"
    )
    assert_refused(invoke("lesson", "--activation", "tanhh"), "Did you mean tanh")
    assert_refused(invoke("lesson", "--dataset", "moon"), "Did you mean moons")
    assert_refused(invoke("lesson", "--hidden", 0), "--hidden must be positive")
    assert_refused(invoke("lesson", "--hidden", 65), "--hidden must be at most 64")
    assert_refused(invoke("lesson", "--model", "mlp", "--dataset", "moons"), "--dataset does not apply to --model mlp")
    same = tmp_path / "same"
    assert_refused(invoke("lesson", "--html", same, "--json", same), "is given for both --html and --json")


def test_it_is_as_wide_as_the_terminal(monkeypatch):
    assert width(110) == 110  # no terminal
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    for columns, expected in ((10, 24), (40, 40), (80, 80), (300, 110)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert width(110) == expected
