"""The main job agrees on every bundled set, catches planted faults, lets other right formulas pass, and says so."""

import json
import re
from dataclasses import asdict, replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autodiff
import manual
import manual.shallow
from compare.environment import environment
from compare.errors import BadInput
from compare.judge.gradients import GradientReport
from compare.judge.reports.verdict import Row, Verdict
from compare.judge.trajectory import Curve, ParameterPath, TrajectoryReport
from compare.suite.datasets import DATASETS
from compare.verify import shallow as module
from compare.verify.shallow import Settings, verify
from manual.fast._shallow_steps import Steps

pytestmark = pytest.mark.usefixtures("brief_rounds")

SHAPES = {"W1": [8, 2], "b1": [8, 1], "W2": [1, 8], "b2": [1, 1]}  # the network for moons


stages_said = []  # what `result` said while it was made


@pytest.fixture(scope="module")
def result():
    stages_said.clear()
    return verify(Settings(dataset="moons", iterations=20), lambda *stage: stages_said.append(stage))


@pytest.fixture
def gradients_checked(monkeypatch, result):
    """Checking gradients takes seconds; where they are not the question, this is what came out before."""
    monkeypatch.setattr(module, "check_gradients", lambda *args, **options: result.gradients)


@pytest.fixture
def training_compared(monkeypatch, result):
    monkeypatch.setattr(module, "check_trajectory", lambda *args, **options: result.trajectory)
    monkeypatch.setattr(module, "check_fast_training", lambda *args, **options: result.fast_training)


# ------------------------------------------------------------------------------------------- settings


def test_settings_have_defaults_that_need_nothing():
    assert asdict(Settings()) == {
        "dataset": "breast-cancer",
        "hidden": None,
        "iterations": 1000,
        "learning_rate": None,
        "scale": 0.1,
        "seed": 0,
        "dtype": "float64",
        "platform": "cpu",
    }


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["hidden", "iterations", "learning_rate", "scale"])
def test_numbers_must_be_positive_and_finite(name, value):
    words = name.replace("_", " ")
    with pytest.raises(BadInput, match=rf"^{words} must be positive and finite, got {value}\."):
        Settings(**{name: value})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "Float64", "double", ""])
def test_an_unknown_dtype_lists_what_exists(dtype):
    with pytest.raises(BadInput, match=rf"no dtype is called '{dtype}'.*here are float64, float32\."):
        Settings(dtype=dtype)


def test_a_negative_seed_is_refused():
    with pytest.raises(BadInput, match="seed must not be negative, got -1"):
        Settings(seed=-1)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**70])
def test_a_large_seed_works_for_every_dataset_or_is_refused(dataset, seed, monkeypatch):
    def reached(*args, **options):
        raise StopIteration

    monkeypatch.setattr(module, "check_gradients", reached)  # the data is there; the rest is not the question
    with pytest.raises((BadInput, StopIteration)) as caught:
        verify(Settings(dataset=dataset, seed=seed))
    assert caught.type is StopIteration or "seed" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "unknown"}, r"no dataset is called 'unknown'; there are breast-cancer, digits, moons, flower"),
        ({"platform": "quantum"}, r"no platform is called 'quantum'; there are cpu, gpu, tpu"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(settings, message):
    with pytest.raises(BadInput, match=message):
        verify(Settings(**settings))


# ------------------------------------------------------------------------------------------- verdicts


# Not breast-cancer, which is the default. What a dtype changes does not depend on where the data are from.
@pytest.mark.sweep
@pytest.mark.parametrize(("dataset", "dtype"), [("moons", "float32"), ("digits", "float32"), ("flower", "float64")])
def test_both_sides_agree_on_every_dataset(dataset, dtype):
    result = verify(Settings(dataset=dataset, dtype=dtype, iterations=10))
    assert result.verdict is result.gradients.verdict is result.trajectory.verdict is Verdict.AGREE
    assert {row.path for row in result.gradients.rows} >= {"loss", *SHAPES}
    assert {row.dtype for row in result.gradients.rows} == {dtype}
    assert result.trajectory.steps == 10
    assert result.device == "cpu"
    for losses in result.losses.values():
        assert losses.shape == (10,)
        assert losses.dtype == dtype
        assert losses[-1] < losses[0]
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(result.losses["manual"], result.losses["autodiff"], rtol=tolerance)
    assert result.accuracy["manual"] == result.accuracy["autodiff"]
    assert (result.settings["hidden"], result.settings["learning_rate"]) == (
        DATASETS[dataset].hidden,
        DATASETS[dataset].learning_rate,
    )
    assert jnp.ones(1).dtype == np.float32, "64-bit types stay on after the work"


def plant(monkeypatch, name, fault):
    """Put `fault` of the right result in the place of a function, wherever the manual side looks for it."""
    right = getattr(manual, name)
    for place in (manual, manual.shallow):
        monkeypatch.setattr(place, name, lambda *args, **options: fault(right(*args, **options)))


def a_little_too_large(gradients):
    return gradients | {"W1": 1.001 * gradients["W1"]}


def not_a_number(gradients):
    return gradients | {"b2": np.full_like(gradients["b2"], np.nan)}


def of_another_loss(loss):
    return 1.001 * loss


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("function", "fault", "name"),
    [
        ("backpropagation", a_little_too_large, "W1"),
        ("backpropagation", not_a_number, "b2"),
        ("compute_loss", of_another_loss, "loss"),
    ],
)
@pytest.mark.usefixtures("training_compared")
def test_a_wrong_gradient_or_loss_is_caught_and_named(monkeypatch, function, fault, name):
    plant(monkeypatch, function, fault)
    result = verify(Settings(dataset="moons", iterations=2))
    assert result.verdict is result.gradients.verdict is Verdict.DISAGREE
    assert result.gradients.first_wrong == name
    assert re.match(rf"DISAGREE\b.*\b{name}\b", result.sentence)
    assert result.sentence in " ".join(str(result).split())
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["verdict"] == "disagree"


