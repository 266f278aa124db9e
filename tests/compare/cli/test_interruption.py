"""Ctrl-C: the command ends at once, wherever it is, with one line that says how far it came."""

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

import compare.verify.shallow
from tests.command import assert_no_traceback, invoke

ENVIRONMENT = os.environ | {"COLUMNS": "200", "TERM": "xterm"}


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("stages", "place"),
    [
        ([], "starting"),
        ([("loading data", 0)], "loading data"),
        ([("checking gradients", 0), ("comparing training", 123)], "comparing training, 123 steps done"),
    ],
)
def test_an_interruption_says_how_far_it_came(monkeypatch, tmp_path, stages, place):
    def work(settings, progress, note):
        for stage in stages:
            progress(*stage)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.verify.shallow, "verify", work)
    result = invoke("verify", "--json", tmp_path / "a.json")
    assert_no_traceback(result)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr == f"backproof: interrupted while {place}; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def plain_lines(text):
    """What a terminal shows in the end: without the bar's colors and movements, and without blank lines."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


class Terminal:
    """A pseudoterminal for a program's stderr, so that it shows its progress."""

    def __init__(self):
        self.own, self.its = os.openpty()
        self.text = ""

    def read_until(self, words, seconds):
        """Until the words appear, or to the end if they are None. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while words is None or words not in self.text:
            if not select.select([self.own], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"waited {seconds} s for {words!r} and got {self.text[-500:]!r}")
            try:
                part = os.read(self.own, 65536)
            except OSError:  # how Linux says that the other end is closed
                part = b""
            if not part:
                assert words is None, f"the program ended before it said {words!r}: {self.text[-2000:]}"
                return
            self.text += part.decode(errors="replace")


# JAX traces while gradients are checked, which takes a tenth of a second, so that training may have begun.
@pytest.mark.sweep
@pytest.mark.parametrize("stage", ["checking gradients", "comparing training"])
def test_ctrl_c_ends_a_long_run_at_once(tmp_path, stage):
    arguments = ["verify", "--iterations", "100000000", "--dataset", "moons"]
    files = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    terminal = Terminal()
    process = subprocess.Popen(
        [sys.executable, "-m", "compare", *arguments, *files],
        stdout=subprocess.PIPE,
        stderr=terminal.its,
        env=ENVIRONMENT,
    )
    try:
        os.close(terminal.its)
        terminal.read_until(stage, seconds=60)
        time.sleep(0.05 if stage == "checking gradients" else 0.5)  # into the middle of it
        process.send_signal(signal.SIGINT)
        terminal.read_until(None, seconds=10)
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
        os.close(terminal.own)
    assert process.returncode == 130, terminal.text[-2000:]
    assert "Traceback" not in terminal.text
    training = r"comparing training(, [1-9]\d* steps? done)?"
    places = training if stage == "comparing training" else f"({stage}|{training})"
    assert re.fullmatch(rf"backproof: interrupted while {places}; nothing was written", plain_lines(terminal.text)[-1])
    assert output == b""
    assert list(tmp_path.iterdir()) == []


def run_with_stand_in(tmp_path, module, text, *arguments):
    """`python -m compare` where `module` is the given text."""
    (tmp_path / f"{module}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "compare", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT | {"PYTHONPATH": path},
    )


def test_ctrl_c_while_jax_is_being_loaded_is_an_interruption_too(tmp_path):
    ended = run_with_stand_in(tmp_path, "jax", "raise KeyboardInterrupt", "verify")
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("backproof: interrupted while ")


@pytest.mark.campaign
def test_an_interruption_that_somebody_swallowed_is_noticed_at_the_next_step():
    """Python drops an exception from a destructor or from a hook of its garbage collector, and JAX has such a hook."""
    script = """
import signal
import sys
import compare.verify.shallow


class Swallowing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass  # the handler runs between two instructions


def work(settings, progress, note):
    progress("comparing training", 7)
    Swallowing()
    for step in range(8, 100):
        progress("comparing training", step)
    raise SystemExit("the interruption was lost")


compare.verify.shallow.verify = work
sys.argv = ["backproof", "verify"]
from compare.cli.app import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert re.search(r"interrupted while comparing training, [78] steps done", ended.stderr.splitlines()[-1])
