"""Elementwise formulas over trees of arrays, at the speed of memory.

Each operation of a NumPy expression reads and writes whole arrays, and an optimizer has a dozen operations per entry.
Here leaves are cut into blocks that fit into a core's cache, and the whole formula is evaluated for one block before
the next. So each array is read from memory once and written once. Large trees are distributed over threads.

Entries do not depend on each other, so the result is the same to the last bit for any block size and number of threads.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from manual._trees import Path, check_alike, leaves_by_path, rebuilt
from manual.fast._threads import spread

BLOCK_BYTES = 1 << 19  # bytes of a block: small enough for the cache, large enough that Python's overhead is small


class _Block(NamedTuple):
    """One slice of the flattened leaves at the same path in every tree. A source may be its own target."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]
    read: list[np.ndarray]
    at: slice


def in_blocks(
    formula: Callable[..., Any], changed: dict[str, Any], read: dict[str, Any] | None = None, *, donate: bool = False
) -> list[Any]:
    """Evaluates `formula(*changed, *read, a, b)` on flat blocks of trees, and returns the changed trees.

    Args:
        formula: overwrites the blocks of `changed` in place, and only reads those of `read`. a and b are scratch arrays
            of the length of the blocks.
        changed: the trees to change, by name.
        read: the trees to read, by name.
        donate: whether the result may be written to the memory of `changed`. A leaf that is read-only or not contiguous
            is copied anyway. Without `donate`, the trees are not modified.

    Returns:
        The changed trees, in the order of `changed`.

    Raises:
        ValueError: unless all trees have the paths, shapes and floating dtypes of the first.
    """
    read = read or {}
    leaves = {name: leaves_by_path(tree) for name, tree in (changed | read).items()}
    check_alike(leaves)
    results: dict[str, dict[Path, np.ndarray]] = {name: {} for name in changed}
    blocks: list[_Block] = []
    entries = 0
    for path, model in next(iter(leaves.values())).items():
        sources = [leaves[name][path].reshape(-1) for name in changed]
        targets = [flat if donate and flat.flags.writeable else np.empty_like(flat) for flat in sources]
        for name, target in zip(changed, targets, strict=True):
            results[name][path] = target.reshape(model.shape)
        others = [leaves[name][path].reshape(-1) for name in read]
        length = BLOCK_BYTES // model.itemsize
        starts = range(0, model.size, length)
        blocks.extend(_Block(sources, targets, others, slice(start, start + length)) for start in starts)
        entries += model.size
    own = threading.local()

    def work(block: _Block) -> None:
        model = (*block.targets, *block.read)[0]
        a, b = _scratch(own.__dict__, model.dtype, model[block.at].size)
        for source, target in zip(block.sources, block.targets, strict=True):
            if source is not target:
                np.copyto(target[block.at], source[block.at])
        formula(*(flat[block.at] for flat in (*block.targets, *block.read)), a, b)

    spread(work, blocks, entries)
    # Leaves are matched by path, because two dicts may hold the same keys in different orders.
    return [rebuilt(tree, iter([results[name][path] for path in leaves[name]])) for name, tree in changed.items()]


def _scratch(of_thread: dict[Any, np.ndarray], dtype: np.dtype, length: int) -> np.ndarray:
    """Two rows of this length and dtype, in memory that a thread reuses from block to block."""
    if dtype.str not in of_thread or of_thread[dtype.str].shape[1] < length:
        of_thread[dtype.str] = np.empty((2, length), dtype)
    return of_thread[dtype.str][:, :length]
