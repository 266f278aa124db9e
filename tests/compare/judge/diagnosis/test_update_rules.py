"""Why a training step is wrong: each cause by its name, in the parameter or the state that has it."""

from itertools import repeat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_trajectory
from compare.judge.evaluation.steps import both_leaves

RATE, DECAY, BETAS, EPSILON = 0.1, 0.9, (0.9, 0.999), 1e-8
RANDOM = np.random.default_rng(0)
START = {"a": RANDOM.standard_normal((4, 3)), "b": RANDOM.standard_normal(3)}
TARGET = RANDOM.standard_normal((4, 3))
ZEROS = jax.tree.map(np.zeros_like, START)


def gradient(p, target):
    """Of sum((a b - target)**2) / 2, written so that NumPy and JAX can both run it."""
    residual = p["a"] * p["b"] - target
    return {"a": residual * p["b"], "b": (residual * p["a"]).sum(axis=0)}


def loss(p, target):
    return jnp.sum((p["a"] * p["b"] - target) ** 2) / 2


def descent(p, target, *, rate=RATE, gradient=gradient):
    g = gradient(p, target)
    return {name: p[name] - rate * g[name] for name in p}


def momentum(p, velocity, target, *, decay=DECAY, again=0.0):
    g = gradient(p, target)
    velocity = {name: decay * velocity[name] + g[name] for name in p}
    return {name: p[name] - RATE * (1 + again) * velocity[name] for name in p}, velocity


def adam(p, state, target, *, first=True, second=True, advance=1):
    g, t = gradient(p, target), state["t"] + advance
    one, two = BETAS
    m = {name: one * state["m"][name] + (1 - one) * g[name] for name in p}
    v = {name: two * state["v"][name] + (1 - two) * g[name] ** 2 for name in p}
    c1, c2 = (1 - one ** (t * 1.0) if first else 1.0), (1 - two ** (t * 1.0) if second else 1.0)
    moved = {name: p[name] - RATE * (m[name] / c1) / ((v[name] / c2) ** 0.5 + EPSILON) for name in p}
    return moved, {"m": m, "v": v, "t": t}


ADAM_STATE = {"m": ZEROS, "v": ZEROS, "t": np.array(0)}
jax_descent, jax_momentum, jax_adam = jax.jit(descent), jax.jit(momentum), jax.jit(adam)


def check(step, reference=jax_descent, steps=4, **options):
    return check_trajectory(step, reference, START, repeat((TARGET,), steps), **options)


def check_state(step, reference, state):
    return check(step, reference, state=state)


def test_right_steps_have_no_cause():
    for report in (
        check(descent),
        check_state(momentum, jax_momentum, ZEROS),
        check_state(adam, jax_adam, ADAM_STATE),
    ):
        assert report.verdict is Verdict.AGREE, str(report)
        assert not report.diagnoses


def only(name, wrong):
    """`wrong` for one leaf, right for the others."""
    return lambda p, target: descent(p, target) | {name: wrong(p, target)[name]}


def frozen(p, target):
    return p


def stale(p, target):
    """a's gradient is taken when b has been updated already."""
    updated = descent(p, target)
    return updated | {"a": p["a"] - RATE * gradient({"a": p["a"], "b": updated["b"]}, target)["a"]}


def one_entry(p, target):
    a = descent(p, target)["a"].copy()
    a[2, 1] += 0.01 * (a[2, 1] - p["a"][2, 1])
    return descent(p, target) | {"a": a}


def decayed(p, target):
    updated = descent(p, target)
    return updated | {"a": updated["a"] - 1e-3 * p["a"]}


@pytest.mark.parametrize(
    ("step", "leaf", "kind", "factor"),
    [
        (only("b", frozen), "b", "frozen", None),
        (stale, "a", "stale-read", None),
        (one_entry, "a", "single-entry", None),
        (decayed, "a", "weight-decay", -1e-3),
        (only("a", lambda p, target: descent(p, target, rate=2 * RATE)), "a", "factor", 2),
    ],
)
def test_causes_in_one_parameter(step, leaf, kind, factor):
    report = check(step)
    assert report.verdict is Verdict.DISAGREE
    assert (report.wrong_step, report.first_wrong) == (1, leaf)
    (diagnosis,) = report.diagnoses
    assert (diagnosis.path, diagnosis.kind) == (leaf, kind)
    assert diagnosis.factor == (None if factor is None else pytest.approx(factor, rel=1e-9))
    assert "the update rule" not in diagnosis.message


