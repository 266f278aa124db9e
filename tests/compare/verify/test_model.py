"""Networks of the catalog through the main job: the verdict, what is recorded, and a fault in an op that is named."""

import importlib

import jax
import numpy as np
import pytest

import manual.fast
import manual.optimizers
from compare import Verdict
from compare.errors import BadInput
from compare.suite.models import MODELS
from compare.verify import model as module
from compare.verify.model import SECONDS_A_STEP, expected_seconds, verify_model
from manual._kinds import kinds
from manual.network import KINDS
from tests.compare.suite.tiny import TINY

pytestmark = pytest.mark.usefixtures("brief_rounds")


given_back = []  # while `result` was made


@pytest.fixture(scope="module")
def result():
    given_back.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "give_back", lambda: given_back.append("memory"))
        return verify_model("gru", TINY["gru"], dtype="float32")


def test_both_sides_agree(result):
    assert result.verdict is Verdict.AGREE, str(result)
    assert result.trajectory.steps == 2
    assert list(result.losses) == list(result.times.sides) == ["manual", "manual-fast", "autodiff"]
    for side in ("manual", "manual-fast"):
        assert result.losses[side].shape == (2,)
        np.testing.assert_allclose(result.losses[side], result.losses["autodiff"], rtol=1e-5)
        assert result.accuracy[side] == result.accuracy["autodiff"]


def test_what_is_printed_and_written(result):
    text = str(result)
    assert "pydoc_data.topics" in text
    assert "gru: iterations 2" in text
    assert "1.gru.input_weight" in text
    value = result.to_dict()
    assert value["model"] == "gru"
    assert value["settings"] == TINY["gru"] | {
        "optimizer": "nesterov",
        "learning_rate": 0.3,
        "seed": 0,
        "dtype": "float32",
        "platform": "cpu",
    }
    assert value["problem"]["parameters"] == 103 * 4 + 2 * (4 * 12 + 12) + 4 * 103 + 103


def test_a_fault_in_an_op_is_named(monkeypatch):
    row = KINDS["dense"]

    def wrong(output_gradient, cache):
        dx, *rest = row.backward(output_gradient, cache)
        return (1.01 * dx, *rest)

    monkeypatch.setitem(KINDS, "dense", row._replace(backward=wrong))
    found = verify_model("mlp", TINY["mlp"])
    assert found.verdict is Verdict.DISAGREE
    assert found.gradients.first_wrong == "3.dense.input"
    assert "3.dense.input" in found.sentence


@pytest.mark.campaign
def test_a_fault_of_what_is_fast_is_named(monkeypatch):
    rows = kinds(importlib.import_module("manual.fast"))
    row = rows["dense"]

    def wrong(output_gradient, cache):
        dx, *rest = row.backward(output_gradient, cache)
        return (1.01 * dx, *rest)

    monkeypatch.setitem(rows, "dense", row._replace(backward=wrong))
    found = verify_model("mlp", TINY["mlp"])
    assert found.gradients.verdict is found.trajectory.verdict is Verdict.AGREE
    assert found.verdict is Verdict.DISAGREE
    assert found.made_fast is not None
    assert found.made_fast.first_wrong == "3.dense.input"
    assert found.sentence.startswith("DISAGREE: manual.fast, gradients at the start: ")
    assert "The same by manual.fast\nGradients: DISAGREE" in str(found)


@pytest.mark.campaign
def test_a_fault_of_a_fast_optimizer_is_named(monkeypatch):
    right = manual.fast.optimizers.OPTIMIZERS["nesterov"]
    monkeypatch.setitem(manual.fast.optimizers.OPTIMIZERS, "nesterov", lambda rate: right(rate / 2))
    found = verify_model("mlp", TINY["mlp"] | {"optimizer": "nesterov"})
    assert found.made_fast is not None
    assert found.made_fast.verdict is found.trajectory.verdict is Verdict.AGREE
    assert found.fast_training is not None
    assert found.verdict is found.fast_training.verdict is Verdict.DISAGREE
    assert found.sentence.startswith("DISAGREE: manual.fast, training: step 1, ")


