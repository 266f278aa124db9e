"""Primitives that say where numbers stand: gather and scatter, slices, padding, joining, sorting and searching.

Each rule computes in NumPy what JAX computes on a CPU for the primitive of the same name. It takes the values of the
inputs, and the parameters of the equation as they stand in the traced program. Results have the dtype of the inputs,
also where that differs from the one that was traced. A result may be a view of an input, and may be read-only; inputs
are never written to. Where updates fall on the same place, they are made in JAX's order, and the last one stays.

A gather and a scatter are one list of positions in the flattened operand, from which the one reads and to which the
other writes. What of it depends on shapes and dimension numbers alone is worked out once (`_Positions`). The rules hold
no state but such plans, which are bounded in number: their keys are shapes and parameters.
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
Sections = tuple[Any, ...]  # what stands between the brackets of a basic index

PLANS = 512  # are kept of each kind
MERGED = 4096  # elements at most are kept in one array of a plan


def common_dtype(*arrays: Array) -> np.dtype[Any]:
    """The dtype of a result that is put together from several arrays."""
    first = arrays[0].dtype
    return first if all(array.dtype == first for array in arrays) else np.result_type(*(a.dtype for a in arrays))


def accumulator_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numbers of a dtype are summed: 16-bit floating point is summed in float32, as kernels do."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype


# --- gather and scatter


class _Positions(NamedTuple):
    """Where the elements of a gather or scatter stand in an operand that is cut into rows.

    Trailing dimensions that are taken whole form a row. The other dimensions of the result (of a gather) or of the
    updates (of a scatter) are the head: a row number belongs to each element of it, `starts · strides + offsets`.
    """

    last_start: Array  # (k,) the largest start of a window that is inside of the operand, for each number of an index
    strides: Array  # (k,) how many rows lie between neighbors
    starts_shape: Shape  # the indices' batch dimensions as they stand in the head; 1 where a window dimension stands
    offsets: tuple[Array, ...]  # row numbers inside of a window and of a batch, to broadcast against the starts
    head: Shape
    row: int  # the number of elements of a row
    shape: Shape  # of the result or the updates


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
    """The plan of a gather: `window_dims` of its result stand for the operand's dimensions that are not `dropped`."""
    rank = len(window_dims) + len(indices) - 1
    kept = [d for d in range(len(operand)) if d not in dropped and d not in operand_batch]
    position = dict(zip(kept, window_dims, strict=True))  # of an operand's dimension in the result
    batch = [d for d in range(rank) if d not in window_dims]  # of the indices' dimensions in the result

    shape = [0] * rank
    for place, size in zip(batch, indices, strict=False):
        shape[place] = size
    for d, place in position.items():
        shape[place] = window[d]

    trailing = 0  # dimensions that are taken whole and stand at the end of both, in the same order
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
    """Which numbers of the indices begin a window that is not inside of the operand, or None if all are inside."""
    outside = indices.view(np.uintp) > positions.last_start  # a negative number is a large unsigned one
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
    """Windows of the operand. Those not inside of it are moved inside, or filled (`FILL_OR_DROP`)."""
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
    """A copy of the operand, into which `write(copy, positions, updates)` has put the updates: all three are flat."""
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
    if positions.row != 1:  # NumPy is quickest with a flat list of positions, also where whole rows are written
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
    """The updates in place of what stood there; the last one stays.

    Raises:
        NotImplementedError: the program applies a function to what stands there (`x.at[i].apply`).
    """
    if update_jaxpr is not None:
        raise NotImplementedError("scatter is evaluated where it replaces values, not where it applies a function.")
    return _scattered(np.ndarray.__setitem__, operand, indices, updates, dimension_numbers, mode)


