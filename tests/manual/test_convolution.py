"""Convolutions by nested loops, by their adjoints, and at the edges of every option.

That both sides agree, at every case of the catalog, is tested in test_ops.py.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import autodiff.convolution
import manual.convolution
import manual.fast
from manual.convolution import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
)
from tests.convolutions import EDGES, by_loops, drawn, value_of

BY_HAND = pytest.mark.parametrize("ops", [manual.convolution, manual.fast.convolution], ids=["page", "fast"])

# ------------------------------------------------------------------------------------ nested loops


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("name", EDGES)
def test_conv2d_is_what_its_loops_say(ops, name):
    x_shape, weight_shape, windows, options, before = EDGES[name]
    outputs = weight_shape[3]
    x, weight, bias, dy = drawn(x_shape, weight_shape, (outputs,), (x_shape[0], *windows, outputs))
    y, dx, dweight = by_loops(x, weight, dy, **(options | {"padding": before}))
    value, cache = ops.conv2d(x, weight, bias, **options)
    gradients: Any = ops.conv2d_backward(dy, cache)
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


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d_is_what_its_loops_say(ops, name):
    """With x and y exchanged, the connections are those of conv2d with the same weight."""
    x_shape, weight_shape, size, options = TRANSPOSED[name]
    outputs = weight_shape[2] * options.get("groups", 1)
    x, weight, bias, dy = drawn(x_shape, weight_shape, (outputs,), (x_shape[0], *size, outputs))
    value, cache = ops.conv_transpose2d(x, weight, bias, **options)
    gradients: Any = ops.conv_transpose2d_backward(dy, cache)
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