@pytest.mark.usefixtures("gradients_checked")
def test_a_wrong_update_is_caught_though_the_gradients_agree(monkeypatch):
    right = manual.update_parameters

    def wrong(parameters, gradients, learning_rate):
        return right(parameters, gradients, learning_rate) | {"b1": parameters["b1"]}

    monkeypatch.setattr(manual, "update_parameters", wrong)
    result = verify(Settings(dataset="moons", iterations=3))
    assert result.verdict is result.trajectory.verdict is Verdict.DISAGREE
    assert re.match(r"DISAGREE: .*\b1\b.*\bb1\b", result.sentence)


def slower(right):
    """A learning rate that is not the one asked for."""

    def step(self, learning_rate):
        return right(self, 0.7 * learning_rate)

    return step


def stale(right):
    """The second step of a call takes the gradient of the first one."""

    def there_and_back(self):
        if hasattr(self, "kept"):
            self.gradient[:] = self.kept
            return self.loss
        self.loss = right(self)
        self.kept = self.gradient.copy()
        return self.loss

    return there_and_back


def other_loss(right):
    """What is recorded is not the loss, though every step is right."""
    return lambda self, learning_rate: 1.001 * right(self, learning_rate)


@pytest.mark.sweep
@pytest.mark.usefixtures("gradients_checked")
@pytest.mark.parametrize(
    ("method", "fault", "name"),
    [
        ("step", slower, "state.losses"),
        ("_forward_and_backward", stale, "state.losses"),
        ("step", other_loss, "state.losses"),
    ],
)
def test_a_fault_of_the_fast_loop_is_caught_and_said_to_be_there(monkeypatch, method, fault, name):
    monkeypatch.setattr(Steps, method, fault(getattr(Steps, method)))
    result = verify(Settings(dataset="moons", iterations=4))
    assert result.trajectory.verdict is Verdict.AGREE
    assert result.fast_training is not None
    assert result.verdict is result.fast_training.verdict is Verdict.DISAGREE
    assert result.sentence.startswith(f"DISAGREE: manual.fast, training: step 1, {name}: ")
    assert result.sentence in str(result)


@pytest.mark.campaign
def test_a_fault_of_the_fast_gradients_is_named(monkeypatch):
    right = Steps._forward_and_backward

    def without_slope(self):
        loss = right(self)
        self.dV1[:] = (self.W2T @ self.dZ2) @ self.xT
        return loss

    monkeypatch.setattr(Steps, "_forward_and_backward", without_slope)
    result = verify(Settings(dataset="moons", iterations=2))
    assert result.gradients.verdict is result.trajectory.verdict is Verdict.AGREE
    assert result.made_fast is not None
    assert result.made_fast.verdict is Verdict.DISAGREE
    assert re.match(r"DISAGREE: manual.fast, gradients at the start: .*\bW1\b", result.sentence)


