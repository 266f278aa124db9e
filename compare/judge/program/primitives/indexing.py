"""Primitives that move or select entries: gather and scatter, slices, padding, concatenation, sorting and searching.

Each rule computes in NumPy what JAX computes on a CPU for the primitive of the same name. Its arguments are the inputs
and the parameters of the traced equation. A result has the dtype of the inputs, which may be wider than that of the
trace. It may be a view of an input and read-only, but inputs are never modified. Several updates of one entry are
applied in JAX's order, so that the last one remains.

A gather reads from a list of positions in the flattened operand, and a scatter writes to such a list. The part of the
list that depends only on shapes and dimension numbers is computed once and cached (`_Positions`). The rules keep no
other state. The number of cached plans is bounded, and their keys are shapes and parameters.
"""

import math
from builtins import slice as section  # `slice` is a primitive
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jax.lax import GatherScatterMode

Array = np.ndarray
Shape = tuple[int, ...]
Sections = tuple[Any, ...]  # a basic index: slices and an ellipsis

PLANS = 512  # the number of cached plans for each of the functions below
MERGED = 4096  # offsets of several dimensions are merged into one array of up to this number of elements


def common_dtype(*arrays: Array) -> np.dtype[Any]:
    """The dtype of a result that combines entries of several arrays."""
    first = arrays[0].dtype
    return first if all(array.dtype == first for array in arrays) else np.result_type(*(a.dtype for a in arrays))


def accumulator_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numbers of a dtype are summed: float32 for 16-bit floating point, as in most kernels."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


# --- gather and scatter


class _Positions(NamedTuple):
    """The positions in the operand that a gather reads or a scatter writes.

    The operand is divided into rows: trailing dimensions over which every window extends completely form a row. The
    other dimensions of a gather's result, or of a scatter's updates, are called the head. Each element of the head
    refers to one row, with the number `starts · strides + offsets`.

    Attributes:
        last_start: (k,) for each component of an index, the largest start of a window that lies inside the operand.
        strides: (k,) for each component of an index, the number of rows between neighbors.
        starts_shape: the shape that broadcasts the starts against the head: the indices' batch dimensions, and 1 for
            each dimension of the window.
        offsets: the row numbers relative to the start of the window and of the batch, in a shape that broadcasts
            against the starts.
        head: the shape of the head.
        row: the number of elements in a row.
        shape: the shape of the result or of the updates.
    """

    last_start: Array
    strides: Array
    starts_shape: Shape
    offsets: tuple[Array, ...]
    head: Shape
    row: int
    shape: Shape


def _positions(
    operand: Shape,
    indices: Shape,
    window: Shape,
    window_dims: Shape,
    dropped: Shape,
    index_map: Shape,
    operand_batch: Shape,
    indices_batch: Shape,
) -> _Positions:
    """The plan of a gather; also that of a scatter, which writes where a gather with the same indices would read.

    Args:
        operand: the operand's shape.
        indices: the indices' shape; the last dimension holds the components of one index.
        window: the shape of the window that each index selects, in the operand's dimensions.
        window_dims: the result's dimensions that belong to the window.
        dropped: the operand's dimensions that the result does not have.
        index_map: the operand's dimension for each component of an index.
        operand_batch: the operand's batch dimensions.
        indices_batch: the indices' dimensions with the same batches.
    """
    rank = len(window_dims) + len(indices) - 1
    kept = [d for d in range(len(operand)) if d not in dropped and d not in operand_batch]
    position = dict(zip(kept, window_dims, strict=True))  # the operand's dimension -> the result's
    batch = [d for d in range(rank) if d not in window_dims]  # the result's dimensions that the indices have

    shape = [0] * rank
    for place, size in zip(batch, indices, strict=False):
        shape[place] = size
    for d, place in position.items():
        shape[place] = window[d]

    trailing = 0  # the number of last dimensions that operand and result share and that the window covers completely
    while trailing < len(kept):
        d = len(operand) - 1 - trailing
        if d in index_map or position.get(d) != rank - 1 - trailing or window[d] != operand[d]:
            break
        trailing += 1
    inner, head = len(operand) - trailing, rank - trailing
    strides = [math.prod(operand[d + 1 : inner]) for d in range(inner)]

    places = {d: place for d, place in position.items() if d < inner and window[d] != 1}
    places |= {d: batch[b] for d, b in zip(operand_batch, indices_batch, strict=True)}
    offsets: list[Array] = []
    for d, place in places.items():
        offset = (np.arange(shape[place]) * strides[d]).reshape((-1,) + (1,) * (head - 1 - place))
        if offsets and offsets[-1].size * offset.size <= MERGED:
            offset = offsets.pop() + offset
        offsets.append(offset)

    return _Positions(
        last_start=np.array([max(0, operand[d] - window[d]) for d in index_map], np.uintp),
        strides=np.array([strides[d] for d in index_map], np.intp),
        starts_shape=tuple(shape[d] if d in batch else 1 for d in range(head)),
        offsets=tuple(offsets),
        head=tuple(shape[:head]),
        row=math.prod(operand[inner:]),
        shape=tuple(shape),
    )


