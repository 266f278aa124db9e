"""Every chapter of the tutorial is run as a reader would run it, and prints what it shows."""

import contextlib
import importlib.util
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compare.cli.app import app
from compare.suite.ops import catalog

ROOT = Path(__file__).parents[2]
CHAPTERS = [*sorted((ROOT / "docs").glob("tutorial-*.md")), ROOT / "docs" / "adding-an-op.md"]
BLOCK = re.compile(r"```(\w+)\n(.*?)```\n(?:\n```text\n(.*?)```)?", flags=re.DOTALL)
# The machine that a bench ran on, and the leaf that is judged least sharply, differ from run to run.
CHANGING = re.compile(r"^Times are medians(?s:.*)|(?<=least sensitive: )[^)]+", flags=re.MULTILINE)
MEASURED = re.compile(r"\d[\d.e+-]*(?: (?:ns|µs|ms|s|MiB|GiB)\b)?|[─ ]+")
NO_COMPILER = "no C compiler was found as cc: apt-get install gcc, or xcode-select --install"
NO_TORCH = "PyTorch is not installed: .venv/bin/pip install -e '.[peers]'"


def shape(text):
    """The words without what may differ between machines: numbers, their units, and the alignment of columns."""
    return MEASURED.sub(" ", CHANGING.sub("", text)).split()


def missing(code):
    """Why a block cannot be run here, or None. What needs a compiler names its library or calls it."""
    if re.search(r"^cc |\.so\b", code, flags=re.MULTILINE) and not shutil.which("cc"):
        return NO_COMPILER
    if re.search(r"\btorch\b", code) and importlib.util.find_spec("torch") is None:
        return NO_TORCH
    return None


def shell(command):
    """Ours through its runner, any other in a shell."""
    if command.startswith("backproof "):
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
        return result.stdout
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def played(text):
    """Run a chapter's blocks in order, in one namespace and in the working directory: (shown, printed) of each.

    C becomes the file that its first line names. A shell block runs if its output is shown or if it compiles; other
    shell blocks take their time and are the reader's. What cannot be run here is told by `missing`, not printed.
    """
    namespace: dict = {"__name__": "tutorial"}
    for block in BLOCK.finditer(text):
        language, code, shown = block.groups()
        printed = io.StringIO()
        if missing(code):
            continue
        if language == "c":
            Path(code.split()[1]).write_text(code, encoding="utf-8")
        elif language == "sh" and (shown is not None or code.startswith("cc ")):
            printed.write("".join(map(shell, code.splitlines())))
        elif language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "tutorial", "exec"), namespace)
        yield shown, printed.getvalue()


@pytest.mark.sweep
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_prints_what_it_shows(chapter, tmp_path, monkeypatch):
    text = chapter.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("compare.bench.turns.ROUND_SECONDS", 0.02)  # no figure of a speed is looked at
    monkeypatch.setattr("compare.bench.turns.PAUSE", 0.0)
    before = catalog()
    for shown, printed in played(text):
        if shown is not None:
            assert shape(printed) == shape(shown), printed
    assert catalog() == before  # what a chapter adds, it takes away
    reasons = {reason for _, code, _ in BLOCK.findall(text) if (reason := missing(code))}
    if reasons:
        pytest.skip(f"all else was run: {'; '.join(sorted(reasons))}")


def example(prints, shows):
    return f"```python\nprint({prints!r})\n```\n\n```text\n{shows}\n```\n"


def test_a_text_that_drifts_is_seen_and_numbers_are_not():
    ((shown, printed),) = played(example("AGREE: 1.5e-16 in 3 ms", "DISAGREE: 1.5e-16 in 3 ms"))
    assert shape(shown) != shape(printed)
    ((shown, printed),) = played(example("AGREE: 1.5e-16 in 3 ms", "AGREE: 2 in 40.7 µs"))
    assert shape(shown) == shape(printed)
    sensitivity = "Sensitivity: a factor of 1 + 3e-14 would have been detected in every row (least sensitive: b1)."
    assert shape(sensitivity) == shape(sensitivity.replace("b1", "W2"))
    assert shape(sensitivity) != shape(sensitivity.replace("every row", "no row"))


def test_what_cannot_be_run_is_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing("cc -shared -o softmax.so softmax.c") == missing("kernel = 'softmax.so'") == NO_COMPILER
    assert missing("import torch\n") == NO_TORCH
    assert missing("import numpy as np\n") is None
    assert list(played("```python\nimport torch\n```\n")) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_links_lead_somewhere_and_options_exist(chapter):
    text = chapter.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert all((chapter.parent / link).exists() for link in links)
    for command, options in re.findall(r"^backproof (\w+)(.*)$", text, flags=re.MULTILINE):
        known = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        assert set(re.findall(r"--[a-z][a-z-]*", options)) <= set(re.findall(r"--[a-z][a-z-]*", known))
