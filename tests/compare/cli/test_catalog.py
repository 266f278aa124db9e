"""The command on the catalog: `verify --op` and `verify --model`."""

import numpy as np
import pytest

import manual.activations
from tests.command import assert_no_traceback, assert_refused, invoke, strict
from tests.compare.suite.tiny import TINY


@pytest.fixture(autouse=True, scope="module")
def brief_rounds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        yield


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "sofmax"], "Did you mean softmax"),
        (["--op", "tanh", "--hidden", "3"], "--op takes no other options"),
        (["--op", "tanh", "--model", "gpt"], "--op takes no other options"),
        (["--model", "transformer"], "no model is called 'transformer'; there are shallow, mlp"),
        (["--model", "lstm", "--dataset", "moons"], "--dataset does not apply to --model lstm"),
        (["--heads", "2"], "--heads does not apply to --model shallow"),
        (["--learning-rate", "nan", "--model", "mlp"], "--learning-rate must be positive and finite"),
        (["--model", "gpt", "--preset", "gpt2-124m", "--layers", "3"], "--preset settles the sizes"),
        (["--model", "mlp", "--optimizer", "adamax"], "no optimizer is called 'adamax'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


def test_a_model_is_verified_and_drawn_and_written(tmp_path):
    paths = ["--json", tmp_path / "run.json", "--plot", tmp_path / "run.svg"]
    result = invoke("verify", "--model", "gru", *flags(TINY["gru"]), "--dtype", "float32", *paths)
    assert_no_traceback(result)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.rstrip().endswith("all 2 steps of training are the same.")
    assert strict((tmp_path / "run.json").read_text(encoding="utf-8"))["model"] == "gru"
    assert (tmp_path / "run.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
