"""What JAX makes of a loss: equations matched by their numbers, and operations counted."""

import jax
import jax.numpy as jnp
import numpy as np

from compare.lesson.backward_mode import backward_mode, letters, operations


def test_every_step_is_found_in_the_program_that_jax_makes(found):
    matched = [equation.step for equation in found.backward_mode.gradient if equation.step]
    # A2 is none of them: neither the loss nor its derivative is made of it.
    names = ("Z1", "A1", "Z2", "loss", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")
    assert sorted(matched) == sorted(names)
    assert matched.index("Z1") < matched.index("loss") < matched.index("dZ2") < matched.index("dZ1")


def test_an_equation_is_matched_by_its_numbers_at_every_point():
    points = [(np.array([1.0, 2.0]),), (np.array([3.0, 1.0]),)]
    tangents = [{"right": 2 * x, "once": np.array([2.0, 4.0]), "nearly": 2 * x * (1 + 1e-6)} for (x,) in points]
    mode = backward_mode(lambda x: jnp.sum(x**2), points, tangents)
    assert [equation.step for equation in mode.gradient if equation.step] == ["right"]
    assert (mode.parameters, mode.forward_passes, mode.backward_passes) == (2, 2, 1)
    assert mode.difference == 0


def test_what_nothing_depends_on_is_neither_matched_nor_counted():
    def loss(x):
        _ = jnp.sin(x) * 3
        return jax.jit(lambda x: jnp.sum(x**2))(x)

    points = [(np.array([1.0, 2.0]),), (np.array([3.0, 1.0]),)]
    known = [{"lost": 3 * np.sin(x), "loss": np.sum(x**2)} for (x,) in points]
    mode = backward_mode(loss, points, known)
    assert [equation.step for equation in mode.loss if equation.step] == ["loss"]  # within a call
    assert [equation.text.split()[2] for equation in mode.loss if not equation.used] == ["sin", "mul"]
    assert mode.operations["loss"] == 4  # two squares, and the sum of two


def test_passes_forward_are_counted_as_they_are_run():
    """Side by side they share the exponentials; a product with its direction and a sum remain for each."""
    n = 5
    mode = backward_mode(lambda x: jnp.sum(jnp.exp(x)), [(np.arange(1.0, n + 1),)], [{}])
    assert mode.operations["loss"] == 2 * n
    assert mode.operations["forward"] == 4 * n
    assert mode.operations["all forward"] == 2 * n + n * 2 * n


def test_a_call_is_entered(found):
    calls = backward_mode(lambda x: jnp.sum(jax.jit(jnp.sin)(x)), [(np.arange(3.0),)], [{}])
    assert [equation.text.split()[2] for equation in calls.loss] == ["sin", "reduce_sum"]
    for equations in (found.backward_mode.gradient, calls.gradient):
        words = [equation.text.partition(" = ")[2].split()[0] for equation in equations]
        assert not {"jit", "pjit", "closed_call"} & set(words)
        assert all(equation.text.partition(" = ")[0].count(":") == 1 for equation in equations)


def test_operations_are_counted():
    a, b = np.ones((2, 3)), np.ones((3, 5))

    def count(function, *args):
        return operations(jax.make_jaxpr(function)(*args).jaxpr)

    assert count(lambda a, b: a @ b, a, b) == 2 * 2 * 3 * 5
    assert count(lambda a: jnp.tanh(a).T, a) == 6
    assert count(jnp.sum, a) == 6
    assert count(jax.jit(lambda a: a * a + a), a) == 12
    assert count(lambda a: jax.lax.scan(lambda c, _: (jnp.sin(c), None), a, None, length=7)[0], a) == 42
    image, kernel = np.ones((1, 8, 8, 2)), np.ones((3, 3, 2, 4))
    names = ("NHWC", "HWIO", "NHWC")
    convolve = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=names)  # noqa: E731
    assert count(convolve, image, kernel) == 2 * (8 * 8 * 4) * (3 * 3 * 2)


def test_variables_are_lettered_as_far_as_there_are_any():
    assert [letters(number) for number in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


def test_a_branch_counts_as_its_longest():
    def branch(x):
        return jax.lax.cond(x[0] > 0, lambda x: x, lambda x: jnp.sin(x) * 2, x)

    at = np.ones(3)
    alone = operations(jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(at).jaxpr)
    rest = operations(jax.make_jaxpr(lambda x: x[0] > 0)(at).jaxpr)
    assert 0 <= operations(jax.make_jaxpr(branch)(at).jaxpr) - alone - rest <= 1  # perhaps the index of the branch
