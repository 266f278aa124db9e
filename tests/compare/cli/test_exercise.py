"""`backproof exercise` as one types it."""

import json
import re

import pytest

import compare.cli.exercise
from compare.exercise import EXERCISES, classroom
from compare.exercise.worker import verdict_on
from tests.command import assert_no_traceback, assert_refused, invoke, strict
from tests.compare.exercise.answered import RIGHT, WRONG, written


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where answers go, seen from where the command is typed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "exercises"


def exercise(*arguments, status=0):
    result = invoke("exercise", *arguments)
    assert_no_traceback(result)
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_learner_goes_from_a_blank_to_the_page(folder):
    assert re.search(r"^ bias +The gradient of a bias +- +-$", exercise(), re.M)
    assert list(folder.parent.iterdir()) == []  # to look changes nothing
    assert "Fill in bias_backward" in exercise("bias")
    assert_refused(invoke("exercise", "bias"), r"bias_backward is not finished: dx and db are still `...`\.")

    written(folder, "bias", **WRONG)
    said = exercise("bias", status=1)
    assert said.startswith("DISAGREE: the gradient of b: it is 0.2 times what it should be")
    assert "dx right   db wrong" in said
    assert "`backproof exercise bias --hint` gives a hint." in said

    for count in (1, 2, 3, 3):
        said = exercise("bias", "--hint")
        assert re.findall(r"^Hint (\d)", said, re.M) == [str(i + 1) for i in range(count)]
    assert "--solution" in said
    said = exercise("bias", status=1)
    assert "You have read all hints; `backproof exercise bias --solution` shows the solution." in said
    assert "--hint" not in said
    assert "dense_backward" in exercise("bias", "--solution")

    file = written(folder, "bias", **RIGHT)
    before = file.read_text()
    said = exercise("bias", "--json", folder / "bias.json")
    assert said.startswith("Right. AGREE")
    assert "manual/layers.py, dense_backward" in said
    assert "db = dy.sum(axis=0)" in said
    assert strict((folder / "bias.json").read_text())["score"] == 2
    assert file.read_text() == before
    assert re.search(r"^ bias +The gradient of a bias +solved +3$", exercise(), re.M)
    assert "1 of 25 are solved. Next: `backproof exercise relu`." in exercise()

    written(folder, "bias", **WRONG)
    exercise("bias", status=1)
    assert json.loads((folder / "progress.json").read_text())["exercises"]["bias"] == {
        "attempts": 4,
        "solved": True,
        "hints": 3,
        "page_shown": True,
    }


def test_the_page_and_hints_are_to_be_had_before_anything_is_written(folder):
    assert "Hint 1 of 3" in exercise("layer-norm", "--hint")
    assert "def layer_norm_backward(output_gradient, cache):" in exercise("layer-norm", "--solution")
    assert [path.name for path in folder.iterdir()] == ["progress.json"]
    assert re.search(r"^ layer_norm .* -, solution seen +1$", exercise(), re.M)


def test_a_notebook_can_be_written_and_judged(folder):
    assert "bias.ipynb was written" in exercise("bias", "--notebook")
    file = folder / "bias.ipynb"
    file.write_text(file.read_text().replace("dx = ...", "dx = dy").replace("db = ...", "db = dy.sum(axis=0)"))
    assert exercise("bias").startswith("Right.")


def test_all_solved(folder):
    folder.mkdir()
    (folder / "progress.json").write_text(json.dumps({"exercises": {name: {"solved": True} for name in EXERCISES}}))
    assert exercise().endswith("25 of 25 are solved. Well done.\n")


def test_a_damaged_record_is_said_and_nothing_is_lost(folder):
    file = written(folder, "bias", **RIGHT)
    (folder / "progress.json").write_text("{")
    for arguments in (("bias",), (), ("bias", "--hint")):
        assert_refused(invoke("exercise", *arguments), r"progress\.json is damaged .* Move it away")
    assert (folder / "progress.json").read_text() == "{"
    assert file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bais"], r"'bais'\. Did you mean bias\?"),
        (["--hint"], "--hint needs the name of an exercise"),
        (["--solution"], "--solution needs the name"),
        (["--json", "a.json"], "--json needs an exercise to judge, or --collect"),
        (["--hand-out", "a", "--collect", "b"], "Give one of them"),
        (["bias", "relu"], "only --hand-out and --collect take several exercises; got bias, relu"),
        (["bais", "--hand-out", "a"], r"'bais'\. Did you mean bias\?"),
        (["--collect", ".", "bais"], r"'bais'\. Did you mean bias\?"),
        (["--collect", "nowhere"], "nowhere is not a folder"),
        (["--hand-out", "no/where"], "there is no folder no"),
        (["bias", "--folder", "no/where"], "there is no folder no"),
        (["bias", "--json", "no/a.json"], "there is no directory no"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, arguments, message):
    assert_refused(invoke("exercise", *arguments), message)
    assert list(folder.parent.iterdir()) == []


def test_a_teacher_hands_out_and_collects(folder, monkeypatch):
    monkeypatch.setattr(classroom, "_verdicts", lambda answers, limit: map(verdict_on, answers.values()))
    assert f"{len(EXERCISES) + 1} files were written" in exercise("--hand-out", "class")
    written(folder.parent / "all" / "anna", "bias", **RIGHT)
    written(folder.parent / "all" / "ben", "bias", **WRONG)
    said = exercise("--collect", "all", "--json", "scores.json")
    most = sum(each.points for each in EXERCISES.values())
    assert re.search(rf"^ anna +1 +0 +0 +0 +24 +2 of {most}$", said, re.M)
    assert re.search(rf"^ ben +0 +1 +0 +0 +24 +1 of {most}$", said, re.M)
    collected = strict((folder.parent / "scores.json").read_text())
    assert [(each["student_id"], each["score"]) for each in collected["learners"]] == [("anna", 2), ("ben", 1)]


def test_what_is_set_is_handed_out_and_is_what_the_score_is_out_of(folder, monkeypatch):
    monkeypatch.setattr(classroom, "_verdicts", lambda answers, limit: map(verdict_on, answers.values()))
    assert "3 files were written" in exercise("--hand-out", "class", "relu", "bias")
    assert {path.name for path in (folder.parent / "class").iterdir()} == {"bias.py", "relu.py", "README.txt"}
    written(folder.parent / "all" / "anna", "bias", **RIGHT)
    written(folder.parent / "all" / "anna", "tanh", dx="dy")  # which was not set
    assert re.search(r"^ anna +1 +0 +0 +0 +1 +2 of 3$", exercise("--collect", "all", "relu", "bias"), re.M)


def test_the_help_says_that_code_is_run():
    assert "RUNS their code" in " ".join(exercise("--help").split())


def test_the_list_fits_a_narrow_terminal(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(compare.cli.exercise, "width", lambda most: 40)
    compare.cli.exercise._list(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "bias" in lines


def test_a_right_step_of_an_optimizer_is_right_at_every_step(tmp_path):
    lines = {"m_new": "beta1 * m + (1 - beta1) * g", "v_new": "beta2 * v + (1 - beta2) * g**2"}
    lines |= {"p_new": "p - rate * m_new / (1 - beta1**t) / (np.sqrt(v_new / (1 - beta2**t)) + epsilon)"}
    folder = tmp_path / "mine"
    folder.mkdir()
    written(folder, "adam", **lines)
    result = invoke("exercise", "adam", "--folder", str(folder))
    assert result.stdout.startswith("Right. AGREE: the parameters and the state agree after each of 3 steps.\n")
