"""A traced program run operation by operation is the program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.program.interpreter import interpreted, largest_value, run


@jax.jit
def inner(x):
    return jnp.tanh(x) * jax.nn.softplus(x)


FUNCTIONS = [
    lambda x: jnp.sum(inner(x) ** 2),
    lambda x: jax.checkpoint(inner)(x)[0],
    lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(x) * i, 0.0),
    lambda x: {"a": jax.nn.relu(x), "b": (x, jnp.linalg.norm(x))},
    jax.grad(lambda x: jnp.sum(inner(x))),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_interpretation_changes_nothing(function):
    x = jnp.arange(1.0, 5.0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), interpreted(function, run)(x), function(x))


def test_derivative_rules_survive_interpretation():
    @jax.custom_jvp
    def f(x):
        return x

    f.defjvp(lambda primals, tangents: (primals[0], 7 * tangents[0]))
    assert jax.grad(interpreted(lambda x: f(x) * 2, run))(1.0) == 14


def test_a_rule_sees_the_operations_inside_calls():
    seen = []

    def watch(equation, inputs):
        seen.append(equation.primitive.name)
        return run(equation, inputs)

    interpreted(lambda x: inner(x).sum(), watch)(jnp.ones(3))
    assert {"tanh", "mul", "reduce_sum"} <= set(seen)
    assert "jit" not in seen


def test_largest_value_looks_inside_loops():
    def loop(x):
        return jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(jnp.outer(x, x)), 0.0)

    assert largest_value(jax.make_jaxpr(loop)(jnp.ones(7)).jaxpr) == 49
