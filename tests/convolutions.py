"""Random arrays, convolutions at the limits of every option, and their values by either side and by nested loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import autodiff.convolution

# Shapes of x and weight, the expected number of windows, options, and the expected padding before the first entry.
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


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def value_of(side, name, *inputs, **options):
    """The value (without a cache) by either side, as a NumPy array with the dtype of the inputs."""
    if side is not autodiff.convolution:
        return getattr(side, name)(*inputs, **options)[0]
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        return np.asarray(getattr(side, name)(*arrays, **options))


def both(option):
    return option if isinstance(option, tuple) else (option, option)


def connections(size, weight_shape, windows, stride=1, padding=0, dilation=1, groups=1):
    """Every product of a convolution, as the indices of (input, weight, output), without the batch.

    `padding` is the padding before the first entry, and `windows` the number of windows along each axis.
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
