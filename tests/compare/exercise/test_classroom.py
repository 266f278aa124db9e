"""Exercises handed out, and answers collected from learners whose code may do anything."""

import os
import re
import time

import pytest

from compare.errors import BadInput
from compare.exercise import EXERCISES, classroom
from compare.exercise.classroom import collect, hand_out, learners_in
from compare.exercise.worker import verdict_on
from tests.compare.exercise.answered import RIGHT, WRONG, written


@pytest.fixture
def here(monkeypatch):
    """Answers are judged in this process."""
    monkeypatch.setattr(classroom, "_verdicts", lambda answers, limit: map(verdict_on, answers.values()))


def test_every_exercise_is_handed_out_and_no_solution(tmp_path):
    new = hand_out(tmp_path / "class")
    assert {path.name for path in new} == {f"{name}.py" for name in EXERCISES} | {"README.txt"}
    for path in new:
        text = path.read_text(encoding="utf-8")
        assert not any(exercise.hints[-1] in text for exercise in EXERCISES.values())
    assert all(name in (tmp_path / "class" / "README.txt").read_text() for name in EXERCISES)
    assert {path.suffix for path in hand_out(tmp_path / "notebooks", notebooks=True)} == {".ipynb", ".txt"}


def test_the_readme_lists_what_is_handed_out_in_lines_that_fit(tmp_path):
    for names, shown in (((), EXERCISES), (["layer-norm", "bias"], ["bias", "layer_norm"])):
        hand_out(tmp_path / str(len(names)), names)
        text = (tmp_path / str(len(names)) / "README.txt").read_text()
        assert text.partition("hard:\n\n")[2].replace(",", " ").split() == list(shown)
        assert max(map(len, text.splitlines())) <= 90
        assert not re.search(r"\S  ", text)


def test_what_is_there_already_stays(tmp_path):
    file = written(tmp_path / "class", "bias", **RIGHT)
    before = file.read_text()
    assert file not in hand_out(tmp_path / "class")
    assert file.read_text() == before
    assert hand_out(tmp_path / "class") == []


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file; give the name of a folder"):
        hand_out(tmp_path / "file")
    with pytest.raises(BadInput, match="there is no folder"):
        hand_out(tmp_path / "no" / "class")


def test_many_learners_are_collected_by_the_names_of_their_folders(tmp_path, here):
    written(tmp_path / "ben", "bias", **WRONG)
    written(tmp_path / "anna" / "homework 1", "bias", **RIGHT)  # as nbgrader has it
    written(tmp_path / "anna" / "homework 1", "relu")
    (tmp_path / "empty").mkdir()
    seen = []
    anna, ben = collect(tmp_path, progress=lambda what, done: seen.append((what, done)))
    assert (anna.name, anna.score, ben.name, ben.score) == ("anna", 2, "ben", 1)
    assert [anna.count("agree"), anna.count("unfinished"), anna.count("missing")] == [1, 1, len(EXERCISES) - 2]
    whole = anna.to_dict()
    assert whole["max_score"] == sum(exercise.points for exercise in EXERCISES.values())
    assert [each["exercise"] for each in whole["exercises"]] == list(EXERCISES)
    assert seen == [("judging anna", 0), ("judging ben", 1)]


def test_one_folder_of_answers_is_one_learner(tmp_path):
    written(tmp_path / "anna", "bias")
    assert learners_in(tmp_path / "anna") == {"anna": tmp_path / "anna"}


def test_no_answers_no_folder_and_no_time_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"contains no answers\. Answers are files such as bias\.py"):
        collect(tmp_path)
    with pytest.raises(BadInput, match="is not a folder"):
        collect(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="must be a positive number of seconds, got nan"):
        collect(tmp_path, time_limit=float("nan"))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.campaign
def test_an_endless_loop_and_an_exit_cost_their_exercise_and_leave_nothing_running(tmp_path):
    """The loop has a child of its own; and what is printed by the thousand blocks nothing."""
    left = tmp_path / "pids"
    endless = f"[print('x' * 99999), open({str(left)!r}, 'a').write(f'{{os.getpid()}}\\n'), time.sleep(600)]"
    file = written(tmp_path, "relu", dx=f"os.fork() and None, {endless}")
    file.write_text("import os, time\n" + file.read_text())
    file = written(tmp_path, "tanh", dx="os._exit(0)")
    file.write_text("import os\n" + file.read_text())
    written(tmp_path, "bias", **RIGHT)
    (learner,) = collect(tmp_path, time_limit=1.5)
    said = {each["exercise"]: each for each in learner.outcomes}
    assert [said[name]["verdict"] for name in ("bias", "relu", "tanh")] == ["agree", "stopped", "stopped"]
    assert said["relu"]["sentence"] == "It took longer than 1.5 s. Is there an endless loop?"
    assert said["tanh"]["sentence"] == "It ended the process in which it was judged."
    pids = [int(pid) for pid in re.findall(r"\d+", left.read_text())]
    assert len(pids) == 2
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    "forged", [{"score": 99}, {"score": -1}, {"exercise": "relu"}, {"verdict": 1}, {"max_score": 9}, {"more": 1}]
)
def test_a_verdict_that_cannot_be_is_not_taken(forged):
    sound = {"exercise": "bias", "verdict": "agree", "score": 2, "max_score": 2}
    sound |= {"sentence": "", "place": None, "causes": []}
    assert classroom._is_outcome(sound, "bias")
    assert not classroom._is_outcome(sound | forged, "bias")
    assert not classroom._is_outcome("ready", "bias")
