"""`manual.pooling` without arrays of windows.

A tap is a view of the image with the entries that all windows have at one position. The maximum combines the taps of a
window, one operation for each. Average pooling adds the rows of a window, which are contiguous, and then its columns.
Pooling over whole images adds a few rows in the dtype of the work, and their sums in float64.
A batch is split into parts that stay in a core's cache.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from manual._precision import widened
from manual._rules import Rules
from manual._windows import Geometry, Pair
from manual.fast._normalized import sums_of_products
from manual.fast._threads import spread
from manual.fast._windows import padded, unpadded
from manual.pooling import (
    AveragePool2dCache,
    GlobalAveragePoolCache,
    Images,
    MaxPool2dCache,
    NewImages,
    _check_averaged,
    _geometry,
    global_average_pool_backward,
)

PART_BYTES = 1 << 20  # the size of a part of x
FEW = 64  # The mean of up to this many entries of a channel is computed in the dtype of the work.


def max_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, MaxPool2dCache]:
    geometry = _geometry(x, window, stride, padding)
    y = np.empty((len(x), *geometry.out, x.shape[3]), x.dtype)

    def pool(part: slice) -> None:
        largest = y[part]
        largest[...] = -math.inf
        for tap in _taps(padded(x[part], geometry.pads, -math.inf), geometry):
            np.maximum(largest, tap, out=largest)

    spread(pool, _parts(x.shape, x.itemsize), x.size)
    return y, MaxPool2dCache(x, y, geometry)


def max_pool2d_backward(output_gradient: NewImages, cache: MaxPool2dCache) -> Images:
    dy, (x, y, geometry) = output_gradient, cache
    dx = np.empty(x.shape, dy.dtype)
    apart = all(stride >= length for stride, length in zip(geometry.stride, geometry.kernel, strict=True))

    def give_back(part: slice) -> None:
        image = padded(x[part], geometry.pads, -math.inf)
        dimage = dx[part] if image.shape == dx[part].shape else np.empty(image.shape, dy.dtype)
        dimage[...] = 0
        free = np.ones(y[part].shape, np.bool_)  # windows whose maximum was not met yet
        for tap, dtap in zip(_taps(image, geometry), _taps(dimage, geometry), strict=True):
            here = tap == y[part]
            here &= free
            free ^= here
            if apart:  # no other window has this entry
                np.multiply(here, dy[part], out=dtap)
            else:
                dtap += here * dy[part]  # np.where is half as fast
        if dimage.base is not dx:
            dx[part] = unpadded(dimage, geometry.pads)

    spread(give_back, _parts(x.shape, x.itemsize), x.size)
    return dx


def average_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> tuple[NewImages, AveragePool2dCache]:
    geometry = _geometry(x, window, stride, padding)
    (high, wide), (down, across), (height, width) = geometry.out, geometry.stride, geometry.kernel
    y = np.empty((len(x), *geometry.out, x.shape[3]), x.dtype)

    def pool(part: slice) -> None:
        image = padded(widened(x[part]), geometry.pads)  # in float16 a sum could overflow where its mean does not
        rows = _sum([image[:, i : i + high * down : down] for i in range(height)])
        total = _sum([rows[:, :, j : j + wide * across : across] for j in range(width)])
        np.multiply(total, 1 / (height * width), out=y[part], casting="same_kind")

    spread(pool, _parts(x.shape, x.itemsize), x.size)
    return y, AveragePool2dCache(x.shape, geometry)


def average_pool2d_backward(output_gradient: NewImages, cache: AveragePool2dCache) -> Images:
    dy, (shape, geometry) = output_gradient, cache
    (high, wide), (down, across), (height, width) = geometry.out, geometry.stride, geometry.kernel
    dx = np.empty(shape, dy.dtype)

    def give_back(part: slice) -> None:
        dimage = padded(np.zeros(dx[part].shape, np.result_type(dy, np.float32)), geometry.pads)
        share = dy[part] * dimage.dtype.type(1 / (height * width))
        drows = np.zeros((len(dimage), high, *dimage.shape[2:]), dimage.dtype)
        for j in range(width):
            drows[:, :, j : j + wide * across : across] += share
        for i in range(height):
            dimage[:, i : i + high * down : down] += drows
        dx[part] = unpadded(dimage, geometry.pads)

    spread(give_back, _parts(shape, dy.itemsize), dx.size)
    return dx


def global_average_pool(
    x: Float[np.ndarray, "batch *size channels"],
) -> tuple[Float[np.ndarray, "batch channels"], GlobalAveragePoolCache]:
    _check_averaged(x)
    size = math.prod(x.shape[1:-1])
    rows = widened(x).reshape(len(x), size, x.shape[-1])  # in float16 a sum could overflow where its mean does not
    total = np.einsum("brn->bn", rows) if size <= FEW else sums_of_products(rows)
    y = total / size
    if not np.isfinite(y).all():  # a sum of a few rows overflowed, or x is not finite
        y = rows.mean(axis=1, dtype=np.float64)
    return y.astype(x.dtype), GlobalAveragePoolCache(x.shape)


def _sum(terms: list[np.ndarray]) -> np.ndarray:
    """A new array, the sum of at least one array."""
    total = terms[0] + terms[1] if len(terms) > 1 else terms[0].copy()
    for term in terms[2:]:
        total += term
    return total


def _taps(image: np.ndarray, geometry: Geometry) -> Iterator[np.ndarray]:
    """Yields a view for each position in a window, row by row: the entries that all windows have there."""
    (high, wide), (down, across) = geometry.out, geometry.stride
    for i, j in np.ndindex(geometry.kernel):
        rows, columns = (slice(k, k + n * s, s) for k, n, s in ((i, high, down), (j, wide, across)))
        yield image[:, rows, columns]


def _parts(shape: tuple[int, ...], itemsize: int) -> list[slice]:
    """Slices of as many examples as fit into PART_BYTES, at least one."""
    examples = max(PART_BYTES // max(math.prod(shape[1:]) * itemsize, 1), 1)
    return [slice(first, first + examples) for first in range(0, shape[0], examples)]


POOLING: Rules = {
    "max_pool2d": (max_pool2d, max_pool2d_backward),
    "average_pool2d": (average_pool2d, average_pool2d_backward),
    "global_average_pool": (global_average_pool, global_average_pool_backward),
}
