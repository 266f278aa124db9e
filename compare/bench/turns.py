"""Times contestants in alternating rounds, each in its own process.

In a process of its own, the memory of a contestant can be measured, and its threads do not wait for those of others.
All processes live at the same time and alternate, so that other work on the machine affects all of them. A pause
between two turns lets the threads of the last contestant stop spinning on the cores that the next one needs.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from compare.bench.load import busy, others
from compare.bench.process import ON_DEVICE, Failed
from compare.bench.workloads import BOUND, Workload, shown
from compare.errors import BadInput

ROUND_SECONDS = 0.2
PAUSE = 0.15  # OpenBLAS lets its threads spin for 2**28 cycles after a product, about 0.1 s
CHECKED = 3  # after this many steps, the results of all are compared
LOOSE = 0.05  # relative to the change by these steps; a contestant with a larger error does other work

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The measurements of one contestant.

    Attributes:
        rounds: the seconds per step in each round.
        compilation: the seconds by which the first step is longer than a later one.
        transfer: the seconds of the transfer of the data to the device, if there was one.
        peak: the largest memory of the process in bytes, with Python, packages and data.
        device_peak: the largest memory on the accelerator in bytes, if known.
        error: the relative distance of its results from those in float64.
        failure: why it failed, if it did.
        load: for each round, the number of cores that other processes kept busy; empty where that is not known.
        ready: the seconds per step in preparation.
    """

    rounds: list[float]
    compilation: float  # seconds of the first step beyond what one takes afterwards
    transfer: float | None
    peak: int  # bytes of memory that its process had at most
    device_peak: int | None
    error: float | None
    failure: str | None = None
    load: list[float] = field(default_factory=list)
    ready: float | None = None


