"""Optimizers before the judge: both sides take the same paths, and planted faults are found and named."""

import functools

import jax
import numpy as np
import pytest

import autodiff.optimizers
import autodiff.schedules
import manual.optimizers
import manual.schedules
from compare import Verdict, check_trajectory
from tests.updates import RATE, SCHEDULE, gradients_like, start

NAMES = list(manual.optimizers.OPTIMIZERS)

# ------------------------------------------------------------------ one side against the other

MAXIMUM = 20.0  # most of the gradients are longer


def all_optimizers(side, schedules):
    rate = schedules.cosine_with_warmup(RATE, **SCHEDULE)
    return {name: make(rate) for name, make in side.OPTIMIZERS.items()}


def follow(dtype, steps, faults=None):
    """The judge on updates of all optimizers at once, each with a parameter of its own. `faults` replace updates."""
    by_hand = all_optimizers(manual.optimizers, manual.schedules)
    random = np.random.default_rng(2)
    parameters = {name: {"p": random.standard_normal((3, 4)).astype(dtype)} for name in NAMES}
    updates = {name: optimizer.update for name, optimizer in by_hand.items()} | (faults or {})

    return check_trajectory(
        step_of(updates, manual.optimizers.clip_by_global_norm),
        compiled_steps(),
        parameters,
        [(g,) for g in gradients_like(parameters, steps, dtype)],
        state={name: optimizer.initialize(parameters[name]) for name, optimizer in by_hand.items()},
    )


def step_of(updates, clip):
    def step(parameters, states, gradients):
        gradients = clip(gradients, MAXIMUM)
        both = {name: updates[name](parameters[name], gradients[name], states[name]) for name in NAMES}
        return {name: p for name, (p, _) in both.items()}, {name: state for name, (_, state) in both.items()}

    return step


@functools.cache
def compiled_steps():
    by_jax = all_optimizers(autodiff.optimizers, autodiff.schedules)
    updates = {name: optimizer.update for name, optimizer in by_jax.items()}
    return jax.jit(step_of(updates, autodiff.optimizers.clip_by_global_norm))


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_sides_take_the_same_paths(dtype):
    report = follow(dtype, 30)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.steps == 30
    assert all(row.distance > 0 for row in report.rows if row.path.endswith(".p"))


# ------------------------------------------------------------------------------ planted faults


def faulty(name, rule):
    """An update with `rule(p, g, *buffers, t, rate)` in place of the right one; state and rate are right."""
    rate = manual.schedules.cosine_with_warmup(RATE, **SCHEDULE)
    right = all_optimizers(manual.optimizers, manual.schedules)[name]

    def update(parameters, gradients, state):
        _, (step, *buffers) = right.update(parameters, gradients, state)
        t = int(step)
        p = rule(parameters["p"], gradients["p"], *(buffer["p"] for buffer in buffers), t, rate(t - 1))
        return {"p": p}, type(state)(step, *buffers)

    return update


def uncorrected_adam(p, g, m, v, t, rate):
    return p - rate * m / (np.sqrt(v) + 1e-8)


def coupled_adamw(p, g, m, v, t, rate):
    """The decay inside the quotient."""
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return p - rate * (m_hat + 0.01 * p) / (np.sqrt(v_hat) + 1e-8)


def nesterov_that_does_not_look_ahead(p, g, velocity, t, rate):
    return p - rate * velocity


def rmsprop_with_epsilon_inside(p, g, s, t, rate):
    return p - rate * g / np.sqrt(s + 1e-8)


def adagrad_in_the_papers_order(p, g, s, t, rate):
    """No fault."""
    return p - rate * g / (np.sqrt(s) + 1e-10)


@pytest.mark.campaign
def test_planted_faults_are_found():
    faults = {
        "adam": uncorrected_adam,
        "adamw": coupled_adamw,
        "nesterov": nesterov_that_does_not_look_ahead,
        "rmsprop": rmsprop_with_epsilon_inside,
    }
    rules = faults | {"adagrad": adagrad_in_the_papers_order}
    report = follow(np.float64, 4, {name: faulty(name, rule) for name, rule in rules.items()})
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == 2  # the first update has rate 0
    wrong = {row.path for row in report.rows if row.verdict is Verdict.DISAGREE}
    assert wrong == {f"{name}.p" for name in faults}
    assert next(d.kind for d in report.diagnoses if d.path == "adam.p") == "bias-correction"


# of (momentum's, adagrad's, ...) buffer, or of its root: what is missing from it is so many times the decay
SHARES = {"momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 0.1, "adam": 0.1}


def judged_with(name, ours, theirs):
    """The judge on one optimizer whose options differ between the sides."""
    parameters = start()
    by_hand = manual.optimizers.OPTIMIZERS[name](RATE, **ours)
    by_jax = autodiff.optimizers.OPTIMIZERS[name](RATE, **theirs)
    return check_trajectory(
        lambda p, state, g: by_hand.update(p, g, state),
        jax.jit(lambda p, state, g: by_jax.update(p, g, state)),
        parameters,
        [(g,) for g in gradients_like(parameters, 3, np.float64)],
        state=by_hand.initialize(parameters),
        free=False,
    )


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_decay_is_named_at_once(name):
    """Also where it is divided before it reaches the parameter."""
    assert judged_with(name, {"weight_decay": 0.1}, {"weight_decay": 0.1}).verdict is Verdict.AGREE
    for ours, theirs, sign, words in ((0.0, 0.1, -1, "is missing from"), (0.1, 0.0, 1, "is added to")):
        report = judged_with(name, {"weight_decay": ours}, {"weight_decay": theirs})
        assert (report.verdict, report.wrong_step) == (Verdict.DISAGREE, 1)
        assert {d.kind for d in report.diagnoses} <= {"weight-decay", "missing-term"}
        cause = next(d for d in report.diagnoses if d.path == "layers.0.weight")
        if cause.kind == "missing-term":
            assert ours == 0
            assert "the term 0.1 * layers.0.weight is left out" in cause.message
        elif name in SHARES:
            assert cause.factor == pytest.approx(sign * 0.1 * SHARES[name])
            assert words in cause.message
        else:  # the update rule adds it to the step, times the rate
            assert cause.factor == pytest.approx(-sign * 0.1 * RATE)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("momentum", "beta"),
        ("adagrad", "epsilon"),
        ("rmsprop", "decay"),
        ("adam", "beta1"),
        ("adam", "beta2"),
    ],
)
def test_another_constant_is_no_decay(name, option):
    both = {"weight_decay": 0.1}
    report = judged_with(name, both | {option: 0.5}, both)
    assert report.verdict is Verdict.DISAGREE
    assert "weight-decay" not in {d.kind for d in report.diagnoses if not str(d.path).startswith("state.")}