def scatter_add(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The sum of what stands there and all updates for that place."""
    return _scattered(np.add.at, operand, indices, updates, dimension_numbers, mode)


def scatter_sub(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """What stands there, less all updates for that place."""
    return _scattered(np.subtract.at, operand, indices, updates, dimension_numbers, mode)


def scatter_mul(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The product of what stands there and all updates for that place."""
    return _scattered(np.multiply.at, operand, indices, updates, dimension_numbers, mode)


def scatter_min(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The minimum of what stands there and all updates for that place; NaN if one of them is."""
    return _scattered(np.minimum.at, operand, indices, updates, dimension_numbers, mode)


def scatter_max(
    operand: Array, indices: Array, updates: Array, *, dimension_numbers: Any, mode: GatherScatterMode, **_: Any
) -> Array:
    """The maximum of what stands there and all updates for that place; NaN if one of them is."""
    return _scattered(np.maximum.at, operand, indices, updates, dimension_numbers, mode)


# --- slices


@lru_cache(PLANS)
def _sections(start: Shape, limit: Shape, strides: Shape | None) -> Sections:
    return (*map(section, start, limit, strides or (1,) * len(start)), ...)  # the dots keep a 0-d array an array


def slice(operand: Array, *, start_indices: Shape, limit_indices: Shape, strides: Shape | None, **_: Any) -> Array:
    return operand[_sections(start_indices, limit_indices, strides)]


def _dynamic_sections(shape: Shape, starts: tuple[Array, ...], sizes: Shape) -> Sections:
    """A window that would end outside is moved inside, as JAX does."""
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
    """The padded shape; where the operand's elements stand in it; and which of them (negative padding removes some)."""
    sizes, targets, sources = [], [], []
    for n, (low, high, interior) in zip(shape, config, strict=True):
        step = interior + 1
        size = max(0, low + high + n + interior * max(n - 1, 0))
        first = max(0, -(low // step))  # the first element that stands at 0 or behind
        last = min(n, (size - 1 - low) // step + 1)  # and the one after the last that stands before the end
        start = low + first * step
        count = max(0, last - first)
        sizes.append(size)
        targets.append(section(start, start + (count - 1) * step + 1, step) if count else section(0, 0))
        sources.append(section(first, first + count))
    return tuple(sizes), (*targets, ...), (*sources, ...)


def pad(operand: Array, padding_value: Array, *, padding_config: tuple[tuple[int, int, int], ...], **_: Any) -> Array:
    """Padded before, behind and between the elements of each dimension; negative padding removes elements."""
    shape, target, source = padding_sections(operand.shape, tuple(padding_config))
    if all(low <= 0 and high <= 0 and not interior for low, high, interior in padding_config):
        return operand[source]
    result = np.empty(shape, common_dtype(operand, np.asarray(padding_value)))
    result[...] = padding_value
    result[target] = operand[source]
    return result


# --- sorting and searching


def _sort_keys(operand: Array) -> list[Array]:
    """Arrays that NumPy sorts as JAX sorts the operand: NaN last, also in the parts of complex numbers."""
    if operand.dtype.kind == "c":
        return [np.real(operand), np.imag(operand)]
    return [operand.astype(accumulator_dtype(operand.dtype), copy=False)]  # it misplaces NaN in bfloat16


@lru_cache(PLANS)
def _open_grid(shape: Shape, axis: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Indices for all dimensions before and behind the axis."""
    grid = np.ogrid[tuple(section(n) for n in shape)]
    return tuple(grid[:axis]), tuple(grid[axis + 1 :])


def _along(operand: Array, order: Array, axis: int) -> Array:
    if operand.ndim == 1:
        return operand[order]
    before, behind = _open_grid(operand.shape, axis)
    return operand[(*before, order, *behind)]


def sort(*operands: Array, dimension: int, num_keys: int, **_: Any) -> list[Array]:
    """All operands in the order of the first `num_keys`. Equal keys keep their order, also where that is not asked."""
    keys = [key for operand in operands[:num_keys] for key in _sort_keys(operand)]
    if len(operands) == 1 and keys[0] is operands[0]:
        return [np.sort(operands[0], axis=dimension, kind="stable")]
    alone = len(keys) == 1
    order = keys[0].argsort(axis=dimension, kind="stable") if alone else np.lexsort(keys[::-1], axis=dimension)
    return [_along(operand, order, dimension) for operand in operands]


def top_k(operand: Array, *, k: int, axis: int, **_: Any) -> list[Array]:
    """The k largest and their indices. Floating-point numbers are in total order: -NaN, -inf, ..., -0, 0, ..., NaN."""
    if operand.dtype.kind in "iub":
        order = (~operand).argsort(axis=axis, kind="stable")  # the complement is in the opposite order
    else:
        values = operand.astype(accumulator_dtype(operand.dtype), copy=False)
        missing = values != values
        if np.count_nonzero(missing | (values == 0)):
            negative = np.signbit(values)
            missing = missing * np.where(negative, 1, -1)  # 1 for what is smaller than all numbers
            order = np.lexsort((negative, -values, missing), axis=axis)
        else:
            order = (-values).argsort(axis=axis, kind="stable")
    order = order[(*(section(None),) * axis, section(k))]
    return [_along(operand, order, axis), order.astype(np.int32)]


def argmax(operand: Array, *, axes: Shape, index_dtype: Any, **_: Any) -> Array:
    """The first maximum; the first NaN, if there is one."""
    values = operand.astype(accumulator_dtype(operand.dtype), copy=False)
    return np.asarray(values.argmax(axis=axes[0]), index_dtype)


def argmin(operand: Array, *, axes: Shape, index_dtype: Any, **_: Any) -> Array:
    """The first minimum; the first NaN, if there is one."""
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
