"""Normalization: by loops, by what its gradients are orthogonal to, at the edges, in narrow types, with faults planted.

That both sides agree, at every case of the catalog, is tested in test_ops.py.
"""

import inspect
import math
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.normalization
import manual.fast
import manual.normalization
from compare import Verdict, assert_vjp_agrees, check_vjp
from manual.normalization import (
    NORMALIZATION,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
    update_running_statistics,
)
from tests.manual.normalization_inputs import ROWWISE, drawn

BY_HAND = pytest.mark.parametrize("ops", [manual.normalization, manual.fast.normalization], ids=["page", "fast"])


# Of a matrix: forward, backward, and the axis that is averaged over.
OF_MATRICES: list[tuple[Any, Any, int]] = [
    rule
    for ops in (manual.normalization, manual.fast.normalization)
    for rule in (
        (ops.layer_norm, ops.layer_norm_backward, 1),
        (ops.batch_norm, ops.batch_norm_backward, 0),
        (partial(ops.group_norm, groups=1), ops.group_norm_backward, 1),
    )
]


# ------------------------------------------------------------------------------------------ values


def normalized_by_loops(x, members, epsilon):
    """(x - mean) / sqrt(variance + epsilon), exact up to the root; members(i) are the entries averaged over for i."""
    result = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        values = [Fraction(float(x[j])) for j in members(i)]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        result[i] = float(Fraction(float(x[i])) - mean) / math.sqrt(float(variance) + epsilon)
    return result


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4), (2, 1, 3, 4)])
def test_layer_and_rms_norm_are_what_their_loops_say(shape):
    x, weight, bias = drawn(shape, shape[-1:], shape[-1:])
    x_hat = normalized_by_loops(x, lambda i: [(*i[:-1], j) for j in range(shape[-1])], 0.5)
    np.testing.assert_allclose(layer_norm(x, weight, bias, epsilon=0.5)[0], weight * x_hat + bias, rtol=1e-12)
    for i in np.ndindex(shape):
        root = math.sqrt(math.fsum(v * v for v in x[i[:-1]]) / shape[-1] + 0.5)
        np.testing.assert_allclose(rms_norm(x, weight, epsilon=0.5)[0][i], weight[i[-1]] * x[i] / root, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 2, 6)])
def test_batch_and_group_norm_are_what_their_loops_say(shape):
    x, weight, bias = drawn(shape, (6,), (6,))
    places = list(np.ndindex(shape[:-1]))
    x_hat = normalized_by_loops(x, lambda i: [(*place, i[-1]) for place in places], 0.5)
    np.testing.assert_allclose(batch_norm(x, weight, bias, epsilon=0.5)[0], weight * x_hat + bias, rtol=1e-11)
    for groups in (1, 2, 6):
        size = 6 // groups

        def members(i, size=size):
            start = i[-1] // size * size
            return [(*place, c) for place in places if place[0] == i[0] for c in range(start, start + size)]

        x_hat = normalized_by_loops(x, members, 0.5)
        y, _ = group_norm(x, weight, bias, groups=groups, epsilon=0.5)
        np.testing.assert_allclose(y, weight * x_hat + bias, rtol=1e-11)


