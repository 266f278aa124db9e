"""The rules that slide windows are JAX's primitives."""

from functools import partial

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.primitives.windows import RULES
from tests.compare.judge.program.primitives.against_jax import held_to_jax, numbers


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


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_rule_is_its_primitive(name, seed):
    used = set()
    for function, *arguments in CASES[name](seed):
        used |= held_to_jax(RULES, function, *arguments, signs=False)
    assert name in used
