"""The well-known faults of a convolution's backward pass, planted: each is seen, in the gradient that it spoils."""

from functools import partial

import numpy as np
import pytest

import autodiff.convolution
import manual.convolution
from compare import Verdict, assert_vjp_agrees, check_vjp
from manual.convolution import conv2d, conv2d_backward, conv_transpose2d_backward
from tests.convolutions import by_loops, connections, drawn

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


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (stride_ignored, "x"),
        (padding_kept, "x"),
        (groups_interleaved, "x"),
        (dilation_ignored, "weight"),
        (kernel_turned, "weight"),
        (groups_mixed, "weight"),
        (bias_of_one_example, "bias"),
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
    assert report.first_wrong == "x"
