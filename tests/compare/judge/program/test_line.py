"""A program along a line gives what it gives at each point of the line alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.program.plan import Step
from compare.judge.program.trace import Program

RANDOM = np.random.default_rng(0)
W, B, X = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 1)), RANDOM.normal(size=(3, 5))
MASK = np.where(RANDOM.normal(size=(4, 5)) > 1, -np.inf, 0.0)
STEPS = np.array([0.0, 0.25, -0.5, 1e-3])

FUNCTIONS = {
    "a layer": lambda w, b, x: jnp.tanh(w @ x + b).sum(),
    "linear": lambda w, b, x: (2.0 * (w @ x) - b).sum(),
    "a product of two that move": lambda w, b, x: (w * b).sum() + (w @ x * w[:, :1]).sum(),
    "a mask": lambda w, b, x: jax.nn.logsumexp(w @ x + MASK, axis=1).sum() + b.sum(),
    "a choice": lambda w, b, x: jnp.where(w @ x > 0, w @ x, 0.1 * (w @ x)).sum(),
    "whole numbers": lambda w, b, x: (w.astype(int) @ jnp.ones(3, int)).sum() + jnp.floor(b).sum(),
    "narrower on purpose": lambda w, b, x: (w.astype(jnp.bfloat16).astype(float) @ x).sum() + b.sum(),
    "a loop": lambda w, b, x: jax.lax.fori_loop(0, 3, lambda _, c: jnp.sin(w @ x) + 0.5 * c, w @ x).sum() + b[0, 0],
    "a rule of its own": lambda w, b, x: jax.nn.relu(w @ x + b).sum(),
    "several branches": lambda w, b, x: jnp.concatenate([w @ x, b + w @ x])[::2, 1:].sum(),
    "parameters alone": lambda w, b, x: (w**2).sum() + b.sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_along_a_line_are_those_at_its_points(name, dtype):
    function = FUNCTIONS[name]
    point = {"w": W.astype(dtype), "b": B.astype(dtype)}
    direction = {"w": RANDOM.normal(size=W.shape), "b": RANDOM.normal(size=B.shape)}
    with jax.enable_x64(True):
        program = Program(lambda p, x: function(p["w"], p["b"], x), point, X.astype(dtype))
        along = program.along(point, direction, STEPS, X.astype(dtype))
        alone = [
            program({k: point[k].astype(np.float64) + h * direction[k] for k in point}, X.astype(dtype)) for h in STEPS
        ]
    np.testing.assert_allclose(along, alone, rtol=1e-13, atol=1e-13)


def test_the_products_of_a_first_layer_are_formed_at_both_ends_of_the_line_only(monkeypatch):
    done = []
    run = Step.run
    monkeypatch.setattr(Step, "run", lambda step, *given: done.append(step.name) or run(step, *given))
    with jax.enable_x64(True):
        Program(lambda w, v, x: (v * jnp.tanh(w @ x)).sum(), W, B, X).along(W, {"value": W}, STEPS, B, X)
    assert done.count("dot_general") == 2
    assert done.count("tanh") == len(STEPS)


def test_an_overflow_on_the_line_is_infinite_there_and_not_before():
    with jax.enable_x64(True):
        values = Program(lambda w, x: jnp.exp(w @ x).sum(), W, X).along(W, {"value": 1e4 * W}, [0.0, 1.0], X)
    assert np.isfinite(values[0])
    assert np.isposinf(values[1])