def test_what_is_read_after_it_was_written_is_named():
    assert "computed with the updated b" in check(stale).sentence


def test_the_same_factor_everywhere_is_the_update_rule():
    report = check(lambda p, target: descent(p, target, rate=1.01 * RATE))
    (diagnosis,) = report.diagnoses
    assert diagnosis.kind == "factor"
    assert diagnosis.factor == pytest.approx(1.01)
    assert "for every parameter: look at the update rule" in diagnosis.message


def test_a_wrong_update_rule_and_a_wrong_gradient_are_told_apart():
    def right_gradients(p, target):
        return np.sum((p["a"] * p["b"] - target) ** 2) / 2, gradient(p, target)

    def wrong_gradient(p, target):
        return gradient(p, target) | {"b": -gradient(p, target)["b"]}

    def with_wrong_gradients(p, target):
        return right_gradients(p, target)[0], wrong_gradient(p, target)

    report = check(only("b", frozen), loss_and_gradients=right_gradients, loss=loss)
    assert report.wrong_side is None
    assert report.gradients is not None
    assert report.gradients.verdict is Verdict.AGREE
    report = check(
        lambda p, target: descent(p, target, gradient=wrong_gradient),
        loss_and_gradients=with_wrong_gradients,
        loss=loss,
    )
    assert report.wrong_side == "manual"
    assert report.gradients is not None
    assert report.gradients.first_wrong == "b"


@pytest.mark.parametrize(
    ("step", "number", "factor"),
    [
        (lambda p, v, target: momentum(p, v, target, decay=DECAY**2), 2, None),
        (lambda p, v, target: momentum(p, v, target, decay=0.0), 2, None),
    ],
)
def test_momentum(step, number, factor):
    report = check_state(step, jax_momentum, ZEROS)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == number
    assert "momentum" in {diagnosis.kind for diagnosis in report.diagnoses}
    assert report.first_wrong in ("a", "b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first": False, "second": False}, "the bias correction of both moments is missing"),
        ({"first": False}, "the bias correction of the first moment is missing"),
        ({"second": False}, "the bias correction of the second moment is missing"),
    ],
)
def test_bias_correction(options, words):
    report = check_state(lambda p, state, target: adam(p, state, target, **options), jax_adam, ADAM_STATE)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == 1
    assert report.diagnoses[0].kind == "bias-correction"
    assert words in report.sentence


def otherwise_corrected(correct):
    """Adam whose moments are corrected by `correct(moment, beta, t)`."""

    def step(p, state, target):
        _, kept = adam(p, state, target)
        one, two = BETAS
        hats = {
            name: (correct(kept["m"][name], one, kept["t"]), correct(kept["v"][name], two, kept["t"])) for name in p
        }
        return {name: p[name] - RATE * m / (v**0.5 + EPSILON) for name, (m, v) in hats.items()}, kept

    return step


@pytest.mark.parametrize(
    ("correct", "wrong_step", "words"),
    [
        (lambda moment, beta, t: moment * (1 - beta**t), 1, "both moments are multiplied by 1 - beta**t"),
        (lambda moment, beta, t: moment / (1 - beta), 2, "divided by 1 - beta at every step"),
        (lambda moment, beta, t: moment / (1 - beta ** (t + 1)), 1, "is that of the next step, t + 1"),
    ],
)
def test_a_correction_that_is_another(correct, wrong_step, words):
    report = check_state(otherwise_corrected(correct), jax_adam, ADAM_STATE)
    assert report.wrong_step == wrong_step
    assert report.diagnoses[0].kind == "bias-correction"
    assert words in report.sentence
    sound = otherwise_corrected(lambda moment, beta, t: moment / (1 - beta ** (t * 1.0)))
    assert check_state(sound, jax_adam, ADAM_STATE).verdict is Verdict.AGREE


