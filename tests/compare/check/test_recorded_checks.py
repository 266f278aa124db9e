"""Recorded steps: which step is wrong, and which update."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import Verdict, tap
from compare.check.optimizers import update_rule
from compare.check.recorded_checks import check_recording
from compare.check.recording import recorded_steps
from compare.errors import BadInput
from tests.compare.check.records import steps


def loss(parameters, x, y):
    return jnp.mean(tap("r", x @ parameters["w"] + parameters["b"] - y) ** 2)


def judged(arrays, rule=None):
    return check_recording(recorded_steps(arrays), loss, optimizer=None if rule is None else update_rule(rule))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("count", [1, 3])
def test_sound_recordings_agree(dtype, count):
    report = judged(steps(count, dtype), "sgd:lr=0.1")
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.updates is not None
    assert report.wrong_step is None
    assert "and so are the updates" in report.sentence


GRADIENTS = {
    "twice": lambda g: g | {"w": 2 * g["w"]},
    "a sign": lambda g: g | {"b": -g["b"]},
    "one entry": lambda g: g | {"w": g["w"] * [1, 1, 1.5]},
    "zero": lambda g: g | {"w": 0 * g["w"]},
    "a sum for a mean": lambda g: {name: 4 * leaf for name, leaf in g.items()},
    "not a number": lambda g: g | {"w": g["w"] * np.nan},
    "another shape": lambda g: g | {"w": g["w"][:2]},
    "one part in a million": lambda g: g | {"w": g["w"] * (1 + 1e-6)},
    "an extra leaf": lambda g: g | {"v": np.ones(2)},
}


@pytest.mark.sweep
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_wrong_gradient_is_found_at_its_step(name, at):
    arrays = steps(2)
    part = f"step.{at}/gradients/"
    right = {leaf: arrays[part + leaf] for leaf in ("w", "b")}
    report = judged(arrays | {part + leaf: value for leaf, value in GRADIENTS[name](right).items()})
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == at
    assert f"step {at}" in report.sentence
    assert report.diagnoses


def test_a_missing_gradient_is_found_at_its_step():
    report = judged({name: leaf for name, leaf in steps(3).items() if name != "step.2/gradients/b"})
    assert report.wrong_step == 2
    assert report.first_wrong == "b"


def test_a_wrong_loss_is_found():
    arrays = steps(1)
    arrays["loss"] = arrays["loss"] * 1.01
    report = judged(arrays)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "loss"


def test_without_a_loss_the_note_says_so():
    report = judged({name: leaf for name, leaf in steps(2).items() if name != "step.2/loss"})
    assert report.verdict is Verdict.AGREE
    assert any("the loss was not compared" in note for note in report.notes)


@pytest.mark.parametrize("wrong", [False, True])
def test_intermediates_are_compared(wrong):
    arrays = steps(1)
    r = arrays["inputs/x"] @ arrays["parameters/w"] + arrays["parameters/b"] - arrays["inputs/y"]
    arrays["intermediates/r"] = r / 2 * (3 if wrong else 1)
    report = judged(arrays)
    assert report.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE)
    assert report.first_wrong == ("r" if wrong else None)


UPDATES = {
    "moved": lambda p: p | {"w": p["w"] + 0.01},
    "one entry": lambda p: p | {"w": p["w"] * [1, 1.001, 1]},
    "the bias": lambda p: p | {"b": p["b"] * 1.1},
}


@pytest.mark.parametrize("name", UPDATES)
def test_a_wrong_update_is_found_at_step_three(name):
    report = judged(steps(4, update=UPDATES[name], at=3), "sgd:lr=0.1")
    assert report.verdict is Verdict.DISAGREE
    assert "step 3 of 4" in report.sentence
    assert report.wrong_step is None
    assert report.first_wrong == ("b" if name == "the bias" else "w")


def test_another_rate_and_another_rule_are_found():
    assert judged(steps(3), "sgd:lr=0.2").verdict is Verdict.DISAGREE
    assert judged(steps(3), "adam:lr=0.1").verdict is Verdict.DISAGREE
    assert judged(steps(3), "momentum:lr=0.1,beta=0").verdict is Verdict.AGREE


def test_updates_without_a_rule_are_not_judged_and_the_note_says_so():
    report = judged(steps(2))
    assert report.updates is None
    assert any("--optimizer" in note for note in report.notes)


def test_a_step_that_does_not_begin_where_the_last_one_ended_is_noted():
    arrays = steps(3)
    sound = judged(arrays)
    assert not any("does not begin" in note for note in sound.notes)
    arrays["step.2/next/b"] = arrays["step.2/next/b"] + 1e-6
    assert "parameters/b of step 3 differs from next/b of step 2." in judged(arrays).notes


def test_the_update_of_a_part_of_the_parameters_is_judged():
    arrays = {name: leaf for name, leaf in steps(3).items() if "next/b" not in name}
    assert judged(arrays, "momentum:lr=0.1,beta=0").verdict is Verdict.AGREE
    arrays["step.2/next/w"] = arrays["step.2/next/w"] * 1.001
    assert judged(arrays, "momentum:lr=0.1,beta=0").first_wrong == "w"


NO_GRADIENT = {
    "missing": (lambda g: {"w": g["w"]}, "step 2 has no gradients/b"),
    "another shape": (lambda g: g | {"w": g["w"][:2]}, "gradients/w has another shape or dtype than parameters/w"),
    "another dtype": (lambda g: g | {"w": g["w"].astype("f4")}, "gradients/w has another shape or dtype"),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_updates_without_gradients_are_not_judged_and_the_note_says_so(name):
    change, message = NO_GRADIENT[name]
    arrays = steps(2)
    right = {leaf: arrays.pop(f"step.2/gradients/{leaf}") for leaf in ("w", "b")}
    report = judged(
        arrays | {f"step.2/gradients/{leaf}": value for leaf, value in change(right).items()}, "adam:lr=0.1"
    )
    assert (report.verdict is Verdict.DISAGREE) is (name != "another dtype") or report.wrong_step == 2
    assert report.updates is None
    assert any(message in note for note in report.notes)


def test_gradients_of_no_parameter_do_not_keep_the_updates_from_being_judged():
    report = judged(steps(2) | {"step.1/gradients/v": np.ones(2)}, "sgd:lr=0.1")
    assert report.updates is not None
    assert report.updates.verdict is Verdict.AGREE


@pytest.mark.parametrize("gone", ["step.1/", "step.2/", "step.2/next/"])
def test_a_rule_with_a_memory_needs_every_step(gone):
    arrays = {name: leaf for name, leaf in steps(3).items() if not name.startswith(gone)}
    assert judged(arrays, "sgd:lr=0.1").verdict is Verdict.AGREE
    with pytest.raises(BadInput, match=f"step {gone[5]} of the recording is missing, or has no next"):
        judged(arrays, "adam:lr=0.1")


def test_an_input_that_the_loss_does_not_take_is_noted():
    report = judged(steps(1) | {"inputs/mask": np.ones(2)})
    assert report.verdict is Verdict.AGREE
    assert any("the loss has no such argument: inputs/mask" in note for note in report.notes)


def test_the_report_is_for_people_and_programs():
    report = judged(steps(3, gradient=GRADIENTS["twice"], at=2))
    assert report.to_dict()["wrong_step"] == 2
    assert report.to_dict()["verdict"] == "disagree"
    assert "Step 2:" in str(report)
    assert "Step 1:" not in str(report)
    with pytest.raises(TypeError):
        bool(report)
