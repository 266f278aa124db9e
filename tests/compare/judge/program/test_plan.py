"""A traced program evaluated step by step is the program."""

import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program import plan as planning
from compare.judge.program.plan import Plan, Widening, as_it_is, equations, inner_programs, quietly, settled
from compare.judge.program.trace import Program

X = np.arange(1.0, 5.0, dtype=np.float32)


def plan_of(function, *args, coarsest=0.0):
    return Plan(jax.make_jaxpr(function)(*args), Widening(coarsest))


def names(plan):
    return [step.name for step in plan]


@jax.jit
def inner(x):
    return jnp.tanh(x) * jax.nn.softplus(x)


@jax.jit
def nested(x):
    return inner(inner(x)) + jax.checkpoint(inner)(x)


FUNCTIONS = [
    lambda x: jnp.sum(inner(x) ** 2),
    lambda x: jax.checkpoint(inner)(x)[0],
    lambda x: lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(x) * i, 0.0),
    lambda x: {"a": jax.nn.relu(x), "b": (x, jnp.linalg.norm(x))},
    lambda x: (x, 2.5, np.ones(3, np.float32)),  # an input, a literal and a constant are results
    jax.grad(lambda x: jnp.sum(inner(x))),
    jax.grad(lambda x: jnp.sum(nested(x))),
    jax.hessian(lambda x: jnp.sum(inner(x))),
]


@pytest.mark.sweep
@pytest.mark.parametrize("function", FUNCTIONS)
def test_evaluation_changes_nothing(function):
    expected = jax.tree.leaves(jax.jit(function)(X))
    actual = plan_of(function, X)([X], as_it_is)
    assert [np.asarray(value).dtype for value in actual] == [np.asarray(value).dtype for value in expected]
    for value, right in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------ its steps


def test_calls_are_entered():
    steps = names(plan_of(nested, X))
    assert steps.count("tanh") == 3
    assert not {"jit", "remat2", "checkpoint"} & set(steps)


def test_a_rule_sees_the_operations_inside_calls_loops_and_branches():
    def function(x):
        x = lax.fori_loop(0, 2, lambda i, c: jnp.sin(inner(c)), x)
        x = lax.while_loop(lambda c: jnp.sum(c) > 1e3, jnp.cos, x)
        return lax.cond(x[0] > 0, jnp.exp, lambda x: x, jnp.abs(x))

    seen = []

    def watch(step, inputs):
        seen.append(step.name)
        return step.run(inputs, watch)

    plan_of(function, X)([X], watch)
    assert seen.count("sin") == seen.count("tanh") == 2
    assert {"gt", "exp"} <= set(seen)
    assert "cos" not in seen  # the loop ends before its first turn


def test_a_rule_may_change_what_it_likes():
    def doubled(step, inputs):
        outputs = step.run(inputs, doubled)
        return [2 * value for value in outputs] if step.name == "sin" else outputs

    (value,) = plan_of(lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.sin(c), x), X)([X], doubled)
    np.testing.assert_allclose(value, 2 * np.sin(2 * np.sin(X)), rtol=1e-6)


def test_what_nothing_uses_is_left_out():
    def function(x):
        jnp.linalg.svd(x[None] * x[:, None])
        unused, used = jnp.sin(x), jnp.cos(x)
        del unused
        return used

    assert names(plan_of(function, X)) == ["cos"]


def test_what_is_done_for_its_effect_stays():
    seen = []

    def function(x):
        jax.debug.callback(lambda value: seen.append(float(value)), x[0])
        return jnp.cos(x)

    plan = plan_of(function, X)
    assert "debug_callback" in names(plan)
    plan([X], as_it_is)
    jax.effects_barrier()
    assert seen == [1.0]


def test_values_are_given_up_after_their_last_use():
    alive, counts = [], []

    def watch(step, inputs):
        outputs = step.run(inputs, watch)
        alive.extend(weakref.ref(value) for value in outputs)
        del inputs
        counts.append(sum(reference() is not None for reference in alive))
        return outputs

    def chain(x):
        for _ in range(20):
            x = jnp.sin(x)
        return x

    plan_of(chain, X)([X], watch)
    assert len(counts) == 20
    assert max(counts) <= 2


def test_equations_enter_calls_and_not_loops():
    closed = jax.make_jaxpr(lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c), nested(x)))(X)
    found = [equation.primitive.name for equation in equations(closed.jaxpr)]
    assert found.count("tanh") == 3
    assert "sin" not in found
    loop = next(equation for equation in equations(closed.jaxpr) if equation.primitive.name in ("scan", "while"))
    assert "sin" in {equation.primitive.name for jaxpr in inner_programs(loop) for equation in jaxpr.eqns}