@BY_HAND
def test_gradients_by_hand(ops):
    """x = (-1, 1) and epsilon = 3: s = 2, x_hat = (-1/2, 1/2). With g = (a, b): dx = 3 (a - b) / 16 (1, -1)."""
    x, one, zero = np.array([-1.0, 1.0]), np.ones(2), np.zeros(2)
    y, cache = ops.layer_norm(x, one, zero, epsilon=3.0)
    np.testing.assert_array_equal(y, [-0.5, 0.5])
    dx, dweight, dbias = ops.layer_norm_backward(np.array([5.0, -11.0]), cache)
    np.testing.assert_array_equal(dx, [3, -3])
    np.testing.assert_array_equal(dweight, [-2.5, -5.5])
    np.testing.assert_array_equal(dbias, [5, -11])
    column = x[:, None]
    _, cache = ops.batch_norm(column, one[:1], zero[:1], epsilon=3.0)
    dx, dweight, dbias = ops.batch_norm_backward(np.array([[5.0], [-11.0]]), cache)
    np.testing.assert_array_equal(dx, [[3], [-3]])
    assert (dweight, dbias) == (-8, -6)
    # x = (3, 4), epsilon = 12.5: r = 5, x_hat = (0.6, 0.8); g = (5, 10) has mean of g x_hat 5.5.
    y, cache = ops.rms_norm(np.array([3.0, 4.0]), one, epsilon=12.5)
    np.testing.assert_allclose(y, [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(ops.rms_norm_backward(np.array([5.0, 10.0]), cache)[0], [0.34, 1.12], rtol=1e-14)


@BY_HAND
def test_inference_by_hand(ops):
    x, mean, variance = np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([1.0, 2.0]), np.array([3.0, 15.0])
    weight, bias = np.array([2.0, 4.0]), np.array([10.0, 20.0])
    y, cache = ops.batch_norm_inference(x, weight, bias, mean, variance, epsilon=1.0)
    np.testing.assert_array_equal(y, [[10, 20], [12, 24]])
    dx, dweight, dbias = ops.batch_norm_inference_backward(np.array([[1.0, 2.0], [3.0, 4.0]]), cache)
    np.testing.assert_array_equal(dx, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(dweight, [3, 4])
    np.testing.assert_array_equal(dbias, [4, 6])


def test_the_same_thing_under_other_names():
    """Axes averaged over are all that the four differ in; so do their gradients."""
    x, weight, bias, dy = drawn((3, 2, 4, 6), (6,), (6,), (3, 2, 4, 6))

    def both(forward, backward, x, dy, **options):
        y, cache = forward(x, weight, bias, **options)
        return y, *backward(dy, cache)

    instance = both(group_norm, group_norm_backward, x, dy, groups=6)
    alone = [both(batch_norm, batch_norm_backward, x[i], dy[i]) for i in range(3)]
    rows = both(layer_norm, layer_norm_backward, x[0, 0], dy[0, 0])
    one_group = both(group_norm, group_norm_backward, x[0, 0], dy[0, 0], groups=1)
    for i in range(2):  # the value and dx
        np.testing.assert_allclose(instance[i], np.stack([each[i] for each in alone]), rtol=1e-9)
    for i in range(2, 4):  # dweight and dbias
        np.testing.assert_allclose(instance[i], sum(each[i] for each in alone), rtol=1e-9)
    for a, b in zip(rows, one_group, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def batch_statistics(x):
    return x.reshape(-1, x.shape[-1]).mean(axis=0), x.reshape(-1, x.shape[-1]).var(axis=0)


def test_inference_with_the_batch_s_own_statistics_is_batch_norm():
    x, weight, bias = drawn((3, 2, 4), (4,), (4,))
    y, _ = batch_norm_inference(x, weight, bias, *batch_statistics(x))
    np.testing.assert_allclose(y, batch_norm(x, weight, bias)[0], rtol=1e-12)


# -------------------------------------------------------------------- what a gradient is orthogonal to


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), epsilon=st.floats(1e-8, 10), scale=st.floats(1e-3, 1e3))
def test_a_shift_of_x_changes_nothing_and_its_scale_only_by_epsilon(seed, epsilon, scale):
    """sum dx = 0, and sum dx (x - mean) = epsilon / s^2 sum g x_hat. For rms_norm only the second, uncentered."""
    x, weight, dy = drawn((4, 6), (6,), (4, 6), seed=seed)
    x, bias, g = scale * x, np.zeros(6), dy * weight
    for forward, backward, axis in OF_MATRICES:
        dx = backward(dy, forward(x, weight, bias, epsilon=epsilon)[1])[0]
        c = x - x.mean(axis, keepdims=True)
        s2 = x.var(axis, keepdims=True) + epsilon
        size = np.abs(g).max() / np.sqrt(s2.min())
        np.testing.assert_allclose(dx.sum(axis), 0, atol=1e-11 * size)
        expected = epsilon / s2 * (g * c).sum(axis, keepdims=True) / np.sqrt(s2)
        np.testing.assert_allclose((dx * c).sum(axis, keepdims=True), expected, rtol=1e-8, atol=1e-10 * size * scale)
    dx = rms_norm_backward(dy, rms_norm(x, weight, epsilon=epsilon)[1])[0]
    r2 = (x**2).mean(1) + epsilon
    size = np.abs(g).max() / np.sqrt(r2.min())
    expected = epsilon / r2 * (g * x).sum(1) / np.sqrt(r2)
    np.testing.assert_allclose((dx * x).sum(1), expected, rtol=1e-8, atol=1e-10 * size * scale)


# ------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, -10000.1])
def test_without_variance_the_value_is_the_bias_and_the_gradient_is_centered(value, dtype):
    """In float32, exactly: a mean that is summed in float64 is the constant itself. Else epsilon sees its rounding."""
    x = np.full((5, 7), value, dtype)
    weight, bias, dy = drawn((7,), (7,), (5, 7), dtype=dtype)
    atol = 0 if dtype == "float32" else 1e-8
    for forward, backward, axis in OF_MATRICES:
        y, cache = forward(x, weight, bias)
        dx, dweight, dbias = backward(dy, cache)
        np.testing.assert_allclose(y, np.broadcast_to(bias, y.shape), rtol=0, atol=atol)
        np.testing.assert_allclose(dweight, np.zeros(7), rtol=0, atol=100 * atol)
        np.testing.assert_allclose(dbias, dy.sum(0), rtol=1e-5)
        g = dy * weight
        np.testing.assert_allclose(dx, (g - g.mean(axis, keepdims=True)) / np.sqrt(1e-5), rtol=1e-4, atol=1e-3)


@BY_HAND
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_example_without_space_is_normalized_to_nothing(ops, dtype):
    x, weight, bias, dy = drawn((1, 4), (4,), (4,), (1, 4), dtype=dtype)
    rules: list[tuple[Any, Any]] = [
        (ops.batch_norm, ops.batch_norm_backward),
        (partial(ops.group_norm, groups=4), ops.group_norm_backward),
    ]
    for forward, backward in rules:
        y, cache = forward(100 * x, weight, bias)
        dx, dweight, dbias = backward(dy, cache)
        np.testing.assert_array_equal(y[0], bias)
        np.testing.assert_array_equal(dx, np.zeros((1, 4)))
        np.testing.assert_array_equal(dweight, np.zeros(4))
        np.testing.assert_array_equal(dbias, dy[0])


@BY_HAND
def test_empty_batches_where_examples_do_not_depend_on_each_other(ops):
    weight, bias = drawn((4,), (4,))
    x = np.zeros((0, 3, 4))
    inference = partial(ops.batch_norm_inference, mean=weight, variance=bias**2)
    rules: list[tuple[Any, Any]] = [
        (ops.layer_norm, ops.layer_norm_backward),
        (inference, ops.batch_norm_inference_backward),
    ]
    for forward, backward in (*rules, (partial(ops.group_norm, groups=2), ops.group_norm_backward)):
        y, cache = forward(x, weight, bias)
        dx, dweight, dbias = backward(y, cache)
        assert y.shape == dx.shape == x.shape
        np.testing.assert_array_equal([dweight, dbias], np.zeros((2, 4)))
    dx, dweight = ops.rms_norm_backward(x, ops.rms_norm(x, weight)[1])
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dweight, np.zeros(4))


@BY_HAND
def test_rows_far_from_zero_in_float32(ops):
    """Added up in float32, 100 000 rows around 1e4 have a mean that is off by more than their standard deviation."""
    (x,) = drawn((100_000, 2), dtype="float32")
    x += np.float32(1e4)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-5)
    half_a_place = np.spacing(np.float32(1e4)) / 2  # the mean is a float32 number
    assert np.abs(x.mean(axis=0) - exact.mean(axis=0)).max() > 1  # so there is something to see
    np.testing.assert_allclose(ops.batch_norm(x, one, zero)[0], expected, atol=1.1 * half_a_place, rtol=1e-5)
    y, _ = ops.group_norm(x[None], one, zero, groups=2)
    np.testing.assert_allclose(y[0], expected, atol=1.1 * half_a_place, rtol=1e-5)
    mean, variance = update_running_statistics(zero, zero, x, momentum=1.0)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axis=0, ddof=1), rtol=1e-5)
    one = np.ones(100_000, np.float32)
    np.testing.assert_allclose(ops.layer_norm(x.T, one, 0 * one)[0], expected.T, atol=1.1 * half_a_place, rtol=1e-5)


