"""Elementwise formulas over trees of arrays, at the speed of memory.

A NumPy expression over big arrays reads and writes them once an operation, and an optimizer has a dozen operations
to every entry. Here leaves are cut into blocks that stay in a core's cache, and the whole formula is done with one
block before the next: each array comes from memory once and goes back once. Large trees are shared among threads.

Entries do not depend on each other, so neither the size of a block nor the number of threads changes a bit.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from manual._trees import Path, check_alike, leaves_by_path, rebuilt
from manual.fast._threads import spread

BLOCK_BYTES = 1 << 19  # of each array: small enough for the cache, large enough to make Python's own time small


class _Block(NamedTuple):
    """One stretch of one leaf of every tree, all leaves flat. A source may be its own target."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]
    read: list[np.ndarray]
    at: slice


def in_blocks(
    formula: Callable[..., Any], changed: dict[str, Any], read: dict[str, Any] | None = None, *, donate: bool = False
) -> list[Any]:
    """Run `formula(*changed, *read, a, b)` on flat blocks of trees that are alike; return the changed trees.

    The formula writes the blocks of `changed` in place, in its own memory; those of `read` it may only read. a and b
    are scratch of the same length. With `donate` the memory of `changed` is used for the result where it can be (a
    leaf that is read-only or not contiguous is copied all the same); else those trees stay as they are.
    Raises ValueError unless all trees have the paths, shapes and floating dtypes of the first.
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
    # By path: two dicts may hold the same keys in different orders.
    return [rebuilt(tree, iter([results[name][path] for path in leaves[name]])) for name, tree in changed.items()]


def _scratch(of_thread: dict[Any, np.ndarray], dtype: np.dtype, length: int) -> np.ndarray:
    """Two rows of this length, in memory that a thread keeps from block to block."""
    if dtype.str not in of_thread or of_thread[dtype.str].shape[1] < length:
        of_thread[dtype.str] = np.empty((2, length), dtype)
    return of_thread[dtype.str][:, :length]