def other_moments(p, state, target, first=BETAS[0], share=1 - BETAS[0], second=BETAS[1]):
    """Adam with other decay rates in its moments, though not in their corrections."""
    g, (one, two), t = gradient(p, target), BETAS, state["t"] + 1
    m = {name: first * state["m"][name] + share * g[name] for name in p}
    v = {name: second * state["v"][name] + (1 - second) * g[name] ** 2 for name in p}
    moved = {
        name: p[name]
        - RATE * (m[name] / (1 - one ** (t * 1.0))) / ((v[name] / (1 - two ** (t * 1.0))) ** 0.5 + EPSILON)
        for name in p
    }
    return moved, {"m": m, "v": v, "t": t}


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"second": BETAS[0]}, "state.v.a", "0.9 is used instead of 0.999."),
        ({"share": 1.0}, "a", "the factor 0.1 is left out"),
    ],
)
def test_a_wrong_moment_is_no_wrong_bias_correction(options, path, words):
    """At the first step, a wrong moment multiplies the step as a missing bias correction would."""
    report = check_state(lambda p, state, target: other_moments(p, state, target, **options), jax_adam, ADAM_STATE)
    assert report.first_wrong is not None
    assert report.diagnoses[0].path == path
    assert words in report.diagnoses[0].message
    assert "bias-correction" not in {cause.kind for cause in report.diagnoses}


@pytest.mark.parametrize("share", [0.1, 0.1**2, 0.0316227766])
def test_a_learning_rate_is_no_bias_correction(share):
    """Each is the factor of some mistake in the corrections at the first step, and not at the second."""
    report = check_state(
        lambda p, state, target: (
            {name: p[name] + share * (moved - p[name]) for name, moved in adam(p, state, target)[0].items()},
            adam(p, state, target)[1],
        ),
        jax_adam,
        ADAM_STATE,
    )
    assert report.verdict is Verdict.DISAGREE
    assert "bias-correction" not in {cause.kind for cause in report.diagnoses}


def test_a_wrong_rate_multiplies_the_step_and_the_table_shows_its_error():
    report = check(lambda p, target: descent(p, target, rate=2 * RATE))
    assert report.sentence.startswith("DISAGREE: step 1, a: its step is 2 times what it should be.")
    assert all(row.step_error > 0 and row.drift > 0 and row.distance > 0 for row in report.rows)


def test_a_wrong_state_is_a_wrong_step_though_no_parameter_shows_it_yet():
    def forgets(p, velocity, target):
        moved, _ = momentum(p, velocity, target)
        return moved, velocity

    report = check_state(forgets, jax_momentum, ZEROS)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == 1
    assert report.first_wrong == "state.a"
    assert {diagnosis.kind for diagnosis in report.diagnoses} == {"frozen"}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_wrong_state_comes_before_the_step_that_is_made_from_it(dtype):
    """Adam's first step is of one size everywhere, and so is a wrong one: it is not clipped."""
    one, two = BETAS

    def cast(tree):
        return jax.tree.map(lambda leaf: leaf if leaf.dtype.kind == "i" else leaf.astype(dtype), tree)

    def too_much(p, state, target):
        g, (_, after) = gradient(p, target), adam(p, state, target)
        v = {name: after["v"][name] + 0.02 * (1 - two) * g[name] ** 2 for name in p}
        roots = {name: (v[name] / (1 - two ** after["t"])) ** 0.5 + EPSILON for name in p}
        moved = {name: p[name] - RATE * after["m"][name] / (1 - one ** after["t"]) / roots[name] for name in p}
        return cast((moved, after | {"v": v}))

    start, state, target = cast((START, ADAM_STATE, TARGET))
    report = check_trajectory(too_much, jax_adam, start, repeat((target,), 1), state=state)
    first = report.diagnoses[0]
    assert (first.path, first.kind, first.factor) == ("state.v.a", "factor", pytest.approx(1.02, rel=1e-4))
    assert "step 1, state.v.a: it is 1.02 times" in str(report)
    assert "clipping" not in {cause.kind for cause in report.diagnoses}