@BY_HAND
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_inference", "group_norm"])
def test_an_output_gradient_whose_spatial_axes_are_exchanged_is_refused(ops, name):
    x, weight, bias = drawn((2, 3, 5, 4), (4,), (4,))
    forward, backward = ops.NORMALIZATION[name]
    options = ROWWISE[name] | ({"mean": bias, "variance": np.square(bias)} if name == "batch_norm_inference" else {})
    _, cache = forward(x, weight, bias, **options)
    with pytest.raises(ValueError, match=r"\(2, 5, 3, 4\), but the value has \(2, 3, 5, 4\)"):
        backward(np.ones((2, 5, 3, 4)), cache)


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("shape", [(500_009, 1), (2**19, 4), (4, 2**17, 4)])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm"])
def test_long_sums_in_float32_are_as_exact_as_its_entries(ops, name, shape):
    """Hundreds of thousands of numbers of one sign, whose sums in float32 would be off by some last places."""
    x = np.random.default_rng(0).random(shape, np.float32)
    one = np.ones(shape[-1])  # in float64, as the gradient is then
    forward, backward = ops.NORMALIZATION[name]
    _, cache = forward(x, one, one, **({"groups": 1} if name == "group_norm" else {}))
    exact = x.astype(np.float64).reshape(-1, shape[-1]).sum(axis=0)
    np.testing.assert_allclose(backward(x, cache)[2], exact, rtol=2e-8)


