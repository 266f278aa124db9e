"""Evaluates elementwise functions of large arrays in blocks, so that intermediate results stay in the cache.

NumPy applies each operation to whole arrays, so that each reads its operands from main memory and allocates memory for
its result. A block stays in the core's cache, and its memory is reused.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = Any

BLOCK = 2**17  # entries in a block: 1 MiB of float64


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
    if not _number(operands[0].shape):
        return function(*operands)
    result = np.empty_like(operands[0]) if into is None else into
    for block in blocks(operands[0].shape):
        axis = len(block) - 1
        result[block] = function(*(operand[block] if _spans(operand, axis) else operand for operand in operands))
    return result


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The blocks of an array, as indices: all of it if it is small.

    Args:
        shape: the shape of the array.
    """
    number = _number(shape)
    if not number:
        yield ()
        return
    # The first axis that is long enough is divided, so that a block is contiguous in memory.
    axis = next((i for i, length in enumerate(shape) if length >= number), int(np.argmax(shape)))
    length = math.ceil(shape[axis] / number)
    for start in range(0, shape[axis], length):
        yield (*(slice(None),) * axis, slice(start, start + length))


def _number(shape: tuple[int, ...]) -> int:
    """The number of blocks; 0 if an array of this shape is not divided."""
    number = math.prod(shape) // BLOCK
    return number if number > 1 else 0


def _spans(operand: Array, axis: int) -> bool:
    return np.ndim(operand) > axis and operand.shape[axis] > 1
