"""The README is true: its code runs, what it shows is what is printed, and its links and commands exist.

That the main job prints what is shown is held where it is run: tests/compare/cli/test_verify.py.
"""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compare.cli.app import app
from compare.suite.ops import catalog
from manual.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shape(text):
    """The words of a report without what may differ between machines: numbers, and what aligns them."""
    return re.sub(r"\d[\d.e+-]*|[─ ]+", " ", text).split()


def test_the_example_finds_the_missing_factor_as_shown(capsys):
    code = blocks("python")[-1]
    exec(compile(code, "README.md", "exec"), {})
    assert shape(capsys.readouterr().out) == shape(blocks("text")[1])


def test_the_example_is_about_eight_lines():
    statements = [line for line in blocks("python")[-1].splitlines() if line.strip() and "import" not in line]
    assert len(statements) <= 8


def test_the_example_of_an_op_runs():
    names: dict = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert names["dx"].shape == names["x"].shape


def test_the_table_names_every_op_and_optimizer():
    table = re.search(r"\| module \| ops \|.*?\n\n", README, flags=re.DOTALL)
    assert table is not None
    assert {*catalog(), *OPTIMIZERS} <= set(re.findall(r"\w+", table[0]))


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_options_exist():
    """Of every command; some are pip's."""
    helps = {
        # A terminal's width would break option names across lines.
        command: CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        for command in [c.callback.__name__ for c in app.registered_commands if c.callback]
    }
    shown = [line for line in README.splitlines() if "--" in line]
    assert shown
    for line in shown:
        command = re.search(r"backproof (\w+)", line)
        known = helps[command[1]] if command else " ".join(helps.values())
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) - {"--help"}:
            assert option in known, line
