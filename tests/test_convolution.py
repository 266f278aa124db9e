"""Convolutions by nested loops, by their adjoints, at the edges of every option, in narrow types, with faults planted.

That both sides agree, at every case of the catalog, is tested in test_ops.py.
"""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import autodiff.convolution
import manual.convolution
from compare import Verdict, assert_vjp_agrees, check_vjp
from manual import _correlation, _threads
from manual.convolution import (
    CONVOLUTION,
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
)

SIDES = pytest.mark.parametrize("side", [manual.convolution, autodiff.convolution])


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def value_of(side, name, *inputs, **options):
    """The value alone, by either side, as a NumPy array of the dtype of what is given."""
    if side is manual.convolution:
        return getattr(side, name)(*inputs, **options)[0]
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        return np.asarray(getattr(side, name)(*arrays, **options))


# ------------------------------------------------------------------------------------ nested loops


def both(option):
    return option if isinstance(option, tuple) else (option, option)


def connections(size, weight_shape, windows, stride=1, padding=0, dilation=1, groups=1):
    """Every product of a convolution: (input's place, weight's place, output's place), all without the batch.

    `padding` is what comes before; `windows` says how many outputs there are.
    """
    kh, kw, depth, outputs = weight_shape
    stride, padding, dilation = both(stride), both(padding), both(dilation)
    for h, w, i, j, c, o in np.ndindex(*windows, kh, kw, depth, outputs):
        row, column = h * stride[0] + i * dilation[0] - padding[0], w * stride[1] + j * dilation[1] - padding[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            group = o // (outputs // groups)
            yield (row, column, group * depth + c), (i, j, c, o), (h, w, o)


def by_loops(x, weight, dy, **options):
    """y without bias, dx and dweight."""
    y, dx, dweight = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(weight.shape)
    for n in range(len(x)):
        for source, tap, target in connections(x.shape[1:3], weight.shape, dy.shape[1:3], **options):
            y[n][target] += x[n][source] * weight[tap]
            dx[n][source] += dy[n][target] * weight[tap]
            dweight[tap] += dy[n][target] * x[n][source]
    return y, dx, dweight


# Shapes of x and weight, how many windows there must be, options, and for "same" what comes before.
EDGES: dict[str, Any] = {
    "a stride beyond the kernel": ((2, 8, 7, 2), (2, 1, 2, 3), (3, 3), {"stride": 3}, 0),
    "truncated windows": ((1, 8, 7, 2), (3, 2, 2, 3), (3, 2), {"stride": (2, 3)}, 0),
    "an even kernel, same": ((2, 5, 4, 1), (4, 2, 1, 2), (5, 4), {"padding": "same"}, (1, 0)),
    "same at a stride": ((1, 5, 6, 2), (4, 3, 2, 2), (3, 3), {"padding": "same", "stride": 2}, (1, 0)),
    "same, dilated": ((1, 5, 4, 1), (2, 3, 1, 1), (5, 4), {"padding": "same", "dilation": (3, 2)}, (1, 2)),
    "valid": ((1, 5, 4, 1), (2, 3, 1, 1), (4, 2), {"padding": "valid"}, 0),
    "all asymmetric": (
        (2, 9, 6, 2),
        (3, 2, 2, 3),
        (4, 7),
        {"stride": (2, 1), "padding": (1, 3), "dilation": (2, 5)},
        (1, 3),
    ),
    "groups": ((2, 4, 5, 6), (2, 2, 3, 4), (3, 4), {"groups": 2}, 0),
    "groups at a stride": ((2, 5, 6, 6), (2, 3, 2, 6), (3, 3), {"groups": 3, "stride": 2, "padding": 1}, 1),
    "depthwise": ((2, 4, 5, 3), (3, 2, 1, 3), (4, 4), {"groups": 3, "padding": (1, 0)}, (1, 0)),
    "depthwise at a stride": ((2, 5, 6, 3), (2, 2, 1, 3), (3, 4), {"groups": 3, "stride": 2, "padding": 1}, 1),
    "two filters a channel": ((1, 4, 3, 3), (2, 2, 1, 6), (3, 2), {"groups": 3}, 0),
    "a kernel as large as x": ((2, 3, 4, 2), (3, 4, 2, 5), (1, 1), {}, 0),
    "an image of one entry": ((2, 1, 1, 3), (3, 3, 3, 2), (1, 1), {"padding": 1}, 1),
    "windows in the padding": ((1, 2, 3, 2), (2, 1, 2, 2), (7, 9), {"padding": 3}, 3),
    "many outputs of one input": ((1, 4, 5, 1), (3, 2, 1, 5), (4, 4), {"padding": (1, 0)}, (1, 0)),
    "points": ((2, 3, 2, 3), (1, 1, 3, 2), (3, 2), {}, 0),
}


@pytest.mark.parametrize("name", EDGES)
def test_conv2d_is_what_its_loops_say(name):
    x_shape, weight_shape, windows, options, before = EDGES[name]
    outputs = weight_shape[3]
    x, weight, bias, dy = drawn(x_shape, weight_shape, (outputs,), (x_shape[0], *windows, outputs))
    y, dx, dweight = by_loops(x, weight, dy, **(options | {"padding": before}))
    value, cache = conv2d(x, weight, bias, **options)
    gradients: Any = conv2d_backward(dy, cache)
    np.testing.assert_allclose(value, y + bias, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(gradients, (dx, dweight, dy.sum((0, 1, 2))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    by_jax = value_of(autodiff.convolution, "conv2d", x, weight, bias, **options)
    np.testing.assert_allclose(by_jax, y + bias, rtol=1e-12, atol=1e-13)


TRANSPOSED: dict[str, Any] = {  # shapes of x and weight, size of y, options
    "plain": ((2, 3, 2, 3), (2, 3, 4, 3), (4, 4), {}),
    "stride and all": (
        (2, 2, 3, 4),
        (3, 2, 1, 4),
        (7, 9),
        {"stride": (3, 2), "padding": (0, 1), "output_padding": (1, 1), "dilation": (1, 5), "groups": 2},
    ),
    "more rows than windows reach": (
        (1, 2, 2, 1),
        (1, 2, 2, 1),
        (5, 5),
        {"stride": 3, "output_padding": (1, 0)},
    ),
    "output_padding below the dilation": (
        (1, 2, 3, 2),
        (2, 2, 3, 2),
        (7, 7),
        {"dilation": 3, "output_padding": (2, 1)},
    ),
    "padding beyond the kernel": ((1, 5, 4, 2), (2, 1, 2, 2), (2, 2), {"padding": (2, 1)}),
    "depthwise": ((2, 2, 3, 3), (2, 2, 1, 3), (4, 6), {"stride": 2, "groups": 3}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d_is_what_its_loops_say(name):
    """With x and y exchanged, the connections are those of conv2d with the same weight."""
    x_shape, weight_shape, size, options = TRANSPOSED[name]
    outputs = weight_shape[2] * options.get("groups", 1)
    x, weight, bias, dy = drawn(x_shape, weight_shape, (outputs,), (x_shape[0], *size, outputs))
    value, cache = conv_transpose2d(x, weight, bias, **options)
    gradients: Any = conv_transpose2d_backward(dy, cache)
    assert value.shape == dy.shape
    options_of_conv2d = {name: value for name, value in options.items() if name != "output_padding"}
    dx, y, dweight = by_loops(dy, weight, x, **options_of_conv2d)
    np.testing.assert_allclose(value, y + bias, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(gradients, (dx, dweight, dy.sum((0, 1, 2))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    by_jax = value_of(autodiff.convolution, "conv_transpose2d", x, weight, bias, **options)
    np.testing.assert_allclose(by_jax, y + bias, rtol=1e-12, atol=1e-13)


def test_conv1d_is_numpys_correlation_of_every_pair_of_channels():
    x, weight, dy = drawn((2, 9, 3), (4, 3, 2), (2, 6, 2))
    value, cache = conv1d(x, weight, None)
    dx, dweight, dbias = conv1d_backward(dy, cache)
    assert dbias is None
    for n, o in np.ndindex(2, 2):
        expected = sum(np.correlate(x[n, :, c], weight[:, c, o], "valid") for c in range(3))
        np.testing.assert_allclose(value[n, :, o], expected, rtol=1e-12)
    for n, c in np.ndindex(2, 3):
        expected = sum(np.convolve(dy[n, :, o], weight[:, c, o]) for o in range(2))
        np.testing.assert_allclose(dx[n, :, c], expected, rtol=1e-12, atol=1e-14)
    for c, o in np.ndindex(3, 2):
        expected = sum(np.correlate(x[n, :, c], dy[n, :, o], "valid") for n in range(2))
        np.testing.assert_allclose(dweight[:, c, o], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 3, "dilation": 2, "groups": 2}, {"padding": "same"}])
def test_conv1d_is_conv2d_of_images_one_entry_high(options):
    groups = options.get("groups", 1)
    x, weight, bias = drawn((2, 7, 4), (3, 4 // groups, 6), (6,))
    stretched: Any = {
        key: (1, option) if key in ("stride", "dilation") else (0, option) if option == 3 else option
        for key, option in options.items()
    }
    value, cache = conv1d(x, weight, bias, **options)
    of_images, cache_of_images = conv2d(x[:, None], weight[None], bias, **stretched)
    np.testing.assert_allclose(value, of_images[:, 0], rtol=1e-13, atol=1e-14)
    (dy,) = drawn(value.shape, seed=2)
    gradients: Any = conv1d_backward(dy, cache)
    dx, dweight, dbias = conv2d_backward(dy[:, None], cache_of_images)
    of_images: Any = dx[:, 0], dweight[0], dbias
    for ours, theirs in zip(gradients, of_images, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    by_jax = value_of(autodiff.convolution, "conv1d", x, weight, bias, **options)
    np.testing.assert_allclose(by_jax, value, rtol=1e-12, atol=1e-13)


def test_what_no_window_touches_has_no_gradient():
    x, weight, dy = drawn((1, 7, 8, 1), (2, 2, 1, 1), (1, 2, 2, 1))
    _, cache = conv2d(x, weight, None, stride=(4, 5))
    dx, _, _ = conv2d_backward(dy, cache)
    touched = np.zeros((7, 8), bool)
    touched[np.ix_([0, 1, 4, 5], [0, 1, 5, 6])] = True
    assert (dx[0, :, :, 0] != 0).tolist() == touched.tolist()


# ---------------------------------------------------------------------------------------- adjoints


@st.composite
def geometries(draw):
    small, one_to_three = st.integers(0, 2), st.integers(1, 3)
    pairs = {
        "kernel": st.tuples(one_to_three, one_to_three),
        "stride": st.tuples(one_to_three, one_to_three),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "padding": st.tuples(small, small),
        "output_padding": st.tuples(small, small),
        "windows": st.tuples(one_to_three, one_to_three),
    }
    options = {name: draw(values) for name, values in pairs.items()}
    options["groups"] = draw(one_to_three)
    options["depths"] = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    steps = zip(options["stride"], options["dilation"], options["output_padding"], strict=True)
    assume(all(more < max(s, d) for s, d, more in steps))
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + more + 1
        for n, s, p, d, k, more in zip(
            *(options[name] for name in ("windows", "stride", "padding", "dilation", "kernel", "output_padding")),
            strict=True,
        )
    ]
    assume(min(sizes) >= 1)
    return options, tuple(sizes)


@settings(deadline=None, max_examples=60)
@given(geometries(), st.integers(0, 9))
def test_conv_transpose2d_is_the_adjoint_of_conv2d(geometry, seed):
    """<conv2d(x), y> = <x, conv_transpose2d(y)>, and both are <dW, W>. Windows of output_padding are not y's."""
    options, size = geometry
    groups, (inputs, outputs) = options["groups"], options["depths"]
    shared = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
    x, y, weight = drawn(
        (2, *size, inputs * groups),
        (2, *options["windows"], outputs * groups),
        (*options["kernel"], inputs, outputs * groups),
        seed=seed,
    )
    there, cache = conv2d(x, weight, None, **shared)
    back, cache_back = conv_transpose2d(y, weight, None, output_padding=options["output_padding"], **shared)
    assert back.shape == x.shape
    high, wide = options["windows"]
    product = np.vdot(there[:, :high, :wide], y)
    scale = np.sqrt(np.sum(there**2) * np.sum(y**2)) + np.sqrt(np.sum(x**2) * np.sum(back**2))
    np.testing.assert_allclose(np.vdot(x, back), product, rtol=1e-12, atol=1e-13 * scale)

    dy = np.zeros_like(there)
    dy[:, :high, :wide] = y
    dx, dweight, _ = conv2d_backward(dy, cache)
    np.testing.assert_allclose(dx, back, rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(np.vdot(dweight, weight), product, rtol=1e-12, atol=1e-13 * scale)
    d_y, dweight_back, _ = conv_transpose2d_backward(x, cache_back)
    np.testing.assert_allclose(d_y, there[:, :high, :wide], rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(dweight_back, dweight, rtol=1e-12, atol=1e-13 * scale)


@pytest.mark.parametrize("name", ["groups", "truncated windows", "many outputs of one input", "an even kernel, same"])
@pytest.mark.parametrize(("bytes_", "rows"), [(1, 0), (800, 1), (1 << 20, 1)])
def test_tiles_of_any_size_make_the_same_whole(monkeypatch, name, bytes_, rows):
    """One row at a time, some rows, some examples, everything."""
    x_shape, weight_shape, windows, options, _ = EDGES[name]
    x, weight, dy = drawn((5, *x_shape[1:]), weight_shape, (5, *windows, weight_shape[3]))
    value, cache = conv2d(x, weight, None, **options)
    expected = value, *conv2d_backward(dy, cache)[:2]
    monkeypatch.setattr(_correlation, "TILE_BYTES", bytes_)
    monkeypatch.setattr(_correlation, "TILE_ROWS", rows)
    value, cache = conv2d(x, weight, None, **options)
    for ours, theirs in zip((value, *conv2d_backward(dy, cache)[:2]), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_any_number_of_threads_makes_the_same_whole(monkeypatch, threads):
    x, weight, dy = drawn((5, 4, 6, 3), (2, 3, 1, 3), (5, 3, 4, 3))
    value, cache = conv2d(x, weight, None, groups=3)
    expected = value, *conv2d_backward(dy, cache)[:2]
    monkeypatch.setattr(_threads, "PARALLEL", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    value, cache = conv2d(x, weight, None, groups=3)
    for ours, theirs in zip((value, *conv2d_backward(dy, cache)[:2]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ------------------------------------------------------------------------------- empty, narrow, pure


@SIDES
@pytest.mark.parametrize(
    ("name", "x_shape", "weight_shape", "options", "shape"),
    [
        ("conv1d", (0, 5, 3), (2, 3, 4), {}, (0, 4, 4)),
        ("conv2d", (0, 5, 4, 2), (2, 2, 2, 3), {"stride": 2}, (0, 2, 2, 3)),
        ("conv2d", (0, 5, 4, 2), (2, 2, 2, 3), {}, (0, 4, 3, 3)),
        ("conv2d", (0, 5, 4, 2), (2, 2, 1, 2), {"groups": 2}, (0, 4, 3, 2)),
        ("conv_transpose2d", (0, 2, 3, 3), (2, 2, 2, 3), {"stride": 2}, (0, 4, 6, 2)),
    ],
)
def test_empty_batches(side, name, x_shape, weight_shape, options, shape):
    x, weight = drawn(x_shape, weight_shape)
    assert value_of(side, name, x, weight, None, **options).shape == shape
    if side is manual.convolution:
        forward, backward = CONVOLUTION[name]
        value, cache = forward(x, weight, np.ones(shape[-1]), **options)
        dx, dweight, dbias = backward(value, cache)
        assert dx.shape == x_shape
        np.testing.assert_array_equal(dweight, np.zeros(weight_shape))
        np.testing.assert_array_equal(dbias, np.zeros(shape[-1]))


RUNS = [  # of both ways to the input gradient, with groups and depthwise
    ("conv1d", (3, 6, 4), (3, 4, 2), {"padding": 1}),
    ("conv2d", (3, 6, 5, 4), (3, 2, 4, 2), {"padding": 1}),
    ("conv2d", (3, 6, 5, 4), (3, 2, 2, 6), {"stride": 2, "groups": 2}),
    ("conv2d", (3, 6, 5, 4), (3, 2, 1, 4), {"groups": 4}),
    ("conv2d", (3, 6, 5, 4), (3, 2, 1, 4), {"groups": 4, "stride": 2, "padding": 1}),
    ("conv2d", (3, 6, 5, 4), (1, 1, 4, 3), {}),
    ("conv_transpose2d", (3, 4, 5, 4), (3, 2, 2, 4), {"stride": 2, "padding": 1}),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("name", "x_shape", "weight_shape", "options"), RUNS)
def test_work_keeps_its_dtype(name, x_shape, weight_shape, options, dtype):
    forward, backward = CONVOLUTION[name]
    outputs = weight_shape[-2] * options.get("groups", 1) if "transpose" in name else weight_shape[-1]
    inputs = drawn(x_shape, weight_shape, (outputs,), dtype=dtype)
    value, cache = forward(*inputs, **options)
    (dy,) = drawn(value.shape, dtype=dtype, seed=2)
    narrow = value, *backward(dy, cache)
    wide_value, wide_cache = forward(*(x.astype(np.float64) for x in inputs), **options)
    wide = wide_value, *backward(dy.astype(np.float64), wide_cache)
    tolerance = 4 * float(np.finfo(dtype).eps)
    for ours, theirs in zip(narrow, wide, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())
    assert value_of(autodiff.convolution, name, *inputs, **options).dtype == dtype


def test_sums_of_float16_are_not_kept_in_float16():
    """In float16, 2048 + 1 is 2048."""
    x = np.ones((3, 40, 50, 1), np.float16)
    for groups, weight in ((1, np.ones((1, 1, 1, 2), np.float16)), (2, np.ones((1, 1, 1, 2), np.float16))):
        _, cache = conv2d(np.repeat(x, groups, axis=3), weight, np.zeros(2, np.float16), groups=groups)
        _, dweight, dbias = conv2d_backward(np.ones((3, 40, 50, 2), np.float16), cache)
        np.testing.assert_array_equal(dweight.ravel(), [6000, 6000])
        np.testing.assert_array_equal(np.asarray(dbias), [6000, 6000])


@pytest.mark.parametrize("groups", [1, 4])
def test_long_sums_of_float32_keep_their_digits(groups):
    """A running sum of a million terms of one sign would be off by thousands of units in the last place."""
    x = np.full((2, 400, 300, 4), 0.1, np.float32)
    weight = np.ones((1, 1, 4 // groups, 4), np.float32)
    _, cache = conv2d(x, weight, np.zeros(4, np.float32), groups=groups)
    _, dweight, dbias = conv2d_backward(np.full((2, 400, 300, 4), 0.3, np.float32), cache)
    np.testing.assert_allclose(dweight, 240_000 * 0.03, rtol=2e-5)
    np.testing.assert_allclose(np.asarray(dbias), 240_000 * 0.3, rtol=2e-5)


@pytest.mark.parametrize(("name", "x_shape", "weight_shape", "options"), RUNS)
def test_read_only_and_scattered_memory_is_read_and_never_written(name, x_shape, weight_shape, options):
    forward, backward = CONVOLUTION[name]
    outputs = weight_shape[-2] * options.get("groups", 1) if "transpose" in name else weight_shape[-1]

    def scattered(shape, seed):
        """Each axis reversed, and every second entry of it: nothing is contiguous."""
        (whole,) = drawn(tuple(2 * n for n in shape[::-1]), seed=seed)
        view = whole[tuple(slice(None, None, -2) for _ in shape)].T
        view.flags.writeable = False
        return view

    inputs = scattered(x_shape, 1), scattered(weight_shape, 2), scattered((outputs,), 3)
    before = [x.copy() for x in inputs]
    value, cache = forward(*inputs, **options)
    dy = scattered(value.shape, 4)
    gradients, again = backward(dy, cache), backward(dy, cache)
    value_of_copies, cache_of_copies = forward(*before, **options)
    gradients_of_copies = backward(dy.copy(), cache_of_copies)
    np.testing.assert_allclose(value, value_of_copies, rtol=1e-13, atol=1e-14)
    for ours, theirs, second in zip(gradients, gradients_of_copies, again, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(ours, second)
        assert ours.flags.writeable
        assert not any(np.shares_memory(ours, other) for other in (value, dy, *inputs, *(again)))
    for now, then in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(now, then)
        assert not np.shares_memory(value, now)


# --------------------------------------------------------------------------------------- bad input

X, W, B = (2, 5, 4, 6), (3, 2, 3, 4), (4,)
BAD_SHAPES = [  # name, shapes of x, weight and bias, groups, message
    ("conv2d", ((2, 5, 4), W, None), 1, r"x must be \(batch, height, width, inputs\) and weight \(height, width, "),
    ("conv2d", (X, (0, 2, 6, 4), None), 1, r"none of weight's axes empty; got \(2, 5, 4, 6\) and \(0, 2, 6, 4\)\."),
    (
        "conv2d",
        (X, W, None),
        1,
        r"x \(2, 5, 4, 6\) has 6 channels, and weight \(3, 2, 3, 4\), which is \(height, width,",
    ),
    (
        "conv2d",
        (X, W, None),
        1,
        r" inputs / groups, outputs\), takes 3 with groups=1; groups must also divide weight's",
    ),
    ("conv2d", (X, (3, 2, 2, 4), None), 3, r"takes 6 with groups=3; groups must also divide weight's last axis, 4\."),
    ("conv2d", (X, W, None), 0, r"groups must be an integer of at least 1, got 0\."),
    ("conv2d", (X, W, (3,)), 2, r"bias must be \(outputs,\) = \(4,\), got \(3,\)\."),
    (
        "conv2d",
        ((2, 2, 4, 6), W, B),
        2,
        r"a window that spans 3 \(kernel 3, dilation 1\) does not fit into 2 \(size 2, ",
    ),
    (
        "conv1d",
        ((2, 5, 4), (3, 3, 2), None),
        1,
        r"which is \(kernel, inputs / groups, outputs\), takes 3 with groups=1",
    ),
    ("conv1d", ((2, 2, 4), (3, 4, 2), None), 1, r"a window that spans 3 \(kernel 3, dilation 1\) does not fit into 2"),
    ("conv_transpose2d", (X, (3, 2, 4, 3), None), 1, r"which is \(height, width, outputs / groups, inputs\), takes 3"),
    ("conv_transpose2d", (X, (3, 2, 2, 6), (2,)), 3, r"bias must be \(outputs,\) = \(6,\), got \(2,\)\."),
    ("conv_transpose2d", ((2, 0, 4, 6), (3, 2, 2, 6), None), 1, r"0 windows of 3 with stride 1 and padding 0 are the "),
]
BAD_OPTIONS = [
    ("conv2d", {"stride": (1, 0)}, r"stride must be an integer of at least 1, got 0\."),
    ("conv2d", {"padding": -1}, r"padding must be an integer of at least 0, got -1\."),
    ("conv2d", {"stride": 1.0}, r"stride must be an integer of at least 1, got 1\.0\."),
    ("conv2d", {"dilation": (1, 2, 3)}, r"dilation must be one integer or a pair \(height, width\), got \(1, 2, 3\)\."),
    ("conv2d", {"padding": "full"}, r'padding must be "same", "valid", an integer or a pair of them; got \'full\'\.'),
    (
        "conv2d",
        {"dilation": 4, "padding": 1},
        r"spans 9 \(kernel 3, dilation 4\) does not fit into 7 \(size 5, padding 1 ",
    ),
    ("conv2d", {"dilation": 4, "padding": 1}, r" and 1\)\. Pad more, or take a smaller kernel\."),
    ("conv1d", {"stride": (2, 1)}, r"stride must be an integer of at least 1, got \(2, 1\)\."),
    (
        "conv_transpose2d",
        {"stride": 2, "output_padding": (1, 2)},
        r"output_padding must be less than the stride or the d",
    ),
    (
        "conv_transpose2d",
        {"stride": 2, "output_padding": 2},
        r"got 2 with stride 2 and dilation 1\. More rows than that ",
    ),
    (
        "conv_transpose2d",
        {"padding": 4},
        r"5 windows of 3 with stride 1 and padding 4 are the convolution of -1 entries; ",
    ),
    ("conv_transpose2d", {"padding": "same"}, r"padding must be "),
]
SHAPES = {"conv1d": ((2, 5, 6), (3, 6, 4), None), "conv2d": ((2, 5, 4, 6), (3, 2, 6, 4), None)}
SHAPES["conv_transpose2d"] = ((2, 5, 4, 6), (3, 2, 4, 6), None)


def refused(side, name, shapes, options, message):
    """Without the check of annotations, which users do not have and which refuses wrong ranks by itself."""
    zeros = np.zeros if side is manual.convolution else jnp.zeros
    inputs = (None if shape is None else zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(getattr(side, name))(*inputs, **options)


@SIDES
def test_shapes_that_do_not_fit(side):
    for name, shapes, groups, message in BAD_SHAPES:
        refused(side, name, shapes, {"groups": groups}, message)


@SIDES
def test_impossible_options(side):
    for name, options, message in BAD_OPTIONS:
        refused(side, name, SHAPES[name], options, message)


@pytest.mark.parametrize("name", CONVOLUTION)
def test_an_output_gradient_of_another_shape_is_refused(name):
    forward, backward = CONVOLUTION[name]
    x, weight = drawn((2, 4, 3), (2, 3, 3)) if name == "conv1d" else drawn((2, 4, 5, 3), (2, 2, 3, 3))
    value, cache = forward(x, weight, None)
    with pytest.raises(ValueError, match=r"output_gradient must have the shape of y, \(2, .*\), got \(2, "):
        backward(value[:, 1:], cache)


# ------------------------------------------------------------------------------------------ faults

OPTIONS = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
FORWARD, FUNCTION = partial(conv2d, **OPTIONS), partial(autodiff.convolution.conv2d, **OPTIONS)
INPUTS = drawn((2, 6, 5, 4), (3, 2, 2, 6), (6,))


def stride_ignored(dy, cache):
    """Every window passes its gradient to where it would be at stride 1."""
    narrow = cache.geometry._replace(stride=(1, 1), out=dy.shape[1:3])
    dx = np.zeros((2, 8, 9, 4))
    for n in range(2):
        for source, tap, target in connections(
            (8, 9), cache.weight.shape, narrow.out, dilation=narrow.dilation, groups=2
        ):
            dx[n][source] += dy[n][target] * cache.weight[tap]
    return dx[:, 1:7, 2:7], *conv2d_backward(dy, cache)[1:]


def dilation_ignored(dy, cache):
    dx, _, dbias = conv2d_backward(dy, cache)
    *_, dweight = by_loops(cache.x, cache.weight, dy, stride=(2, 1), padding=(1, 2), groups=2)
    return dx, dweight, dbias


def kernel_turned(dy, cache):
    dx, dweight, dbias = conv2d_backward(dy, cache)
    return dx, dweight[::-1, ::-1], dbias


def padding_kept(dy, cache):
    """The gradient of the padded input from its first entry on, and not from where x begins."""
    _, dweight, dbias = conv2d_backward(dy, cache)
    padded = np.pad(cache.x, ((0, 0), (1, 1), (2, 2), (0, 0)))
    _, bare = conv2d(padded, cache.weight, None, **(OPTIONS | {"padding": 0}))
    return conv2d_backward(dy, bare)[0][:, :6, :5], dweight, dbias


def groups_interleaved(dy, cache):
    """Inputs 0 and 2 in one group and 1 and 3 in the other, as if the groups were the last axis of channels."""
    dx, dweight, dbias = conv2d_backward(dy, cache)
    return dx[..., [0, 2, 1, 3]], dweight, dbias


def groups_mixed(dy, cache):
    dx, dweight, dbias = conv2d_backward(dy, cache)
    return dx, dweight.reshape(3, 2, 2, 2, 3).swapaxes(3, 4).reshape(dweight.shape), dbias


def bias_of_one_example(dy, cache):
    return *conv2d_backward(dy, cache)[:2], dy[0].sum((0, 1))


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (stride_ignored, "0"),
        (padding_kept, "0"),
        (groups_interleaved, "0"),
        (dilation_ignored, "1"),
        (kernel_turned, "1"),
        (groups_mixed, "1"),
        (bias_of_one_example, "2"),
    ],
)
def test_planted_faults_are_seen(fault, wrong):
    report = check_vjp(FORWARD, fault, FUNCTION, *INPUTS, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == [wrong]
    assert report.first_wrong == wrong
    assert report.wrong_side == "manual"


def test_the_right_one_is_let_pass_in_any_layout_of_memory():
    def in_fortran_order(dy, cache):
        return tuple(map(np.asfortranarray, conv2d_backward(dy, cache)))

    assert_vjp_agrees(FORWARD, in_fortran_order, FUNCTION, *INPUTS, probes=False)


def test_a_transposed_convolution_that_forgets_to_turn_the_kernel_is_seen():
    """Its input gradient is the correlation itself; a kernel turned there is the usual slip."""
    options = {"stride": 2, "padding": 1}
    forward, function = (
        partial(side.conv_transpose2d, **options) for side in (manual.convolution, autodiff.convolution)
    )

    def turned(dy, cache):
        _, dweight, dbias = conv_transpose2d_backward(dy, cache)
        dx, *_ = conv_transpose2d_backward(dy, cache._replace(weight=cache.weight[::-1, ::-1]))
        return dx, dweight, dbias

    report = check_vjp(forward, turned, function, *drawn((2, 3, 4, 2), (3, 2, 3, 2), (3,)), probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "0"