def test_a_count_that_stands_still():
    def stands_still(p, state, target):
        moved, after = adam(p, state, target)
        return moved, after | {"t": state["t"]}

    report = check_state(stands_still, jax_adam, ADAM_STATE)
    assert report.first_wrong == "state.t"
    assert report.diagnoses[0].kind == "frozen"


def test_a_wrong_rule_without_a_name_is_the_update_rule():
    def normalized(p, target):
        return {name: p[name] - RATE * np.sin(g + p[name]) for name, g in gradient(p, target).items()}

    (diagnosis,) = check(normalized).diagnoses
    assert diagnosis.kind == "update-rule"


def test_leaves_of_parameters_and_state_are_told_apart():
    assert list(both_leaves((START, {"m": ZEROS}))) == ["a", "b", "state.m.a", "state.m.b"]


def clipped(p, target, *, together=True, limit=0.5, only=("a", "b"), by_value=False):
    """Descent with gradients clipped to a norm: of all of them together, or of each of `only`."""
    g = gradient(p, target)
    whole = sum((value**2).sum() for value in g.values()) ** 0.5
    steps = {}
    for name, value in g.items():
        norm = whole if together else (value**2).sum() ** 0.5
        factor = limit / norm if together or name in only else limit / whole
        steps[name] = value.clip(-limit, limit) if by_value else factor * value
    return {name: p[name] - RATE * steps[name] for name in p}


def test_clipping_one_by_one_in_the_place_of_all_together():
    report = check(lambda p, t: clipped(p, t, together=False), jax.jit(clipped))
    (cause,) = report.diagnoses
    assert cause.kind == "clipping"
    assert "the steps of a, b are each clipped to the same norm" in cause.message


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0.6},  # all together, at another limit
        {"together": False, "only": ("a",)},  # one of them only
        {"together": False, "limit": 0.7},  # each, at another limit
        {"by_value": True},
    ],
)
def test_other_clips_are_not_clips_one_by_one(options):
    report = check(lambda p, t: clipped(p, t, **options), jax.jit(clipped))
    assert report.verdict is Verdict.DISAGREE
    assert not any("one norm each" in cause.message for cause in report.diagnoses)


def nesterov(p, velocity, target, *, decay=DECAY):
    g = gradient(p, target)
    velocity = {name: decay * velocity[name] + g[name] for name in p}
    return {name: p[name] - RATE * (g[name] + decay * velocity[name]) for name in p}, velocity


def test_momentum_is_asked_where_its_buffer_is_not_0():
    """At the first step the gradient times 1.8 is added, and no buffer seems to have anything to do with it."""

    def weighted(p, velocity, target):
        g = gradient(p, target)
        velocity = {name: DECAY * velocity[name] + g[name] for name in p}
        return {name: p[name] - RATE * (g[name] + 0.8 * velocity[name]) for name in p}, velocity

    report = check_state(weighted, jax_momentum, ZEROS)
    assert report.wrong_step == 1
    assert {cause.kind for cause in report.diagnoses} == {"momentum"}
    assert "once state." in report.diagnoses[0].message


def test_nesterovs_momentum_is_told_by_the_operand_that_it_has_instead():
    """Which is the new velocity: at the first step alone, any factor of 1.9 would do."""
    report = check_state(nesterov, jax_momentum, ZEROS)
    assert report.wrong_step == 1
    assert {cause.kind for cause in report.diagnoses} == {"wrong-operand"}
    assert "is used instead of state." in report.diagnoses[0].message


@pytest.mark.parametrize("times", [1.9, 0.5])
def test_a_learning_rate_is_no_momentum(times):
    """Nor is a step that is wrong by something else while the buffers are 0."""

    def faster(p, velocity, target):
        moved, velocity = momentum(p, velocity, target)
        return {name: p[name] + times * (moved[name] - p[name]) for name in p}, velocity

    def bent(p, velocity, target):
        moved, velocity = momentum(p, velocity, target)
        return {name: moved[name] + 1e-3 * (moved[name] - p[name]) ** 2 for name in p}, velocity

    assert {cause.kind for cause in check_state(faster, jax_momentum, ZEROS).diagnoses} == {"factor"}
    assert "momentum" not in {cause.kind for cause in check_state(bent, jax_momentum, ZEROS).diagnoses}
