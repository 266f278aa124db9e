"""`backproof bench` as one types it: what it prints, writes and exits with, and what is left when it is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compare.bench import models, ops, shallow
from compare.bench.turns import Measured
from compare.cli.app import app

SMALL = ["bench", "--sizes", "2x4x50,3x4x50", "--only", "manual", "--rounds", "2"]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True, scope="module")
def brief():
    """No speed is asserted, so rounds are short, and nobody waits for threads to sleep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.bench.turns.ROUND_SECONDS", 0.02)
        patch.setattr("compare.bench.turns.PAUSE", 0.0)
        yield


@pytest.fixture(scope="module")
def finished(brief, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    result = invoke(*SMALL, "--json", folder / "run.json", "--plot", folder / "run.png")
    return result, folder


def test_it_prints_a_table_for_each_size_and_writes_what_it_found(finished):
    result, folder = finished
    assert result.exit_code == 0, result.output
    for heading in ("2x4x50: 2 features, 4 hidden units, 50 examples", "3x4x50: 3 features"):
        assert heading in result.stdout
    assert "x GEMM bound" in result.stdout
    assert "Traceback" not in result.output
    run = json.loads((folder / "run.json").read_text())
    assert run["complete"] is True
    assert [cell["size"] for cell in run["cells"]] == ["2x4x50", "3x4x50"]
    row = run["cells"][0]["contestants"]["manual"]
    assert len(row["rounds"]) == 2
    assert row["ratio_to_bound"] > 0
    assert row["error"] < 1e-4
    assert run["environment"]["processor"]
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.campaign
def test_it_fails_when_told_to_if_something_is_slower_and_never_of_noise(tmp_path, monkeypatch):
    seconds = 1.0

    def measure(workload, names, *, rounds, **options):
        return 24, {name: Measured([seconds] * rounds, 0.0, None, 2**20, None, 0.0) for name in names}

    monkeypatch.setattr("compare.bench.run.measure", measure)
    asked = ["bench", "--sizes", "2x4x50", "--only", "manual"]
    assert invoke(*asked, "--json", tmp_path / "old.json").exit_code == 0
    seconds = 2.0
    judged = [*asked, "--compare", tmp_path / "old.json", "--fail-above"]
    slower = invoke(*judged, "1.1")
    assert (slower.exit_code, "1 slower" in slower.stdout) == (1, True), slower.output
    assert invoke(*judged, "2.5").exit_code == 0
    assert invoke(*asked, "--json", tmp_path / "new.json").exit_code == 0
    monkeypatch.setattr("compare.bench.run.measure", lambda *_, **__: pytest.fail("stored runs are not timed again"))
    stored = ["bench", "--compare", tmp_path / "old.json", tmp_path / "new.json", "--fail-above", "1.1"]
    both = invoke(*stored)
    assert (both.exit_code, "1 slower" in both.stdout) == (1, True), both.output
    assert invoke(*stored[:-2]).exit_code == 0
    monkeypatch.setattr("compare.bench.run.measure", measure)
    few = invoke(*judged, "1.1", "--rounds", "4")
    assert (few.exit_code, "1 cannot tell" in few.stdout) == (0, True), few.output


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --json PATH"),
        (["--fail-above", "1.1"], "--fail-above needs a factor of at least 1, and --compare OLD.json."),
        (["--compare", "nowhere.json"], "nowhere.json"),
        (["new.json"], "backproof bench --compare OLD.json new.json"),
        (["--compare", "a.json", "b.json", "--fail-above", "2", "--rounds", "3"], "--rounds is for a new run"),
        (["--compare", "nowhere.json", "b.json"], "nowhere.json"),
        (["--json", "nowhere/a.json"], "nowhere"),
        (["--plot", "a.bmp"], "'.bmp'"),
        (["--json", "a.png", "--plot", "a.png"], "both --json and --plot"),
        (["--sizes", "many"], "'many'"),
        (["--sizes", ""], "got none"),
        (["--only", "autodiff-fast"], "autodiff-fast"),
        (["--op", "gelu", "--model", "mlp"], "--op"),
        (["--op", "gelu", "--sizes", "9"], "a size of gelu is ROWSxCOLUMNS"),
        (["--platform", "tpu"], "no tpu"),
        (["--dtype", "int8"], "'int8'"),
    ],
)
def test_bad_input_ends_with_one_line_and_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("bench", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.campaign
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children are looked up as Linux has them")
def test_ctrl_c_keeps_what_is_finished_and_ends_every_process(tmp_path):
    path = tmp_path / "run.json"
    arguments = ["bench", "--sizes", "2x4x50,30x32x500", "--only", "manual", "--rounds", "1", "--json", str(path)]
    command = [sys.executable, "-m", "compare", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stop = time.monotonic() + 60
        while not (path.exists() and children(process.pid)) and time.monotonic() < stop:
            time.sleep(0.02)
        time.sleep(0.2)
        started = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    first, line = stderr.splitlines()
    assert re.match(r"backproof: 2 sizes of 1 round: about \d+ s, ", first)
    assert line.startswith("backproof: interrupted while 30x32x500: ")
    assert line.endswith(f"only {path} was written")
    stop = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < stop:
        time.sleep(0.02)
    assert started
    assert not any(map(alive, started))
    assert [cell["size"] for cell in json.loads(path.read_text())["cells"]] == ["2x4x50"]
    again = invoke(*arguments, "--resume")
    assert again.exit_code == 0, again.output
    run = json.loads(path.read_text())
    assert run["complete"] is True
    assert [cell["size"] for cell in run["cells"]] == ["2x4x50", "30x32x500"]


def test_the_help_says_who_every_contestant_is():
    text = re.sub(r"-\s+", "-", " ".join(invoke("bench", "--help").stdout.split()))
    for kind in (models, ops, shallow):
        for name in (*kind.CONTESTANTS, "bound"):
            assert re.search(rf"(?<![\w-]){name}(:|, always there:) ", text), name
