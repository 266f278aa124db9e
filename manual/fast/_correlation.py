"""The three contractions that all convolutions consist of, on images (batch, height, width, channels).

    correlate         y[n, h, w, o]  = sum over i, j, c of  x[n, h s + i d - p, w s + j d - p, c] W[i, j, c, o]
    input_gradient    the adjoint of correlate for fixed W, from y to x
    weight_gradient   the adjoint of correlate for fixed x, from y to W

(s the stride, d the dilation, p the padding, all of them by axis; with groups, c and o are of the same group.)

With the windows of x as the rows of a matrix `columns`, each is a matrix product: y = columns W, dW = columns^T dy and
dcolumns = dy W^T. The whole matrix has as many entries as x times the kernel, and writing it takes longer than the
product. So it is made and used tile by tile, and each tile fits into the cache. For 3x3 kernels this takes little more
than half the time of one large product, and little memory.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from manual._windows import Geometry
from manual.fast._threads import spread, threads_for
from manual.fast._windows import padded, unpadded

TILE_BYTES = 1 << 21  # the size of a tile of columns
TILE_ROWS = 4  # the least number of windows in a tile per output channel, because each product reads all of W


def correlate(x: np.ndarray, weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """y = columns W, for each group."""
    dtype = np.result_type(x, weight)
    windows, y = _windows(x, geometry), np.empty((len(x), *geometry.out, weight.shape[3]), dtype)
    if _is_depthwise(weight, geometry):
        _shared_out(lambda n: _sum("gnhwijc,ijcg->nhwg", windows[:, n], weight, y[n]), windows)
        return y
    matrices = _matrices(weight, geometry)
    for batch, rows in _tiles(windows, weight):
        np.matmul(_columns(windows[:, batch, rows]), matrices, out=_grouped(y[batch, rows], geometry))
    return y


def weight_gradient(x: np.ndarray, dy: np.ndarray, weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """dW = columns^T dy, for each group; float16 is summed in float32."""
    windows, dtype = _windows(x, geometry), _wide(weight.dtype)
    if _is_depthwise(weight, geometry):
        spec = f"gnhwijc,nhwg->n{'h' if geometry.out[0] < geometry.out[1] else 'w'}ijcg"
        sums = np.empty((len(x), min(geometry.out), *weight.shape), dtype)  # one long sum would lose digits
        _shared_out(lambda n: _sum(spec, windows[:, n], dy[n], sums[n]), windows)
        dweight = sums.sum(axis=(0, 1))
    else:
        dmatrices = np.zeros(_matrices(weight, geometry).shape, dtype)
        for batch, rows in _tiles(windows, weight):
            dmatrices += _columns(windows[:, batch, rows]).mT @ _grouped(dy[batch, rows], geometry)
        dweight = dmatrices.swapaxes(0, 1).reshape(weight.shape)
    return dweight.astype(weight.dtype, copy=False)


def input_gradient(dy: np.ndarray, weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """dx[n, h s + i d - p, w s + j d - p, c] += sum over o of dy[n, h, w, o] W[i, j, c, o], the adjoint of correlate.

    At stride 1, dx is the correlation of dy with the kernel rotated by 180 degrees, inputs and outputs exchanged. This
    is as fast as the forward pass unless dy has many more channels than x. In that case, and at other strides,
    dcolumns = dy W^T are added to the entries that the columns were read from.
    """
    depth, outputs = weight.shape[2:]
    if geometry.stride == (1, 1) and outputs <= 2 * depth * geometry.groups:
        return correlate(dy, *_turned(weight, geometry))
    (top, bottom), (left, right) = geometry.pads
    (height, width), dtype = geometry.size, np.result_type(dy, weight)
    dx = np.zeros((len(dy), top + height + bottom, left + width + right, depth * geometry.groups), _wide(dtype))
    targets, transposed = _view(_images(dx, geometry.groups), geometry, writeable=True), _matrices(weight, geometry).mT
    for batch, rows in _tiles(targets, weight):
        target, part = targets[:, batch, rows], dy[batch, rows]
        if _is_depthwise(weight, geometry):
            columns = np.moveaxis(part[:, :, :, None, None, None] * weight, -1, 0)
        else:
            columns = (_grouped(part, geometry) @ transposed).reshape(target.shape)
        for tap in np.ndindex(geometry.kernel):
            target[:, :, :, :, *tap] += columns[:, :, :, :, *tap]
    return np.ascontiguousarray(unpadded(dx, geometry.pads), dtype)


def _turned(weight: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """The kernel and the geometry for which `correlate` is the input gradient, at stride 1.

    The first window over dy ends where x begins. So dy is padded by d (k - 1) less the padding of x, which crops dy
    where it is negative.
    """
    spans = (d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel, strict=True))
    axes = zip(spans, geometry.pads, geometry.size, geometry.out, strict=True)
    top, left = ((span - before, size - out + before) for span, (before, _), size, out in axes)
    kh, kw, depth, outputs = weight.shape
    turned = weight[::-1, ::-1].reshape(kh, kw, depth, geometry.groups, -1).swapaxes(2, 4)
    kernel = turned.reshape(kh, kw, outputs // geometry.groups, depth * geometry.groups)
    return kernel, geometry._replace(size=geometry.out, out=geometry.size, pads=(top, left))


def _windows(x: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The windows of x, for reading: (groups, batch, *out, *kernel, depth)."""
    images = _images(padded(x, geometry.pads), geometry.groups)
    if images.shape[-1] > 1:  # group by group, so that a row of a window is contiguous
        images = np.ascontiguousarray(images)
    return _view(images, geometry)


