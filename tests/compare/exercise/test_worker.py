"""What a learner's process tells of each answer."""

import json
import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

from compare.exercise import EXERCISES
from compare.exercise.worker import READY, main, unjudged, verdict_on
from tests.compare.exercise.answered import RIGHT, WRONG, written


def test_it_says_that_it_is_ready_and_then_one_outcome_for_each_file(tmp_path):
    files = [written(tmp_path, "bias", **WRONG), written(tmp_path, "relu"), tmp_path / "tanh.py"]
    files[-1].write_text("x =")
    ours, theirs = Pipe(duplex=False)
    with ours, theirs:
        main(str(os.dup(theirs.fileno())), *map(str, files))
        ready, *said = (json.loads(ours.recv_bytes()) for _ in range(4))
    assert ready == READY
    assert [(each["exercise"], each["verdict"], each["score"]) for each in said] == [
        ("bias", "disagree", 1),
        ("relu", "unfinished", 0),
        ("tanh", "error", 0),
    ]
    assert "line 1: SyntaxError" in said[-1]["sentence"]


ENDLESS = """
from compare.exercise.worker import end_with_parent
end_with_parent()
print("begun", flush=True)
while True:
    pass
"""


def test_it_ends_with_its_parent():
    """Whose end of stdin closes, however it ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"begun\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(30) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_an_error_of_the_judge_is_said_and_the_others_are_judged(tmp_path, monkeypatch):
    def broken(*args):
        raise KeyError("ours")

    monkeypatch.setattr("compare.exercise.judging.report_on", broken)
    said = verdict_on(written(tmp_path, "bias", **RIGHT))
    assert (said["verdict"], said["sentence"]) == ("error", "KeyError: 'ours'")


def test_what_could_not_be_judged_has_no_points():
    said = unjudged("dense", "missing", "There is no answer.")
    assert (said["score"], said["max_score"]) == (0, EXERCISES["dense"].points)
