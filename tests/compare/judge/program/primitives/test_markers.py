"""Operations of our own: put in before JAX differentiates, there in the derivative, without effect but by a rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compare import tap
from compare.judge.program.plan import as_it_is
from compare.judge.program.primitives.markers import ROWS
from compare.judge.program.trace import Taps, traced

X = np.array([0.5, -0.2, 2.0])


@jax.custom_jvp
def by_rule(x):
    return jnp.tanh(x)


by_rule.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), (1 - jnp.tanh(primals[0]) ** 2) * tangents[0]))


def in_a_loop(function):
    return lambda x: lax.scan(lambda c, _: (function(c), None), x, length=2)[0]


def in_a_branch(function):
    return lambda x: lax.cond(x[0] > 0, function, jnp.sin, x)


def gradient_of(loss, x=X, rule=as_it_is, **taps):
    with jax.enable_x64(True):
        value, gradients = traced(loss, x).gradient(x, rule=rule, taps=Taps(**taps))
        return value, gradients["value"]


def steps_of(loss, x=X):
    with jax.enable_x64(True):
        return [step.name for step in traced(loss, x).gradient_plan]


SMOOTH = [jnp.tanh, jnp.exp, jax.nn.sigmoid, jnp.cos, lax.erf, by_rule, jax.nn.silu, jax.jit(jnp.tanh)]
WRAPS = {"alone": lambda function: function, "in a loop": in_a_loop, "in a branch": in_a_branch}


@pytest.mark.sweep
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("function", [*SMOOTH, jnp.abs, lambda x: jnp.maximum(x, 0.1), jnp.sort, lambda x: x.max() * x])
def test_markers_change_nothing(function, wrap):
    def loss(x):
        return jnp.sum(tap("h", WRAPS[wrap](function)(x)) * jnp.arange(1, 4))

    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(X))
    actual = gradient_of(loss)
    np.testing.assert_allclose(actual[0], value, rtol=1e-13)
    np.testing.assert_allclose(actual[1], gradient, rtol=1e-12)


def test_the_second_derivative_of_a_marked_function_is_right():
    """A loss may differentiate by itself, and markers stand in what it differentiates."""

    def loss(x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(tap("h", jnp.tanh(x)) ** 3 + jnp.abs(x) ** 3))(x) ** 2)

    with jax.enable_x64(True):
        right = jax.grad(loss)(jnp.asarray(X))
    np.testing.assert_allclose(gradient_of(loss)[1], right, rtol=1e-11)


# ------------------------------------------------------------------------------------------------- bending


def bending(by):
    def rule(step, inputs):
        if step.name == "bend":
            return [by * inputs[0]]
        return step.run(inputs, rule)

    return rule


@pytest.mark.sweep
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("function", SMOOTH)
def test_a_bend_moves_the_derivative_of_a_smooth_function_and_not_its_value(function, wrap):
    def loss(x):
        return jnp.sum(WRAPS[wrap](function)(x))

    still, bent = gradient_of(loss), gradient_of(loss, rule=bending(0.25))
    assert bent[0] == still[0]
    if wrap != "in a loop":  # the function's own derivative and a quarter; of silu, that of its factor and its own
        moved = bent[1] - still[1]
        assert (moved > 0.2).any()
        if function is not jax.nn.silu:
            np.testing.assert_allclose(moved, 0.25, rtol=1e-12)
    else:  # (f' + b)(f' + b) where f'f' was
        with jax.enable_x64(True):
            once = jax.vmap(jax.grad(lambda x: jnp.squeeze(function(x[None]))))
            first, second = map(np.asarray, (once(jnp.asarray(X)), once(function(jnp.asarray(X)))))
        if function is not jax.nn.silu:
            np.testing.assert_allclose(bent[1], (first + 0.25) * (second + 0.25), rtol=1e-12)
        assert (bent[1] != still[1]).all()


def test_a_bend_knows_the_function_and_its_inputs():
    seen = []

    def rule(step, inputs):
        if step.name == "bend":
            seen.append((step.params["equation"].primitive.name, step.params["place"], inputs[1]))
        return step.run(inputs, rule)

    gradient_of(lambda x: jnp.sum(jnp.tanh(x) + 2 * by_rule(x)), rule=rule)
    assert sorted(name for name, *_ in seen) == ["custom_jvp_call", "tanh"]
    for _, place, value in seen:
        assert place == 0
        np.testing.assert_array_equal(value, X)


def test_what_is_linear_has_no_bend():
    assert "bend" not in steps_of(lambda x: jnp.sum(3 * x + x[::-1]) * 2)


def test_a_bend_of_a_function_of_no_parameter_is_not_there():
    assert "bend" not in steps_of(lambda x: jnp.sum(x * jnp.tanh(jnp.arange(3.0))))


# ------------------------------------------------------------------------------------------------- nudging


def nudging(by):
    def rule(step, inputs):
        return [inputs[0] + by] if step.name == "nudged" else step.run(inputs, rule)

    return rule


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (jnp.abs, np.sign),
        (lambda x: jnp.maximum(x, 0), lambda x: x > 0),
        (lambda x: jnp.where(x > 0, 3 * x, x), lambda x: 1 + 2.0 * (x > 0)),
        (jax.nn.relu, lambda x: x > 0),
        (lambda x: jnp.clip(x, -1, 0), lambda x: (x > -1) & (x < 0)),
        (lambda x: lax.scan(lambda c, _: (jnp.abs(c), None), x, length=1)[0], np.sign),
    ],
)
@pytest.mark.parametrize("by", [1e-7, -1e-7])
def test_a_nudge_moves_a_nonsmooth_function_off_its_point_for_value_and_derivative_alike(function, derivative, by):
    x = np.array([0.0, 0.5, -0.25])
    value, gradient = gradient_of(lambda x: jnp.sum(function(x)), x, nudging(by))
    np.testing.assert_allclose(gradient, derivative(x + by))
    np.testing.assert_allclose(value, np.sum(np.asarray(function(jnp.asarray(x)))), atol=1e-5)


def test_a_nudge_parts_what_is_tied():
    tied = np.array([1.0, 3.0, 3.0])

    def first(step, inputs):
        if step.name == "nudged":
            return [inputs[0] + 1e-7 * (np.arange(inputs[0].size) == 1).reshape(inputs[0].shape)]
        return step.run(inputs, first)

    for function, right in ((jnp.max, [0, 1, 0]), (lambda x: jnp.sort(x)[2], [0, 1, 0])):
        np.testing.assert_array_equal(gradient_of(function, tied, first)[1], right)
    np.testing.assert_array_equal(gradient_of(jnp.max, tied)[1], [0, 0.5, 0.5])


def test_the_largest_input_is_nudged_and_each_by_a_number_of_its_own():
    numbers = []

    def watch(step, inputs):
        if step.name == "nudged":
            numbers.append((step.params["number"], np.shape(inputs[0])))
        return step.run(inputs, watch)

    gradient_of(lambda x: jnp.sum(jnp.abs(lax.max(x, jnp.broadcast_to(x[0], (3,))))) + jnp.max(x[:2]), rule=watch)
    assert len({number for number, _ in numbers}) == len(numbers) == 3


def test_integers_are_not_nudged():
    assert "nudged" not in steps_of(lambda x: jnp.sum(x * (jnp.arange(3) > 1)))


# ---------------------------------------------------------------------------------- what arrives at a mark


def test_what_arrives_comes_in_one_piece_however_often_the_value_is_used():
    def loss(x):
        h = tap("h", jnp.sin(x))
        return jnp.sum(h * 2) + jnp.sum(h**2) + h[0]

    taps = Taps()
    with jax.enable_x64(True):
        traced(loss, X).gradient(X, taps=taps)
    np.testing.assert_allclose(taps.gradients["h"], 2 + 2 * np.sin(X) + [1, 0, 0], rtol=1e-14)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_the_gradient_of_a_constant_has_its_shape(shape):
    def loss(x):
        return jnp.sum(tap("c", jnp.ones(shape)) * jnp.sum(x))

    taps = Taps()
    with jax.enable_x64(True):
        traced(loss, X).gradient(X, taps=taps)
    np.testing.assert_allclose(taps.gradients["c"], np.full(shape, X.sum()), rtol=1e-14)


def test_a_value_that_leads_nowhere_has_no_gradient():
    def loss(x):
        tap("unused", jnp.sin(x))
        return jnp.sum(x)

    taps = Taps()
    with jax.enable_x64(True):
        traced(loss, X).gradient(X, taps=taps)
    assert not np.any(taps.gradients.get("unused", 0))
    np.testing.assert_array_equal(taps.values["unused"], np.sin(X))


@pytest.mark.parametrize("name", ROWS)
def test_a_marker_is_the_identity_and_a_bend_is_nothing(name):
    evaluate = ROWS[name].evaluate
    assert evaluate is not None
    result = evaluate(X, 3.0, name="h")
    np.testing.assert_array_equal(result, 0 * X if name == "bend" else X)
