"""Work shared among threads, if there is enough of it: NumPy lets go of the interpreter's lock inside an operation."""

import contextvars
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from typing import Any

PARALLEL = 1 << 20  # entries from which threads gain more than it costs to wake them
MOST_THREADS = 8  # more only wait for memory, or for the interpreter's lock between operations


def spread(work: Callable[[Any], None], items: Sequence[Any], entries: int) -> None:
    """`work(item)` for every item; by several threads, this one among them, if all of it is done to many `entries`.

    Each takes the next item until none is left. What one of them raises is raised when all have ended.
    """
    waiting = deque(items)

    def until_none_is_left() -> None:
        while waiting:
            try:
                item = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            work(item)

    threads = threads_for(len(items), entries)
    if threads == 1:
        until_none_is_left()
        return
    others: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # when Python ends, or has too many threads, there are no more: this one is enough
            for _ in range(threads - 1):
                context = contextvars.copy_context()  # np.errstate lives there
                others.append(_pool().submit(context.run, until_none_is_left))
        until_none_is_left()
    finally:
        waiting.clear()  # if this thread was interrupted, the others are not to do the rest
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for work, as to start one takes as long as many an op."""
    return ThreadPoolExecutor(MOST_THREADS - 1, thread_name_prefix="manual")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads


def threads_for(items: int, entries: int) -> int:
    """How many share work that can be divided into so many items, and is done to so many entries."""
    return max(min(available_threads(), MOST_THREADS, items), 1) if entries >= PARALLEL else 1


def available_threads() -> int:
    """What OMP_NUM_THREADS says, as for BLAS; else the cores that this process may run on."""
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wished.isdigit() and int(wished) > 0:
        return int(wished)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
