"""What rounding is in proportion to: the largest error of a correct computation, and not much more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compare.judge.program.interpreter import interpreted, run
from compare.judge.roundoff.error_model import EXACT, INPUTS, SCALES, ULPS, growth
from compare.judge.roundoff.tolerance import DEVIATIONS

UNIT = 2.0**-24  # of float32
RANDOM = np.random.default_rng(0)


def scale(function, *args):
    """Of the one operation in `function` that has a scale of its own."""
    found = []

    def rule(equation, inputs):
        outputs = run(equation, inputs)
        if equation.primitive.name in SCALES:
            found.append(SCALES[equation.primitive.name](equation, inputs, outputs[0]))
        return outputs

    interpreted(function, rule)(*map(jnp.asarray, args))
    (value,) = found
    return np.asarray(value)


@pytest.mark.parametrize("terms", [np.full(60_000, 0.1), np.tile([0.1, -0.1, 0.3], 20_000), RANDOM.normal(size=60_000)])
def test_a_sum_is_allowed_what_adding_one_term_after_the_other_loses(terms):
    narrow = terms.astype(np.float32)
    with jax.enable_x64(True):
        wide = narrow.astype(np.float64)
        allowed = DEVIATIONS * UNIT * scale(jnp.sum, wide)
    one_by_one = np.add.accumulate(narrow)[-1]
    assert abs(one_by_one - wide.sum()) < allowed
    assert allowed <= 2 * UNIT * len(terms) * max(abs(wide.sum()), np.linalg.norm(wide))


def test_few_terms_err_by_chance():
    assert growth(100) == 10
    assert growth(1) == 1
    assert growth(25_600) == 10 * 160


B = RANDOM.normal(size=(5, 4))
LINEAR = [
    lambda a: a @ B,
    lambda a: jnp.sum(a, axis=1),
    lambda a: lax.cumsum(a),
    lambda a: jnp.zeros((5, 5)).at[jnp.array([0, 1, 1, 3, 4, 4])].add(a),
    lambda a: lax.conv(a[None, None], jnp.asarray(B)[None, None, :3], (1, 1), "VALID"),
]


@pytest.mark.parametrize("function", LINEAR)
@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_scales_neither_overflow_nor_vanish(function, factor):
    with jax.enable_x64(True):
        a = RANDOM.normal(size=(6, 5))
        usual, far = scale(function, a), scale(function, factor * a)
    assert (usual > 0).any()
    np.testing.assert_allclose(far, factor * usual, rtol=1e-12)


def test_what_moves_before_a_product_is_its_smaller_factor():
    big, small = np.ones((6, 5)), np.full((5, 1), 3.0)
    moved = INPUTS["dot_general"]([big, small], lambda value: 0.5 * jnp.ones_like(value))
    assert moved[0] is big
    np.testing.assert_array_equal(moved[1], 4.5)


def test_a_matrix_moves_in_proportion_to_its_largest_entry_and_its_indices_do_not():
    stack = np.stack([np.eye(2), 100 * np.eye(2)])
    pivots = np.arange(2)
    moved, same = INPUTS["lu"]([stack, pivots], lambda value: jnp.full(value.shape, 0.01))
    np.testing.assert_allclose(moved - stack, np.stack([np.full((2, 2), 0.01), np.full((2, 2), 1.0)]), rtol=1e-5)
    assert same is pivots


@pytest.mark.parametrize("name", sorted(INPUTS.keys() - {"dot_general"}))
def test_linear_algebra_is_known_by_the_names_that_jax_has(name):
    primitives = {getattr(value, "name", "") for value in vars(lax.linalg).values()} | {"custom_linear_solve"}
    assert name in primitives


def test_no_operation_is_in_two_minds():
    assert not EXACT & (SCALES.keys() | ULPS.keys() | INPUTS.keys())
