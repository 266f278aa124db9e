"""Pooling by nested loops, at ties, gaps and borders, in narrow types, with faults planted.

That both sides agree, at every case of the catalog, is tested in test_ops.py.
"""

import inspect
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import autodiff.pooling
import manual.fast
import manual.pooling
from compare import Verdict, assert_vjp_agrees, check_vjp
from manual.pooling import (
    POOLING,
    average_pool2d,
    average_pool2d_backward,
    global_average_pool,
    global_average_pool_backward,
    max_pool2d,
    max_pool2d_backward,
)
from tests.manual.pooling_by_hand import drawn, fast_vjp, manual_vjp


def autodiff_vjp(name, x, dy, **options):
    with jax.enable_x64(True):
        value, pullback = jax.vjp(partial(autodiff.pooling.POOLING[name], **options), x)
        return np.asarray(value), np.asarray(*pullback(jnp.asarray(dy)))


VJPS = pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp, autodiff_vjp], ids=["page", "fast", "autodiff"])
SIDES = pytest.mark.parametrize("side", [manual.pooling, manual.fast.pooling, autodiff.pooling])

# ------------------------------------------------------------------------------------ nested loops


def both(option):
    return option if isinstance(option, tuple) else (option, option)


def windows(size, window, stride=None, padding=0):
    """For each window, its place and those of its entries in x, row by row."""
    window, stride, padding = both(window), both(stride or window), both(padding)
    counts = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, window, stride, padding, strict=True)]
    for h, w in np.ndindex(*counts):
        rows = [h * stride[0] + i - padding[0] for i in range(window[0])]
        columns = [w * stride[1] + j - padding[1] for j in range(window[1])]
        yield (h, w), [(r, c) for r in rows for c in columns if 0 <= r < size[0] and 0 <= c < size[1]]


def by_loops(name, x, dy, **options):
    """Value and dx; a maximum is the first of the largest, row by row."""
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    area = math.prod(both(options["window"]))
    for n, c in np.ndindex(x.shape[0], x.shape[3]):
        for (h, w), entries in windows(x.shape[1:3], **options):
            if name == "average_pool2d":
                y[n, h, w, c] = sum(x[n, i, j, c] for i, j in entries) / area
                for i, j in entries:
                    dx[n, i, j, c] += dy[n, h, w, c] / area
            else:
                i, j = max(entries, key=lambda place: x[n, *place, c])  # max keeps the first
                y[n, h, w, c] = x[n, i, j, c]
                dx[n, i, j, c] += dy[n, h, w, c]
    return y, dx


EDGES: dict[str, Any] = {  # shape of x, how many windows there must be, options
    "overlapping": ((2, 5, 4, 2), (3, 3), {"window": (3, 2), "stride": 1}),
    "overlapping and truncated": ((1, 8, 7, 2), (3, 3), {"window": 3, "stride": 2}),
    "a stride beyond the window": ((2, 8, 7, 2), (3, 2), {"window": (2, 1), "stride": (3, 4)}),
    "padded": ((1, 5, 6, 2), (3, 5), {"window": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    "padded by half": ((1, 4, 3, 2), (3, 2), {"window": 2, "padding": 1}),
    "as large as x": ((2, 3, 4, 2), (1, 1), {"window": (3, 4)}),
    "single entries": ((2, 3, 2, 2), (3, 2), {"window": 1}),
    "an image of one entry": ((2, 1, 1, 3), (1, 1), {"window": 3, "padding": 1}),
}


@pytest.mark.sweep
@VJPS
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", ["max_pool2d", "average_pool2d"])
def test_pooling_is_what_its_loops_say(vjp, name, edge):
    shape, out, options = EDGES[edge]
    x, dy = drawn(shape, (shape[0], *out, shape[3]))
    value, dx = vjp(name, x, dy, **options)
    expected, dx_expected = by_loops(name, x, dy, **options)
    assert value.shape == dy.shape
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dx, dx_expected, rtol=1e-13, atol=1e-15)


@VJPS
def test_what_no_window_touches_has_no_gradient(vjp):
    x, dy = drawn((1, 5, 8, 1), (1, 1, 2, 1))
    touched = np.zeros((5, 8), bool)
    touched[np.ix_([0, 1, 2], [0, 1, 5, 6])] = True
    _, dx = vjp("average_pool2d", x, dy, window=(3, 2), stride=(3, 5))
    assert (dx[0, :, :, 0] != 0).tolist() == touched.tolist()
    _, dx = vjp("max_pool2d", x, dy, window=(3, 2), stride=(3, 5))
    assert np.count_nonzero(dx) == 2
    assert not dx[0, ~touched].any()


# -------------------------------------------------------------------------------------------- ties

TIES: dict[str, Any] = {
    "constant": np.ones((2, 5, 6, 2)),
    "zeros of a relu": np.maximum(drawn((2, 5, 6, 2))[0], 0),
    "small integers": np.random.default_rng(2).integers(0, 3, (2, 5, 6, 2)).astype(float),
    "zeros of both signs": np.where(drawn((2, 5, 6, 2))[0] > 0, 0.0, -0.0),
}
TIED = {"window": (3, 2), "stride": (1, 2), "padding": (1, 0)}


@VJPS
@pytest.mark.parametrize("tie", TIES)
def test_ties_go_to_the_first(vjp, tie):
    (dy,) = drawn((2, 5, 3, 2))
    value, dx = vjp("max_pool2d", TIES[tie], dy, **TIED)
    expected, dx_expected = by_loops("max_pool2d", TIES[tie], dy, **TIED)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(dx, dx_expected, rtol=1e-13, atol=1e-15)


@VJPS
def test_a_constant_window_by_hand(vjp):
    """2 x 2 windows at stride 1 on 3 x 3 ones: each gives to its upper left corner."""
    dy = np.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    _, dx = vjp("max_pool2d", np.ones((1, 3, 3, 1)), dy, window=2, stride=1)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


@VJPS
def test_the_padding_is_minus_infinity_and_takes_part_in_ties(vjp):
    x = np.array([[-5.0, -np.inf], [-np.inf, -np.inf]])[None, :, :, None]
    dy = np.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    value, dx = vjp("max_pool2d", x, dy, window=2, padding=1)
    np.testing.assert_array_equal(value[0, :, :, 0], [[-5, -np.inf], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 0], [0, 4]])  # only the last window begins inside of x


