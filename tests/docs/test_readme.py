"""The README is true: its code runs, what it shows is what is printed, and its links, names and commands exist.

tests/compare/cli/test_verify.py compares the output of `backproof verify` with the one that the README shows.
"""

import contextlib
import inspect
import io
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import compare
from compare.cli.app import app
from compare.suite.ops import catalog
from manual.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def shape(text):
    """The words of a report without what may differ between machines: numbers, and what aligns them."""
    return re.sub(r"\d[\d.e+-]*|[─ ]+", " ", text).split()


def run(code):
    """The names that a block defines, and what it prints."""
    names: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    return names, printed.getvalue()


def test_the_first_example_prints_what_is_shown():
    shown = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown is not None
    assert shape(run(CODE[0])[1]) == shape(shown[1])


def test_the_first_example_agrees_once_its_term_is_added():
    term = re.search(r"Subtract `([^`]+)` as well", README)
    assert term is not None
    mended = CODE[0].replace("keepdims=True)) / s\n\n\nprint", f"keepdims=True) - {term[1]}) / s\n\n\nprint")
    assert mended != CODE[0]
    assert run(mended)[1].startswith("AGREE: ")


def test_the_first_example_fits_on_a_screen():
    assert README.partition("## ")[0].count("\n") <= 50
    backward = inspect.cleandoc(CODE[0].partition("def standardize_backward")[2])
    assert len(backward.partition("\n\n")[0].splitlines()) <= 5


HOMEWORK = """
import numpy as np


def two_layer(params, X, y):
    h = np.tanh(X @ params["W1"] + params["b1"])
    r = h @ params["W2"] - y
    dz = r @ params["W2"].T * (1 - h**2)
    return np.sum(r**2) / 2, {"W1": X.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ r}


"""


@pytest.mark.parametrize(("factor", "status"), [("h**2", 0), ("h", 1)])
def test_a_homework_is_checked_as_it_is_typed(tmp_path, monkeypatch, factor, status):
    (command,) = re.findall(r"^backproof (check hw\.py:\w+)$", README, flags=re.MULTILINE)
    (tmp_path / "hw.py").write_text(HOMEWORK.replace("h**2", factor) + CODE[1])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command))
    assert (result.exit_code, result.stdout.partition(":")[0]) == (status, ["AGREE", "DISAGREE"][status])
    assert ("W1" in result.stdout.splitlines()[0]) is (status == 1)
    assert len(CODE[1].splitlines()) == 3


def test_the_example_of_an_op_runs():
    names, _ = run(CODE[2])
    assert names["dx"].shape == names["x"].shape


def test_the_table_names_every_op_and_optimizer():
    table = re.search(r"\| module \| contents \|.*?\n\n", README, flags=re.DOTALL)
    assert table is not None
    assert {*catalog(), *OPTIMIZERS} <= set(re.findall(r"\w+", table[0]))


def test_every_check_is_in_the_table_of_doors():
    table = re.search(r"\| You have \| You call \|.*?\n\n", README, flags=re.DOTALL)
    assert table is not None
    assert {name for name in dir(compare) if name.startswith("check_")} <= set(re.findall(r"\w+", table[0]))


@pytest.mark.parametrize("target", re.findall(r"\bmake (verify|test|\w+(?=`))", README))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def anchors(path):
    """The places in a page that a link can name."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(link):
    path, _, place = link.partition("#")
    assert (ROOT / path).exists()
    assert not place or place in anchors(ROOT / path)


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


def test_extras_exist():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"\.\[(\w+)\]", README)
    assert {"peers", "test"} <= set(named)
    assert all(re.search(rf"^{name} = \[", project, flags=re.MULTILINE) for name in named)
