"""Work shared among threads, if there is enough of it: NumPy releases the interpreter's lock inside an operation.

The threads end with the call, so a caller has as many threads after it as before. A loop that calls many ops can keep
the threads between the calls with `keep_threads`, which saves the 40 to 60 us of starting one.
"""

import contextvars
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

PARALLEL = 1 << 20  # entries from which threads gain more than it costs to start them
MOST_THREADS = 8  # more only wait for memory, or for the interpreter's lock between operations


@dataclass
class _Kept:
    """Threads that are kept between calls, as long as `open`, and only in the process that started them."""

    pool: ThreadPoolExecutor
    process: int
    open: bool = True


_kept: contextvars.ContextVar[_Kept | None] = contextvars.ContextVar("_kept", default=None)


@contextmanager
def keep_threads() -> Iterator[None]:
    """Within this context, the ops of `manual.fast` use the same threads again instead of starting new ones.

    The threads end with the context. It applies to calls from the thread, or asyncio task, that entered it; a process
    that was forked meanwhile starts threads of its own.
    """
    with ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="manual") as pool:
        kept = _Kept(pool, os.getpid())
        token = _kept.set(kept)
        try:
            yield
        finally:
            kept.open = False  # also for tasks and generators that have a copy of this context
            with suppress(ValueError):  # a generator may be closed in another context
                _kept.reset(token)
            if (before := _kept.get()) and not before.open:
                _kept.set(None)


def spread(work: Callable[[Any], None], items: Sequence[Any], entries: int) -> None:
    """Call `work(item)` for every item, in several threads if `entries`, the size of all the work, is large enough.

    The calling thread is one of them. Each thread takes the next item until none is left. An exception in one of them
    is raised here after all have ended.
    """
    helpers = threads_for(len(items), entries) - 1
    kept = _kept.get()
    if helpers < 1:
        for item in items:
            work(item)
    elif kept and kept.open and kept.process == os.getpid():
        _share(work, items, kept.pool, helpers)
    else:
        with ThreadPoolExecutor(helpers, thread_name_prefix="manual") as pool:
            _share(work, items, pool, helpers)


def _share(work: Callable[[Any], None], items: Sequence[Any], pool: ThreadPoolExecutor, helpers: int) -> None:
    waiting = deque(items)

    def until_none_is_left() -> None:
        while waiting:
            try:
                item = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            work(item)

    futures = []
    try:
        with suppress(RuntimeError):  # if Python is ending, or no thread can be started, this thread does all the work
            for _ in range(helpers):
                context = contextvars.copy_context()  # which holds np.errstate
                futures.append(pool.submit(context.run, until_none_is_left))
        until_none_is_left()
    finally:
        waiting.clear()  # if this thread was interrupted, the others leave the rest
        started = [future for future in futures if not future.cancel()]
        try:
            wait(started)
        except BaseException:  # interrupted: the others must have ended before the caller goes on
            wait(started)
            raise
    for future in started:
        future.result()


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
