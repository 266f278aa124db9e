"""Elementwise formulas over trees of arrays, at the speed of memory.

A NumPy expression over big arrays reads and writes them once an operation, and an optimizer has a dozen operations
to every entry. Here leaves are cut into blocks that stay in a core's cache, and the whole formula is done with one
block before the next: each array comes from memory once and goes back once. NumPy lets go of the interpreter's lock
inside an operation, so large trees are shared among threads.

Entries do not depend on each other, so neither the size of a block nor the number of threads changes a bit.
"""

import contextvars
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from manual._trees import Path, dotted, leaves_by_path, rebuilt

BLOCK_BYTES = 1 << 19  # of each array: small enough for the cache, large enough to make Python's own time small
PARALLEL = 1 << 20  # entries from which threads gain more than it costs to start them
MOST_THREADS = 8  # more only wait for memory, or for the interpreter's lock between operations


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
    blocks: deque[_Block] = deque()
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
    threads = min(available_threads(), MOST_THREADS, len(blocks)) if entries >= PARALLEL else 1
    work = partial(_work, formula, blocks)
    if threads == 1:
        work()
    else:
        with ThreadPoolExecutor(threads) as pool:  # in copies of the caller's context: np.errstate lives there
            running = [pool.submit(contextvars.copy_context().run, work) for _ in range(threads)]
        for thread in running:
            thread.result()
    # By path: two dicts may hold the same keys in different orders.
    return [rebuilt(tree, iter([results[name][path] for path in leaves[name]])) for name, tree in changed.items()]


def _work(formula: Callable[..., Any], blocks: deque[_Block]) -> None:
    """Take blocks until none is left."""
    scratch: dict[Any, np.ndarray] = {}
    while blocks:
        try:
            sources, targets, read, at = blocks.popleft()
        except IndexError:  # another thread was faster
            return
        model = (*targets, *read)[0]
        length = model[at].size
        if model.dtype not in scratch or scratch[model.dtype].shape[1] < length:
            scratch[model.dtype] = np.empty((2, length), model.dtype)
        for source, target in zip(sources, targets, strict=True):
            if source is not target:
                np.copyto(target[at], source[at])
        formula(*(flat[at] for flat in (*targets, *read)), *scratch[model.dtype][:, :length])


def check_alike(leaves: dict[str, dict[Path, np.ndarray]]) -> None:
    """Raise ValueError unless all trees have the paths, shapes and dtypes of the first, and those are floating."""
    (first, model), *others = leaves.items()
    for path, leaf in model.items():
        if not np.issubdtype(leaf.dtype, np.floating):
            raise ValueError(f"{first}: {dotted(path)} is {leaf.dtype}; leaves must be floating-point arrays. Cast it.")
    for name, tree in others:
        for path in [*model, *tree]:
            if (path in model) != (path in tree):
                has, lacks = (first, name) if path in model else (name, first)
                raise ValueError(f"{has} has a leaf {dotted(path)} and {lacks} has none; both must be trees alike.")
            leaf, other = model[path], tree[path]
            if leaf.shape != other.shape or leaf.dtype != other.dtype:
                raise ValueError(
                    f"{dotted(path)}: {first} has {leaf.dtype} {leaf.shape} and {name} has {other.dtype} "
                    f"{other.shape}; shapes and dtypes must be equal. Cast or reshape one of them."
                )


def available_threads() -> int:
    """What OMP_NUM_THREADS says, as for BLAS; else the cores that this process may run on."""
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wished.isdigit() and int(wished) > 0:
        return int(wished)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