@VJPS
def test_a_nan_shows(vjp):
    x, dy = drawn((1, 3, 4, 1), (1, 2, 3, 1))
    x[0, 1, 1, 0] = np.nan
    for name in ("max_pool2d", "average_pool2d"):
        value, _ = vjp(name, x, dy, window=2, stride=1)
        assert np.isnan(value[0, :, :, 0]).tolist() == [[True, True, False], [True, True, False]]


# -------------------------------------------------------------------------------------- properties


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.integers(0, 9),
)
def test_what_gradients_add_up_to(size, window, stride, padding, seed):
    """A maximum passes all of dy on. A mean is linear: <y, dy> = <x, dx>. Of distinct numbers, loops say the rest."""
    assume(all(2 * p <= k <= n + 2 * p for n, k, p in zip(size, window, padding, strict=True)))
    options = {"window": window, "stride": stride, "padding": padding}
    (x,) = drawn((2, *size, 3), seed=seed)
    value, cache = max_pool2d(x, **options)
    (dy,) = drawn(value.shape, seed=seed + 1)
    dx = max_pool2d_backward(dy, cache)
    np.testing.assert_allclose(dx.sum((1, 2)), dy.sum((1, 2)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(value, dy), rtol=1e-12, atol=1e-12)
    value, cache = average_pool2d(x, **options)
    dx = average_pool2d_backward(dy, cache)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(value, dy), rtol=1e-12, atol=1e-12)


@VJPS
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 5, 4), (1, 2, 3, 2, 3)])
def test_global_average_pool(vjp, shape):
    x, dy = drawn(shape, (shape[0], shape[-1]))
    value, dx = vjp("global_average_pool", x, dy)
    size = math.prod(shape[1:-1])
    for n, c in np.ndindex(shape[0], shape[-1]):
        np.testing.assert_allclose(value[n, c], math.fsum(x[n, ..., c].ravel()) / size, rtol=1e-13)
        np.testing.assert_allclose(dx[n, ..., c], dy[n, c] / size, rtol=1e-13)


# ------------------------------------------------------------------------------- empty, narrow, pure

