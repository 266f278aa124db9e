"""docs/recording.md: its commands and examples, run as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compare.check.arrays import read_arrays
from tests.command import assert_no_traceback, invoke
from tests.compare.check.records import write_safetensors
from tests.compare.check.writers.languages import WRITERS, compiled_c, compiler

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "recording.md").read_text(encoding="utf-8")


def block(before, language):
    """The block of code that follows a text."""
    return re.search(rf"{re.escape(before)}\n```{language}\n(.*?)```", TEXT, re.DOTALL)[1]  # type: ignore[index]


BUILD, RUN, CHECK = block("In this folder:\n", "sh").splitlines()


def check(command=CHECK):
    result = invoke(*shlex.split(command)[1:])
    assert_no_traceback(result)
    return result


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A copy of the example, beside a copy of the writers, as in the repository."""
    shutil.copytree(DOCS / "recording", tmp_path / "docs" / "recording")
    shutil.copytree(WRITERS, tmp_path / "compare" / "check" / "writers")
    monkeypatch.chdir(tmp_path / "docs")


def test_from_cc_to_a_verdict(docs):
    compiler("cc")
    for command in (BUILD, RUN):
        subprocess.run(shlex.split(command), check=True, capture_output=True)
    result = check()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == block(f"{CHECK}\n```\n", "text").strip()
    first = read_arrays(Path("run.safetensors"))
    for name, step_two in planted(first):
        write_safetensors(Path("run.safetensors"), first | {f"step.2/{name}": step_two})
        result = check()
        assert result.exit_code == 1, name
        where, leaf = name.rpartition("/")[::2]
        assert re.match(rf"DISAGREE: .*step 2.*\b{leaf}\b", result.stdout, re.DOTALL), result.stdout
        assert ("gradient of" in result.stdout.splitlines()[0]) is (where in ("gradients", "intermediates"))


def planted(arrays):
    """Tensors of the second step by name, one entry of each 1% larger."""
    for name in ("gradients/W1", "gradients/b2", "intermediates/Z1", "loss", "next/W2"):
        array = arrays[f"step.2/{name}"].copy()
        array.flat[np.abs(array).argmax()] *= 1.01
        yield name, array


def test_the_fault_that_the_page_plants_is_found(docs):
    source = Path("recording/train.c")
    wrong = re.search(r"as `(.*?)` in `backward`", TEXT)[1]  # type: ignore[index]
    right = "dZ1[i][h] = dA1 * (1 - A1[i][h] * A1[i][h]);"
    text = source.read_text()
    assert right in text
    source.write_text(text.replace(right, wrong))
    compiled_c(source, "train", "-lm")
    subprocess.run(shlex.split(RUN), check=True, capture_output=True)
    assert check().stdout.startswith(block("<!-- fault -->", "text").strip())


def test_the_example_in_pytorch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = block("beside your program:\n", "sh").replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(copy, shell=True, check=True, env=os.environ | {"PYTHONPATH": str(DOCS.parent)})
    Path("loss.py").write_text(block("<!-- torch loss -->", "python"))
    exec(compile(block("<!-- torch -->", "python"), "recording.md", "exec"), {})
    result = check(re.search(r"^backproof check .*adamw.*$", TEXT, re.M)[0])  # type: ignore[index]
    assert (result.exit_code, result.stdout[:5]) == (0, "AGREE"), result.stdout


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (DOCS / link).exists()
