"""Evaluates elementwise functions of large arrays in blocks, so that intermediate results stay in the cache.

NumPy does one operation after the other on whole arrays: each reads from main memory what the one before wrote, and
allocates memory for its result. A block stays in the core's cache, and its memory is reused.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

BLOCK = 2**16  # entries: 512 KiB of float64; one or two such blocks fit into the cache of a core


def blockwise(function: Callable[..., Array], *operands: Array, into: np.ndarray | None = None) -> Array:
    """`function(*operands)` for an elementwise function, whose result has the shape and dtype of the first operand.

    Args:
        function: called with a block of each operand.
        *operands: arrays; all but the first may be numbers. Arrays have as many axes as the first, each of the same
            length or of length 1.
        into: the memory of a large result: None for new memory, or an operand, which is overwritten.
    """
    shape = operands[0].shape
    blocks = math.prod(shape) // BLOCK
    if blocks < 2:
        return function(*operands)
    result = np.empty_like(operands[0]) if into is None else into
    # Along the first axis that is long enough, so that a block is contiguous in memory.
    axis = next((i for i, length in enumerate(shape) if length >= blocks), int(np.argmax(shape)))
    length = math.ceil(shape[axis] / blocks)
    for start in range(0, shape[axis], length):
        block = (*(slice(None),) * axis, slice(start, start + length))
        result[block] = function(*(operand[block] if _spans(operand, axis) else operand for operand in operands))
    return result


def _spans(operand: Array, axis: int) -> bool:
    return np.ndim(operand) > axis and operand.shape[axis] > 1