def _images(x: np.ndarray, groups: int) -> np.ndarray:
    """(groups, batch, height, width, depth), without a copy."""
    return np.moveaxis(x.reshape(*x.shape[:3], groups, x.shape[3] // groups), 3, 0)


def _view(images: np.ndarray, geometry: Geometry, *, writeable: bool = False) -> np.ndarray:
    """A view with all entries of each window."""
    (g, n, h, w, c), (sh, sw), (dh, dw) = images.strides, geometry.stride, geometry.dilation
    shape = (*images.shape[:2], *geometry.out, *geometry.kernel, images.shape[4])
    return as_strided(images, shape, (g, n, h * sh, w * sw, h * dh, w * dw, c), writeable=writeable)


def _tiles(windows: np.ndarray, weight: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Slices of examples and of rows: whole examples if they are small, else rows of one."""
    groups, batch, height, width, *window = windows.shape
    bytes_per_row = width * groups * math.prod(window) * windows.itemsize
    rows = max(TILE_BYTES // bytes_per_row, -(-TILE_ROWS * weight.shape[3] // width), 1)
    examples = max(rows // height, 1)
    for first in range(0, batch, examples):
        for top in range(0, height, rows):
            yield slice(first, first + examples), slice(top, top + rows)


def _columns(windows: np.ndarray) -> np.ndarray:
    """Windows as the rows of a matrix for each group: (groups, windows, taps x depth)."""
    columns = windows.reshape(len(windows), math.prod(windows.shape[1:4]), -1)
    return columns.astype(_wide(columns.dtype), copy=False)


def _matrices(weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """W as one matrix for each group: (groups, taps x depth, outputs / groups)."""
    matrices = weight.reshape(-1, geometry.groups, weight.shape[3] // geometry.groups).swapaxes(0, 1)
    return matrices.astype(_wide(matrices.dtype), copy=False)


def _grouped(y: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Outputs as one matrix for each group: (groups, windows, outputs / groups). No copy where y is contiguous."""
    return y.reshape(-1, geometry.groups, y.shape[3] // geometry.groups).swapaxes(0, 1)


def _is_depthwise(weight: np.ndarray, geometry: Geometry) -> bool:
    """Whether each group has one input and one output channel, which is too few for matrix products."""
    return weight.shape[2] == 1 and weight.shape[3] == geometry.groups > 1


def _sum(spec: str, windows: np.ndarray, other: np.ndarray, out: np.ndarray) -> None:
    np.einsum(spec, windows, other, out=out, dtype=_wide(out.dtype), casting="same_kind")


def _shared_out(work: Callable[[slice], None], windows: np.ndarray) -> None:
    """Calls `work` for slices of the examples, one for each thread, because einsum has no threads of its own."""
    batch = windows.shape[1]
    shares = threads_for(batch, windows.size)
    ends = [batch * i // shares for i in range(shares + 1)]
    spread(work, [*map(slice, ends[:-1], ends[1:])], windows.size)


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype of sums: float32 or wider, like the dtypes of BLAS."""
    return np.result_type(dtype, np.float32)