RUNS: list[Any] = [
    ("max_pool2d", {"window": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", {"window": (1, 2)}),
    ("average_pool2d", {"window": 3, "stride": 2, "padding": 1}),
    ("average_pool2d", {"window": 1}),
    ("global_average_pool", {}),
]


@pytest.mark.sweep
@VJPS
@pytest.mark.parametrize(("name", "options"), RUNS)
def test_empty_batches(vjp, name, options):
    x = np.zeros((0, 5, 4, 2))
    dy = np.zeros((0, *np.shape(POOLING[name][0](np.zeros((1, 5, 4, 2)), **options)[0])[1:]))
    value, dx = vjp(name, x, dy, **options)
    assert value.shape == dy.shape
    assert dx.shape == x.shape


@pytest.mark.sweep
@VJPS
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("name", "options"), RUNS)
def test_work_keeps_its_dtype(vjp, name, options, dtype):
    (x,) = drawn((2, 5, 4, 2), dtype=dtype)
    (dy,) = drawn(POOLING[name][0](x, **options)[0].shape, dtype=dtype, seed=2)
    narrow = vjp(name, x, dy, **options)
    wide = manual_vjp(name, x.astype(np.float64), dy.astype(np.float64), **options)
    for ours, theirs in zip(narrow, wide, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=4 * float(np.finfo(dtype).eps))


@VJPS
def test_a_mean_of_float16_does_not_overflow_where_the_sum_would(vjp):
    x = np.full((1, 8, 8, 1), 4096, np.float16)
    assert vjp("average_pool2d", x, np.ones((1, 1, 1, 1), np.float16), window=8)[0] == 4096
    assert vjp("global_average_pool", x, np.ones((1, 1), np.float16))[0] == 4096


@pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp], ids=["page", "fast"])
@pytest.mark.parametrize("side", [8, 128])
def test_the_mean_of_a_large_float32_image_keeps_its_digits(vjp, side):
    x = (100 + drawn((1, side, side, 2))[0]).astype(np.float32)
    value, _ = vjp("global_average_pool", x, np.ones((1, 2), np.float32))
    np.testing.assert_allclose(
        value, x.mean(axis=(1, 2), dtype=np.float64), rtol=1e-6
    )  # row after row in float32: 1.6e-6


@pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp], ids=["page", "fast"])
@pytest.mark.parametrize("size", [20, 80])
def test_a_mean_of_float32_does_not_overflow_where_the_sum_would(vjp, size):
    x = np.full((1, size, 1), 3e38, np.float32)
    assert vjp("global_average_pool", x, np.ones((1, 1), np.float32))[0] == np.float32(3e38)
    x[0, 3] = np.inf
    assert vjp("global_average_pool", x, np.ones((1, 1), np.float32))[0] == np.inf


@pytest.mark.parametrize("rules", [POOLING, manual.fast.pooling.POOLING], ids=["page", "fast"])
@pytest.mark.parametrize(("name", "options"), RUNS)
def test_read_only_and_scattered_memory_is_read_and_never_written(name, options, rules):
    forward, backward = rules[name]

    def scattered(shape, seed):
        (whole,) = drawn(tuple(2 * n for n in shape[::-1]), seed=seed)
        view = whole[tuple(slice(None, None, -2) for _ in shape)].T
        view.flags.writeable = False
        return view

    x = scattered((3, 5, 4, 2), 1)
    before = x.copy()
    value, cache = forward(x, **options)
    dy = scattered(value.shape, 2)
    dx, again = backward(dy, cache), backward(dy, cache)
    value_of_copy, dx_of_copy = manual_vjp(name, before, dy.copy(), rules=rules, **options)
    np.testing.assert_allclose(value, value_of_copy, rtol=1e-14)
    np.testing.assert_allclose(dx, dx_of_copy, rtol=1e-14)
    np.testing.assert_array_equal(dx, again)
    np.testing.assert_array_equal(x, before)
    assert dx.flags.writeable
    assert not any(np.shares_memory(dx, other) for other in (x, dy, value, again))
    assert not np.shares_memory(value, x)


# --------------------------------------------------------------------------------------- bad input

BAD: list[Any] = [
    ((2, 5, 4), {"window": 2}, r"x must be \(batch, height, width, channels\), got \(2, 5, 4\)\."),
    ((2, 5, 4, 1), {"window": 0}, r"window must be an integer of at least 1, got 0\."),
    ((2, 5, 4, 1), {"window": (2, 2, 2)}, r"window must be one integer or a pair \(height, width\), got \(2, 2, 2\)\."),
    ((2, 5, 4, 1), {"window": 2, "stride": (1, 0)}, r"stride must be an integer of at least 1, got 0\."),
    ((2, 5, 4, 1), {"window": 2, "padding": -1}, r"padding must be an integer of at least 0, got -1\."),
    (
        (2, 5, 4, 1),
        {"window": (4, 3), "padding": 2},
        r"padding must be at most half the window, got \(2, 2\) for \(4, 3\): pad the input instead\.",
    ),
    (
        (2, 5, 4, 1),
        {"window": (2, 7), "padding": 1},
        r"a window that spans 7 \(kernel 7, dilation 1\) does not fit into 6 \(size 4, padding 1 and 1\)\.",
    ),
]


