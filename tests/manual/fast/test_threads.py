"""Work is done once, whoever does it; as many threads as the user wishes; what goes wrong in one is not lost."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from manual.fast import _threads
from manual.fast._threads import keep_threads, spread


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(_threads, "PARALLEL", 0)


class Meeting:
    """Work that ends only when `count` threads are at it together."""

    def __init__(self, count):
        self.barrier, self.threads, self.done = threading.Barrier(count, timeout=20), set(), []

    def __call__(self, item):
        self.threads.add(threading.get_ident())
        self.barrier.wait()
        self.done.append(item)


@pytest.mark.usefixtures("three_threads")
def test_several_threads_do_every_item_once():
    for _ in range(3):
        work = Meeting(3)
        spread(work, range(9), 1)
        assert sorted(work.done) == list(range(9))
        assert len(work.threads) == 3
        assert threading.get_ident() in work.threads


def test_little_work_is_done_by_this_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    work = Meeting(1)
    spread(work, range(9), _threads.PARALLEL - 1)
    assert work.done == list(range(9))
    assert work.threads == {threading.get_ident()}


@pytest.mark.parametrize(("wished", "threads"), [("1", 1), ("3", 3), ("2,4", 2), ("64", 8), ("many", 5), ("0", 5)])
def test_the_users_wish_for_threads_is_heard(wished, threads, monkeypatch):
    """Nonsense counts as unset: then it is the cores that this process may use. No more than eight."""
    submitted = []

    class Never(futures.ThreadPoolExecutor):
        """A pool whose threads come too late for any work."""

        def submit(self, fn, /, *args, **kwargs):
            submitted.append(fn)
            return futures.Future()

    monkeypatch.setenv("OMP_NUM_THREADS", wished)
    monkeypatch.setattr(_threads, "ThreadPoolExecutor", Never)
    monkeypatch.setattr(_threads.os, "sched_getaffinity", lambda process: set(range(5)), raising=False)
    done = []
    spread(done.append, range(20), _threads.PARALLEL)
    assert len(submitted) == threads - 1
    assert done == list(range(20))


@pytest.mark.usefixtures("three_threads")
def test_threads_can_be_kept_between_calls():
    before = threading.active_count()
    with keep_threads():
        first, second = Meeting(3), Meeting(3)
        spread(first, range(9), 1)
        spread(second, range(9), 1)
        assert len(first.threads | second.threads) < 6  # new ones for each call would be five
        with pytest.raises(ZeroDivisionError):
            spread(lambda item: 1 / item, range(3), 1)
        again = Meeting(3)
        spread(again, range(3), 1)  # after an exception too
    assert threading.active_count() == before
    outside = Meeting(3)
    spread(outside, range(3), 1)
    assert threading.active_count() == before


@pytest.mark.usefixtures("three_threads")
def test_work_within_work_does_not_wait_for_itself():
    done = []
    with keep_threads():
        spread(lambda item: spread(done.append, range(50), 1), range(50), 1)
    assert len(done) == 2500


@pytest.mark.usefixtures("three_threads")
def test_no_thread_outlives_the_call():
    before = threading.active_count()
    spread(Meeting(3), range(9), 1)
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError):
        spread(lambda item: 1 / item, range(3), 1)
    assert threading.active_count() == before


@pytest.mark.usefixtures("three_threads")
def test_where_no_more_threads_can_be_started_this_one_is_enough(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    spread(done.append, range(9), 1)
    with keep_threads():
        spread(done.append, range(9), 1)
    assert done == 2 * list(range(9))


@pytest.mark.usefixtures("three_threads")
def test_what_another_thread_raises_is_raised_here():
    here, met = threading.get_ident(), threading.Barrier(3, timeout=30)

    def work(item):
        met.wait()
        if threading.get_ident() != here:
            raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        spread(work, range(3), 1)


@pytest.mark.usefixtures("three_threads")
def test_when_this_thread_is_interrupted_the_others_end_first_and_leave_the_rest():
    here, met, done = threading.get_ident(), threading.Barrier(3, timeout=30), []

    def work(item):
        if item < 3:
            met.wait()
        if threading.get_ident() == here:
            raise KeyboardInterrupt
        time.sleep(0.3)
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        spread(work, range(1000), 1)
    ended = len(done)
    assert 2 <= ended < 20  # what they had begun
    time.sleep(0.5)
    assert len(done) == ended


@pytest.mark.usefixtures("three_threads")
def test_every_thread_heeds_the_callers_error_state():
    met, heeded = threading.Barrier(3, timeout=30), []

    def work(item):
        met.wait()
        heeded.append(np.geterr()["over"])

    for state in ("ignore", "raise"):
        with np.errstate(over=state):
            spread(work, range(3), 1)
    assert heeded == 3 * ["ignore"] + 3 * ["raise"]


LATE = "threading.Thread(target=lambda: (time.sleep(1), work())).start()"


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["atexit.register(work)", LATE])
def test_when_python_ends_one_thread_is_enough(where):
    script = f"""
import atexit, threading, time
from manual.fast import _threads
_threads.PARALLEL = 0

def work():
    done = []
    _threads.spread(done.append, range(9), 1)
    print(len(done), flush=True)

work()
{where}
"""
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.stdout, ended.stderr) == ("9\n9\n", "")


def _in_a_fork(connection):
    work = Meeting(3)  # within `keep_threads` of the parent, whose threads are not in this process
    spread(work, range(3), 1)
    connection.send(len(work.threads))


@pytest.mark.usefixtures("three_threads")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_in_a_fork, args=(theirs,))
    with keep_threads():
        spread(Meeting(3), range(3), 1)
        process.start()
        try:
            assert ours.poll(60), "it waits for threads that it does not have"
            assert ours.recv() == 3
        finally:
            process.kill()
            process.join()


@pytest.mark.usefixtures("three_threads")
def test_whoever_outlives_the_context_starts_threads_again():
    def tasks():
        with keep_threads():
            yield
            yield

    first, second = tasks(), tasks()
    next(first)
    next(second)
    first.close()
    second.close()
    work = Meeting(3)
    spread(work, range(3), 1)
    assert len(work.threads) == 3


@pytest.mark.usefixtures("three_threads")
def test_an_interruption_while_waiting_leaves_nobody_at_work(monkeypatch):
    waited, done = [], []
    here = threading.get_ident()

    def interrupted(given):
        waited.append(given)
        if len(waited) == 1:
            raise KeyboardInterrupt
        return futures.wait(given)

    def work(item):
        if threading.get_ident() != here:
            time.sleep(0.2)
        done.append(item)

    monkeypatch.setattr(_threads, "wait", interrupted)
    with keep_threads():
        with pytest.raises(KeyboardInterrupt):
            spread(work, range(9), 1)
        ended = len(done)
        time.sleep(0.3)
        assert len(done) == ended
