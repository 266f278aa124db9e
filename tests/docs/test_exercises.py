"""What docs/exercises.md says: its commands, its first try, and the JSON that is collected."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from compare.exercise import EXERCISES, classroom
from compare.exercise.worker import verdict_on
from tests.command import assert_no_traceback, invoke
from tests.compare.lesson.taught import brief

PAGE = (Path(__file__).parents[2] / "docs" / "exercises.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^backproof (exercise.*?)(?: +#.*)?$", PAGE, re.MULTILINE)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types a command where nothing is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classroom, "_verdicts", lambda answers, limit: map(verdict_on, answers.values()))

    def run(command, status=0):
        result = invoke(*shlex.split(command))
        assert_no_traceback(result)
        assert result.exit_code == status, result.output
        return result.stdout

    return run


def first_try(typed):
    """The file that `backproof exercise bias` writes, with the page's lines."""
    typed("exercise bias")
    file = Path("exercises", "bias.py")
    tried, _ = CODE
    given, _, _ = file.read_text().partition("def bias_backward")
    file.write_text(given + tried)
    return file


def test_the_first_try_is_judged_as_the_page_shows_it(typed):
    first_try(typed)
    (shown,) = re.findall(r"```\n\$ backproof exercise bias\n(.*?)```", PAGE, re.DOTALL)
    assert typed("exercise bias", 1).startswith(shown.rstrip())


def test_every_command_works_in_its_order(typed):
    file = first_try(typed)
    submitted = Path("submitted", "anna", "bias.py")
    submitted.parent.mkdir(parents=True)
    file.rename(submitted)
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        typed(command)
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (expected,), (anna,) = json.loads(shown)["learners"], json.loads(Path("scores.json").read_text())["learners"]
    assert expected["exercises"] == anna["exercises"][:1]
    assert expected | {"exercises": 0} == anna | {"exercises": 0}


def test_the_number_of_exercises_is_right():
    assert "twenty-five backward passes" in PAGE.split("\n\n")[1]
    assert len(EXERCISES) == 25


def test_the_lesson_of_the_page_is_displayed():
    _, cell = CODE
    *before, last = ast.parse(cell).body
    names = {}
    with brief():
        exec(compile(ast.Module(before, []), "cell", "exec"), names)
        found = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    assert found._repr_html_().startswith("<iframe")
    assert found.settings["hidden"] == 3
