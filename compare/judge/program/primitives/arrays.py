"""Operations on whole arrays: reshaping, reductions, matrix products."""

from functools import lru_cache
from typing import Any

import numpy as np

from compare.judge.program.primitives.row import Kind, Moves, Primitive, Rounds

Array = Any


def broadcast_in_dim(
    x: Array, *_: Array, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], **__: Any
) -> Array:
    x = np.asarray(x)
    if x.ndim != len(shape) or x.shape != shape:
        spread = [1] * len(shape)
        for axis, n in zip(broadcast_dimensions, x.shape, strict=True):
            spread[axis] = n
        x = np.broadcast_to(x.reshape(spread), shape)
    return x


def reshape(x: Array, *, new_sizes: tuple[int, ...], dimensions: tuple[int, ...] | None = None, **_: Any) -> Array:
    """If `dimensions` is not None, the input's axes are transposed into that order first."""
    return np.reshape(x if dimensions is None else np.transpose(x, dimensions), new_sizes)


def squeeze(x: Array, *, dimensions: tuple[int, ...], **_: Any) -> Array:
    return np.squeeze(x, tuple(dimensions))


def transpose(x: Array, *, permutation: tuple[int, ...], **_: Any) -> Array:
    return np.transpose(x, permutation)


def stack(*xs: Array, axis: int, **_: Any) -> Array:
    return np.stack(xs, axis)


def unstack(x: Array, *, axis: int, **_: Any) -> list[Array]:
    return list(np.moveaxis(x, axis, 0))


def tile(x: Array, *, reps: tuple[int, ...], **_: Any) -> Array:
    return np.tile(x, reps)


def reduce_sum(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    x = np.asarray(x)
    return np.add.reduce(x, axis=tuple(axes), dtype=x.dtype)


def reduce_prod(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    x = np.asarray(x)
    return np.multiply.reduce(x, axis=tuple(axes), dtype=x.dtype)


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


def reduce_max(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    x = np.asarray(x)
    return np.maximum.reduce(x, axis=tuple(axes), initial=_lowest(x.dtype))


def reduce_min(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    x = np.asarray(x)
    return np.minimum.reduce(x, axis=tuple(axes), initial=_highest(x.dtype))


def reduce_and(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    return np.bitwise_and.reduce(x, axis=tuple(axes))


def reduce_or(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    return np.bitwise_or.reduce(x, axis=tuple(axes))


def reduce_xor(x: Array, *, axes: tuple[int, ...], **_: Any) -> Array:
    return np.bitwise_xor.reduce(x, axis=tuple(axes))


@lru_cache(maxsize=512)
def _layout(rank: int, contracted: tuple[int, ...], batched: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The free axes of a factor, and its axes in the order batch, free, contracted."""
    free = tuple(axis for axis in range(rank) if axis not in contracted and axis not in batched)
    return free, (*batched, *free, *contracted)


def dot_general(a: Array, b: Array, *, dimension_numbers: Any, preferred_element_type: Any = None, **_: Any) -> Array:
    """The axes of the result are the batch axes, the free axes of `a`, and the free axes of `b`."""
    a, b = np.asarray(a), np.asarray(b)
    (contracted_a, contracted_b), (batched_a, batched_b) = dimension_numbers
    if a.dtype != b.dtype or a.dtype.kind in "biu":
        common = np.result_type(a.dtype, b.dtype)
        # Booleans are added as integers, because such a product may count them.
        common = np.dtype(np.int64) if common.kind == "b" else common
        if preferred_element_type is not None and common.kind in "iu":  # 8-bit integers are added in this dtype
            common = np.promote_types(common, preferred_element_type)
        a, b = a.astype(common), b.astype(common)
    if not batched_a and len(contracted_a) == 1 and a.ndim <= 2 and b.ndim <= 2:
        left = a if a.ndim == 1 or contracted_a[0] == 1 else a.T
        right = b if contracted_b[0] == 0 else b.T
        if left.ndim == right.ndim == 2 and left.shape[1] == 1:  # BLAS is slow for this case
            return left * right
        return left @ right
    free_a, order_a = _layout(a.ndim, tuple(contracted_a), tuple(batched_a))
    free_b, order_b = _layout(b.ndim, tuple(contracted_b), tuple(batched_b))
    batch = tuple(a.shape[axis] for axis in batched_a)
    left, right = tuple(a.shape[axis] for axis in free_a), tuple(b.shape[axis] for axis in free_b)
    terms = int(np.prod([a.shape[axis] for axis in contracted_a], dtype=np.int64))
    rows, columns = int(np.prod(left, dtype=np.int64)), int(np.prod(right, dtype=np.int64))
    a = a.transpose(order_a).reshape(*batch, rows, terms)
    b = b.transpose(order_b).reshape(*batch, columns, terms)
    return (a @ b.swapaxes(-1, -2)).reshape((*batch, *left, *right))


def _moving(function: Any) -> Primitive:
    return Primitive(function, Kind.LINEAR, Rounds.EXACTLY, analytic=True)


ROWS: dict[str, Primitive] = {
    "broadcast_in_dim": _moving(broadcast_in_dim),
    "reshape": _moving(reshape),
    "squeeze": _moving(squeeze),
    "transpose": _moving(transpose),
    "stack": _moving(stack),
    "unstack": _moving(unstack),
    "tile": _moving(tile),
    "reduce_sum": Primitive(reduce_sum, Kind.LINEAR, Rounds.TERMS, analytic=True),
    "reduce_prod": Primitive(reduce_prod, analytic=True),
    "reduce_max": Primitive(reduce_max, Kind.NONSMOOTH, Rounds.EXACTLY),
    "reduce_min": Primitive(reduce_min, Kind.NONSMOOTH, Rounds.EXACTLY),
    "reduce_and": Primitive(reduce_and, Kind.DISCRETE, Rounds.EXACTLY),
    "reduce_or": Primitive(reduce_or, Kind.DISCRETE, Rounds.EXACTLY),
    "reduce_xor": Primitive(reduce_xor, Kind.DISCRETE, Rounds.EXACTLY),
    "dot_general": Primitive(dot_general, Kind.LINEAR, Rounds.PRODUCTS, moves=Moves.SMALLER_FACTOR, analytic=True),
}