@pytest.mark.campaign
def test_a_moment_that_a_fast_optimizer_forgets_is_seen_within_a_call(monkeypatch):
    right = manual.fast.optimizers.OPTIMIZERS["momentum"]

    def forgets(rate):
        optimizer = right(rate)

        def update(parameters, gradients, state, donate=False):
            if int(state.step) % 2:
                state = state._replace(velocity=jax.tree.map(np.zeros_like, state.velocity))
            return optimizer.update(parameters, gradients, state, donate=donate)

        return manual.optimizers.Optimizer(optimizer.initialize, update)

    monkeypatch.setitem(manual.fast.optimizers.OPTIMIZERS, "momentum", forgets)
    found = verify_model("mlp", TINY["mlp"] | {"optimizer": "momentum"})
    assert found.trajectory.verdict is Verdict.AGREE
    assert found.sentence.startswith("DISAGREE: manual.fast, training: step 1, ")


@pytest.mark.campaign
def test_a_fault_of_a_fast_optimizer_is_named_of_a_large_model_too(monkeypatch):
    """Which is trained by hand once only: the steps that are compared are those of `manual.fast`."""
    monkeypatch.setattr(module, "LARGE", 100)
    right = manual.fast.optimizers.OPTIMIZERS["nesterov"]
    monkeypatch.setitem(manual.fast.optimizers.OPTIMIZERS, "nesterov", lambda rate: right(rate / 2))
    found = verify_model("mlp", TINY["mlp"] | {"optimizer": "nesterov"})
    assert found.fast_training is None
    assert list(found.losses) == list(found.times.sides) == ["manual-fast", "autodiff"]
    assert found.sentence.startswith("DISAGREE: manual.fast, training: step 1, ")
    assert "Training, by manual.fast\nDISAGREE" in str(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "'float16'"),
        ({"seed": -1}, "seed must be from 0"),
        ({"platform": "abacus"}, "'abacus'"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        verify_model("mlp", TINY["mlp"], **options)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(BadInput, match=r"no optimizer is called 'adamax'\. Did you mean adam\? There are sgd"):
        verify_model("mlp", TINY["mlp"] | {"optimizer": "adamax"})


@pytest.mark.campaign
def test_a_large_model_gives_memory_back_between_its_phases_and_is_judged_the_same(monkeypatch, result):
    between = []
    monkeypatch.setattr(module, "LARGE", 100)
    monkeypatch.setattr(module, "give_back", lambda: between.append(stages[-1]))
    stages = []
    large = verify_model("gru", TINY["gru"], dtype="float32", progress=lambda *stage: stages.append(stage))
    assert large.verdict is result.verdict
    assert [row.path for row in large.gradients.rows] == [row.path for row in result.gradients.rows]
    # Once before each phase but the first, and after each of JAX's steps, one of which is traced.
    assert stages[2:6] == [
        ("checking gradients", 0),
        ("comparing training", 0),
        ("comparing training", 1),
        ("comparing training", 2),
    ]
    assert len(between) >= 6


def test_nothing_is_given_back_of_a_small_model(result):
    """It takes longer than it is worth."""
    assert result.verdict is Verdict.AGREE
    assert given_back == []


def test_how_long_it_takes_is_told_before_if_it_is_long(monkeypatch):
    def built(*_, **__):
        raise BadInput("the work begins")

    monkeypatch.setattr(module, "build", built)
    said = []
    for given in ({}, {"iterations": 10}, {"preset": "gpt2-124m"}):
        with pytest.raises(BadInput, match=r"the work begins|memory"):
            verify_model("gpt", given, note=said.append)
    (told,) = [sentence for sentence in said if "steps" in sentence]
    assert told.startswith(f"gpt, 200 steps: about {expected_seconds('gpt', 200):.0f} s, and more if sizes are larger")
    assert SECONDS_A_STEP.keys() == MODELS.keys()
