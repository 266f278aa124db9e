"""The script for accelerators runs where there is none, writes what it found, and tells what failed."""

import json
import sys

import pytest

from benchmarks import gpu


@pytest.fixture
def quick():
    return gpu.Options("cpu", quick=True)


@pytest.mark.campaign
def test_the_loop_is_timed_by_a_process_of_its_own(quick):
    found = gpu.timed_loop(quick)
    assert found["size"] == "3x4x64"
    assert all(found[name] > 0 for name in ("one call of 32 steps, s", "32 calls of one step, s"))


@pytest.mark.campaign
@pytest.mark.usefixtures("quickly")
def test_a_model_is_verified(quick):
    found = gpu.verified("rnn", quick)
    assert found["verdict"] == "agree"
    assert all(found[f"{side}, s/step"] > 0 for side in ("manual", "manual-fast", "autodiff"))


def test_medians_are_told_by_size_and_contestant_and_failures_in_words():
    row = {"median": 0.5, "failure": None}
    cells = [{"size": "2x4x400", "contestants": {"autodiff": row, "torch": {"failure": "not installed"}}}]
    assert gpu.medians({"cells": cells}) == {
        "2x4x400 autodiff, s/step": 0.5,
        "2x4x400 torch, s/step": "not installed",
    }


@pytest.mark.parametrize(
    ("code", "seconds", "message"),
    [
        ("import sys; print('no such device', file=sys.stderr); sys.exit(2)", 60, "no such device"),
        ("raise SystemExit(4)", 60, "it ended with status 4"),
        ("import time; time.sleep(60)", 0.2, "it took more than 0.2 s"),
    ],
)
def test_what_fails_says_why(code, seconds, message):
    assert gpu._json_of([sys.executable, "-c", code], seconds) == {"failed": message}


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        ({"verdict": "agree"}, 0),
        ({"verdict": "inconclusive"}, 0),
        ({"verdict": "disagree"}, 1),
        ({"failed": "no such device"}, 1),
    ],
)
def test_the_parts_are_written_and_shown_and_a_failure_is_its_status(monkeypatch, tmp_path, capsys, figures, status):
    monkeypatch.setattr(gpu, "PARTS", {"one": lambda options: dict(figures), "two": lambda options: {"s": 0.25}})
    assert gpu.main(["--platform", "cpu", "--json", str(tmp_path / "a.json")]) == status
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["one"].items() >= figures.items()
    assert written["two"]["s"] == 0.25
    assert "0.25" in capsys.readouterr().out


def test_all_commands_together_stay_under_ten_minutes():
    assert gpu.LOOP_SECONDS + (len(gpu.PARTS) - 1) * gpu.SECONDS < 600
