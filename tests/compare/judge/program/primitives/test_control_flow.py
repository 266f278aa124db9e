"""Loops, branches, derivatives by hand and linear solves are done step by step, and a rule reaches all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.primitives.control_flow import ROWS
from compare.judge.program.trace import Program, traced

V = np.array([0.3, -1.1, 0.7])
X = np.random.default_rng(0).normal(size=(4, 3))


def scanned(v, x):
    return lax.scan(lambda c, row: (jnp.sin(c + row), c * row), v, x)


def without_items(v, x):
    return lax.scan(lambda c, _: (c * x[0], None), v, length=3)[0]


def without_turns(v, x):
    return lax.scan(lambda c, row: (c + row, c), v, x[:0])


def with_integers(v, x):
    def turn(state, row):
        i, best = state
        return (i + 1, jnp.where(row[0] > x[best, 0], i, best)), i % 2 == 0

    return lax.scan(turn, (0, 0), x)


def nested_loops(v, x):
    def outer(c, row):
        inner = lax.scan(lambda d, e: (d * jnp.cos(e), d), jnp.sum(c), row)
        return c + inner[0], inner[1]

    return lax.scan(outer, v, x, reverse=True, unroll=2)


def at_most(v, x):
    """As many turns as the values ask for: nobody knows before."""
    return lax.while_loop(
        lambda s: jnp.sum(s[1] ** 2) > 0.1, lambda s: (s[0] + 1, s[1] * jax.nn.sigmoid(x[0, 0])), (0, v)
    )


def many_at_most(v, x):
    return jax.vmap(lambda a: lax.while_loop(lambda s: s > 0.1, lambda s: s * 0.7, jnp.abs(a)))(v)


def branching(v, x):
    big = lax.cond(v[0] > 0, lambda: jnp.sin(v), lambda: v * x[0])
    return big, lax.switch(jnp.int32(7), [jnp.sin, jnp.cos, jnp.tan], v), lax.switch(-3, [jnp.sin, jnp.cos], v)


def many_branches(v, x):
    return jax.vmap(lambda a: lax.cond(a > 0, jnp.sin, jnp.cos, a))(v)


def mapped(v, x):
    return lax.map(lambda row: jnp.dot(row, v), x), lax.associative_scan(jnp.multiply, x)


@jax.custom_jvp
def steep(x):
    return jnp.sin(x)


steep.defjvp(lambda primals, tangents: (steep(primals[0]), 7 * tangents[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def clipped(limit, x):
    return x * 2


clipped.defvjp(lambda limit, x: (x * 2, None), lambda limit, _, g: (jnp.clip(g, -limit, limit),))


def by_rules(v, x):
    return (steep(v), clipped(0.5, v)), lax.scan(lambda c, row: (steep(c) * row, clipped(1.0, c)), v, x)


def solved(v, x):
    matrix = x[:3] + 4 * jnp.eye(3, dtype=x.dtype)
    multiply = lambda u: matrix @ u  # noqa: E731
    solve = lambda f, b: lax.fori_loop(0, 60, lambda i, u: u + 0.2 * (b - f(u)), jnp.zeros_like(b))  # noqa: E731
    return lax.custom_linear_solve(multiply, v, solve, transpose_solve=solve), jnp.linalg.solve(matrix, v)


def again(v, x):
    return jax.checkpoint(lambda v: jnp.sum(jnp.sin(x @ jnp.cos(v)) ** 2))(v), jax.jit(jax.jit(jnp.tanh))(v)


DIFFERENTIABLE = [scanned, without_items, without_turns, nested_loops, branching, many_branches, mapped, by_rules]
DIFFERENTIABLE += [solved, again]
FUNCTIONS = [*DIFFERENTIABLE, with_integers, at_most, many_at_most]


def as_loss(function):
    return lambda v, x: sum(jnp.sum(value * jnp.cos(value.size + 1.0)) for value in jax.tree.leaves(function(v, x)))


@functools.cache
def compiled():
    def everything(v, x):
        gradients = [jax.grad(as_loss(function))(v, x) for function in DIFFERENTIABLE]
        return [function(v, x) for function in FUNCTIONS], gradients

    return jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def programs(dtype):
    args = V.astype(dtype), X.astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        values = [Program(function, *args) for function in FUNCTIONS]
        return values, [traced(as_loss(function), *args).gradient for function in DIFFERENTIABLE]


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_programs_inside_are_done_as_jax_does_them(dtype):
    @settings(max_examples=5, deadline=None)
    @given(seed=st.integers(0, 2**20))
    def held_to_jax(seed):
        random = np.random.default_rng(seed)
        v, x = (random.normal(size=shape).astype(np.float32).astype(dtype) for shape in (3, (4, 3)))
        values, gradients = programs(dtype)
        with jax.enable_x64(True):
            right, right_gradients = compiled()(v.astype(float), x.astype(float))
        for function, program, expected in zip(FUNCTIONS, values, right, strict=True):
            for actual, leaf in zip(jax.tree.leaves(program(v, x)), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(actual, leaf, rtol=1e-6, atol=1e-6, err_msg=function.__name__)
                if dtype == "float64":
                    np.testing.assert_allclose(actual, leaf, rtol=1e-11, atol=1e-12, err_msg=function.__name__)
        for function, gradient, expected in zip(DIFFERENTIABLE, gradients, right_gradients, strict=True):
            tolerance = 1e-10 if dtype == "float64" else 1e-5
            actual = gradient(v, x)[1]["value"]
            assert actual.dtype == np.float64
            np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=function.__name__)

    held_to_jax()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_operation_with_programs_inside_is_none_of_its_own(function):
    """Its result is what the rule made of the operations inside: here nothing but zeros."""

    def nothing(step, inputs):
        outputs = step.run(inputs, nothing)
        inside = step.name in ROWS
        return outputs if inside else [np.zeros_like(value) if value.dtype.kind == "f" else value for value in outputs]

    program = programs("float64")[0][FUNCTIONS.index(function)]
    touched = [leaf for leaf in jax.tree.leaves(program(V, X, rule=nothing)) if leaf.dtype.kind == "f"]
    if function not in (without_turns, at_most, many_at_most):  # which may hand on what they got
        assert not any(value.any() for value in touched if value is not V)


def test_a_loop_that_never_turns_hands_on_what_it_got():
    with jax.enable_x64(True):
        program = Program(lambda v: lax.while_loop(lambda s: jnp.sum(s) > 1e9, jnp.sin, v), V)
        np.testing.assert_array_equal(program(V), V)


def test_a_loop_in_float32_is_counted_in_the_integers_of_its_trace():
    v = V.astype(np.float32)
    count, value = Program(at_most, v, X.astype(np.float32))(v, 0.5 + 0 * X)
    assert count.dtype == np.int32
    assert value.dtype == np.float64


def test_a_body_is_planned_once_however_often_it_turns():
    with jax.enable_x64(True):
        program = Program(scanned, V, X)
    (loop,) = [step for step in program.plan if step.name == "scan"]
    program(V, X)
    first = loop.inner("jaxpr")
    program(V, X)
    assert loop.inner("jaxpr") is first
