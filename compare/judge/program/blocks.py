"""Functions of single entries on large arrays: a block at a time, so that what lies in between stays in the cache.

NumPy does one operation after the other on whole arrays. Where several follow each other on the same entries, each
reads from memory what the one before wrote there, and asks for new memory for it. A block of them is still in the
core's cache, and its memory is given out again at once.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

BLOCK = 2**16  # entries: 512 KiB of float64, of which one or two fit into the cache of a core


def blockwise(function: Callable[..., Array], *operands: Array, into: np.ndarray | None = None) -> Array:
    """`function(*operands)` for a function of single entries, whose result is like the first operand.

    Args:
        function: is called for a block of each operand.
        operands: arrays, after the first one also numbers. Those with axes have as many as the first, each as long as
            there or of length 1.
        into: memory for a large result: None for new memory, or an operand, which is overwritten then.
    """
    shape = operands[0].shape
    blocks = math.prod(shape) // BLOCK
    if blocks < 2:
        return function(*operands)
    result = np.empty_like(operands[0]) if into is None else into
    # Along the first axis that can be cut into so many, so that a block lies together in memory.
    axis = next((i for i, length in enumerate(shape) if length >= blocks), int(np.argmax(shape)))
    length = math.ceil(shape[axis] / blocks)
    for start in range(0, shape[axis], length):
        block = (*(slice(None),) * axis, slice(start, start + length))
        result[block] = function(*(operand[block] if _spans(operand, axis) else operand for operand in operands))
    return result


def _spans(operand: Array, axis: int) -> bool:
    return np.ndim(operand) > axis and operand.shape[axis] > 1
