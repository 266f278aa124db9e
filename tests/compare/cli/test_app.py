"""The command: what it prints where, its exit status, and what it leaves behind."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import compare.files
import compare.suite.datasets
import compare.verify.shallow
import manual
import manual.shallow
from compare.judge.gradients import GradientReport
from compare.judge.reports.verdict import Row, Verdict
from compare.verify.shallow import Settings, verify
from tests.command import assert_no_traceback, assert_refused, invoke, strict


@pytest.fixture(autouse=True, scope="module")
def brief_rounds():
    """How fast the sides are is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def small_result():
    return verify(Settings(dataset="moons", iterations=3))


@pytest.fixture
def done(monkeypatch, small_result):
    """The work is done at once, with the result that this function was last given."""

    def give(result=small_result):
        monkeypatch.setattr(compare.verify.shallow, "verify", lambda settings, progress, note: result)

    give()
    return give


# ---------------------------------------------------------------------------------------- the defaults


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    """One run as a newcomer would start it, with its files."""
    folder = tmp_path_factory.mktemp("defaults")
    return invoke("verify", "--json", folder / "result.json", "--plot", folder / "plot.png"), folder


def test_the_defaults_agree(defaults):
    result, _ = defaults
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert result.stdout.endswith(
        "\nAGREE: by hand and by JAX, every gradient and all 1000 steps of training are the same.\n"
    )
    assert result.stdout.startswith("breast-cancer: 30 features, 1 output, 426 examples to train on, 143 held out\n")
    assert result.stderr == ""


def test_the_defaults_learn_what_they_are_to_learn(defaults):
    _, folder = defaults
    value = strict((folder / "result.json").read_text())
    accuracy = value["accuracy"]
    assert accuracy["manual"] == accuracy["autodiff"] > 0.95
    for side in ("manual", "autodiff"):
        steps, losses = value["losses"][side]["steps"], value["losses"][side]["values"]
        assert len(steps) == len(losses) == 1000
        assert losses[-1] < 0.1 * losses[0]


def test_the_json_is_strict_and_has_every_part(defaults):
    _, folder = defaults
    value = strict((folder / "result.json").read_text())
    assert value["verdict"] == "agree"
    assert value["settings"] == {
        "dataset": "breast-cancer",
        "hidden": 16,
        "iterations": 1000,
        "learning_rate": 0.3,
        "scale": 0.1,
        "seed": 0,
        "dtype": "float64",
        "platform": "cpu",
    }
    assert {row["path"] for row in value["gradients"]["rows"]} >= {"loss", "W1", "b1", "W2", "b2"}
    assert all(row["error"] <= row["allowed"] for row in value["gradients"]["rows"])
    assert value["trajectory"]["steps"] == 1000
    assert value["trajectory"]["verdict"] == "agree"
    assert value["seconds_per_step"].keys() == {"manual", "autodiff"}
    assert value["versions"].keys() >= {"numpy", "jax"}


def test_the_plot_is_a_picture_and_nothing_else_is_left(defaults):
    _, folder = defaults
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "result.json"]
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_options_reach_the_work(monkeypatch, small_result):
    seen = []
    monkeypatch.setattr(
        compare.verify.shallow, "verify", lambda settings, progress, note: seen.append(settings) or small_result
    )
    options = "--dataset digits --hidden 5 --iterations 7 --learning-rate 0.5 --scale 2 --seed 9 --dtype float32"
    assert invoke("verify", *options.split()).exit_code == 0
    assert seen == [Settings("digits", 5, 7, 0.5, 2.0, 9, "float32", "cpu")]


# --------------------------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.AGREE, 0), (Verdict.DISAGREE, 1), (Verdict.INCONCLUSIVE, 3)])
def test_the_exit_status_says_the_verdict_and_files_are_written_for_each(done, small_result, tmp_path, verdict, status):
    row = Row("W1", verdict, (1,), "float64", 1.0)
    done(replace(small_result, gradients=GradientReport(verdict, [row])))
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.svg")
    assert_no_traceback(result)
    assert result.exit_code == status
    assert result.stdout.splitlines()[-1].startswith(f"{verdict.name}: ")
    assert strict((tmp_path / "a.json").read_text())["verdict"] == verdict.value
    assert (tmp_path / "a.svg").exists()


def test_a_planted_fault_ends_with_1(monkeypatch, small_result, tmp_path):
    # The gradients are to blame; looking for their fault in the training too would take seconds more.
    monkeypatch.setattr(compare.verify.shallow, "check_trajectory", lambda *args, **options: small_result.trajectory)
    right = manual.backpropagation

    def wrong(*args, **options):
        gradients = right(*args, **options)
        return gradients | {"W2": 1.01 * gradients["W2"]}

    for place in (manual, manual.shallow):
        monkeypatch.setattr(place, "backpropagation", wrong)
    result = invoke("verify", "--dataset", "moons", "--iterations", 3, "--json", tmp_path / "a.json")
    assert_no_traceback(result)
    assert result.exit_code == 1
    assert re.match(r"DISAGREE\b.*\bW2\b", result.stdout.splitlines()[-1])
    assert strict((tmp_path / "a.json").read_text())["gradients"]["first_wrong"] == "W2"


