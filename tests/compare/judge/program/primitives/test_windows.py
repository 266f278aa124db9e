"""The rules that slide windows are JAX's primitives."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.primitives import windows
from compare.judge.program.primitives.windows import RULES
from tests.compare.judge.program.primitives.against_jax import (
    first_output,
    held_to_jax,
    keeps_dtype,
    numbers,
    traced_equation,
)


def convolutions(seed):
    """Two spatial dimensions, all options, and what both derivatives make of them."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    feature_groups, batch_groups = [(1, 1), (groups, 1), (1, groups)][rng.integers(3)]
    batch, features, outputs = rng.integers(1, 3, 3).tolist()
    space, kernel = rng.integers(2, 6, 2), rng.integers(1, 4, 2)
    lhs_shape = np.array([batch * batch_groups, features * feature_groups, *space])
    rhs_shape = np.array([outputs * feature_groups * batch_groups, features, *kernel])
    orders = [tuple(rng.permutation(4).tolist()) for _ in range(3)]
    options = {
        "window_strides": rng.integers(1, 4, 2).tolist(),
        "padding": rng.integers(-1, 3, (2, 2)).tolist(),
        "lhs_dilation": rng.integers(1, 3, 2).tolist(),
        "rhs_dilation": rng.integers(1, 3, 2).tolist(),
        "feature_group_count": feature_groups,
        "batch_group_count": batch_groups,
        "dimension_numbers": lax.ConvDimensionNumbers(*orders),
    }
    if rng.random() < 0.5:
        options |= {"window_strides": [1, 1]}
    if rng.random() < 0.5:
        options |= {"lhs_dilation": [1, 1]}

    def ordered(shape, order):
        return shape[np.argsort(order)]

    x = numbers(seed, *ordered(lhs_shape, orders[0]))
    w = numbers(seed + 1, *ordered(rhs_shape, orders[1]))

    def convolved(x, w):
        return lax.conv_general_dilated(x, w, **options)

    with jax.enable_x64(True):
        upstream = numbers(seed + 2, *jax.eval_shape(convolved, x, w).shape)
    yield convolved, x, w
    yield lambda x, w, dy: jax.vjp(convolved, x, w)[1](dy), x, w, upstream


def pooled(reducer, identity, derivative=None):
    def cases(seed):
        rng = np.random.default_rng(seed)
        window = (int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 40])))
        options = {
            "window_dimensions": window,
            "window_strides": rng.integers(1, 4, 2).tolist(),
            "padding": [tuple(map(int, rng.integers(0, n, 2) if n < 40 else (20, 21))) for n in window],
            "window_dilation": rng.integers(1, 3, 2).tolist(),
            "base_dilation": rng.integers(1, 3, 2).tolist(),
        }
        if derivative == "vjp":
            options |= {"window_dilation": [1, 1]}
        special = reducer is not lax.add
        x = numbers(seed, 5, 6, special=special and seed % 2 == 0)
        function = partial(lax.reduce_window, init_value=identity, computation=reducer, **options)
        yield function, x
        if derivative == "jvp":
            yield lambda x, dx: jax.jvp(function, (x,), (dx,)), x, numbers(seed + 1, 5, 6)
        if derivative == "vjp":
            dy = numbers(seed + 1, *jax.eval_shape(function, x).shape)
            yield lambda x, dy: jax.vjp(function, x)[1](dy), x, dy

    return cases


def either(*both):
    return lambda seed: both[seed % 2](seed)


def accumulated(function, dtypes):
    def cases(seed):
        rng = np.random.default_rng(seed)
        x = numbers(seed, 4, 3, special=seed % 2 == 0)
        for dtype in dtypes:
            values = x if np.issubdtype(dtype, np.inexact) else np.nan_to_num(x).clip(-9, 9)
            if dtype is complex:
                values = numbers(seed, 4, 3) + 1j * numbers(seed + 1, 4, 3)
            yield partial(function, axis=int(rng.integers(2)), reverse=bool(rng.integers(2))), values.astype(dtype)

    return cases


ORDERED = (float, np.int8)

CASES = {
    "conv_general_dilated": convolutions,
    "cumlogsumexp": accumulated(lax.cumlogsumexp, [float, complex]),
    "cummax": accumulated(lax.cummax, ORDERED),
    "cummin": accumulated(lax.cummin, ORDERED),
    "cumprod": accumulated(lax.cumprod, [float, complex, np.int8]),
    "cumsum": accumulated(lax.cumsum, [float, complex, np.int8, ml_dtypes.bfloat16]),
    "reduce_window_max": pooled(lax.max, -np.inf),
    "reduce_window_min": pooled(lax.min, np.inf),
    "reduce_window_sum": pooled(lax.add, 0.0, "vjp"),
    "select_and_gather_add": either(pooled(lax.max, -np.inf, "jvp"), pooled(lax.min, np.inf, "jvp")),
    "select_and_scatter_add": either(pooled(lax.max, -np.inf, "vjp"), pooled(lax.min, np.inf, "vjp")),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_rule_is_its_primitive(name, seed):
    used = set()
    for function, *arguments in CASES[name](seed):
        used |= held_to_jax(RULES, function, *arguments, signs=False)
    assert name in used


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["conv_general_dilated", "reduce_window_sum"])
def test_the_ways_for_large_and_for_small_windows_agree(name, seed, monkeypatch):
    """Each is taken for what it is quicker for."""
    equation, inputs = traced_equation(name, grouped if name == "conv_general_dilated" else CASES[name], seed)
    expected = first_output(RULES[name], equation, inputs, float)
    monkeypatch.setattr(windows, "TAPS", 0)
    monkeypatch.setattr(windows, "ROWS", 1)
    np.testing.assert_allclose(first_output(RULES[name], equation, inputs, float), expected, rtol=1e-12, atol=1e-12)


