"""Arithmetic entry by entry is XLA's: integers and their limits, zeros of both signs, infinities and NaN too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.plan import settled
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.elementwise import ROWS
from compare.judge.program.trace import Program

SIZE = 12  # of all arrays: each size is compiled anew


def evaluated(name, *inputs, **params):
    """What the rule of a row makes of inputs, in the dtype that JAX gives the result."""
    evaluate = ROWS[name].evaluate
    assert evaluate is not None
    with np.errstate(all="ignore"):
        return evaluate(*inputs, **params)


@functools.cache
def compiled(names):
    """All these operations of JAX's in one program: each alone would be compiled alone."""
    bits, order = ("and", "or", "xor", "not"), ("eq_to", "le_to", "lt_to")
    functions = {
        name: getattr(lax, f"{name}_p").bind
        if name in order
        else getattr(lax, f"bitwise_{name}" if name in bits else name)
        for name in names
    }
    run = jax.jit(
        lambda *inputs: {name: function(*inputs) for name, function in functions.items()},
        compiler_options={"xla_backend_optimization_level": 0},  # it runs a few times only
    )

    def in_full_precision(*inputs):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, run(*inputs))

    return in_full_precision


# --------------------------------------------------------------------------------------------------- integers

BINARY = ("add", "sub", "mul", "div", "rem", "max", "min", "and", "or", "xor", "shift_left", "shift_right_logical")
BINARY += ("shift_right_arithmetic", "eq", "ne", "lt", "le", "gt", "ge")
UNARY = ("neg", "abs", "sign", "not", "population_count", "clz")
INTEGERS = [np.int8, np.uint8, np.int32, np.uint32, np.int64]


def integers(dtype):
    limits = np.iinfo(dtype)
    few = st.sampled_from([limits.min, limits.min + 1, 0, 1, 2, limits.max - 1, limits.max])
    return st.lists(few | st.integers(limits.min, limits.max) | st.integers(0, 9), min_size=SIZE, max_size=SIZE)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_xla_s(dtype):
    @settings(max_examples=25, deadline=None)
    @given(x=integers(dtype), y=integers(dtype))
    def held_to_jax(x, y):
        x, y = np.array(x, dtype), np.array(y, dtype)
        unary = UNARY if np.issubdtype(dtype, np.signedinteger) else ("not", "population_count", "clz")
        for names, inputs in ((BINARY, (x, y)), (unary, (x,))):
            for name, right in compiled(names)(*inputs).items():
                actual = settled(evaluated(name, *inputs), right.dtype)
                np.testing.assert_array_equal(actual, right, err_msg=f"{name} of {inputs}")

    held_to_jax()


def test_integers_are_divided_toward_zero():
    """And not down, as NumPy does; by 0, without an exception."""
    x, y = np.array([7, -7, 7, -7, 5], np.int32), np.array([2, 2, -2, -2, 0], np.int32)
    np.testing.assert_array_equal(evaluated("div", x, y), [3, -3, -3, 3, -1])
    np.testing.assert_array_equal(evaluated("rem", x, y), [1, -1, 1, -1, 5])


@pytest.mark.parametrize("y", [3, 1, 2])
def test_powers_of_integers(y):
    x = np.array([-3, 0, 2], np.int32)
    np.testing.assert_array_equal(evaluated("integer_pow", x, y=y), x**y)


# ---------------------------------------------------------------------------------------- numbers of every kind

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, np.inf, -np.inf, np.nan, 1e-200, 1e200, -1e200, 710.0, 36.0]
ALONE = ("neg", "exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sin", "cos", "tan", "asin", "acos", "atan")
ALONE += ("sinh", "cosh", "asinh", "acosh", "atanh", "sqrt", "rsqrt", "cbrt", "abs", "sign", "floor", "ceil", "round")
ALONE += ("is_finite", "square")
PAIRS = ("add", "sub", "mul", "div", "rem", "max", "min", "atan2", "pow", "nextafter", "eq", "ne", "lt", "le", "gt")
PAIRS += ("ge", "eq_to", "le_to", "lt_to")


def numbers():
    """None so small that XLA on a CPU makes 0 of it, which we do not."""
    floats = st.floats(-50, 50, allow_subnormal=False)
    return st.lists(st.sampled_from(SPECIAL) | floats, min_size=SIZE, max_size=SIZE).map(np.array)


@settings(max_examples=40, deadline=None)
@given(x=numbers())
def test_functions_of_one_number_are_jax_s(x):
    for name, right in compiled(ALONE)(x).items():
        params = {"rounding_method": 0} if name == "round" else {}
        actual = settled(evaluated(name, x, **params), right.dtype)
        np.testing.assert_allclose(actual, right, rtol=1e-11, atol=1e-15, err_msg=f"{name} of {x}")


@settings(max_examples=60, deadline=None)
@given(x=numbers(), y=numbers())
def test_functions_of_two_numbers_are_jax_s(x, y):
    for name, right in compiled(PAIRS)(x, y).items():
        actual = settled(evaluated(name, x, y), right.dtype)
        np.testing.assert_allclose(actual, right, rtol=1e-12, atol=1e-307, err_msg=f"{name} of {x} and {y}")


