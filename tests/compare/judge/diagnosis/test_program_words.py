"""Values of a program as formulas, and the lines that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import check_gradients
from compare.judge.diagnosis.program_words import LONGEST, Words, line_of, operation_of
from compare.judge.program.trace import Program

X, W = np.ones((2, 3)), np.ones((3, 3))


def words_of(function, depth=3):
    with jax.enable_x64(True):
        plan = Program(function, X, W).plan
    words = Words(plan, dict(zip(plan.inputs, ["x", "w"], strict=True)), set())
    return words.value(plan.outputs[0], depth)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w: x @ w, "x @ w"),
        (lambda x, w: 1 - jnp.tanh(x), "1 - tanh(x)"),
        (lambda x, w: (x + 2) * x**3, "(x + 2) * x**3"),
        (lambda x, w: -(x * 0.5), "-(x * 0.5)"),
        (lambda x, w: x / jnp.sum(jnp.exp(x), axis=1, keepdims=True), "x / sum(exp(x))"),
        (lambda x, w: x > 0, "x > 0"),
        (lambda x, w: x + np.arange(3.0), "x + a constant of shape (3,)"),
        (lambda x, w: x @ w + 1 > 0, "x @ w + 1 > 0"),
        (lambda x, w: x - (1 - x), "x - (1 - x)"),
        (lambda x, w: jnp.where(x > 0, x, 2.0), "where(x > 0, x, 2)"),
        (lambda x, w: jnp.flip(x, 0), "reversed(x)"),
        (lambda x, w: jax.nn.relu(x), "relu(x)"),
        (lambda x, w: jnp.max(jax.nn.sigmoid(x)), "max(sigmoid(x))"),
        (lambda x, w: jnp.exp(jnp.sin(jnp.cos(jnp.tanh(x)))), "exp(sin(cos(tanh(...))))"),
    ],
)
def test_a_formula(function, expected):
    assert words_of(function) == expected


def test_a_long_formula_is_cut():
    words = words_of(lambda x, w: jnp.logaddexp(jnp.sin(x) * jnp.cos(x), jnp.exp(x) / jnp.sqrt(x)) * jnp.tanh(x @ w), 6)
    assert len(words) <= LONGEST


def test_a_mask_holds_0_and_1_and_nothing_else():
    with jax.enable_x64(True):
        plan = Program(lambda x, w: x * w[:2] * np.eye(3)[:2], X, W).plan
    words = Words(plan, {}, set(), [np.array(v) for v in ([0.0, 1.0], [1.0, 1.0], [0.0, 0.5], 1.0, [True, False])])
    assert [words.is_mask(place) for place in range(5)] == [True, False, False, False, True]


def test_the_line_and_the_operation_stay_with_what_is_derived():
    def loss(x, w):
        return jnp.sum(jnp.tanh(x @ w))  # the line

    with jax.enable_x64(True):
        plan = Program(loss, X, W).gradient_plan
    (tanh,) = (step for step in plan if step.name == "tanh")
    derived = [step for step in plan if operation_of(step) == operation_of(tanh)]
    assert len(derived) > 2
    assert {line_of(step) for step in derived} == {line_of(tanh)}
    assert line_of(tanh).startswith("diagnosis/test_program_words.py:")


RELUS = {
    "max": (
        lambda z: np.maximum(z, 0),
        lambda z: jnp.maximum(z, 0),
        "the mask w @ x > 0 (of max(w @ x, 0)) is left out",
    ),
    "max, turned": (lambda z: np.maximum(0, z), lambda z: jnp.maximum(0, z), "the mask w @ x > 0 (of max(0, w @ x))"),
    "clip": (lambda z: np.clip(z, 0, None), lambda z: jnp.clip(z, 0, None), "the mask w @ x > 0 (of max("),
    "where": (lambda z: np.where(z > 0, z, 0), lambda z: jnp.where(z > 0, z, 0), "the mask w @ x > 0 is left out"),
    "relu": (lambda z: np.maximum(z, 0), jax.nn.relu, "the mask w @ x > 0 (of "),
    "abs": (lambda z: (np.abs(z) + z) / 2, lambda z: (jnp.abs(z) + z) / 2, "the factor sign(w @ x), the derivative of"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", RELUS)
def test_a_forgotten_mask_in_words_and_with_a_line_of_this_file(name, own):
    by_hand, by_jax, words = RELUS[name]
    random = np.random.default_rng(0)
    w, x = random.standard_normal((3, 4)), random.standard_normal((4, 9))

    def loss_and_gradients(parameters, x):
        z = parameters["w"] @ x
        return np.sum(np.sin(by_hand(z))), {"w": np.cos(by_hand(z)) @ x.T}

    def loss(parameters, x):
        return jnp.sum(jnp.sin(by_jax(parameters["w"] @ x)))

    message = check_gradients(loss_and_gradients, None if own else loss, {"w": w}, x, references=False).sentence
    assert words in message
    assert name == "abs" or message.endswith(": the gradient passes everywhere.")
    assert not any(of_jax in message for of_jax in ("eq(", "select_n", "custom_jvp", "(...)"))
    files = {word.partition(":")[0] for word in message.replace(")", " ").split() if ".py:" in word}
    assert files <= {"diagnosis/test_program_words.py"}
    assert files or name in ("clip", "where")
