"""Calls of the `backproof` command, and assertions that hold for every call."""

import json
import re

from typer.testing import CliRunner

from compare.cli.app import app


def invoke(*arguments, charset="utf-8"):
    return CliRunner(charset).invoke(app, [str(argument) for argument in arguments], prog_name="backproof")


def assert_no_traceback(result):
    """Asserts that the program ended by itself: click stores an uncaught exception in `result.exception`."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.stderr


def assert_refused(result, message):
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("backproof: ")
    assert result.stderr.count("\n") == 1


def strict(text):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)