@SIDES
def test_bad_input(side):
    """Without the check of annotations, which users do not have and which refuses wrong ranks by itself."""
    for shape, options, message in BAD:
        x = (jnp if side is autodiff.pooling else np).zeros(shape)
        for function in (side.max_pool2d, side.average_pool2d):
            with pytest.raises(ValueError, match=message):
                inspect.unwrap(function)(x, **options)


@SIDES
@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 4, 3)])
def test_nothing_to_average(side, shape):
    x = (jnp if side is autodiff.pooling else np).zeros(shape)
    message = r"x must be \(batch, \.\.\., channels\) with at least one entry between batch and channels, got \(2, "
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(side.global_average_pool)(x)


# ------------------------------------------------------------------------------------------ faults

OVERLAPPING: Any = {"window": (3, 2), "stride": (2, 1), "padding": (1, 0)}
MAX, MAX_BY_JAX = (partial(side.max_pool2d, **OVERLAPPING) for side in (manual.pooling, autodiff.pooling))
AVERAGE, AVERAGE_BY_JAX = (partial(side.average_pool2d, **OVERLAPPING) for side in (manual.pooling, autodiff.pooling))
(X,) = drawn((2, 6, 5, 2))


def to_all_maxima(dy, cache):
    x, y, _ = cache
    dx = np.zeros_like(x)
    for (h, w), entries in windows(x.shape[1:3], **OVERLAPPING):
        for i, j in entries:
            dx[:, i, j] += dy[:, h, w] * (x[:, i, j] == y[:, h, w])
    return dx


def to_the_last_maximum(dy, cache):
    x, y, _ = cache
    dx, free = np.zeros_like(x), np.ones(y.shape, bool)
    for (h, w), entries in windows(x.shape[1:3], **OVERLAPPING):
        for i, j in reversed(entries):
            here = free[:, h, w] & (x[:, i, j] == y[:, h, w])
            dx[:, i, j] += dy[:, h, w] * here
            free[:, h, w] &= ~here
    return dx


def overwriting(dy, cache):
    """An entry that is the maximum of several windows keeps the gradient of the last one only."""
    x, y, _ = cache
    dx = np.zeros_like(x)
    for (h, w), entries in windows(x.shape[1:3], **OVERLAPPING):
        for i, j in entries:
            dx[:, i, j] = np.where(x[:, i, j] == y[:, h, w], dy[:, h, w], dx[:, i, j])
    return dx


def divided_by_the_height_alone(dy, cache):
    return 2 * average_pool2d_backward(dy, cache)


def padding_not_counted(dy, cache):
    """Divided by the entries that are there, and not by the window."""
    dx = np.zeros(cache.shape)
    for (h, w), entries in windows(cache.shape[1:3], **OVERLAPPING):
        for i, j in entries:
            dx[:, i, j] += dy[:, h, w] / len(entries)
    return dx


@pytest.mark.parametrize(
    ("forward", "backward", "function", "x"),
    [
        (MAX, overwriting, MAX_BY_JAX, X),
        (AVERAGE, divided_by_the_height_alone, AVERAGE_BY_JAX, X),
        (AVERAGE, padding_not_counted, AVERAGE_BY_JAX, X),
    ],
)
def test_planted_faults_are_seen(forward, backward, function, x):
    report = check_vjp(forward, backward, function, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "x"
    assert report.wrong_side == "manual"


def test_a_mean_divided_along_one_axis_only_is_a_factor():
    report = check_vjp(AVERAGE, divided_by_the_height_alone, AVERAGE_BY_JAX, X, probes=False)
    assert report.diagnoses[0].kind == "factor"
    assert report.diagnoses[0].factor == pytest.approx(2)


@pytest.mark.parametrize("tie", ["constant", "small integers"])
def test_gradients_for_all_maxima_are_seen_at_ties(tie):
    x = np.resize(TIES[tie], X.shape)
    assert_vjp_agrees(MAX, max_pool2d_backward, MAX_BY_JAX, x, probes=False, references=False)
    report = check_vjp(MAX, to_all_maxima, MAX_BY_JAX, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "x"


def test_the_last_of_two_maxima_is_another_convention_and_no_fault():
    x = X.copy()
    x[0, 0, 0, 0] = x[0, 1, 1, 0] = 3
    report = check_vjp(MAX, to_the_last_maximum, MAX_BY_JAX, x, probes=False)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert check_vjp(MAX, to_all_maxima, MAX_BY_JAX, x, probes=False).verdict is Verdict.DISAGREE


def test_global_average_pool_without_its_division_is_seen():
    def summed(dy, cache):
        return global_average_pool_backward(dy, cache) * math.prod(cache.shape[1:-1])

    report = check_vjp(global_average_pool, summed, autodiff.pooling.global_average_pool, X, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "x"
