"""The benchmark of a first check: that it times what it says, and notices who says what is not so."""

import json

import pytest

from benchmarks import first_check
from benchmarks.first_check import CHECK_GRADS, JIT, OURS, RECURRING
from benchmarks.small_problems import logistic_regression as small


@pytest.mark.campaign
def test_a_run_is_timed_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(first_check, "PEERS", [])  # who are asked one by one below
    monkeypatch.setattr(first_check, "PROBLEMS", {"regression": lambda serial, faulty: small(serial + 1, faulty)})
    path = tmp_path / "first.json"
    assert first_check.main(["--repetitions", "1", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "All verdicts are right." in out
    found = json.loads(path.read_text())
    by_contestant = found["problems"]["regression"]
    assert by_contestant[OURS]["right"]["said"] == [True]
    assert by_contestant[OURS]["faulty"]["said"] == [False]
    assert set(by_contestant[CHECK_GRADS]) == {"right", RECURRING}
    check, jit = by_contestant[OURS]["right"]["seconds"][0], by_contestant[JIT]["right"]["seconds"][0]
    assert found["check / jit"]["regression"]["right"] == [pytest.approx(check / jit)]
    assert by_contestant[OURS]["right"]["processor"][0] > 0
    assert found["limits"] == {"right": 0.15, "faulty": 0.4, "of jit": 0.5}


def test_who_says_what_is_not_so_is_named():
    runs = {"seconds": [1.0, 1.0], "said": [True, False]}
    results = {"net": {OURS: {"right": runs, "faulty": runs}, JIT: {"right": {"seconds": [1.0], "said": [None]}}}}
    assert first_check.misjudged(results) == [
        f"{OURS} on the net, right: 1 of 2 verdicts are wrong.",
        f"{OURS} on the net, faulty: 1 of 2 verdicts are wrong.",
    ]


@pytest.mark.parametrize("faulty", [False, True])
def test_every_checker_that_is_installed_tells_right_from_faulty(faulty):
    problem = small(5, faulty)
    for contestant in first_check.contestants():
        if "faulty" in contestant.kinds:
            assert contestant.run(problem) is not faulty, contestant.name


def test_a_checker_that_is_not_installed_is_listed(monkeypatch, capsys):
    peers = [peer for peer in first_check.PEERS if peer.distribution != "torch"]
    monkeypatch.setattr(first_check, "PEERS", peers)
    run = {"seconds": [2.0, 4.0], "processor": [1.0, 1.0], "said": [True, True]}
    found = {contestant.name: dict.fromkeys(contestant.kinds, run) for contestant in first_check.contestants()}
    first_check.console.print(first_check.table({"regression": found}, 2))
    out = capsys.readouterr().out
    lacking = [line for line in out.splitlines() if "not installed" in line]
    assert sum("torch" in line for line in lacking) == 2  # gradcheck in both of its modes
    assert "3 ±17%" in out


def test_no_repetitions_are_refused(capsys):
    with pytest.raises(SystemExit):
        first_check.main(["--repetitions", "0"])
    assert "--repetitions must be at least 1" in capsys.readouterr().err
