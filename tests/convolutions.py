"""Arrays at random, a convolution's value by either side, and convolutions by nested loops."""

import jax
import jax.numpy as jnp
import numpy as np

import autodiff.convolution


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def value_of(side, name, *inputs, **options):
    """The value alone, by either side, as a NumPy array of the dtype of what is given."""
    if side is not autodiff.convolution:
        return getattr(side, name)(*inputs, **options)[0]
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        return np.asarray(getattr(side, name)(*arrays, **options))


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