@pytest.mark.usefixtures("gradients_checked")
def test_one_ulp_is_no_fault_of_the_fast_loop(monkeypatch):
    right = Steps.step

    def rounded(self, learning_rate):
        loss = right(self, learning_rate)
        self.weights[:] = np.nextafter(self.weights, np.inf)
        return loss

    monkeypatch.setattr(Steps, "step", rounded)
    assert verify(Settings(dataset="moons", iterations=4)).verdict is Verdict.AGREE


def test_another_right_formula_agrees(monkeypatch):
    """The same derivatives by halves of the examples, summed: other roundings, no other result."""
    whole = manual.backpropagation

    def by_halves(parameters, cache, x, y, **options):
        whole(parameters, cache, x, y, **options)  # for what it leaves in the options
        m = x.shape[1]
        total = dict.fromkeys(parameters, 0.0)
        for part in (slice(m // 2, m), slice(0, m // 2)):
            weight = len(range(m)[part]) / m
            piece = manual.Cache(*(value[:, part] for value in cache))
            gradients = whole(parameters, piece, x[:, part], y[:, part])
            total = {name: total[name] + weight * gradients[name] for name in total}
        return total

    for place in (manual, manual.shallow):
        monkeypatch.setattr(place, "backpropagation", by_halves)
    assert verify(Settings(dataset="moons", iterations=3)).verdict is Verdict.AGREE


GRADIENTS = {verdict: GradientReport(verdict, [Row("W1", verdict, (1,), "float64", 1.0)]) for verdict in Verdict}
TRAJECTORIES = {
    verdict: TrajectoryReport(7, [ParameterPath("W1", (1,), message="a fault", **fate)], Curve())
    for verdict, fate in (
        (Verdict.AGREE, {}),
        (Verdict.DISAGREE, {"wrong_step": 4}),
        (Verdict.INCONCLUSIVE, {"adrift_step": 5}),
    )
}
AGREE, DISAGREE, INCONCLUSIVE = Verdict


@pytest.mark.parametrize(
    ("gradients", "trajectory", "verdict", "culprit"),
    [
        (AGREE, DISAGREE, DISAGREE, "trajectory"),
        (AGREE, INCONCLUSIVE, INCONCLUSIVE, "trajectory"),
        (DISAGREE, AGREE, DISAGREE, "gradients"),
        (DISAGREE, DISAGREE, DISAGREE, "gradients"),
        (DISAGREE, INCONCLUSIVE, DISAGREE, "gradients"),
        (INCONCLUSIVE, AGREE, INCONCLUSIVE, "gradients"),
        (INCONCLUSIVE, DISAGREE, DISAGREE, "trajectory"),
        (INCONCLUSIVE, INCONCLUSIVE, INCONCLUSIVE, "gradients"),
    ],
)
def test_the_worse_verdict_counts_and_its_part_is_quoted_once(result, gradients, trajectory, verdict, culprit):
    changed = replace(result, gradients=GRADIENTS[gradients], trajectory=TRAJECTORIES[trajectory])
    assert changed.verdict is verdict
    quoted = getattr(changed, culprit).sentence.removeprefix(f"{verdict.name}: ")
    assert changed.sentence == f"{verdict.name}: {quoted}"


def test_both_parts_must_agree(result):
    changed = replace(result, gradients=GRADIENTS[AGREE], trajectory=TRAJECTORIES[AGREE])
    assert changed.verdict is AGREE
    assert changed.sentence == "AGREE: by hand and by JAX, every gradient and all 7 steps of training are the same."


# ---------------------------------------------------------------------------------------- what it says


@pytest.mark.usefixtures("training_compared")
def test_the_same_settings_give_the_same_result(result):
    again = verify(Settings(**result.settings))
    assert again.gradients == result.gradients
    assert again.accuracy == result.accuracy
    for side in result.losses:
        np.testing.assert_array_equal(again.losses[side], result.losses[side])


@pytest.mark.usefixtures("gradients_checked", "training_compared")
def test_the_seed_changes_the_result(result):
    other = verify(Settings(**result.settings | {"seed": 1}))
    assert other.losses["manual"][0] != result.losses["manual"][0]


@pytest.mark.usefixtures("result")
def test_progress_names_the_stages_and_counts_the_steps():
    assert stages_said == [
        ("loading data", 0),
        ("checking gradients", 0),
        *(("comparing training", step) for step in range(1, 21)),
        ("comparing training by manual.fast", 0),
        ("timing both sides", 0),
        ("training both sides", 0),
    ]


def test_the_text_says_what_was_done_and_what_came_out(result):
    text = str(result)
    for part in (
        "moons: 2 features, 1 output, 300 examples to train on, 100 held out",
        "8 hidden units (tanh), sigmoid outputs; float64 on cpu; 20 iterations at learning rate 1, scale 0.1, seed 0",
        "Gradients at the start",
        "Training",
        f"Loss: from {result.losses['manual'][0]:.6g} to\n  manual      ",
        f"  manual-fast {result.losses['manual-fast'][-1]:.9g}\n",
        f"Held-out accuracy: manual {result.accuracy['manual']:.4f}, manual-fast ",
        "The same by manual.fast\nGradients: AGREE",
        "Training, in calls of 2 steps each: AGREE",
        str(result.times),
    ):
        assert part in text
    assert text.splitlines()[-1] == result.sentence


def test_the_dictionary_is_plain_and_complete(result):
    value = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert value == result.to_dict()
    assert value["verdict"] == "agree"
    assert value["settings"] == result.settings
    assert value["problem"] == {
        "name": "moons",
        "features": 2,
        "outputs": 1,
        "train_examples": 300,
        "test_examples": 100,
        "notes": [],
    }
    shapes = {row["path"]: row["shape"] for row in value["gradients"]["rows"]}
    assert shapes == shapes | {"loss": []} | SHAPES
    assert value["trajectory"]["steps"] == 20
    assert value["made_fast"]["verdict"] == value["fast_training"]["verdict"] == "agree"
    assert value["fast_training"]["steps"] == 10
    for side in ("manual", "manual-fast", "autodiff"):
        assert value["losses"][side] == {"steps": list(range(20)), "values": result.losses[side].tolist()}
        assert 0.5 < value["accuracy"][side] <= 1
        times = value["seconds_per_step"][side]
        assert 0 < times["fastest"] <= times["median"] <= times["slowest"]
    assert value["compilation_seconds"] >= 0
    assert value["versions"].keys() == {"numpy", "jax"}
    assert value["environment"] == result.environment
    assert value["environment"].keys() == environment().keys()


def test_losses_that_are_no_numbers_are_still_plain(result):
    losses = {side: np.array([0.7, np.nan, np.inf]) for side in result.losses}
    value = replace(result, losses=losses).to_dict()
    assert value["losses"]["manual"]["values"] == [0.7, "nan", "inf"]
    json.dumps(value, allow_nan=False)


@given(length=st.integers(1, 5000), points=st.integers(2, 1000))
def test_a_loss_curve_is_thinned_evenly_and_keeps_both_ends(result, length, points):
    losses = np.arange(length) / 7
    steps, values = replace(result, losses={"manual": losses, "autodiff": losses}).loss_curve("manual", points)
    assert steps[0] == 0
    assert steps[-1] == length - 1
    assert len(steps) == min(length, points)
    gaps = np.diff(steps)
    assert gaps.size == 0 or (gaps.min() > 0 and gaps.max() - gaps.min() <= 1)
    assert values == [step / 7 for step in steps]


@pytest.mark.usefixtures("gradients_checked", "training_compared")
def test_a_small_file_has_nothing_held_out_and_says_so(tmp_path):
    np.savez(tmp_path / "small.npz", x=np.arange(10.0).reshape(5, 2) ** 2, y=np.array([0, 1, 1, 0, 1]))
    result = verify(Settings(dataset=str(tmp_path / "small.npz"), iterations=5, hidden=3, learning_rate=0.5))
    assert result.accuracy == {"manual": None, "manual-fast": None, "autodiff": None}
    assert result.to_dict()["accuracy"] == {"manual": None, "manual-fast": None, "autodiff": None}
    assert "Held-out accuracy: none held out" in str(result)
    assert "3 hidden units" in str(result)
    # A file of one's own uses the usual values unless told otherwise.
    assert (result.settings["hidden"], result.settings["learning_rate"]) == (3, 0.5)


@pytest.mark.campaign
@pytest.mark.usefixtures("gradients_checked", "training_compared")
@pytest.mark.usefixtures("gradients_checked", "training_compared")
def test_accuracy_counts_an_example_only_if_every_output_is_right(monkeypatch):
    """Predicting 0 throughout is right for nine of ten outputs of a digit, and for no digit."""
    for side in (manual, autodiff):
        monkeypatch.setattr(side, "predict", lambda x, parameters: np.zeros((10, x.shape[1]), int))
    result = verify(Settings(dataset="digits", iterations=1))
    assert result.accuracy == {"manual": 0.0, "manual-fast": 0.0, "autodiff": 0.0}
