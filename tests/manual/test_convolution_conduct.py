"""Convolutions of arrays that are empty, narrow, read-only or scattered, and what they refuse."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

import autodiff.convolution
import manual.convolution
import manual.fast
from manual.convolution import CONVOLUTION
from tests.convolutions import drawn, value_of

SIDES = pytest.mark.parametrize("side", [manual.convolution, manual.fast.convolution, autodiff.convolution])
BY_HAND = pytest.mark.parametrize("ops", [manual.convolution, manual.fast.convolution], ids=["page", "fast"])

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
    if side is not autodiff.convolution:
        forward, backward = side.CONVOLUTION[name]
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


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("name", "x_shape", "weight_shape", "options"), RUNS)
def test_work_keeps_its_dtype(ops, name, x_shape, weight_shape, options, dtype):
    forward, backward = ops.CONVOLUTION[name]
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


@BY_HAND
def test_sums_of_float16_are_not_kept_in_float16(ops):
    """In float16, 2048 + 1 is 2048."""
    x = np.ones((3, 40, 50, 1), np.float16)
    for groups, weight in ((1, np.ones((1, 1, 1, 2), np.float16)), (2, np.ones((1, 1, 1, 2), np.float16))):
        _, cache = ops.conv2d(np.repeat(x, groups, axis=3), weight, np.zeros(2, np.float16), groups=groups)
        _, dweight, dbias = ops.conv2d_backward(np.ones((3, 40, 50, 2), np.float16), cache)
        np.testing.assert_array_equal(dweight.ravel(), [6000, 6000])
        np.testing.assert_array_equal(np.asarray(dbias), [6000, 6000])


@BY_HAND
@pytest.mark.parametrize("groups", [1, 4])
def test_long_sums_of_float32_keep_their_digits(ops, groups):
    """A running sum of a million terms of one sign would be off by thousands of units in the last place."""
    x = np.full((2, 400, 300, 4), 0.1, np.float32)
    weight = np.ones((1, 1, 4 // groups, 4), np.float32)
    _, cache = ops.conv2d(x, weight, np.zeros(4, np.float32), groups=groups)
    _, dweight, dbias = ops.conv2d_backward(np.full((2, 400, 300, 4), 0.3, np.float32), cache)
    np.testing.assert_allclose(dweight, 240_000 * 0.03, rtol=2e-5)
    np.testing.assert_allclose(np.asarray(dbias), 240_000 * 0.3, rtol=2e-5)


@BY_HAND
@pytest.mark.parametrize(("name", "x_shape", "weight_shape", "options"), RUNS)
def test_read_only_and_scattered_memory_is_read_and_never_written(ops, name, x_shape, weight_shape, options):
    forward, backward = ops.CONVOLUTION[name]
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
    ("conv_transpose2d", ((2, 0, 4, 6), (3, 2, 2, 6), None), 1, r"with 0 windows of 3, stride 1 and padding 0"),
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
        r"got 2 with stride 2 and dilation 1\. No window would reach more rows ",
    ),
    (
        "conv_transpose2d",
        {"padding": 4},
        r"-1 entries: it is the input of a convolution with 5 windows of 3, stride 1 and padding 4\. ",
    ),
    ("conv_transpose2d", {"padding": "same"}, r"padding must be "),
]
SHAPES = {"conv1d": ((2, 5, 6), (3, 6, 4), None), "conv2d": ((2, 5, 4, 6), (3, 2, 6, 4), None)}
SHAPES["conv_transpose2d"] = ((2, 5, 4, 6), (3, 2, 4, 6), None)


def refused(side, name, shapes, options, message):
    """Without the check of annotations, which users do not have and which refuses wrong ranks by itself."""
    zeros = jnp.zeros if side is autodiff.convolution else np.zeros
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


@BY_HAND
@pytest.mark.parametrize("name", CONVOLUTION)
def test_an_output_gradient_of_another_shape_is_refused(ops, name):
    forward, backward = ops.CONVOLUTION[name]
    x, weight = drawn((2, 4, 3), (2, 3, 3)) if name == "conv1d" else drawn((2, 4, 5, 3), (2, 2, 3, 3))
    value, cache = forward(x, weight, None)
    with pytest.raises(ValueError, match=r"output_gradient must have the shape of y, \(2, .*\), got \(2, "):
        backward(value[:, 1:], cache)
