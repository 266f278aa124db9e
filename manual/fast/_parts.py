"""Evaluates formulas on parts of arrays, in several threads, if entries or rows do not depend on each other.

A formula writes into the memory of its results, because new memory costs more than the arithmetic. Its intermediates
are as small as a part and stay in a core's cache. The size of a part depends on shapes only, so the number of threads
changes no bit of a result.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from manual.fast._threads import PARALLEL, spread

# The largest part of the first array. In smaller parts, operations are so short that threads wait for the
# interpreter's lock longer than they compute.
PART_BYTES = 1 << 21


def in_parts(
    formula: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    results: Sequence[np.ndarray] = (),
    *,
    keep: int = 0,
    larger: int = 1,
) -> list[np.ndarray]:
    """Call `formula(*arrays, *results)` on parts of these arrays, which have all axes but their last `keep` in common.

    The formula sees the common axes as one, the first, and writes into its parts of the results.

    Args:
        results: new arrays, contiguous in C order.
        larger: the size of a part in multiples of PART_BYTES, for a formula with many operations on small arrays.

    Returns:
        The sums over all parts, in float64, of the arrays that the formula returns: a tuple of them, or None.

    Raises:
        ValueError: the arrays do not have these axes in common.
    """
    most = max(arrays, key=lambda array: array.ndim).shape
    common = most[: len(most) - keep]
    if any(array.shape[: len(common)] != common for array in (*arrays, *results)):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"shapes {shapes} do not fit: their axes before the last {keep} must be equal.")
    rows = math.prod(common)
    flat = [array.reshape(rows, *array.shape[len(common) :]) for array in (*arrays, *results)]
    length = _length_of_a_part(rows, arrays[0].nbytes / larger)
    starts = range(0, max(rows, 1), length)
    sums: list[tuple[np.ndarray, ...]] = [()] * len(starts)

    def work(start: int) -> None:
        sums[start // length] = formula(*(array[start : start + length] for array in flat)) or ()

    spread(work, starts, arrays[0].size)
    return [np.asarray(np.sum(of_parts, axis=0, dtype=np.float64)) for of_parts in zip(*sums, strict=True)]


def elementwise(formula: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """A new array like the first, whose entries `formula(*arrays, result)` writes, in parts if it is large."""
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


def _length_of_a_part(rows: int, size: float) -> int:
    """The number of rows in a part, for an array of `size` bytes and an even number of parts of at most PART_BYTES."""
    length = max(int(PART_BYTES * rows // max(size, 1)), 1)
    if rows <= length:
        return length
    return -(-rows // (2 * -(-rows // (2 * length))))