def measure(
    workload: Workload,
    names: Sequence[str],
    *,
    rounds: int,
    threads: int | None = None,
    progress: Progress = lambda what: None,
) -> tuple[int, dict[str, Measured]]:
    """The operations in the matrix products of a step, and what was measured, by name.

    The GEMM bound comes first, if there are matrix products. A contestant that fails is listed with its error, and the
    others go on. Raises BadInput if the side by hand fails in float64, to which all are compared.
    """
    failures: dict[str, str] = {}

    def tried(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Failed as failure:
            failures[name] = str(failure)

    with ExitStack() as stack:
        progress("reference in float64")
        try:
            reference = _reference(workload, threads)
        except Failed as failure:
            raise BadInput(f"{workload.size} cannot be timed: by hand in float64, {failure}.") from None
        workers: dict[str, Worker] = {}
        for name in (BOUND, *names):
            progress(f"{shown(name)} gets ready")
            workers[name] = stack.enter_context(_process(workload, name, threads))
            tried(name, partial(workers[name].start, None if name == BOUND else reference))
        flops = workers[BOUND].flops
        order = [name for name in workers if name != BOUND or flops]
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name in order:
                if name not in failures:
                    tried(name, workers[name].round)
            order = order[1:] + order[:1]  # so that nobody always follows the same one
        found = {name: tried(name, workers[name].finish) for name in order if name not in failures}
    found |= {name: Measured([], 0.0, None, 0, None, None, said) for name, said in failures.items()}
    return flops, {name: found[name] for name in (BOUND, *names) if name in found}


class Worker:
    """The process of a contestant, as seen from the parent."""

    def __init__(self, name: str, connection: Any) -> None:
        self.name, self.connection = name, connection
        self.rounds: list[float] = []
        self.load: list[float] = []
        self.ready: float | None = None
        self.steps = 1
        self.compilation = 0.0
        self.transfer: float | None = None
        self.flops = 0
        self.error: float | None = None

    def start(self, reference: "Outcome | None") -> None:
        """Prepare the contestant, compare its results with the reference, and find the number of steps in a round."""
        self.transfer, flops = self._ask("prepare")
        if self.name == BOUND:
            self.flops = flops
            if not flops:
                return
        first, *later = (self._run(1) for _ in range(CHECKED))
        self.compilation = max(first - min(later), 0.0)
        if reference is not None:
            self.error = distance(self._ask("outcome"), reference)
            if not self.error <= LOOSE:
                raise Failed(
                    f"it does other work: after {CHECKED} steps it is {self.error:.1g} of the way from where float64 is"
                )
        while (seconds := self._run(self.steps)) < ROUND_SECONDS / 4 and self.steps < 2**30:
            self.steps *= 2
        self.ready = seconds / self.steps
        self.steps = max(1, round(self.steps * ROUND_SECONDS / seconds))

    def round(self) -> None:
        time.sleep(PAUSE)
        before = busy()
        seconds, own = self._ask("run", self.steps)
        self.rounds.append(seconds / self.steps)
        if (load := others(before, busy(), own, seconds)) is not None:
            self.load.append(load)

    def finish(self) -> Measured:
        peak, device_peak = self._ask("peaks")
        known = (self.rounds, self.compilation, self.transfer, peak, device_peak, self.error)
        return Measured(*known, load=self.load, ready=self.ready)

    def _run(self, steps: int) -> float:
        """The seconds of this many steps."""
        seconds, _ = self._ask("run", steps)
        return seconds

    def _ask(self, *question: Any) -> Any:
        try:
            self.connection.send(question)
            answer = self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Failed("its process died; it may have run out of memory") from None
        if isinstance(answer, Failed | BadInput):
            raise answer
        return answer


# ---------------------------------------------------------------------------------- what came of it


@dataclass(frozen=True)
class Outcome:
    """Some entries of each array, at the start (none if there is none) and after `CHECKED` steps."""

    after: dict[str, np.ndarray]
    before: dict[str, np.ndarray]


def distance(outcome: dict[str, np.ndarray], reference: Outcome) -> float:
    """How far it is from the reference, as a share of how far that came: the largest of all arrays.

    What has come no further than a hundred-thousandth of the furthest is rounding, a bias of keys say, and is held
    against that much.
    """
    if outcome.keys() != reference.after.keys():
        raise Failed(f"it has results for {sorted(outcome)}, not {sorted(reference.after)}")
    off, way = [], []
    for name, right in reference.after.items():
        if outcome[name].shape != right.shape:
            raise Failed(f"its {name} has {outcome[name].size} entries to compare, not {right.size}")
        off.append(float(np.linalg.norm(outcome[name] - right)))
        way.append(float(np.linalg.norm(right - reference.before.get(name, 0.0))))
    least = 1e-5 * max(way, default=0.0)
    shares = [
        error / max(length, least) if max(length, least) else float(error > 0)
        for error, length in zip(off, way, strict=True)
    ]
    return float(np.max(shares, initial=0.0))  # which keeps NaN


def _reference(workload: Workload, threads: int | None) -> Outcome:
    """The outcome of `manual` in float64, in its own process."""
    with _process(replace(workload, dtype="float64", platform="cpu"), "manual", threads) as worker:
        worker._ask("prepare")
        before = worker._ask("outcome")
        for _ in range(CHECKED):
            worker._ask("run", 1)
        return Outcome(worker._ask("outcome"), before)


# ------------------------------------------------------------------------------------ the processes


@contextmanager
def _process(workload: Workload, name: str, threads: int | None) -> Iterator[Worker]:
    """A contestant, with an environment of its own, and in a process group of its own, which Ctrl-C does not reach."""
    ours, theirs = multiprocessing.Pipe()
    command = [sys.executable, "-c", f"from compare.bench.process import main; main({theirs.fileno()})"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **_variables(workload, name, threads)},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        process_group=0,
    )
    theirs.close()
    try:
        with suppress(BrokenPipeError):  # which the first question will find, too
            ours.send((workload, name, threads))
        yield Worker(name, ours)
    finally:
        ours.close()  # upon which it ends by itself
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _variables(workload: Workload, name: str, threads: int | None) -> dict[str, str]:
    """What Python and libraries read once, from the environment that they are born into."""
    found = {"PYTHONPATH": os.pathsep.join(sys.path)}
    found |= {name: value for name, value in FOR_ALL.items() if name not in os.environ}
    if threads is not None:
        pools = ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")
        found |= {f"{pool}_THREADS" if "_" in pool else f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    if workload.platform != "cpu" and not name.startswith(ON_DEVICE):
        found["JAX_PLATFORMS"] = "cpu"  # who does not work on the accelerator is not to take memory there
    return found


# What each contestant's process has, unless the user has set it.
FOR_ALL = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # contestants share the accelerator
    # mallopt(3): glibc gives large blocks back to the system when they are freed, and to get their pages anew takes
    # longer than many an op. So it keeps up to 64 MiB, for every contestant alike. Other allocators do not read this.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
