"""Reductions and products of arrays of any dtype, along any axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.plan import settled
from compare.judge.program.primitives.arrays import ROWS, dot_general
from compare.judge.program.trace import Program

RANDOM = np.random.default_rng(0)


# --------------------------------------------------------------------------------------------------- products


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_product_along_any_axes_is_einsum_s(data):
    """Of letters shared by both factors, some are contracted and some stay as batches; the others are each factor's."""
    shared = data.draw(st.integers(0, 3))
    batched = data.draw(st.integers(0, shared))
    letters = "abcdefghi"
    common, mine = letters[:shared], letters[3 : 3 + data.draw(st.integers(0, 2))]
    yours = letters[6 : 6 + data.draw(st.integers(0, 2))]
    sizes = {letter: data.draw(st.integers(0, 3)) for letter in letters}
    a, b = ("".join(data.draw(st.permutations(common + own))) for own in (mine, yours))
    values = [RANDOM.normal(size=[sizes[letter] for letter in order]) for order in (a, b)]
    kept, contracted = common[:batched], common[batched:]
    places = [[tuple(order.index(letter) for letter in part) for order in (a, b)] for part in (contracted, kept)]
    actual = dot_general(*values, dimension_numbers=tuple(map(tuple, places)))
    right = np.einsum(
        f"{a},{b}->{kept}{''.join(c for c in a if c in mine)}{''.join(c for c in b if c in yours)}", *values
    )
    assert np.shape(actual) == right.shape
    np.testing.assert_allclose(actual, right, rtol=1e-12, atol=1e-13)


A, B = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(3, 5))
DTYPES = {
    "truth values": (A > 0, B > 0, None),
    "truth values and numbers": (A > 0, B, np.float64),
    "numbers and truth values": (A, B > 0, np.float64),
    "bytes that overflow": ((50 * A).astype(np.int8), (50 * B).astype(np.int8), None),
    "bytes with sums in 32 bits": ((50 * A).astype(np.int8), (50 * B).astype(np.int8), np.int32),
    "integers and numbers": ((9 * A).astype(np.int32), B, np.float64),
    "complex": (A + 1j * A**2, B - 2j, None),
    "complex and real": (A + 1j, B, np.complex128),
    "bfloat16": (A.astype(jnp.bfloat16), B.astype(jnp.bfloat16), None),
    "bfloat16 with sums in float32": (A.astype(jnp.bfloat16), B.astype(jnp.bfloat16), np.float32),
    "two floating dtypes": (A.astype(np.float32), B, np.float64),
}


@functools.cache
def products():
    pairs = {name: pair for name, (*pair, _) in DTYPES.items()}

    def product(a, b, dtype):
        return lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=dtype)

    def all_of_them(pairs):
        return {name: product(a, b, DTYPES[name][2]) for name, (a, b) in pairs.items()}

    with jax.enable_x64(True):
        right = jax.tree.map(np.asarray, jax.jit(all_of_them)(pairs))
        actual = Program(all_of_them, pairs)(pairs)
    return actual, right


@pytest.mark.parametrize("name", DTYPES)
def test_a_product_of_any_dtypes_is_jax_s(name):
    actual, right = (values[name] for values in products())
    if right.dtype == jnp.bfloat16:
        np.testing.assert_allclose(actual.astype(float), right.astype(float), rtol=2.0**-7)
    elif right.dtype == np.float32:  # which is evaluated in float64, as float32 is in a program of float64
        np.testing.assert_allclose(actual, right, rtol=1e-6, atol=1e-6)
    else:
        assert actual.dtype == right.dtype
        np.testing.assert_allclose(actual, right, rtol=1e-13, atol=1e-14)


# ------------------------------------------------------------------------------------------------- reductions


def reduced(name, x, axes):
    evaluate = ROWS[name].evaluate
    assert evaluate is not None
    return settled(evaluate(x, axes=axes), x.dtype)


KINDS = {
    "reduce_sum": "fci",
    "reduce_prod": "fci",
    "reduce_max": "fib",
    "reduce_min": "fib",
    "reduce_and": "ib",
    "reduce_or": "ib",
    "reduce_xor": "ib",
}
VALUES = {
    "f": RANDOM.normal(size=(2, 3, 4)),
    "c": RANDOM.normal(size=(2, 3, 4)) + 1j,
    "i": RANDOM.integers(-99, 99, (2, 3, 4)).astype(np.int8),
    "b": RANDOM.random((2, 3, 4)) < 0.5,
}
VALUES |= {"f with nan": np.where(VALUES["f"] > 1, np.nan, VALUES["f"]), "f of -inf": np.full((2, 3, 4), -np.inf)}
VALUES |= {
    "f empty": np.zeros((2, 0, 4)),
    "i empty": np.zeros((2, 0, 4), np.int32),
    "b empty": np.zeros((2, 0, 4), bool),
}
AXES = [(), (1,), (0, 2), (0, 1, 2)]


@functools.cache
def reductions():
    pairs = [(name, kind) for name, kinds in KINDS.items() for kind in VALUES if kind[0] in kinds]

    def all_of_them(values):
        return {(name, kind): [getattr(lax, name)(values[kind], axes) for axes in AXES] for name, kind in pairs}

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(lambda v: list(all_of_them(v).values()))(VALUES)), pairs


@pytest.mark.sweep
@pytest.mark.parametrize("name", KINDS)
def test_a_reduction_of_any_dtype_is_jax_s(name):
    """An overflow of integers wraps around; of nothing, what no number changes; NaN, if there is one."""
    for right, (reduction, kind) in zip(*reductions(), strict=True):
        if reduction == name:
            for axes, expected in zip(AXES, right, strict=True):
                actual = reduced(name, VALUES[kind], axes)
                assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_allclose(actual, expected, rtol=1e-13, err_msg=f"{name} of {kind} along {axes}")


# --------------------------------------------------------------------------------------------------- the rest


def test_a_reshape_may_name_the_order_of_its_axes():
    x = np.arange(24.0).reshape(2, 3, 4)
    evaluate = ROWS["reshape"].evaluate
    assert evaluate is not None
    np.testing.assert_array_equal(evaluate(x, new_sizes=(6, 4), dimensions=None), x.reshape(6, 4))
    ordered = evaluate(x, new_sizes=(24,), dimensions=(2, 1, 0))
    np.testing.assert_array_equal(ordered, x.ravel("F"))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    before=st.lists(st.integers(1, 3), max_size=2),
    data=st.data(),
)
def test_axes_are_spread_and_repeated(shape, before, data):
    x = RANDOM.normal(size=shape)
    broadcast, tile, stack, unstack = (ROWS[name].evaluate for name in ("broadcast_in_dim", "tile", "stack", "unstack"))
    assert broadcast is not None
    assert tile is not None
    assert stack is not None
    assert unstack is not None
    whole = tuple(before) + x.shape
    places = tuple(range(len(before), len(whole)))
    np.testing.assert_array_equal(
        broadcast(x, shape=whole, broadcast_dimensions=places, sharding=None), np.broadcast_to(x, whole)
    )
    counts = tuple(data.draw(st.integers(0, 3)) for _ in shape)
    np.testing.assert_array_equal(tile(x, reps=counts), np.tile(x, counts))
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = unstack(x, axis=axis)
    assert len(parts) == shape[axis]
    np.testing.assert_array_equal(stack(*parts, axis=axis), x)
