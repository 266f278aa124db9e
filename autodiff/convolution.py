"""Convolutions in JAX, forward only, with the names, arguments and conventions of `manual.convolution`.

Images are NHWC and kernels HWIO. As in `manual`, the convolution of XLA is a cross-correlation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from autodiff._windows import Pair, integer, must_fit, pair

Sequences = Float[Array, "batch length inputs"]
NewSequences = Float[Array, "batch new_length outputs"]
Images = Float[Array, "batch height width inputs"]
NewImages = Float[Array, "batch new_height new_width outputs"]
Kernel1d = Float[Array, "kernel inputs_per_group outputs"]
Kernel2d = Float[Array, "kernel_height kernel_width inputs_per_group outputs"]
TransposedKernel2d = Float[Array, "kernel_height kernel_width outputs_per_group outputs_of_conv2d"]
Bias = Float[Array, " biases"]

SEQUENCES = ("NHC", "HIO", "NHC")
IMAGES = ("NHWC", "HWIO", "NHWC")


def conv1d(
    x: Sequences,
    weight: Kernel1d,
    bias: Bias | None,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> NewSequences:
    """y[n, t, o] = b[o] + sum over i, c of  x[n, t s + i d - p, c] W[i, c, o]. Raises ValueError as conv2d does."""
    _check(x, weight, groups, "(batch, length, inputs)", "(kernel, inputs / groups, outputs)")
    strides, dilations = (integer("stride", stride, 1),), (integer("dilation", dilation, 1),)
    pads = _padding(padding if isinstance(padding, str) else (integer("padding", padding, 0),), x, weight, dilations)
    y = lax.conv_general_dilated(
        x, weight, strides, pads, None, dilations, dimension_numbers=SEQUENCES, feature_group_count=groups
    )
    return _with_bias(y, bias)


def conv2d(
    x: Images,
    weight: Kernel2d,
    bias: Bias | None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> NewImages:
    """y[n, h, w, o] = b[o] + sum over i, j, c of  x[n, h s + i d - p, w s + j d - p, c] W[i, j, c, o].

    Raises ValueError if channels, groups and bias do not fit, if an option is out of range, or if no window fits.
    """
    _check(x, weight, groups, "(batch, height, width, inputs)", "(height, width, inputs / groups, outputs)")
    strides, dilations = pair("stride", stride, 1), pair("dilation", dilation, 1)
    pads = _padding(padding if isinstance(padding, str) else pair("padding", padding, 0), x, weight, dilations)
    y = lax.conv_general_dilated(
        x, weight, strides, pads, None, dilations, dimension_numbers=IMAGES, feature_group_count=groups
    )
    return _with_bias(y, bias)


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
) -> NewImages:
    """The adjoint of conv2d with the same weight, (height, width, outputs / groups, inputs), plus b.

    The height of y is (height - 1) s - 2 p + d (kernel - 1) + output_padding + 1. Raises ValueError as conv2d does,
    and unless output_padding is less than the stride or the dilation.
    """
    layout = "(height, width, outputs / groups, inputs)"
    _check(x, weight, groups, "(batch, height, width, inputs)", layout, transposed=True)
    strides, dilations = pair("stride", stride, 1), pair("dilation", dilation, 1)
    margins, more = pair("padding", padding, 0), pair("output_padding", output_padding, 0)
    axes = zip(x.shape[1:3], weight.shape[:2], strides, margins, more, dilations, strict=True)
    high, wide = (_transposed_size(*axis) for axis in axes)

    def transposed(y: Array) -> Array:
        return conv2d(y, weight, None, stride=strides, padding=margins, dilation=dilations, groups=groups)

    y = jax.ShapeDtypeStruct((x.shape[0], high, wide, weight.shape[2] * groups), x.dtype)
    windows = jax.eval_shape(transposed, y).shape
    beyond = [(0, windows[axis] - x.shape[axis], 0) for axis in (1, 2)]  # windows that output_padding adds
    everything = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *beyond, (0, 0, 0)])
    (result,) = jax.linear_transpose(transposed, y)(everything)
    return _with_bias(result, bias)


def _transposed_size(windows: int, kernel: int, stride: int, margin: int, more: int, dilation: int) -> int:
    if more >= stride and more >= dilation:
        raise ValueError(
            f"output_padding must be less than the stride or the dilation, got {more} with stride {stride} and "
            f"dilation {dilation}. No window would reach more rows than that: pad the result instead."
        )
    span = (kernel - 1) * dilation + 1
    size = stride * (windows - 1) + span + more - 2 * margin
    if size < 1 or windows < 1:
        raise ValueError(
            f"the output would have {size} entries: it is the input of a convolution with {windows} windows of {span}, "
            f"stride {stride} and padding {margin}. Both must be positive: pad less."
        )
    return size


def _padding(
    padding: str | tuple[int, ...], x: Array, weight: Array, dilations: tuple[int, ...]
) -> str | list[tuple[int, int]]:
    """The padding as XLA expects it. Raises ValueError for an unknown string, and if no window fits."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'padding must be "same", "valid", an integer or a pair of them; got {padding!r}.')
        if padding == "same" and 0 not in x.shape[1:-1]:
            return "SAME"
        padding = (0,) * len(dilations)
    pads = [(margin, margin) for margin in padding]
    for size, kernel, dilation, pad in zip(x.shape[1:-1], weight.shape, dilations, pads, strict=False):
        must_fit(size, kernel, dilation, pad)
    return pads


def _with_bias(y: Array, bias: Array | None) -> Array:
    if bias is None:
        return y
    if bias.shape != y.shape[-1:]:
        raise ValueError(f"bias must be (outputs,) = {y.shape[-1:]}, got {bias.shape}.")
    return y + bias


def _check(
    x: Array, weight: Array, groups: int, x_layout: str, weight_layout: str, *, transposed: bool = False
) -> None:
    """Raises ValueError unless ranks, channels and groups fit together."""
    integer("groups", groups, 1)
    rank = len(x_layout.split(","))
    if x.ndim != rank or weight.ndim != rank or weight.size == 0:
        raise ValueError(
            f"x must be {x_layout} and weight {weight_layout}, none of weight's axes empty; got {x.shape} and "
            f"{weight.shape}."
        )
    last = weight.shape[-1]
    inputs = last if transposed else groups * weight.shape[-2]
    if x.shape[-1] != inputs or last % groups:
        raise ValueError(
            f"x {x.shape} has {x.shape[-1]} channels, and weight {weight.shape}, which is {weight_layout}, takes "
            f"{inputs} with groups={groups}; groups must also divide weight's last axis, {last}."
        )


CONVOLUTION: dict[str, Callable[..., Array]] = {
    "conv1d": conv1d,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
}
