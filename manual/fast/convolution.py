"""`manual.convolution` tile by tile: see `_correlation`."""

import numpy as np

from manual._rules import Rules
from manual._windows import Geometry, Pair, count, integer, pair
from manual.convolution import (
    Bias,
    Conv1dCache,
    Conv2dCache,
    ConvTranspose2dCache,
    Images,
    Kernel1d,
    Kernel2d,
    NewImages,
    NewSequences,
    Sequences,
    TransposedKernel2d,
    _both,
    _check,
    _checked,
    _pads,
    _transposed_size,
)
from manual.fast._correlation import correlate, input_gradient, weight_gradient


def conv2d(
    x: Images,
    weight: Kernel2d,
    bias: Bias | None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[NewImages, Conv2dCache]:
    _check(x, weight, bias, groups, "(batch, height, width, inputs)", "(height, width, inputs / groups, outputs)")
    kernel, size = weight.shape[:2], x.shape[1:3]
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    pads = _pads(padding, size, kernel, stride, dilation)
    high, wide = map(count, size, kernel, stride, dilation, pads)
    geometry = Geometry(size, (high, wide), kernel, stride, dilation, pads, groups)
    y = _add(correlate(x, weight, geometry), bias)
    return y, Conv2dCache(x, weight, bias is not None, geometry)


def conv2d_backward(output_gradient: NewImages, cache: Conv2dCache) -> tuple[Images, Kernel2d, Bias | None]:
    x, weight, has_bias, geometry = cache
    dy = _checked(output_gradient, (len(x), *geometry.out, weight.shape[3]))
    dx = input_gradient(dy, weight, geometry)
    dweight = weight_gradient(x, dy, weight, geometry)
    return dx, dweight, _bias_gradient(dy) if has_bias else None


def conv1d(
    x: Sequences,
    weight: Kernel1d,
    bias: Bias | None,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[NewSequences, Conv1dCache]:
    _check(x, weight, bias, groups, "(batch, length, inputs)", "(kernel, inputs / groups, outputs)")
    y, cache = conv2d(
        x[:, :, None],
        weight[:, None],
        bias,
        stride=(integer("stride", stride, 1), 1),
        padding=padding if isinstance(padding, str) else (integer("padding", padding, 0), 0),
        dilation=(integer("dilation", dilation, 1), 1),
        groups=groups,
    )
    return y[:, :, 0], Conv1dCache(cache)


def conv1d_backward(output_gradient: NewSequences, cache: Conv1dCache) -> tuple[Sequences, Kernel1d, Bias | None]:
    dx, dweight, dbias = conv2d_backward(output_gradient[:, :, None], cache.images)
    return dx[:, :, 0], dweight[:, 0], dbias


def conv_transpose2d(
    x: Images,
    weight: TransposedKernel2d,
    bias: Bias | None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[NewImages, ConvTranspose2dCache]:
    layout = "(height, width, outputs / groups, inputs)"
    _check(x, weight, bias, groups, "(batch, height, width, inputs)", layout, transposed=True)
    kernel, windows = weight.shape[:2], x.shape[1:3]
    stride, dilation, pads = (
        pair("stride", stride, 1),
        pair("dilation", dilation, 1),
        _both(pair("padding", padding, 0)),
    )
    more = pair("output_padding", output_padding, 0)
    high, wide = map(_transposed_size, windows, kernel, stride, dilation, pads, more)
    geometry = Geometry((high, wide), windows, kernel, stride, dilation, pads, groups)
    y = _add(input_gradient(x, weight, geometry), bias)
    return y, ConvTranspose2dCache(x, weight, bias is not None, geometry)


def conv_transpose2d_backward(
    output_gradient: NewImages, cache: ConvTranspose2dCache
) -> tuple[Images, TransposedKernel2d, Bias | None]:
    x, weight, has_bias, geometry = cache
    dy = _checked(output_gradient, (len(x), *geometry.size, weight.shape[2] * geometry.groups))
    dx = correlate(dy, weight, geometry)
    dweight = weight_gradient(dy, x, weight, geometry)
    return dx, dweight, _bias_gradient(dy) if has_bias else None


def _add(y: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    if bias is not None:
        y += bias
    return y


def _bias_gradient(dy: np.ndarray) -> np.ndarray:
    """The sum over all positions, axis by axis and in float32 or wider, because one long sum would lose digits."""
    total = dy.astype(np.result_type(dy, np.float32), copy=False)
    for axis in (2, 1, 0):
        total = total.sum(axis)
    return total.astype(dy.dtype, copy=False)


CONVOLUTION: Rules = {
    "conv1d": (conv1d, conv1d_backward),
    "conv2d": (conv2d, conv2d_backward),
    "conv_transpose2d": (conv_transpose2d, conv_transpose2d_backward),
}