@BY_HAND
@pytest.mark.parametrize("shape", [(5, 0), (2, 5, 0)])
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_inference"])
def test_no_channels_have_no_gradients(ops, name, shape):
    x, none = np.ones(shape, np.float32), np.ones(0, np.float32)
    forward, backward = ops.NORMALIZATION[name]
    y, cache = forward(x, none, none, **({"mean": none, "variance": none} if name == "batch_norm_inference" else {}))
    assert [y.shape, *(g.shape for g in backward(x, cache))] == [shape, shape, (0,), (0,)]


@BY_HAND
def test_squares_that_float16_cannot_hold(ops):
    """x around 1000 has squares beyond 65504, the largest number of float16."""
    x, weight, bias, dy = drawn((6, 8), (8,), (8,), (6, 8), dtype="float16")
    x = 1000 * x
    for name, (forward, backward) in NORMALIZATION.items():
        inputs = (x, weight) if name == "rms_norm" else (x, weight, bias)
        options = {"groups": 2} if name == "group_norm" else {}
        if name == "batch_norm_inference":
            options = {"mean": x[0], "variance": np.full(8, 60000, "float16")}
        wide_options = {key: np.float64(v) if isinstance(v, np.ndarray) else v for key, v in options.items()}
        y, cache = forward(*inputs, **options)
        expected, wide_cache = forward(*(v.astype(np.float64) for v in inputs), **wide_options)
        np.testing.assert_allclose(y, expected, rtol=2e-3, atol=1e-3)
        for a, b in zip(backward(dy, cache), backward(dy.astype(np.float64), wide_cache), strict=True):
            assert a.dtype == np.float16
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6 if a.ndim > 1 else 4e-3)
        theirs = jax.jit(partial(autodiff.normalization.NORMALIZATION[name], **options))(*inputs)
        assert theirs.dtype == jnp.float16
        np.testing.assert_allclose(theirs, expected, rtol=2e-3, atol=1e-3)


