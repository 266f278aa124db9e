"""Convolutions, with every derivative by hand.

Images are (batch, height, width, channels), and sequences are (batch, length, channels). Kernels hold a matrix
(inputs, outputs) for every tap: HWIO, as in JAX and TensorFlow (PyTorch stores OIHW). As in all of these, the op
called convolution is a cross-correlation: the kernel is not flipped. dy is the output gradient, and dx the gradient
with respect to x.

Each option is an integer or a pair (height, width). `stride` is the step between windows, `dilation` the step between
taps, and `padding` the number of zeros added on each side. `padding` may also be "valid", which is 0, or "same", which
adds the zeros that make ceil(size / stride) windows, with the odd one at the end, as in TensorFlow and JAX (PyTorch
has it for stride 1 only). Windows that would extend beyond the end are dropped. With `groups`, input and output
channels are divided into that number of blocks, and a block of outputs depends on its own block of inputs only.

A convolution is a dense layer applied to every window, Y = X W: the rows of X are the windows of x, each with its taps
and channels side by side, and those of Y are the outputs at each position. Y, dX and dW are the three products of a
dense layer, X W, dY W^T and X^T dY, computed by `_correlation`, `_transposed_correlation` and `_kernel_gradient`. An
entry of x has a copy in each window that contains it, so its gradient is the sum of several entries of dX.

All arrays of a call share a dtype, and the value has it too. Every op raises ValueError if channels, groups and bias do
not fit, if an option is out of range, or if no window fits. A guide to the arithmetic is Dumoulin and Visin, "A guide
to convolution arithmetic for deep learning", arXiv 1603.07285 (2016).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from manual._precision import widened
from manual._rules import Rules
from manual._windows import Geometry, Pads, Pair, add_windows, count, integer, pair, windows_of

Sequences = Float[np.ndarray, "batch length inputs"]
NewSequences = Float[np.ndarray, "batch new_length outputs"]
Images = Float[np.ndarray, "batch height width inputs"]
NewImages = Float[np.ndarray, "batch new_height new_width outputs"]
Kernel1d = Float[np.ndarray, "kernel inputs_per_group outputs"]
Kernel2d = Float[np.ndarray, "kernel_height kernel_width inputs_per_group outputs"]
TransposedKernel2d = Float[np.ndarray, "kernel_height kernel_width outputs_per_group outputs_of_conv2d"]
Bias = Float[np.ndarray, " biases"]


def _correlation(x: Images, weight: Kernel2d, geometry: Geometry) -> NewImages:
    """Y = X W for each group of channels."""
    X, W = _matrices(windows_of(x, geometry), geometry.groups), _matrices(weight, geometry.groups)
    Y = X @ W
    return _from_matrices(Y, (len(x), *geometry.out, weight.shape[3])).astype(x.dtype)


def _transposed_correlation(dy: NewImages, weight: Kernel2d, geometry: Geometry) -> Images:
    """dX = dY W^T for each group. dx adds up the entries of dX that belong to copies of the same entry of x."""
    dY, W = _matrices(dy, geometry.groups), _matrices(weight, geometry.groups)
    dX = dY @ W.mT
    dwindows = _from_matrices(dX, (*dy.shape[:3], *geometry.kernel, weight.shape[2] * geometry.groups))
    return add_windows(dwindows, geometry).astype(dy.dtype)


def _kernel_gradient(x: Images, dy: NewImages, geometry: Geometry) -> Kernel2d:
    """dW = X^T dY for each group."""
    X, dY = _matrices(windows_of(x, geometry), geometry.groups), _matrices(dy, geometry.groups)
    dW = X.mT @ dY
    return _from_matrices(dW, (*geometry.kernel, x.shape[3] // geometry.groups, dy.shape[3])).astype(dy.dtype)


def _matrices(a: np.ndarray, groups: int) -> np.ndarray:
    """A matrix for each group of channels. Its rows are the first three axes, and its columns the other ones."""
    by_group = np.moveaxis(widened(a).reshape(*a.shape[:-1], groups, a.shape[-1] // groups), -2, 0)
    return by_group.reshape(groups, math.prod(a.shape[:3]), math.prod(a.shape[3:]) // groups)


def _from_matrices(matrices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_matrices`, for an array of this shape."""
    by_group = matrices.reshape(len(matrices), *shape[:-1], shape[-1] // len(matrices))
    return np.moveaxis(by_group, 0, -2).reshape(shape)


class Conv2dCache(NamedTuple):
    """x and not its windows: extracting them again is cheap, and storing them takes the size of x for every tap."""

    x: Images
    weight: Kernel2d
    has_bias: bool
    geometry: Geometry


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
    """y[n, h, w, o] = b[o] + sum over i, j, c of  x[n, h s + i d - p, w s + j d - p, c] W[i, j, c, o].

    s, d and p are stride, dilation and the padding before x, for each axis, and x is 0 beyond its ends. With groups, c
    runs over the inputs in the group of o. With P zeros added on both sides together, the height of y is
    floor((height + P - d (kernel - 1) - 1) / s) + 1, and the width likewise.

    Args:
        x: images (batch, height, width, inputs).
        weight: the kernel (height, width, inputs / groups, outputs).
        bias: (outputs,), or None.
        stride, padding, dilation, groups: as described for the module.

    Raises:
        ValueError: if channels, groups and bias do not fit, if an option is out of range, or if no window fits.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998), II;
    groups: Krizhevsky, Sutskever and Hinton (2012); dilation: Yu and Koltun (2016).
    """
    _check(x, weight, bias, groups, "(batch, height, width, inputs)", "(height, width, inputs / groups, outputs)")
    kernel, size = weight.shape[:2], x.shape[1:3]
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    pads = _pads(padding, size, kernel, stride, dilation)
    high, wide = map(count, size, kernel, stride, dilation, pads)
    geometry = Geometry(size, (high, wide), kernel, stride, dilation, pads, groups)
    y = _plus(_correlation(x, weight, geometry), bias)
    return y, Conv2dCache(x, weight, bias is not None, geometry)


def conv2d_backward(output_gradient: NewImages, cache: Conv2dCache) -> tuple[Images, Kernel2d, Bias | None]:
    """The gradients are those of `dense_backward` for Y = X W + b, because every window is multiplied by the same W:

        dX = dY W^T      dx[n, h s + i d - p, w s + j d - p, c] += sum over o of        dy[n, h, w, o] W[i, j, c, o]
        dW = X^T dY      dW[i, j, c, o] = sum over n, h, w of  x[n, h s + i d - p, w s + j d - p, c] dy[n, h, w, o]
        db = 1^T dY      db[o]          = sum over n, h, w of  dy[n, h, w, o]

    dx sums over all windows that contain an entry. It is 0 for an entry in no window (a stride larger than the kernel,
    or a remainder at the end), and gradients of padding are dropped. dx is `conv_transpose2d` of dy, with the
    `output_padding` that restores the size of x.
    """
    x, W, has_bias, geometry = cache
    dy = _checked(output_gradient, (len(x), *geometry.out, W.shape[3]))
    dx = _transposed_correlation(dy, W, geometry)
    dW = _kernel_gradient(x, dy, geometry)
    db = _summed(dy) if has_bias else None
    return dx, dW, db


class Conv1dCache(NamedTuple):
    """The cache of conv2d, because this is the same convolution of images with a width of 1."""

    images: Conv2dCache


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
    """y[n, t, o] = b[o] + sum over i, c of  x[n, t s + i d - p, c] W[i, c, o]: `conv2d` of images with a width of 1.

    The length of y is floor((length + P - d (kernel - 1) - 1) / s) + 1, with P zeros added on both sides together.

    Args:
        x: sequences (batch, length, inputs).
        weight: the kernel (length, inputs / groups, outputs).
        bias: (outputs,), or None.
        stride, padding, dilation, groups: as described for the module.

    Raises:
        ValueError: as conv2d.

    Source: Waibel et al., "Phoneme recognition using time-delay neural networks" (1989).
    """
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
    """The gradients of `conv2d_backward`, without the axis of width 1."""
    dx, dW, db = conv2d_backward(output_gradient[:, :, None], cache.images)
    return dx[:, :, 0], dW[:, 0], db


class ConvTranspose2dCache(NamedTuple):
    """x and W, because each is a factor of the other's gradient; no windows, as for conv2d.

    `geometry` belongs to the convolution that this op is the adjoint of, whose input is y.
    """

    x: Images
    weight: TransposedKernel2d
    has_bias: bool
    geometry: Geometry


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
    """y[n, h s + i d - p, w s + j d - p, o] = b[o] + sum over h, w, i, j, c of  x[n, h, w, c] W[i, j, o, c].

    Without the bias this is the adjoint of conv2d: y is the dx that `conv2d_backward` computes for dy = x, with the
    same weight and options. So weight is (kernel height, kernel width, outputs / groups, inputs), which is the layout
    of that conv2d, whose inputs are the outputs here. (Keras has this layout too; PyTorch has (inputs,
    outputs / groups, height, width).)

    The height of y is (height - 1) s - 2 p + d (kernel - 1) + output_padding + 1, as in PyTorch. With a stride above 1,
    several heights have the same number of windows. output_padding, which must be less than the stride or the
    dilation, chooses one of them by adding rows at the end.

    Args:
        x: images (batch, height, width, inputs).
        weight: the kernel (height, width, outputs / groups, inputs).
        bias: (outputs,), or None.
        stride, padding, dilation, groups: those of the conv2d that this is the adjoint of.
        output_padding: the number of rows and columns to add at the end.

    Raises:
        ValueError: as conv2d, and if output_padding is too large.

    Source: Dumoulin and Visin (2016), chapter 4.
    """
    layout = "(height, width, outputs / groups, inputs)"
    _check(x, weight, bias, groups, "(batch, height, width, inputs)", layout, transposed=True)
    kernel, windows = weight.shape[:2], x.shape[1:3]
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    pads, more = _both(pair("padding", padding, 0)), pair("output_padding", output_padding, 0)
    high, wide = map(_transposed_size, windows, kernel, stride, dilation, pads, more)
    geometry = Geometry((high, wide), windows, kernel, stride, dilation, pads, groups)
    y = _plus(_transposed_correlation(x, weight, geometry), bias)
    return y, ConvTranspose2dCache(x, weight, bias is not None, geometry)


def conv_transpose2d_backward(
    output_gradient: NewImages, cache: ConvTranspose2dCache
) -> tuple[Images, TransposedKernel2d, Bias | None]:
    """The adjoint of an adjoint is the operation itself: dx = conv2d(dy, W).

    y = X W^T, added up as dx is in conv2d: x has the role of conv2d's dy, and the windows are those of y. So
    dW[i, j, o, c] = sum over n, h, w of  x[n, h, w, c] dy[n, h s + i d - p, w s + j d - p, o], and db sums dy.
    """
    x, W, has_bias, geometry = cache
    dy = _checked(output_gradient, (len(x), *geometry.size, W.shape[2] * geometry.groups))
    dx = _correlation(dy, W, geometry)
    dW = _kernel_gradient(dy, x, geometry)
    db = _summed(dy) if has_bias else None
    return dx, dW, db


def _plus(y: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return y if bias is None else y + bias


def _summed(dy: np.ndarray) -> np.ndarray:
    """db[o] = sum over n, h, w of dy[n, h, w, o], in float64, because NumPy adds along these axes one by one."""
    return dy.sum(axis=(0, 1, 2), dtype=np.float64).astype(dy.dtype)


def _checked(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """dy. Raises ValueError unless it has the shape of y, because windows over a smaller array would read beyond it."""
    if dy.shape != shape:
        raise ValueError(f"output_gradient must have the shape of y, {shape}, got {dy.shape}.")
    return dy


def _both(padding: Pair) -> Pads:
    return (padding[0], padding[0]), (padding[1], padding[1])


def _pads(padding: int | Pair | str, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
    if padding == "valid":
        return _both((0, 0))
    if padding == "same":
        high, wide = map(_same, size, kernel, stride, dilation)
        return high, wide
    if isinstance(padding, str):
        raise ValueError(f'padding must be "same", "valid", an integer or a pair of them; got {padding!r}.')
    return _both(pair("padding", padding, 0))


def _same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """The zeros before and after that make ceil(size / stride) windows, with the odd one after."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def _transposed_size(windows: int, kernel: int, stride: int, dilation: int, pads: Pair, more: int) -> int:
    if more >= max(stride, dilation):
        raise ValueError(
            f"output_padding must be less than the stride or the dilation, got {more} with stride {stride} and "
            f"dilation {dilation}. No window would reach more rows than that: pad the result instead."
        )
    size = (windows - 1) * stride - sum(pads) + dilation * (kernel - 1) + more + 1
    if windows < 1 or size < 1:
        raise ValueError(
            f"the output would have {size} entries: it is the input of a convolution with {windows} windows of "
            f"{dilation * (kernel - 1) + 1}, stride {stride} and padding {pads[0]}. Both must be positive: pad less."
        )
    return size


def _check(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    x_layout: str,
    weight_layout: str,
    *,
    transposed: bool = False,
) -> None:
    """Raises ValueError unless ranks, channels, groups and bias fit together."""
    integer("groups", groups, 1)
    if x.ndim != x_layout.count(",") + 1 or weight.ndim != x.ndim or 0 in weight.shape:
        raise ValueError(
            f"x must be {x_layout} and weight {weight_layout}, none of weight's axes empty; got {x.shape} and "
            f"{weight.shape}."
        )
    divided, whole = weight.shape[-2], weight.shape[-1]
    inputs, outputs = (whole, divided * groups) if transposed else (divided * groups, whole)
    if whole % groups or x.shape[-1] != inputs:
        raise ValueError(
            f"x {x.shape} has {x.shape[-1]} channels, and weight {weight.shape}, which is {weight_layout}, takes "
            f"{inputs} with groups={groups}; groups must also divide weight's last axis, {whole}."
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"bias must be (outputs,) = ({outputs},), got {bias.shape}.")


CONVOLUTION: Rules = {
    "conv1d": (conv1d, conv1d_backward),
    "conv2d": (conv2d, conv2d_backward),
    "conv_transpose2d": (conv_transpose2d, conv_transpose2d_backward),
}