def test_the_largest_value_may_be_in_a_loop():
    def loop(x):
        return lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(jnp.outer(x, x)), 0.0)

    assert plan_of(loop, np.ones(7, np.float32)).largest_value() == 49


def test_overflow_and_nothing_by_nothing_are_results_and_no_warnings():
    plan = plan_of(lambda x: (jnp.exp(1e4 * x), x / (x - x)), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large, nothing = quietly(plan, [X], as_it_is)
        assert np.isinf(large).all()
        assert np.isinf(nothing).all()
    with pytest.warns(RuntimeWarning):
        plan([X], as_it_is)


# ------------------------------------------------------------------------------------------------- its dtypes


def test_a_plan_wider_than_its_trace_computes_wider():
    plan = plan_of(lambda x: (jnp.sin(x), x.astype(jnp.bfloat16), jnp.argmax(x), x > 2), X, coarsest=2.0**-23)
    sine, narrow, index, larger = plan([X], as_it_is)
    np.testing.assert_array_equal(sine, np.sin(X.astype(np.float64)))
    assert [str(value.dtype) for value in (sine, narrow, index, larger)] == ["float64", "bfloat16", "int32", "bool"]


@pytest.mark.parametrize(
    ("coarsest", "dtype", "wide"),
    [
        (0.0, np.float32, np.float32),
        (2.0**-23, np.float32, np.float64),
        (2.0**-23, np.complex64, np.complex128),
        (2.0**-23, jnp.bfloat16, jnp.bfloat16),
        (2.0**-7, jnp.bfloat16, np.float64),
        (2.0**-7, np.float16, np.float64),  # as fine as bfloat16, and finer
        (2.0**-52, np.float32, np.float32),
        (1.0, np.int32, np.int32),
        (1.0, np.bool_, np.bool_),
    ],
)
def test_what_is_as_fine_as_the_coarsest_is_widened(coarsest, dtype, wide):
    assert Widening(coarsest).dtype(np.dtype(dtype)) == wide


def test_random_keys_are_no_numbers():
    key = jax.random.key(3)
    assert Widening(1.0).dtype(key.dtype) == key.dtype
    (value,) = plan_of(lambda key: jax.random.uniform(jax.random.split(key)[0], (4,)), key)([key], as_it_is)
    np.testing.assert_array_equal(value, jax.random.uniform(jax.random.split(key)[0], (4,)))


def test_inputs_are_brought_into_the_dtypes_of_the_plan_unless_they_are_to_stay():
    plan = plan_of(lambda x: x * 2, X)
    wide = 1 / (1 + X.astype(np.float64))
    assert plan([wide], as_it_is)[0].dtype == np.float32
    assert plan([wide.tolist()], as_it_is)[0].dtype == np.float32
    seen = []
    plan([1j * wide], lambda step, inputs: seen.append(inputs[0]) or step.run(inputs, as_it_is), as_given=True)
    assert seen[0].dtype == np.complex128


NARROW = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64]


@settings(max_examples=150, deadline=None)
@given(
    value=st.one_of(st.floats(width=32), st.sampled_from([2.0**63, -(2.0**63), 2.0**64, 127.5, -128.5, 255.9])),
    dtype=st.sampled_from(NARROW),
    narrow=st.booleans(),
)
def test_a_number_becomes_the_integer_that_jax_makes_of_it(value, dtype, narrow):
    number = np.asarray(value, jnp.bfloat16 if narrow else np.float64)
    with jax.enable_x64(True):
        expected = np.asarray(jnp.asarray(number).astype(dtype))
    actual = settled(number, dtype)
    assert actual.dtype == expected.dtype
    assert actual == expected


def test_other_conversions():
    assert settled(np.array(2 - 3j), np.float64) == 2
    assert settled(np.array(True), np.float64) == 1
    np.testing.assert_array_equal(settled(np.array([0.0, np.nan, -0.5]), bool), [False, True, True])
    np.testing.assert_array_equal(settled(np.array([300, -1]), np.uint8), [44, 255])  # integers wrap around
    same = np.ones(3)
    assert settled(same, np.float64) is same


def alive_at_most(plan):
    """The largest number of entries that the values of a plan have together, inputs and constants apart."""
    sizes, alive, most = {}, 0, 0
    for step in plan:
        for place, variable in zip(step.outputs, step.equation.outvars, strict=True):
            sizes[place] = int(np.prod(variable.aval.shape))
            alive += sizes[place]
        most = max(most, alive)
        alive -= sum(sizes.get(place, 0) for place in step.last)
    return most


def momenta_first(parameters, momenta, gradient):
    """As an optimizer is written: all moments, then all updates, of which a few entries are looked at."""
    scaled = [gradient * p for p in parameters]
    momenta = [0.9 * m + 0.1 * g for m, g in zip(momenta, scaled, strict=True)]
    updated = [p - 0.01 * m for p, m in zip(parameters, momenta, strict=True)]
    return [leaf.reshape(-1)[:3] for leaf in (*updated, *momenta)]


