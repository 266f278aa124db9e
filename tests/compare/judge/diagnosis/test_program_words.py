"""Values of a program as formulas, and the lines that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    assert line_of(tanh).startswith("test_program_words.py:")
