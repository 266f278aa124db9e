"""`backproof verify` as one types it: what it prints where, its exit status, and what it leaves behind."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import compare.files
import compare.suite.datasets
import compare.verify.model
import compare.verify.shallow
import manual
import manual.activations
import manual.shallow
from compare.judge.gradients import GradientReport
from compare.judge.reports.verdict import Row, Verdict
from compare.verify.shallow import Settings, verify
from tests.command import assert_no_traceback, assert_refused, invoke, strict
from tests.compare.suite.tiny import TINY


@pytest.fixture(scope="module")
def small_result():
    return verify(Settings(dataset="moons", iterations=3))


@pytest.fixture
def done(monkeypatch, small_result):
    """The work is done at once, with the result that this function was last given."""

    def give(result=small_result):
        monkeypatch.setattr(compare.verify.shallow, "verify", lambda settings, *told, **options: result)

    give()
    return give


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    """One run as a newcomer would start it, with its files."""
    folder = tmp_path_factory.mktemp("defaults")
    return invoke("verify", "--json", folder / "result.json", "--plot", folder / "plot.png"), folder


def test_the_defaults_agree(defaults):
    result, _ = defaults
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert re.match("AGREE: .* 1000 steps ", result.stdout.splitlines()[-1])
    assert result.stdout.startswith("breast-cancer: 30 features, 1 output, 426 examples to train on, 143 held out\n")
    assert re.fullmatch(
        r"backproof: this needs about 0\.4 GiB of memory at most; [\d.]+ GiB are free now\n", result.stderr
    )


def test_the_readme_shows_the_end_of_what_the_defaults_print(defaults):
    """But for numbers, what aligns them, and the times."""

    def shape(text):
        timed = re.sub(r"^Time per step.*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)
        return re.sub(r"\d[\d.e+-]*|[─ ]+", " ", timed).split()

    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (shown,) = (block for block in re.findall(r"```text\n(.*?)```", readme, flags=re.DOTALL) if "Held-out" in block)
    words = shape(shown)
    assert shape(defaults[0].stdout)[-len(words) :] == words


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
    assert all(row["error"] <= row["tolerance"] for row in value["gradients"]["rows"])
    assert value["trajectory"]["steps"] == 1000
    assert value["trajectory"]["verdict"] == "agree"
    assert value["seconds_per_step"].keys() == {"manual", "manual-fast", "autodiff"}
    assert value["versions"].keys() >= {"numpy", "jax"}


def test_the_plot_is_a_picture_and_nothing_else_is_left(defaults):
    _, folder = defaults
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "result.json"]
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_options_reach_the_work(monkeypatch, small_result):
    seen = []
    monkeypatch.setattr(
        compare.verify.shallow, "verify", lambda settings, *told, **options: seen.append(settings) or small_result
    )
    options = "--dataset digits --hidden 5 --iterations 7 --learning-rate 0.5 --scale 2 --seed 9 --dtype float32"
    assert invoke("verify", *options.split()).exit_code == 0
    assert seen == [Settings("digits", 5, 7, 0.5, 2.0, 9, "float32", "cpu")]


@pytest.mark.sweep
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
    assert result.stdout.splitlines()[-1].startswith("INCONCLUSIVE: ")


@pytest.mark.parametrize("size", [10**13, 10**25])
def test_a_network_larger_than_any_machine_is_refused(size):
    assert_refused(invoke("verify", "--dataset", "moons", "--hidden", size), r"(?i)hidden|memory|large")


def test_more_iterations_than_can_be_counted_are_refused(monkeypatch, small_result):
    monkeypatch.setattr(compare.verify.shallow, "check_gradients", lambda *args, **options: small_result.gradients)
    assert_refused(invoke("verify", "--dataset", "moons", "--iterations", 10**25), r"(?i)iterations|memory|large")


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


@pytest.mark.usefixtures("done")
def test_a_stdout_that_knows_only_ascii_gets_the_result_all_the_same():
    result = invoke("verify", charset="ascii")
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("AGREE: ")


def test_the_help_of_verify_names_every_option_and_every_exit_status():
    text = " ".join(invoke("verify", "--help").stdout.split())
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in text
    for dataset in compare.suite.datasets.DATASETS:
        assert dataset in text
    for suffix in compare.files.PLOT_FORMATS:
        assert suffix in text
    assert "Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive." in text


def flags(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def test_ops_are_a_line_each_and_a_verdict(tmp_path):
    result = invoke("verify", "--op", "relu, flatten", "--json", tmp_path / "ops.json")
    assert_no_traceback(result)
    assert result.exit_code == 0
    relu, flatten, verdict = result.stdout.splitlines()
    assert relu.split()[:2] == ["relu", "AGREE"]
    assert flatten.split()[:2] == ["flatten", "AGREE"]
    assert verdict.startswith("AGREE: 2 of 2 ops agree")
    value = strict((tmp_path / "ops.json").read_text(encoding="utf-8"))
    assert value["verdict"] == "agree"
    assert [op["name"] for op in value["ops"]] == ["relu", "flatten"]


def test_a_wrong_op_ends_with_1(monkeypatch):
    forward, _ = manual.activations.ACTIVATIONS["relu"]
    wrong = (forward, lambda dy, cache: np.where(cache[0] > -1, dy, 0))
    monkeypatch.setitem(manual.activations.ACTIVATIONS, "relu", wrong)
    result = invoke("verify", "--op", "flatten,relu")
    assert_no_traceback(result)
    assert result.exit_code == 1
    assert "DISAGREE: 1 of 2 ops agree" in result.stdout
    assert "  at (" in result.stdout


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "sofmax"], "softmax"),
        (["--op", "tanh", "--hidden", "3"], "--op can only be combined with"),
        (["--op", "tanh", "--model", "gpt"], "--op"),
        (["--model", "transformer"], "'transformer'"),
        (["--model", "lstm", "--dataset", "moons"], "--dataset .* lstm"),
        (["--heads", "2"], "--heads does not apply to --model shallow"),
        (["--learning-rate", "nan", "--model", "mlp"], "--learning-rate"),
        (["--model", "gpt", "--preset", "gpt2-124m", "--layers", "3"], "--preset .* --layers"),
        (["--model", "mlp", "--optimizer", "adamax"], "'adamax'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


def test_a_model_is_verified_and_drawn_and_written(monkeypatch, small_result, tmp_path):
    """What the work itself does is in tests/compare/verify/test_model.py."""
    asked = []

    def verify_model(name, given, **options):
        asked.append((name, given, options["seed"], options["dtype"]))
        return replace(small_result, model=name)

    monkeypatch.setattr(compare.verify.model, "verify_model", verify_model)
    paths = ["--json", tmp_path / "run.json", "--plot", tmp_path / "run.svg"]
    result = invoke("verify", "--model", "gru", *flags(TINY["gru"]), "--dtype", "float32", "--seed", 4, *paths)
    assert_no_traceback(result)
    assert result.exit_code == 0, result.stdout
    assert asked == [("gru", TINY["gru"], 4, "float32")]
    assert re.match("AGREE: .* 3 steps ", result.stdout.splitlines()[-1])
    assert strict((tmp_path / "run.json").read_text(encoding="utf-8"))["model"] == "gru"
    assert (tmp_path / "run.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
