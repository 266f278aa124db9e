"""Work shared among threads, if there is enough of it: NumPy lets go of the interpreter's lock inside an operation.

The threads live as long as the call: to start one takes some 40 us, far less than an op on PARALLEL entries gains, and
whoever calls us has as many threads after a call as before it.
"""

import contextvars
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

PARALLEL = 1 << 20  # entries from which threads gain more than it costs to start them
MOST_THREADS = 8  # more only wait for memory, or for the interpreter's lock between operations


def spread(work: Callable[[Any], None], items: Sequence[Any], entries: int) -> None:
    """`work(item)` for every item; by several threads, this one among them, if all of it is done to many `entries`.

    Each takes the next item until none is left. What one of them raises is raised when all have ended.
    """
    waiting = deque(items)
    raised: list[BaseException] = []

    def until_none_is_left() -> None:
        while waiting:
            try:
                item = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            work(item)

    def in_another_thread() -> None:
        try:
            until_none_is_left()
        except BaseException as error:
            raised.append(error)

    others: list[Thread] = []
    try:
        with suppress(RuntimeError):  # when Python ends, or has too many threads, there are no more: this one is enough
            for _ in range(threads_for(len(items), entries) - 1):
                context = contextvars.copy_context()  # np.errstate lives there
                other = Thread(target=context.run, args=(in_another_thread,), name="manual")
                other.start()
                others.append(other)
        until_none_is_left()
    finally:
        waiting.clear()  # if this thread was interrupted, the others are not to do the rest
        for other in others:
            other.join()
    if raised:
        raise raised[0]


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