# -------------------------------------------------------------------------------- running statistics


def test_running_statistics_by_hand_on_both_sides():
    mean, variance = np.array([1.0, 10.0]), np.array([4.0, 8.0])
    x = np.array([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 0.0], [6.0, 4.0]]])  # means 3 and 1; unbiased variances 14/3 and 4
    with jax.enable_x64(True):
        given = [jnp.asarray(v) for v in (mean, variance, x)]
        theirs = [autodiff.normalization.update_running_statistics(*given, momentum=m) for m in (0.25, 0.1)]
    for result in (update_running_statistics(mean, variance, x, momentum=0.25), theirs[0]):
        np.testing.assert_allclose(result[0], [1.5, 7.75], rtol=1e-15)
        np.testing.assert_allclose(result[1], [3 + 14 / 12, 7], rtol=1e-15)
    np.testing.assert_allclose(update_running_statistics(mean, variance, x), theirs[1], rtol=1e-14)
    np.testing.assert_array_equal(update_running_statistics(mean, variance, x, momentum=0.0), [mean, variance])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_running_statistics_of_one_example_and_their_dtype(dtype):
    """n / (n - 1) is infinite for n = 1: the biased variance, 0, stands there."""
    mean, variance, x = np.array([1, 2], dtype), np.array([4, 8], dtype), np.array([[3, 2]], dtype)
    ours = update_running_statistics(mean, variance, x, momentum=0.5)
    theirs = autodiff.normalization.update_running_statistics(*map(jnp.asarray, (mean, variance, x)), momentum=0.5)
    for result in (ours, theirs):
        np.testing.assert_array_equal(result, [[2, 2], [2, 4]])
        assert {array.dtype for array in result} == {np.dtype(dtype)}


# ------------------------------------------------------------------------------- dtypes and purity


def calls(dtype):
    x, weight, bias, mean = drawn((3, 2, 4), (4,), (4,), (4,), dtype=dtype)
    epsilon = {"epsilon": np.float64(1e-3)}
    return {
        "layer_norm": ((x, weight, bias), epsilon),
        "rms_norm": ((x, weight), epsilon),
        "batch_norm": ((x, weight, bias), epsilon),
        "batch_norm_inference": ((x, weight, bias, mean, mean**2), epsilon),
        "group_norm": ((x, weight, bias), epsilon | {"groups": 2}),
    }


@BY_HAND
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", NORMALIZATION)
def test_work_keeps_its_dtype(ops, name, dtype):
    forward, backward = ops.NORMALIZATION[name]
    inputs, options = calls(dtype)[name]
    y, cache = forward(*inputs, **options)
    assert {array.dtype for array in (y, *backward(np.ones_like(y), cache))} == {np.dtype(dtype)}