def grouped(seed):
    """Depthwise; transposed; in one matrix."""
    groups, dilation = [(4, 1), (1, 2), (1, 1)][seed]
    yield (
        lambda x, w: lax.conv_general_dilated(
            x,
            w,
            (1, 1),
            [(1, 1), (0, 2)],
            lhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        ),
        numbers(seed, 3, 5, 4, 4),
        numbers(seed + 1, 3, 2, 4 // groups, 8),
    )


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_any_number_of_spatial_dimensions(rank):
    def convolved(x, w):
        return lax.conv_general_dilated(x, w, (1,) * rank, [(1, 0)] * rank)

    arguments = numbers(0, 2, 3, *(4, 3, 2)[:rank]), numbers(1, 2, 3, *(2, 1, 2)[:rank])
    assert held_to_jax(RULES, convolved, *arguments, signs=False) == {"conv_general_dilated"}


@pytest.mark.parametrize(("x", "w"), [((0, 4, 2), (2, 2, 3)), ((2, 4, 0), (2, 0, 3)), ((2, 2, 2), (3, 2, 3))])
def test_empty_convolutions(x, w):
    function = partial(
        lax.conv_general_dilated, window_strides=(1,), padding="VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    assert held_to_jax(RULES, function, np.ones(x), np.ones(w), signs=False) == {"conv_general_dilated"}


def test_small_integers_are_summed_as_wide_as_the_program_says():
    def convolved(x, w):
        return lax.conv(x, w, (1,), "VALID", preferred_element_type=np.int32)

    x = np.full((1, 4, 5), 100, np.int8)
    assert held_to_jax(RULES, convolved, x, x[:, :, :3], signs=False) == {"conv_general_dilated"}


@pytest.mark.parametrize("name", ["conv_general_dilated", "cumsum", "reduce_window_sum"])
def test_16_bit_numbers_are_summed_in_32_bits(name):
    """1 and 512 times 1/512; in bfloat16 each sum would be 1 again."""
    x = np.full((1, 1, 513), 1 / 512)
    x[..., 0] = 1

    functions = {
        "conv_general_dilated": lambda x: lax.conv(x, x, (1,), "VALID"),
        "cumsum": lambda x: lax.cumsum(x, 2),
        "reduce_window_sum": lambda x: lax.reduce_window(x, 0.0, lax.add, x.shape, (1, 1, 1), "VALID"),
    }
    equation, inputs = traced_equation(name, lambda seed: [(functions[name], x)])
    inputs = [x, np.ones_like(x)][: len(inputs)]
    assert first_output(RULES[name], equation, inputs, ml_dtypes.bfloat16).reshape(-1)[-1] == 2


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.longdouble, np.complex128])
@pytest.mark.parametrize("name", RULES)
def test_a_result_has_the_dtype_of_the_inputs(name, dtype):
    """Whatever was traced: programs traced in float32 are run in float64, and with complex steps."""
    equation, inputs = traced_equation(name, CASES[name], seed=1)
    keeps_dtype(RULES[name], equation, inputs, dtype)


@pytest.mark.parametrize("name", ["cumsum", "reduce_window_sum", "conv_general_dilated"])
def test_a_complex_step_is_summed_as_the_number_is(name):
    equation, inputs = traced_equation(name, CASES[name], seed=1)
    step = inputs[0] * 1e-30
    result = first_output(RULES[name], equation, [inputs[0] + 1j * step, *inputs[1:]], complex)
    of_step = first_output(RULES[name], equation, [step, *inputs[1:]], float)
    np.testing.assert_allclose(result.imag, of_step, rtol=1e-9, atol=1e-44)


def test_a_window_that_chooses_by_another_comparison_is_refused():
    equation, inputs = traced_equation("select_and_scatter_add", CASES["select_and_scatter_add"])
    with pytest.raises(NotImplementedError, match="not by gt"):
        RULES["select_and_scatter_add"](*inputs, **equation.params | {"select_prim": lax.gt_p})


def test_a_wrong_rule_is_caught():
    """A tie that goes to the last maximum, and a near-miss: sums in another order."""
    x = np.ones(6)

    def gradient(x):
        return jax.grad(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3,), (3,), "VALID").sum())(x)

    def last_of_equals(source, operand, **params):
        return RULES["select_and_scatter_add"](source[::-1], operand[::-1], **params)[::-1]

    def from_the_end(operand, **params):
        return np.add.accumulate(operand[::-1])[-1] - np.add.accumulate(operand[::-1])[::-1] + operand

    assert "select_and_scatter_add" in held_to_jax(RULES, gradient, x, signs=False)
    with pytest.raises(AssertionError, match="Not equal"):
        held_to_jax(RULES | {"select_and_scatter_add": last_of_equals}, gradient, x, signs=False)
    held_to_jax(RULES | {"cumsum": from_the_end}, lax.cumsum, numbers(0, 20), signs=False)