@lru_cache(PLANS)
def _gather_positions(operand: Shape, indices: Shape, numbers: Any, slice_sizes: Shape) -> _Positions:
    return _positions(
        operand,
        indices,
        tuple(slice_sizes),
        numbers.offset_dims,
        numbers.collapsed_slice_dims,
        numbers.start_index_map,
        numbers.operand_batching_dims,
        numbers.start_indices_batching_dims,
    )


@lru_cache(PLANS)
def _scatter_positions(operand: Shape, indices: Shape, updates: Shape, numbers: Any) -> _Positions:
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    sizes = iter([updates[d] for d in numbers.update_window_dims])
    return _positions(
        operand,
        indices,
        tuple(1 if d in single else next(sizes) for d in range(len(operand))),
        numbers.update_window_dims,
        numbers.inserted_window_dims,
        numbers.scatter_dims_to_operand_dims,
        numbers.operand_batching_dims,
        numbers.scatter_indices_batching_dims,
    )


def _outside(indices: Array, positions: _Positions) -> Array | None:
    """Whether the window of each index component extends beyond the operand; None if no window does."""
    outside = indices.view(np.uintp) > positions.last_start  # a negative integer is a large unsigned integer
    return outside if np.count_nonzero(outside) else None


def _clipped(indices: Array, positions: _Positions) -> Array:
    return np.minimum(np.maximum(indices, 0), positions.last_start.view(np.intp))


def _row_numbers(indices: Array, positions: _Positions) -> Array:
    rows = indices * positions.strides if indices.shape[-1] == 1 else indices.dot(positions.strides)
    rows = rows.reshape(positions.starts_shape)
    for offsets in positions.offsets:
        rows = rows + offsets
    return rows


def gather(
    operand: Array,
    indices: Array,
    *,
    dimension_numbers: Any,
    slice_sizes: Shape,
    mode: GatherScatterMode,
    fill_value: Any,
    **_: Any,
) -> Array:
    """Windows of the operand. Windows that extend beyond it are moved inside, or filled if `mode` is FILL_OR_DROP."""
    operand = np.asarray(operand)
    positions = _gather_positions(operand.shape, indices.shape, dimension_numbers, slice_sizes)
    if 0 in positions.shape:
        return np.empty(positions.shape, operand.dtype)
    indices = indices.astype(np.intp, copy=False)
    outside = _outside(indices, positions)
    rows = _row_numbers(indices if outside is None else _clipped(indices, positions), positions)
    result = operand.reshape(-1, positions.row).take(rows.reshape(-1), axis=0).reshape(positions.shape)
    if outside is not None and mode is GatherScatterMode.FILL_OR_DROP:
        filled = outside.any(-1).reshape(*positions.starts_shape, 1)
        np.copyto(result.reshape(*positions.head, positions.row), fill_value, where=filled)
    return result


def _scattered(
    write: Callable[[Array, Array, Array], Any],
    operand: Array,
    indices: Array,
    updates: Array,
    dimension_numbers: Any,
    mode: GatherScatterMode,
) -> Array:
    """A copy of the operand with the updates applied by `write(copy, positions, updates)`, whose arrays are flat."""
    dtype = common_dtype(operand, updates)
    if updates.size == 0:
        return operand.astype(dtype, copy=False)
    positions = _scatter_positions(operand.shape, indices.shape, updates.shape, dimension_numbers)
    indices = indices.astype(np.intp, copy=False)
    outside = _outside(indices, positions)
    if outside is not None and mode is GatherScatterMode.CLIP:
        indices = _clipped(indices, positions)
    rows = _row_numbers(indices, positions)

    working = accumulator_dtype(dtype)
    updates = updates.reshape(-1, positions.row).astype(working, copy=False)
    if outside is not None and mode is not GatherScatterMode.CLIP:
        inside = np.broadcast_to(np.logical_not(outside.any(-1)).reshape(positions.starts_shape), positions.head)
        rows, updates = rows[inside], updates[inside.reshape(-1)]
    if positions.row != 1:  # NumPy is fastest with a flat list of positions, even if whole rows are written
        rows = rows.reshape(-1, 1) * positions.row + np.arange(positions.row)

    result = np.array(operand, working, order="C")
    write(result.reshape(-1), rows.reshape(-1), updates.reshape(-1))
    return result.astype(dtype, copy=False)


