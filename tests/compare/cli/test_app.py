"""The command as a whole: help, usage, streams that are closed, and a reader that has gone."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.command import assert_no_traceback, invoke, strict


@pytest.mark.campaign
def test_a_reader_that_has_gone_does_not_turn_agreement_into_disagreement(tmp_path):
    """`backproof verify --json a.json | true`: nobody reads what is printed."""
    script = f"""
import sys
import compare.verify.shallow
from compare.judge.reports.verdict import Verdict


class Result:
    verdict = Verdict.AGREE

    def to_dict(self):
        return {{"verdict": "agree"}}

    def __str__(self):
        return "the result"


compare.verify.shallow.verify = lambda settings, *told, **options: Result()
sys.argv = ["backproof", "verify", "--json", {str(tmp_path / "a.json")!r}]
from compare.cli.app import main
main()
"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writer)
    assert "Traceback" not in ended.stderr
    assert ended.returncode not in (1, 3), "these mean that the sides disagree, or that nothing can be said"
    assert strict((tmp_path / "a.json").read_text())["verdict"] == "agree"


@pytest.mark.sweep
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_stream_that_was_closed_from_the_beginning_changes_no_status(closed):
    command = f"exec '{sys.executable}' -m compare --help {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_bare_command_explains_itself(arguments):
    result = invoke(*arguments)
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert "`backproof verify`" in result.stdout
    assert "Usage: backproof [OPTIONS] COMMAND" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["verify", "--help"], ["verify", "--hidden", "many"]])
def test_help_and_mistakes_in_usage_are_answered_without_loading_jax(arguments):
    script = f"""
import sys
sys.argv = ["backproof", *{arguments!r}]
from compare.cli.app import app
try:
    app()
finally:
    loaded = [name for name in ("jax", "jaxlib", "sklearn", "matplotlib") if name in sys.modules]
    print("loaded:", loaded)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == (2 if "many" in arguments else 0), ended.stderr
    assert ended.stdout.endswith("loaded: []\n")


def test_the_version_is_that_of_the_package():
    result = invoke("--version")
    assert_no_traceback(result)
    assert result.exit_code == 0
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    assert result.stdout == f"backproof {project['version']}\n"


def test_the_version_of_what_is_not_installed_is_not_made_up(monkeypatch):
    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("compare.cli.app.version", nothing)
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, "backproof, not installed\n")


def test_an_unknown_command_ends_with_2():
    result = invoke("verfy")
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert "verfy" in result.stderr
