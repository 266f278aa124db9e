"""Formulas whose entries, or rows, do not depend on each other: part by part, at the speed of a core's cache.

A NumPy expression over big arrays goes through memory once an operation, and each intermediate is new memory, which
costs more than the arithmetic. Of a part, intermediates stay in the cache; and parts are shared among threads. Neither
the size of a part nor the number of threads changes a bit of what is not summed.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from manual.fast._threads import PARALLEL, spread

# Of the first array: small enough for the cache, and large enough that threads seldom wait for the interpreter's lock.
PART_BYTES = 1 << 21


def in_parts(formula: Callable[..., Any], *arrays: np.ndarray, keep: int = 0, sums: int = 0) -> Any:
    """`formula(*arrays)`, an array or a tuple of arrays, for arrays that have all axes but their last `keep` in common.

    The formula gets parts of the arrays, whose common axes are made one, the first. What it makes has that axis too,
    and comes out with all of them; but the last `sums` of its results are sums over it, and are added up in float64.
    Raises ValueError if the arrays do not have these axes in common.
    """
    most = max(arrays, key=lambda array: array.ndim).shape
    common = most[: len(most) - keep]
    if any(array.shape[: len(common)] != common for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"shapes {shapes} do not fit: their axes before the last {keep} must be equal.")
    rows = math.prod(common)
    flat = [array.reshape(rows, *array.shape[len(common) :]) for array in arrays]
    length = _length_of_a_part(rows, arrays[0].nbytes)
    starts = range(0, max(rows, 1), length)

    def made(part: slice) -> tuple[Any, ...]:
        found = formula(*(array[part] for array in flat))
        return found if isinstance(found, tuple) else (found,)

    if len(starts) == 1:
        results = made(slice(None))
        split = len(results) - sums
        wholes, added = results[:split], [np.asarray(result, np.float64) for result in results[split:]]
    else:
        models = made(slice(0, 0))  # of no rows, to see of which kind everything will be
        split = len(models) - sums
        wholes = tuple(np.empty((rows, *model.shape[1:]), model.dtype) for model in models[:split])
        to_add: list[tuple[Any, ...]] = [()] * len(starts)

        def put(start: int) -> None:
            part = slice(start, start + length)
            results = made(part)
            for whole, result in zip(wholes, results[:split], strict=True):
                whole[part] = result
            to_add[start // length] = results[split:]

        spread(put, starts, arrays[0].size)
        added = [np.sum(of_parts, axis=0, dtype=np.float64) for of_parts in zip(*to_add, strict=True)]
    shaped = [whole.reshape((*common, *whole.shape[1:])) for whole in wholes]
    return (*shaped, *added) if len(shaped) + sums > 1 else [*shaped, *added][0]


def elementwise(formula: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """A new array like the first, whose entries `formula(*arrays, result)` writes: of large arrays, part by part."""
    result = np.empty_like(arrays[0])
    together = all(array.shape == result.shape and array.flags.c_contiguous for array in (*arrays, result))
    if result.size < PARALLEL or not together:
        formula(*arrays, result)
        return result
    flat = [array.reshape(-1) for array in (*arrays, result)]
    length = _length_of_a_part(result.size, result.nbytes)
    starts = range(0, result.size, length)
    spread(lambda start: formula(*(array[start : start + length] for array in flat)), starts, result.size)
    return result


def _length_of_a_part(rows: int, size: int) -> int:
    """How many rows of an array of `size` bytes make a part: all, or so few that there are at least four parts."""
    length = max(PART_BYTES * rows // max(size, 1), 1)
    if rows <= length:
        return length
    # An even number, if there are rows enough, so that two threads end together; four at least, as one may be late.
    count = 2 * max(-(-rows // (2 * length)), 2)
    return -(-rows // count)