def scatter(
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    dimension_numbers: Any,
    mode: GatherScatterMode,
    update_jaxpr: Any = None,
    **_: Any,
) -> Array:
    """Each update replaces an entry; if several replace the same one, the last remains.

    Raises:
        NotImplementedError: if the program applies a function to the entries (`x.at[i].apply`).
    """
    if update_jaxpr is not None:
        raise NotImplementedError("scatter is evaluated only if it replaces values, not if it applies a function.")
    return _scattered(np.ndarray.__setitem__, operand, indices, updates, dimension_numbers, mode)


def scatter_add(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """Each entry plus the sum of its updates."""
    return _scattered(np.add.at, operand, indices, updates, dimension_numbers, mode)


def scatter_sub(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """Each entry minus the sum of its updates."""
    return _scattered(np.subtract.at, operand, indices, updates, dimension_numbers, mode)


def scatter_mul(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The product of each entry and its updates."""
    return _scattered(np.multiply.at, operand, indices, updates, dimension_numbers, mode)


def scatter_min(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The minimum of each entry and its updates; NaN if one of them is NaN."""
    return _scattered(np.minimum.at, operand, indices, updates, dimension_numbers, mode)


def scatter_max(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The maximum of each entry and its updates; NaN if one of them is NaN."""
    return _scattered(np.maximum.at, operand, indices, updates, dimension_numbers, mode)


# --- slices


@lru_cache(PLANS)
def _sections(start: Shape, limit: Shape, strides: Shape | None) -> Sections:
    return (*map(section, start, limit, strides or (1,) * len(start)), ...)  # `...` keeps a 0-d array an array


def slice(operand: Array, *, start_indices: Shape, limit_indices: Shape, strides: Shape | None, **_: Any) -> Array:
    return operand[_sections(start_indices, limit_indices, strides)]


def _dynamic_sections(shape: Shape, starts: tuple[Array, ...], sizes: Shape) -> Sections:
    """The index of a window. A window that would extend beyond the array is moved inside, as in JAX."""
    inside = [min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)]
    return (*(section(i, i + size) for i, size in zip(inside, sizes, strict=True)), ...)


def dynamic_slice(operand: Array, *starts: Array, slice_sizes: Shape, **_: Any) -> Array:
    return operand[_dynamic_sections(operand.shape, starts, slice_sizes)]


def dynamic_update_slice(operand: Array, update: Array, *starts: Array, **_: Any) -> Array:
    result = np.array(operand, common_dtype(operand, update))
    result[_dynamic_sections(operand.shape, starts, update.shape)] = update
    return result


@lru_cache(PLANS)
def _reversed_sections(rank: int, dimensions: Shape) -> Sections:
    return (*(section(None, None, -1 if d in dimensions else None) for d in range(rank)), ...)


def rev(operand: Array, *, dimensions: Shape, **_: Any) -> Array:
    return operand[_reversed_sections(operand.ndim, tuple(dimensions))]


@lru_cache(PLANS)
def _split_sections(rank: int, sizes: Shape, axis: int) -> tuple[Sections, ...]:
    ends = np.cumsum(sizes).tolist()
    before = (section(None),) * axis
    return tuple((*before, section(end - size, end)) for size, end in zip(sizes, ends, strict=True))


def split(operand: Array, *, sizes: Shape, axis: int, **_: Any) -> list[Array]:
    return [operand[sections] for sections in _split_sections(operand.ndim, tuple(sizes), axis)]


def concatenate(*operands: Array, dimension: int, **_: Any) -> Array:
    return np.concatenate(operands, axis=dimension)


# --- padding


@lru_cache(PLANS)
def padding_sections(shape: Shape, config: tuple[tuple[int, int, int], ...]) -> tuple[Shape, Sections, Sections]:
    """The shape after padding, the index of the operand's elements in it, and the index of the elements that are kept.

    Negative padding removes elements.
    """
    sizes, targets, sources = [], [], []
    for n, (low, high, interior) in zip(shape, config, strict=True):
        step = interior + 1
        size = max(0, low + high + n + interior * max(n - 1, 0))
        first = max(0, -(low // step))  # the first element whose position is not negative
        last = min(n, (size - 1 - low) // step + 1)  # one more than the last element whose position is below size
        start = low + first * step
        count = max(0, last - first)
        sizes.append(size)
        targets.append(section(start, start + (count - 1) * step + 1, step) if count else section(0, 0))
        sources.append(section(first, first + count))
    return tuple(sizes), (*targets, ...), (*sources, ...)


def pad(operand: Array, padding_value: Array, *, padding_config: tuple[tuple[int, int, int], ...], **_: Any) -> Array:
    """The operand with padding before, after and between the elements of each dimension.

    Negative padding removes elements.
    """
    shape, target, source = padding_sections(operand.shape, tuple(padding_config))
    if all(low <= 0 and high <= 0 and not interior for low, high, interior in padding_config):
        return operand[source]
    result = np.empty(shape, common_dtype(operand, np.asarray(padding_value)))
    result[...] = padding_value
    result[target] = operand[source]
    return result


# --- sorting and searching


def _sort_keys(operand: Array) -> list[Array]:
    """Arrays that NumPy sorts in the order in which JAX sorts the operand, with NaN last.

    Complex numbers are sorted by their real parts and then by their imaginary parts.
    """
    if operand.dtype.kind == "c":
        return [np.real(operand), np.imag(operand)]
    return [operand.astype(accumulator_dtype(operand.dtype), copy=False)]  # NumPy sorts NaN wrongly in bfloat16


@lru_cache(PLANS)
def _open_grid(shape: Shape, axis: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Indices for all dimensions before the axis, and for all dimensions after it."""
    grid = np.ogrid[tuple(section(n) for n in shape)]
    return tuple(grid[:axis]), tuple(grid[axis + 1 :])


def _along(operand: Array, order: Array, axis: int) -> Array:
    if operand.ndim == 1:
        return operand[order]
    before, behind = _open_grid(operand.shape, axis)
    return operand[(*before, order, *behind)]


def sort(*operands: Array, dimension: int, num_keys: int, **_: Any) -> list[Array]:
    """All operands, sorted by the first `num_keys` of them. The sort is always stable, also if `is_stable` is False."""
    keys = [key for operand in operands[:num_keys] for key in _sort_keys(operand)]
    if len(operands) == 1 and keys[0] is operands[0]:
        return [np.sort(operands[0], axis=dimension, kind="stable")]
    alone = len(keys) == 1
    order = keys[0].argsort(axis=dimension, kind="stable") if alone else np.lexsort(keys[::-1], axis=dimension)
    return [_along(operand, order, dimension) for operand in operands]


def top_k(operand: Array, *, k: int, axis: int, **_: Any) -> list[Array]:
    """The k largest entries and their indices, in the total order -NaN, -inf, ..., -0, 0, ..., inf, NaN."""
    if operand.dtype.kind in "iub":
        order = (~operand).argsort(axis=axis, kind="stable")  # the bitwise complement reverses the order
    else:
        values = operand.astype(accumulator_dtype(operand.dtype), copy=False)
        missing = values != values
        if np.count_nonzero(missing | (values == 0)):
            negative = np.signbit(values)
            missing = missing * np.where(negative, 1, -1)  # 1 for -NaN, which is below all numbers, and -1 for NaN
            order = np.lexsort((negative, -values, missing), axis=axis)
        else:
            order = (-values).argsort(axis=axis, kind="stable")
    order = order[(*(section(None),) * axis, section(k))]
    return [_along(operand, order, axis), order.astype(np.int32)]


def argmax(operand: Array, *, axes: Shape, index_dtype: Any, **_: Any) -> Array:
    """The index of the first maximum; that of the first NaN, if there is one."""
    values = operand.astype(accumulator_dtype(operand.dtype), copy=False)
    return np.asarray(values.argmax(axis=axes[0]), index_dtype)


def argmin(operand: Array, *, axes: Shape, index_dtype: Any, **_: Any) -> Array:
    """The index of the first minimum; that of the first NaN, if there is one."""
    values = operand.astype(accumulator_dtype(operand.dtype), copy=False)
    return np.asarray(values.argmin(axis=axes[0]), index_dtype)


def iota(*, dtype: Any, shape: Shape, dimension: int, **_: Any) -> Array:
    numbers = np.arange(shape[dimension]).astype(dtype).reshape((-1,) + (1,) * (len(shape) - 1 - dimension))
    return np.broadcast_to(numbers, shape)


RULES: dict[str, Callable[..., Any]] = {
    "argmax": argmax,
    "argmin": argmin,
    "concatenate": concatenate,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    "iota": iota,
    "pad": pad,
    "rev": rev,
    "scatter": scatter,
    "scatter-add": scatter_add,
    "scatter-max": scatter_max,
    "scatter-min": scatter_min,
    "scatter-mul": scatter_mul,
    "scatter-sub": scatter_sub,
    "slice": slice,
    "sort": sort,
    "split": split,
    "top_k": top_k,
}
