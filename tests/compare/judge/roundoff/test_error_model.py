"""What rounding is in proportion to: the largest error of a correct computation, and not much more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compare.judge.program.primitives.row import Moves, Rounds
from compare.judge.program.trace import Program
from compare.judge.roundoff.error_model import MOVES, SCALES, growth, is_inexact
from compare.judge.roundoff.tolerance import DEVIATIONS

UNIT = 2.0**-24  # of float32
RANDOM = np.random.default_rng(0)
SUMS = {Rounds.TERMS, Rounds.PRODUCTS, Rounds.SQUARES}


def scale(function, *args):
    """Of the one operation in `function` that adds anything."""
    found = []

    def rule(step, inputs):
        outputs = step.run(inputs, rule)
        if step.row.rounds in SUMS:
            found.append(SCALES[step.row.rounds](step, inputs, outputs[0]).drawn(np.abs(outputs[0]), 1.0))
        return outputs

    with jax.enable_x64(True):
        Program(function, *args)(*args, rule=rule)
    (value,) = found
    return np.asarray(value)


@pytest.mark.parametrize("terms", [np.full(60_000, 0.1), np.tile([0.1, -0.1, 0.3], 20_000), RANDOM.normal(size=60_000)])
def test_a_sum_is_allowed_what_adding_one_term_after_the_other_loses(terms):
    narrow = terms.astype(np.float32)
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
LINEAR = {
    "product": lambda a: a @ B,
    "sum": lambda a: jnp.sum(a, axis=1),
    "cumulative sum": lambda a: lax.cumsum(a),
    "scatter": lambda a: jnp.zeros((5, 5), a.dtype).at[jnp.array([0, 1, 1, 3, 4, 4])].add(a),
    "convolution": lambda a: lax.conv(a[None, None], jnp.asarray(B, a.dtype)[None, None, :3], (1, 1), "VALID"),
}


@pytest.mark.parametrize("function", LINEAR)
@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_scales_neither_overflow_nor_vanish(function, factor):
    a = RANDOM.normal(size=(6, 5))
    usual, far = scale(LINEAR[function], a), scale(LINEAR[function], factor * a)
    assert (usual > 0).any()
    np.testing.assert_allclose(far, factor * usual, rtol=1e-12)


@pytest.mark.parametrize("function", LINEAR)
def test_complex_terms_are_as_large_as_their_absolute_values(function):
    a = RANDOM.normal(size=(6, 5))
    np.testing.assert_allclose(scale(LINEAR[function], 1j * a), scale(LINEAR[function], a), rtol=1e-12)


@pytest.mark.sweep
@pytest.mark.parametrize("function", LINEAR)
def test_a_scale_has_the_shape_of_the_result_and_is_no_less(function):
    a = RANDOM.normal(size=(6, 5))
    with jax.enable_x64(True):
        right = np.asarray(LINEAR[function](jnp.asarray(a)))
    assert scale(LINEAR[function], a).shape == right.shape
    assert (scale(LINEAR[function], a) >= np.abs(right) * (1 - 1e-12)).all()


def test_a_product_with_truth_values_is_as_large_as_with_numbers():
    a, chosen = RANDOM.normal(size=(6, 5)), RANDOM.random((5, 4)) < 0.5
    np.testing.assert_array_equal(scale(lambda a, b: a @ b, a, chosen), scale(lambda a, b: a @ b, a, chosen * 1.0))


def test_a_product_along_other_axes_is_scaled_along_those():
    a, b = RANDOM.normal(size=(2, 3, 4)), RANDOM.normal(size=(5, 4, 3, 2))
    both = scale(lambda a, b: jnp.einsum("bij,kjib->bk", a, b), a, b)
    right = np.einsum("bij,kjib->bk", a, b)
    norms = np.linalg.norm(a, axis=(1, 2))[:, None] * np.linalg.norm(b, axis=(1, 2)).T
    np.testing.assert_allclose(both, norms + growth(12) * np.abs(right), rtol=1e-12)


# ----------------------------------------------------------------------------------------- what moves before


def test_what_moves_before_a_product_is_its_smaller_factor():
    big, small = np.ones((6, 5)), np.full((5, 1), 3.0)
    moved = MOVES[Moves.SMALLER_FACTOR]([big, small], lambda value: np.full(value.shape, 0.5))
    assert moved[0] is big
    np.testing.assert_array_equal(moved[1], 4.5)


def test_of_a_product_with_integers_the_numbers_move():
    numbers, integers = np.ones((6, 5)), np.full((5, 1), 3)
    moved = MOVES[Moves.SMALLER_FACTOR]([numbers, integers], lambda value: np.full(value.shape, 0.5))
    np.testing.assert_array_equal(moved[0], 1.5)
    assert moved[1] is integers
    assert MOVES[Moves.SMALLER_FACTOR]([integers, integers], lambda value: 1 / 0) == [integers, integers]


def test_a_matrix_moves_in_proportion_to_its_largest_entry_and_its_indices_do_not():
    stack = np.stack([np.eye(2), 100 * np.eye(2)])
    pivots = np.arange(2)
    moved, same = MOVES[Moves.MATRICES]([stack, pivots], lambda value: np.full(value.shape, 0.01))
    np.testing.assert_allclose(moved - stack, np.stack([np.full((2, 2), 0.01), np.full((2, 2), 1.0)]), rtol=1e-12)
    assert same is pivots


def test_every_input_of_an_operation_that_nobody_knows_moves_by_its_own_size():
    key, x, n = jax.random.key(0), np.array([1.0, -2.0]), np.arange(2)
    moved = MOVES[Moves.INPUTS]([key, x, n], lambda value: np.full(value.shape, 0.5))
    assert moved[0] is key
    np.testing.assert_array_equal(moved[1], [1.5, -1.0])
    assert moved[2] is n


@pytest.mark.parametrize(
    ("dtype", "rounds"),
    [("float64", 1), ("float16", 1), ("bfloat16", 1), ("float8_e4m3fn", 1), ("complex64", 1), ("int4", 0), ("bool", 0)],
)
def test_what_rounds_is_floating_or_complex(dtype, rounds):
    assert is_inexact(np.zeros(2, jnp.dtype(dtype))) is bool(rounds)


def test_every_way_to_round_and_to_move_has_a_size():
    assert SCALES.keys() == set(Rounds) - {Rounds.EXACTLY, Rounds.WITHIN}
    assert MOVES.keys() == set(Moves) - {Moves.NOTHING}