def test_steps_stand_where_they_are_needed_so_that_few_values_are_alive():
    leaves = [np.full((50, 20), float(i)) for i in range(8)]
    program = Program(momenta_first, leaves, leaves, 2.0)
    assert alive_at_most(program.plan) <= 5 * 1000
    for ours, right in zip(program(leaves, leaves, 2.0), momenta_first(leaves, leaves, 2.0), strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=25))
def test_every_step_stands_after_what_it_needs_whatever_the_program(shape):
    def function(x):
        values, results = [x], []
        for a, b, is_result in shape:
            values.append(values[a % len(values)] * 0.5 + values[b % len(values)])
            results += [values[-1]] if is_result else []
        return [*results, values[-1]]

    program = Program(function, 1.5)
    known = {*program.plan.inputs, *(i for i, value in enumerate(program.plan.values) if value is not None)}
    for step in program.plan:
        assert set(step.inputs) <= known
        known |= set(step.outputs)
    assert [float(value) for value in program(1.5)] == pytest.approx(function(1.5), rel=1e-6)


def test_a_product_that_is_only_transposed_is_formed_in_the_order_of_the_result():
    A, B = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    turned = plan_of(lambda a, b: (a @ b).T, A, B)
    assert names(turned) == ["dot_general"]
    (value,) = turned([A, B], as_it_is)
    assert np.array_equal(value, (A @ B).T)
    assert value.flags.c_contiguous


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: ((a @ b).T, a @ b),
        lambda a, b: (lambda product: (product.T, product.sum()))(a @ b),
        lambda a, b: jnp.transpose(jnp.einsum("kij,kjl->kil", a[None], b[None]), (0, 2, 1)),
        lambda a, b: jnp.transpose(jnp.tensordot(a[None], b[None], ((2,), (1,))), (2, 3, 0, 1)),
        lambda a, b: jnp.transpose(jnp.tensordot(a[None], b[None], ((2,), (1,))), (3, 2, 1, 0)),
    ],
)
def test_any_other_product_keeps_its_value(function):
    A, B = np.random.default_rng(0).normal(size=(2, 2, 2)).astype(np.float32)
    for value, right in zip(plan_of(function, A, B)([A, B], as_it_is), jax.tree.leaves(function(A, B)), strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-5)


# ------------------------------------------------------------------------------------------ memory used again


CONSTANT = np.linspace(-1, 1, 12).reshape(3, 4)


def views(x):
    """Values that are seen under other names when their last use comes: none of them may be overwritten."""
    y = x * 3.0
    turned, row, z = y.T, y[0], jnp.tanh(y)
    kept = y + 1.0  # the last use of y, but not of its memory
    return turned @ z, row + kept, z


REUSING = [
    lambda x: jnp.exp(x * 2.0 + CONSTANT) - (x * x + 1.0) / 2.0,
    lambda x: (lambda y: (y + y) * y)(x * 2.0),
    lambda x: (lambda y: (y, y + 1.0))(x * 2.0),
    views,
    lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c * 2.0 + x) * c - 1.0, x * 0.5),
    lambda x: (x @ x.T + 1.0) * 2.0,
    jax.grad(lambda x: jnp.sum(jnp.tanh(x @ x.T * 0.1 + 1.0) * jax.nn.softplus(x @ x.T))),
    lambda x: (jnp.ones((3, 4)) * 2.0 + x[:, :1] * 3.0) * x,
]


@pytest.mark.parametrize("function", REUSING)
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_memory_that_nothing_needs_any_more_is_used_again_and_no_other(function, given, monkeypatch):
    monkeypatch.setattr(planning, "LARGE", 2)
    x, before = CONSTANT.astype(given), CONSTANT.copy()
    with jax.enable_x64(given is np.float64):
        closed = jax.make_jaxpr(function)(x)
    plan = Plan(closed, Widening(1e-6))

    def afresh(step, inputs):
        return step.run(inputs, afresh)

    for _ in range(2):
        for value, right in zip(plan([x], as_it_is), plan([x], afresh), strict=True):
            assert np.array_equal(value, right)
    assert np.array_equal(x, before.astype(given))
    assert np.array_equal(CONSTANT, before)


def test_a_chain_of_operations_needs_the_memory_of_its_first(monkeypatch):
    monkeypatch.setattr(planning, "LARGE", 2)
    with jax.enable_x64(True):
        plan = plan_of(lambda x: jnp.exp(x * 2.0 + 1.0) / 3.0, CONSTANT)
    assert [step.spare for step in plan] == [None, 0, 0, 0]