def test_right_steps_that_lead_apart_end_with_3(monkeypatch, small_result):
    """A chaotic run: no step is wrong, so this is no disagreement."""
    monkeypatch.setattr(compare.verify.shallow, "check_gradients", lambda *args, **options: small_result.gradients)
    result = invoke("verify", "--dataset", "moons", "--scale", 1, "--learning-rate", 300, "--iterations", 60)
    assert_no_traceback(result)
    assert result.exit_code == 3
    assert re.match(r"INCONCLUSIVE: (?i:every step is right by itself)", result.stdout.splitlines()[-1])


@pytest.mark.parametrize("size", [10**13, 10**25])
def test_a_network_larger_than_any_machine_is_refused(size):
    assert_refused(invoke("verify", "--dataset", "moons", "--hidden", size), r"(?i)hidden|memory|large")


def test_more_iterations_than_can_be_counted_are_refused(monkeypatch, small_result):
    monkeypatch.setattr(compare.verify.shallow, "check_gradients", lambda *args, **options: small_result.gradients)
    assert_refused(invoke("verify", "--dataset", "moons", "--iterations", 10**25), r"(?i)iterations|memory|large")


# ---------------------------------------------------------------------------- what is left on the disk


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("existing", [None, "before"])
def test_a_disk_that_fills_up_leaves_what_was_there(monkeypatch, tmp_path, existing):
    path = tmp_path / "a.json"
    if existing:
        path.write_text(existing)

    def fail_halfway(self, *args, **options):
        self.write_bytes(b'{"verdict": "ag')
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", fail_halfway)
    result = invoke("verify", "--json", path)
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([path.name] if existing else [])
    assert not existing or path.read_text() == existing


@pytest.mark.usefixtures("done")
def test_an_interruption_after_a_file_was_written_does_not_deny_it(monkeypatch, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.files, "plot_run", interrupted)
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    assert_no_traceback(result)
    assert result.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert "nothing was written" not in result.stderr


# ------------------------------------------------------------------------------------- where it prints


@pytest.mark.usefixtures("done")
def test_a_stdout_that_knows_only_ascii_gets_the_result_all_the_same():
    result = invoke("verify", charset="ascii")
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert "AGREE: by hand and by JAX" in result.stdout


def test_a_reader_that_has_gone_does_not_turn_agreement_into_disagreement(tmp_path):
    """`backproof verify --json a.json | true`: nobody reads what is printed."""
    script = f"""
import sys
import compare.verify.shallow
from compare.judge.reports.verdict import Verdict


class Result:
    verdict = Verdict.AGREE

    def to_dict(self):
        return {{"verdict": "agree"}}

    def __str__(self):
        return "the result"


compare.verify.shallow.verify = lambda settings, progress, note: Result()
sys.argv = ["backproof", "verify", "--json", {str(tmp_path / "a.json")!r}]
from compare.cli.app import main
main()
"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writer)
    assert "Traceback" not in ended.stderr
    assert ended.returncode not in (1, 3), "these mean that the sides disagree, or that nothing can be said"
    assert strict((tmp_path / "a.json").read_text())["verdict"] == "agree"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_stream_that_was_closed_from_the_beginning_changes_no_status(closed):
    command = f"exec '{sys.executable}' -m compare --help {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 0


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_bare_command_explains_itself(arguments):
    result = invoke(*arguments)
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert "`backproof verify`" in result.stdout
    assert "Usage: backproof [OPTIONS] COMMAND" in result.stdout
    assert result.stderr == ""


def test_the_help_of_verify_names_every_option_and_every_exit_status():
    text = " ".join(invoke("verify", "--help").stdout.split())
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in text
    for dataset in compare.suite.datasets.DATASETS:
        assert dataset in text
    for suffix in compare.files.PLOT_FORMATS:
        assert suffix in text
    assert "Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive." in text


@pytest.mark.parametrize("arguments", [["verify", "--help"], ["verify", "--hidden", "many"]])
def test_help_and_mistakes_in_usage_are_answered_without_loading_jax(arguments):
    script = f"""
import sys
sys.argv = ["backproof", *{arguments!r}]
from compare.cli.app import app
try:
    app()
finally:
    loaded = [name for name in ("jax", "jaxlib", "sklearn", "matplotlib") if name in sys.modules]
    print("loaded:", loaded)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == (2 if "many" in arguments else 0), ended.stderr
    assert ended.stdout.endswith("loaded: []\n")