@BY_HAND
@pytest.mark.parametrize("name", NORMALIZATION)
def test_inputs_may_be_read_only_and_of_any_strides(ops, name):
    forward, backward = ops.NORMALIZATION[name]
    inputs, options = calls("float64")[name]
    y, cache = forward(*inputs, **options)
    (dy,) = drawn(y.shape)
    strided = [spread(x) for x in inputs]
    again, other = forward(*strided, **options)
    np.testing.assert_allclose(again, y, rtol=1e-12)
    first, second = backward(dy, cache), backward(spread(dy), other)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        b[...] = 0  # what is returned is the caller's own
    again[...] = 0
    for a, b in zip(first, backward(dy, other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    for x, before in zip(strided, inputs, strict=True):
        np.testing.assert_array_equal(x, before)


def spread(x):
    """Equal to x, read-only, and every second entry along each axis of a larger array, from the end."""
    large = np.empty([2 * n for n in x.shape], x.dtype)
    view = large[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    view.flags.writeable = False
    return view


# --------------------------------------------------------------------------------------- bad input

SIDES = pytest.mark.parametrize("side", [manual.normalization, manual.fast.normalization, autodiff.normalization])
OPS = {name: {"groups": 2} if name == "group_norm" else {} for name in NORMALIZATION}


def refused(side, name, *inputs, **options):
    """What the function itself says of bad input, without the hook that checks shapes in tests before it can."""
    convert = jnp.asarray if side is autodiff.normalization else np.asarray
    with pytest.raises(ValueError, match=r".") as error:
        inspect.unwrap(getattr(side, name))(*map(convert, inputs), **options)
    return str(error.value)


def inputs_of(name, x, weight):
    return (x, weight) if name == "rms_norm" else (x, *[weight] * (4 if name == "batch_norm_inference" else 2))


@SIDES
@pytest.mark.parametrize("name", NORMALIZATION)
def test_bad_input(side, name):
    x, weight = np.ones((5, 4), np.float32), np.ones(4, np.float32)
    say = partial(refused, side, name, **OPS[name])
    assert say(*inputs_of(name, x, weight[:3])) == (
        f"{name} needs weight of shape (4,), one entry per channel (the last axis of x (5, 4)), got (3,). "
        "Channels come last."
    )
    assert say(*inputs_of(name, x, weight), epsilon=-1e-5) == "epsilon must be at least 0, got -1e-05."
    assert "got nan" in say(*inputs_of(name, x, weight), epsilon=float("nan"))
    few = name in ("layer_norm", "rms_norm")
    thin, axes = (np.float32(1), 1) if few else (x[0], 2)
    assert say(*inputs_of(name, thin, weight)) == (
        f"{name} needs x of at least {axes} axes, the last for channels, got shape {np.shape(thin)}."
    )


@SIDES
def test_nothing_to_average_over(side):
    weight = np.ones(4, np.float32)
    for name, shape in (("batch_norm", (0, 4)), ("batch_norm", (3, 0, 4)), ("group_norm", (3, 0, 4))):
        said = refused(side, name, *inputs_of(name, np.ones(shape, np.float32), weight), **OPS[name])
        assert said == f"{name} has nothing to average over: x has shape {shape}. Leave empty batches out."
    for name in ("layer_norm", "rms_norm"):
        assert "x has shape (3, 0)" in refused(side, name, *inputs_of(name, np.ones((3, 0)), weight[:0]))
    name = "update_running_statistics"
    assert "has nothing to average over" in refused(side, name, weight, weight, np.ones((0, 4), np.float32))


@SIDES
def test_bad_options(side):
    x, weight = np.ones((5, 4), np.float32), np.ones(4, np.float32)
    for groups in (0, -2, 3, 8):
        said = refused(side, "group_norm", x, weight, weight, groups=groups)
        assert said == f"group_norm needs groups that divide the 4 channels of x, got {groups}."
    for momentum in (-0.1, 1.5, float("nan")):
        said = refused(side, "update_running_statistics", weight, weight, x, momentum=momentum)
        assert said == f"momentum is the share of the new batch and must be in [0, 1], got {momentum}."
    assert "needs variance of shape (4,)" in refused(side, "update_running_statistics", weight, weight[:1], x)


def test_a_negative_variance_is_refused_or_nan():
    x, one, variance = np.ones((2, 2), np.float32), np.ones(2, np.float32), np.array([1, -1], np.float32)
    said = refused(manual.normalization, "batch_norm_inference", x, one, one, one, variance)
    assert said == "batch_norm_inference needs variances of at least 0, got -1.0."
    y = autodiff.normalization.batch_norm_inference(*map(jnp.asarray, (x, one, one, one, variance)))
    np.testing.assert_array_equal(y, [[1, np.nan]] * 2)


# ------------------------------------------------------------------------------------------ faults


def textbook(mean_path, deviation_path, axis):
    """The backward pass as textbooks have it, with paths left out."""

    def backward(dy, cache):
        x, mean, s, weight = (np.asarray(field).reshape(-1, np.shape(field)[-1]) for field in cache[:4])
        x_hat, g = (x - mean) / s, dy * weight
        dx = g - mean_path * g.mean(axis, keepdims=True)
        dx = dx - deviation_path * x_hat * (g * x_hat).mean(axis, keepdims=True)
        return dx / s, (dy * x_hat).sum(0), dy.sum(0)

    return backward


FORWARDS = {"layer_norm": (layer_norm, 1), "batch_norm": (batch_norm, 0)}


@pytest.mark.parametrize("name", FORWARDS)
def test_paths_left_out_are_caught_and_the_textbook_is_not(name):
    inputs = drawn((5, 3), (3,), (3,))
    forward, axis = FORWARDS[name]
    function = getattr(autodiff.normalization, name)
    assert_vjp_agrees(forward, textbook(1, 1, axis), function, *inputs, probes=False)
    for paths in ((0, 1), (1, 0), (1, 1 + 1e-6)):
        caught(forward, textbook(*paths, axis), function, *inputs)


def test_rms_norm_without_its_projection():
    inputs = drawn((5, 3), (3,))

    def unprojected(dy, cache):
        return dy * cache.weight / cache.root, rms_norm_backward(dy, cache)[1]

    caught(rms_norm, unprojected, autodiff.normalization.rms_norm, *inputs)


def caught(forward, backward, function, *inputs):
    report = check_vjp(forward, backward, function, *inputs, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert [row.path for row in report.rows if row.verdict is not Verdict.AGREE] == ["x"]


@BY_HAND
@pytest.mark.parametrize("scale", [1e-18, 1e18])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm", "rms_norm"])
def test_numbers_of_any_magnitude(ops, name, scale):
    """1 / s^2, and s^2 too, have to be kept out of float32."""
    op, undo = ops.NORMALIZATION[name]
    options = {"groups": 2} if name == "group_norm" else {}
    x, weight, bias, dy = drawn((5, 3, 4), (4,), (4,), (5, 3, 4), dtype="float32")
    vectors = [weight] if name == "rms_norm" else [weight, bias]

    def gradients(dtype):
        given = [array.astype(dtype) for array in (scale * x, *vectors)]
        return undo(dy.astype(dtype), op(*given, epsilon=0.0, **options)[1])

    for narrow, wide in zip(gradients("float32"), gradients("float64"), strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=1e-3, atol=1e-5 * np.abs(wide).max())


def test_float16_is_rounded_once():
    x, weight = np.array([[6e4, 6e4], [1e-4, 2e-4]], np.float16), np.array([1.5, 1e-3], np.float16)
    for op in (rms_norm, manual.fast.normalization.rms_norm):
        y, _ = op(x, weight, epsilon=0.0)
        expected, _ = op(x.astype(np.float64), weight.astype(np.float64), epsilon=0.0)
        np.testing.assert_array_equal(y, expected.astype(np.float16))
    mean, x = np.array([0.123], np.float16), np.full((7, 1), 3.21, np.float16)
    for share in (0.1, 0.3, 0.77):
        (updated, _) = manual.normalization.update_running_statistics(mean, mean, x, momentum=share)
        wide = (1 - share) * float(mean[0]) + share * float(x[0, 0])
        assert updated[0] == np.float16(wide)
