"""Evaluates elementwise functions of large arrays in blocks, so that intermediate results stay in the cache.

NumPy applies each operation to whole arrays, so that each reads its operands from main memory and allocates memory for
its result. A block stays in the core's cache, and its memory is reused.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

BLOCK = 2**16  # entries in a block: 512 KiB of float64, of which one or two fit into a core's cache


def blockwise(function: Callable[..., Array], *operands: Array, into: np.ndarray | None = None) -> Array:
    """`function(*operands)`, evaluated block by block.

    Args:
        function: an elementwise function, called with a block of each operand. Its result has the shape and dtype of
            the first one.
        *operands: arrays; all but the first may also be numbers. The arrays broadcast to the shape of the first and
            have the same number of axes.
        into: an operand whose memory a large result overwrites; None for new memory.

    Returns:
        The result, of the shape and dtype of the first operand.
    """
    shape = operands[0].shape
    blocks = math.prod(shape) // BLOCK
    if blocks < 2:
        return function(*operands)
    result = np.empty_like(operands[0]) if into is None else into
    # The first axis that is long enough is divided, so that a block is contiguous in memory.
    axis = next((i for i, length in enumerate(shape) if length >= blocks), int(np.argmax(shape)))
    length = math.ceil(shape[axis] / blocks)
    for start in range(0, shape[axis], length):
        block = (*(slice(None),) * axis, slice(start, start + length))
        result[block] = function(*(operand[block] if _spans(operand, axis) else operand for operand in operands))
    return result


def _spans(operand: Array, axis: int) -> bool:
    return np.ndim(operand) > axis and operand.shape[axis] > 1