def test_the_total_order_tells_zeros_apart_and_knows_nan():
    x, y = np.array([-0.0, 0.0, np.nan, np.nan, 1.0]), np.array([0.0, -0.0, np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(evaluated("eq_to", x, y), [False, False, True, False, False])
    np.testing.assert_array_equal(evaluated("lt_to", x, y), [True, False, False, False, True])
    np.testing.assert_array_equal(evaluated("le_to", x, y), [True, False, True, False, True])


@pytest.mark.parametrize(
    ("method", "expected"), [(0, [-3, -2, -1, 0, 1, 2, 3]), (1, [-2, -2, -0, 0, 0, 2, 2])], ids=["away", "even"]
)
def test_halves_are_rounded_away_from_zero_or_to_even(method, expected):
    x = np.array([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(evaluated("round", x, rounding_method=method), expected)


def test_the_largest_number_below_a_half_is_rounded_down():
    below = np.nextafter(0.5, 0)
    for method in (0, 1):
        assert evaluated("round", np.array(below), rounding_method=method) == 0
        assert evaluated("round", np.array(2.0**52 + 1), rounding_method=method) == 2.0**52 + 1


# --------------------------------------------------------------------------------------------- fewer bits

FORMATS = [(8, 7), (5, 10), (8, 23), (11, 52), (8, 3), (5, 2), (4, 3), (11, 10)]


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(
        st.floats(width=32) | st.sampled_from([65520.0, 448.0, 480.0, 1e-5, 2.0**-14, 2.0**-15, 3e38, 0.3, 1 / 3]),
        min_size=SIZE,
        max_size=SIZE,
    ),
    number=st.integers(0, len(FORMATS) - 1),
)
def test_precision_is_reduced_as_xla_reduces_it(x, number):
    x, (exponent, mantissa) = np.array(x, np.float64), FORMATS[number]
    params = {"exponent_bits": exponent, "mantissa_bits": mantissa}
    with jax.enable_x64(True):
        right = np.asarray(lax.reduce_precision(jnp.asarray(x), **params))
    np.testing.assert_array_equal(evaluated("reduce_precision", x, **params), right)


# -------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize("cases", [1, 2, 3, 70])
def test_any_number_of_cases_is_chosen_from(cases):
    random = np.random.default_rng(cases)
    which = random.integers(0, cases, 9) if cases > 2 else random.integers(0, cases, 9).astype(bool)
    values = [random.normal(size=9) for _ in range(cases)]
    expected = [values[int(w)][i] for i, w in enumerate(which)]
    np.testing.assert_array_equal(evaluated("select_n", which, *values), expected)


def test_one_number_may_choose_among_arrays():
    values = [np.arange(3) + 10 * i for i in range(3)]
    np.testing.assert_array_equal(evaluated("select_n", np.array(2), *values), values[2])
    np.testing.assert_array_equal(evaluated("select_n", np.array(True), *values[:2]), values[1])


def test_a_clamp_whose_limits_cross_is_the_upper_one():
    low, x, high = np.full(3, 2.0), np.array([0.0, 1.5, 3.0]), np.full(3, 1.0)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(evaluated("clamp", low, x, high), lax.clamp(low, x, high))


# -------------------------------------------------------------------------------------------------- complex

CUT = ("sqrt", "log", "log1p", "exp", "expm1", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh")
CUT += ("asinh", "acosh", "atanh", "logistic", "sign", "abs", "real", "imag", "conj", "neg", "square", "rsqrt")
PARTS = st.sampled_from([0.0, 1.0, -1.0, 0.5, -3.0]) | st.floats(-3, 3).map(lambda x: round(x, 2))


@settings(max_examples=30, deadline=None)
@given(real=st.lists(PARTS, min_size=SIZE, max_size=SIZE), imaginary=st.lists(PARTS, min_size=SIZE, max_size=SIZE))
def test_functions_of_complex_numbers_are_jax_s_on_both_sides_of_their_cuts(real, imaginary):
    z = (np.array(real) + 0.0) + 1j * (np.array(imaginary) + 0.0)  # JAX knows no zeros of both signs here
    z = np.where(np.abs(z**4 - 1) * np.abs(z) < 1e-2, 0.3 + 0.7j, z)  # away from poles and branch points
    for name, right in compiled(CUT)(z).items():
        actual = settled(evaluated(name, z), right.dtype)
        np.testing.assert_allclose(actual, right, rtol=1e-9, atol=1e-12, err_msg=f"{name} of {z}")


def test_a_complex_step_through_a_choice_looks_at_the_real_part():
    z = np.array([1 + 1e-30j, -2 + 1e-30j])
    for name, derivative in (("abs", [1, -1]), ("max", [1, 0]), ("min", [0, 1])):
        continued = ROWS[name].continued
        assert continued is not None
        inputs = (z,) if name == "abs" else (z, np.zeros(2))
        np.testing.assert_allclose(np.imag(continued(*inputs)) / 1e-30, derivative)
    clamped = ROWS["clamp"].continued
    assert clamped is not None
    np.testing.assert_allclose(np.imag(clamped(np.array(-1.0), z, np.array(5.0))) / 1e-30, [1, 0])


# ---------------------------------------------------------------------------------------- inside of programs


@pytest.mark.parametrize("narrow", [jnp.bfloat16, np.float16])
def test_narrow_numbers_are_worked_on_in_float32_and_rounded_once(narrow):
    def function(x):
        y = x.astype(narrow)
        return jnp.sum(y), jax.nn.sigmoid(y), y * y + y, jnp.maximum(y, 0.5)

    x = np.random.default_rng(0).normal(size=400)
    with jax.enable_x64(True):
        actual = Program(function, x)(x)
        expected = function(jnp.asarray(x))
    for value, right in zip(actual, expected, strict=True):
        assert value.dtype == right.dtype == narrow
        unit = float(jnp.finfo(narrow).eps)
        np.testing.assert_allclose(value.astype(float), np.asarray(right, float), rtol=unit, atol=unit)


def test_every_row_here_is_in_the_table():
    assert {name: TABLE[name] for name in ROWS} == ROWS
