"""The campaign of many checks in one process: six of them, and that it says what is wrong when something is."""

import json

import jax
import pytest

from benchmarks import many_checks
from compare import Verdict


@pytest.mark.campaign
def test_six_functions_leave_nothing_behind(tmp_path, capsys, monkeypatch):
    # So few functions do not fill what is kept of shapes and rules, and other tests have what they have.
    monkeypatch.setattr(many_checks, "MOST", {"memory, MiB": 256.0, "maps": 1024})
    path = tmp_path / "many.json"
    assert many_checks.main(["--functions", "6", "--seed", "5", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["violations"] == found["wrong"] == []
    assert list(found["course"]) == ["3", "6"]
    assert found["not freed"] == 0
    assert "6 different functions in one process" in capsys.readouterr().out


@pytest.mark.campaign
def test_a_wrong_verdict_a_kept_loss_and_a_dropped_program_are_noticed(monkeypatch, capsys):
    kept = []

    class Same:
        verdict = Verdict.AGREE

    def careless(by_hand, loss, parameters):
        kept.append(loss)
        if len(kept) == 1:
            raise RuntimeError("no such thing")
        jax.clear_caches()
        return Same

    monkeypatch.setattr(many_checks, "check_gradients", careless)
    assert many_checks.main(["--functions", "3"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "raised RuntimeError: no such thing" in out
    assert ": AGREE" in out  # the third is faulty
    assert "6 losses or their data were not freed" in out
    assert "the caller's own compiled function was dropped and had to be traced again" in out


def test_growth_is_from_the_first_hundred_to_the_end():
    course = {
        100: {"memory, MiB": 200.0, "maps": 600},
        200: {"memory, MiB": 500.0, "maps": 700},
        300: {"memory, MiB": 210.0, "maps": 700},
    }
    results = {"wrong": [], "course": course, "not freed": 0, "traces": 1}
    assert many_checks.growth(results) == {"memory, MiB": (200.0, 210.0, 10.0), "maps": (600, 700, 100)}
    assert many_checks.violations(results) == ["maps: grew by 100, which is more than 64"]


def test_a_system_that_shows_no_memory_is_not_judged_by_it(monkeypatch, tmp_path):
    monkeypatch.setattr(many_checks, "PROC", tmp_path)
    assert many_checks.used() == {}
    assert many_checks.growth({"course": {1: {}, 2: {}}}) == {}


@pytest.mark.parametrize("arguments", [["--functions", "0"], ["--seed", "-1"]])
def test_what_cannot_be_done_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        many_checks.main(arguments)
    assert "must be at least 1" in capsys.readouterr().err
