"""What is evaluated again with a change is what the changed program gives from its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.program.evaluated import Evaluated, plainly, steps_inside
from compare.judge.program.trace import Program

X, Y = np.random.default_rng(0).uniform(0.5, 2.0, (2, 3))


def evaluated(function, *args):
    with jax.enable_x64(True):
        plan = Program(function, *args).plan
    return Evaluated(plan, [np.asarray(a) for a in args]), plan.outputs[0]


def named(there, name):
    return next(step for step in there.plan if step.name == name)


def doubled(step, inputs):
    return [2 * value for value in step.run(inputs, plainly)]


def test_without_a_change_it_is_the_value():
    there, target = evaluated(lambda x, y: jnp.sin(x) * jnp.exp(y), X, Y)
    np.testing.assert_allclose(there.values[target], np.sin(X) * np.exp(Y), rtol=1e-15)
    assert there.again({}, target) is there.values[target]
    assert there.done == 0


def test_only_what_follows_is_done_again():
    there, target = evaluated(lambda x, y: jnp.sin(x) + jnp.exp(y), X, Y)
    changed = there.again({id(named(there, "sin")): doubled}, target)
    np.testing.assert_allclose(changed, 2 * np.sin(X) + np.exp(Y), rtol=1e-15)
    assert there.done == 2  # sin and the sum
    np.testing.assert_allclose(there.values[target], np.sin(X) + np.exp(Y), rtol=1e-15)


def test_a_change_may_be_seen_by_some_only():
    there, target = evaluated(lambda x, y: (jnp.sin(x) * y) + jnp.sin(x) ** 2, X, Y)
    product = {id(step) for step in there.plan if step.name == "mul"}
    changed = there.again({id(step): doubled for step in there.plan if step.name == "sin"}, target, product)
    np.testing.assert_allclose(changed, 2 * np.sin(X) * Y + np.sin(X) ** 2, rtol=1e-15)


def test_an_operand_may_come_from_elsewhere():
    there, target = evaluated(lambda x, y: jnp.sin(x) * jnp.exp(y), X, Y)
    (product,) = (step for step in there.plan if step.name == "mul")
    (sine,) = named(there, "sin").outputs
    changed = there.again({}, target, rewired={id(product): {product.inputs.index(sine): there.plan.inputs[0]}})
    np.testing.assert_allclose(changed, X * np.exp(Y), rtol=1e-15)


@pytest.mark.parametrize("turns", [1, 4])
def test_a_step_in_a_loop_is_changed_in_every_turn(turns):
    def loop(x, y):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) + y, None), x, None, length=turns)[0]

    there, target = evaluated(loop, X, Y)
    inside = [s for step in there.plan for s in steps_inside(step)]
    (sine,) = (step for step in inside if step.name == "sin")
    expected = X
    for _ in range(turns):
        expected = 2 * np.sin(expected) + Y
    np.testing.assert_allclose(there.again({id(sine): doubled}, target), expected, rtol=1e-14)


def test_what_the_value_does_not_depend_on_changes_nothing():
    there, _ = evaluated(lambda x, y: (jnp.sin(x), jnp.exp(y)), X, Y)
    first, second = there.plan.outputs
    changes = {id(named(there, "exp")): doubled}
    np.testing.assert_array_equal(there.again(changes, first), np.sin(X))
    np.testing.assert_allclose(there.again(changes, second), 2 * np.exp(Y), rtol=1e-15)
