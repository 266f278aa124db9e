"""The README is true: its code runs, what it shows is what is printed, and its links and commands exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compare.__main__ import app
from compare.ops import catalog
from manual.optimizers import OPTIMIZERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shape(text):
    """The words of a report without what may differ between machines: numbers, and what aligns them."""
    return re.sub(r"\d[\d.e+-]*|[─ ]+", " ", text).split()


def test_the_main_job_prints_what_is_shown():
    shown = blocks("text")[0]
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 0, result.output
    timed = re.compile(r"^Time per step.*$", flags=re.MULTILINE)
    assert shape(timed.sub("", result.stdout)) == shape(timed.sub("", shown))


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
    # A terminal's width would break option names across lines.
    commands = [command.callback.__name__ for command in app.registered_commands if command.callback]
    help_text = "".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout for name in commands)
    for option in set(re.findall(r"--[a-z][a-z-]*", README)) - {"--help"}:
        assert option in help_text
