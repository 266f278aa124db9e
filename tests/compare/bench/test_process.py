"""A contestant's process from inside: it answers until nobody is there to ask, and says what failed."""

import os
import sys
import threading
from multiprocessing import Pipe
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from compare.bench import process
from compare.bench.process import SAMPLE, Failed, main
from compare.bench.workloads import Contestant, Runner, Workload
from compare.errors import BadInput
from tests.compare.bench.contestants import CONTESTANTS
from tests.compare.bench.runs import OWN


def pipe():
    """Our end, and the descriptor of the other."""
    ours, theirs = Pipe()
    with theirs:
        return ours, os.dup(theirs.fileno())


@pytest.fixture
def asked():
    """A contestant that is served in a thread of this process: its answers, one for each question."""
    ends = []

    def start(name, **options):
        ours, theirs = pipe()
        thread = threading.Thread(target=main, args=(theirs,))
        thread.start()
        ours.send((Workload(OWN, "any", **options), name, None))
        ends.append((ours, thread))

        def ask(*question):
            ours.send(question)
            assert ours.poll(60)
            return ours.recv()

        return ask

    yield start
    for connection, thread in ends:
        connection.close()
        thread.join(60)
        assert not thread.is_alive()  # it ends when nobody is there to ask


def test_it_prepares_runs_and_says_what_came_of_it(asked):
    ask = asked("manual", dtype="float64")
    assert ask("prepare") == (None, None)  # no way to an accelerator, and no operations that are known
    seconds, of_the_processor = ask("run", 3)
    assert seconds > 0 <= of_the_processor
    np.testing.assert_array_equal(ask("outcome")["value"], np.full(3, 0.25))  # 2, halved three times
    peak, on_device = ask("peaks")
    assert peak > 2**20
    assert on_device is None


def test_what_fails_is_an_answer_of_one_line_and_the_next_question_is_answered(asked):
    ask = asked("unable")
    for _ in range(2):
        failure = ask("prepare")
        assert isinstance(failure, Failed)
        assert str(failure) == "RuntimeError: no such thing here"


def test_bad_input_stays_bad_input(asked, monkeypatch):
    def refuse(workload):
        raise BadInput("no such size.")

    monkeypatch.setitem(CONTESTANTS, "refuses", Contestant(refuse, "refuses"))
    failure = asked("refuses")("prepare")
    assert isinstance(failure, BadInput)
    assert str(failure) == "no such size."


@pytest.mark.parametrize(("name", "precision"), [("autodiff", "highest"), ("autodiff-fast", None)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jax_has_the_width_and_precision_of_the_contestant_and_its_own_afterwards(
    asked, monkeypatch, name, precision, dtype
):
    seen, before = [], dict(jax.config.values)

    def look(workload):
        seen.append((jax.numpy.arange(2.0).dtype, jax.config.values["jax_default_matmul_precision"]))
        return Runner(lambda steps: None, dict)

    monkeypatch.setitem(CONTESTANTS, name, Contestant(look, "looks"))
    asked(name, dtype=dtype)("prepare")
    assert seen == [(dtype, precision)]
    assert dict(jax.config.values) == before


def test_of_a_large_array_some_entries_are_compared(asked, monkeypatch):
    large = np.arange(3 * SAMPLE + 1, dtype=np.float32).reshape(1, -1)
    outcome = {"large": large, "small": np.float32(2.0), "empty": np.zeros((0, 2), np.float32)}
    monkeypatch.setitem(
        CONTESTANTS, "keeps", Contestant(lambda workload: Runner(lambda steps: None, lambda: outcome), "keeps")
    )
    ask = asked("keeps")
    ask("prepare")
    found = ask("outcome")
    assert {name: array.dtype for name, array in found.items()} == dict.fromkeys(outcome, np.float64)
    np.testing.assert_array_equal(found["large"], large.ravel()[::4])  # every third would be one too many
    assert (found["small"].tolist(), found["empty"].shape) == ([2.0], (0,))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are chosen as Linux does it")
def test_a_contestant_has_as_many_cores_as_threads(monkeypatch):
    chosen = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 1, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: chosen.append(cores))
    for threads in (2, None):
        ours, theirs = pipe()
        ours.send((Workload(OWN, "any"), "manual", threads))
        ours.close()
        main(theirs)
    assert chosen == [[1, 3]]


def test_memory_on_an_accelerator_is_what_pytorch_or_jax_says(monkeypatch):
    cuda = SimpleNamespace(is_initialized=lambda: True, max_memory_allocated=lambda: 7)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert process._device_peak() == 7
    cuda.is_initialized = lambda: False
    assert process._device_peak() is None  # JAX is on the CPU here
