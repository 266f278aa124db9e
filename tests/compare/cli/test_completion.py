"""What TAB offers: the names that there are, lists of them, and files of the kinds that are read."""

import os
import shutil
import subprocess
import sys

import pytest

import compare.bench.ops
import compare.exercise
import compare.museum
import compare.suite.datasets
import compare.suite.models
from compare.cli import completion


def test_a_name_and_the_last_of_a_list_are_completed():
    assert completion.among(completion.models)("s") == ["shallow"]
    assert completion.among(completion.models)("") == ["shallow", *compare.suite.models.MODELS]
    assert completion.among(completion.ops, several=True)("relu,flat") == ["relu,flatten"]
    assert completion.among(completion.models)("no") == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (completion.exhibits, set(compare.museum.EXHIBITS)),
        (completion.exercises, set(compare.exercise.EXERCISES)),
        (completion.ops, {*compare.bench.ops.SIZES, "all"}),
        (completion.presets, {"gpt2-124m"}),
        (completion.optimizers, {"sgd", "adamw"}),
        (completion.activations, {"tanh", "relu"}),
        (completion.dtypes, {"float64", "float32"}),
        (completion.platforms, {"cpu", "gpu", "tpu"}),
        (completion.contestants, {"manual", "torch", "jax-expert"}),
    ],
)
def test_the_names_are_those_of_the_tables(names, expected):
    assert expected <= set(names())


def test_data_sets_are_completed_with_files_of_the_kinds_that_are_read(tmp_path, monkeypatch):
    for name in ("mine.csv", "moon.npz", "moon.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "months").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completion.datasets("mo") == ["moons", "moon.npz", "months/"]
    assert completion.datasets(f"{tmp_path}/mi") == [f"{tmp_path}/mine.csv"]
    assert completion.datasets("nowhere/x") == []
    assert set(compare.suite.datasets.DATASETS) <= set(completion.datasets(""))


def test_the_shell_is_answered():
    words = {"_BACKPROOF_COMPLETE": "complete_bash", "COMP_WORDS": "backproof verify --model l", "COMP_CWORD": "3"}
    script = "import sys; sys.argv[0] = 'backproof'; from compare.cli.app import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | words, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.split() == ["lstm"], ended.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="asks for bash by being started from it")
def test_it_can_be_switched_on():
    script = "import sys; sys.argv = ['backproof', '--show-completion']; from compare.cli.app import main; main()"
    command = f'"{sys.executable}" -c "{script}"; true'  # or bash would become the command
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "complete -o default -F _backproof_completion backproof" in ended.stdout, ended.stderr
