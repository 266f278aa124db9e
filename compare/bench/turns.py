"""Times contestants in alternating rounds, each in its own process.

Separate processes make it possible to measure the memory of each contestant, and keep its threads apart from those of
the others. All processes exist at the same time and take turns, so that other work on the machine affects all of them.
During the pause between two turns, the threads of the last contestant stop spinning on the cores.
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

ROUND_SECONDS = 0.2  # the duration of a round, unless a single step takes longer
PAUSE = 0.15  # seconds; the threads of OpenBLAS spin for 2**28 cycles after a product, about 0.1 s
CHECKED = 3  # the number of steps after which the results of all contestants are compared
LOOSE = 0.05  # the largest error, relative to the change by these steps; beyond it, the work is not the same

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The measurements of one contestant.

    Attributes:
        rounds: the seconds per step in each round.
        compilation: the seconds by which the first step is longer than a later one.
        transfer: the seconds of the transfer of the data to the device, if there was one.
        peak: the largest memory of the process in bytes, including Python, packages and data.
        device_peak: the largest memory on the accelerator in bytes, if known.
        error: the relative distance of its results from those in float64.
        failure: why it failed, if it did.
        load: for each round, the number of cores that other processes kept busy; empty where that is not known.
        ready: the seconds per step in preparation.
    """

    rounds: list[float]
    compilation: float
    transfer: float | None
    peak: int
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
    """Time contestants in alternating rounds.

    Args:
        workload: the work.
        names: the names of the contestants.
        rounds: the number of rounds.
        threads: the number of cores and threads of each contestant; if None, as many as it takes by itself.
        progress: is called with a description of the current work.

    Returns:
        The number of operations in the matrix products of a step, and the measurements by name. The GEMM bound comes
        first, if there are matrix products. A contestant that fails is listed with its error, and the others go on.

    Raises:
        BadInput: if the hand-written side fails in float64, because all results are compared with it.
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
            raise BadInput(
                f"{workload.size} cannot be timed: the hand-written side in float64, with which all are compared, "
                f"failed: {failure}."
            ) from None
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
            order = order[1:] + order[:1]  # so that the first one changes from round to round
        found = {name: tried(name, workers[name].finish) for name in order if name not in failures}
    found |= {name: Measured([], 0.0, None, 0, None, None, failure) for name, failure in failures.items()}
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
                    f"it does not do the same work: after {CHECKED} steps its results are {self.error:.1g} times the "
                    "change by these steps away from those in float64"
                )
        while (seconds := self._run(self.steps)) < ROUND_SECONDS / 4 and self.steps < 2**30:
            self.steps *= 2
        self.ready = seconds / self.steps
        self.steps = max(1, round(self.steps * ROUND_SECONDS / seconds))

    def round(self) -> None:
        """Time one round, after a pause."""
        time.sleep(PAUSE)
        before = busy()
        seconds, own = self._ask("run", self.steps)
        self.rounds.append(seconds / self.steps)
        if (load := others(before, busy(), own, seconds)) is not None:
            self.load.append(load)

    def finish(self) -> Measured:
        """All measurements, after the last round."""
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


# ------------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class Outcome:
    """Some entries of each array before the first step, if there are any then, and after `CHECKED` steps."""

    after: dict[str, np.ndarray]
    before: dict[str, np.ndarray]


def distance(outcome: dict[str, np.ndarray], reference: Outcome) -> float:
    """The distance from the reference relative to the change of the reference by the steps: the largest of all arrays.

    An array that changes by less than 1e-5 of the largest change of any array changes by rounding errors only, such as
    the bias of attention's keys, whose gradient is zero. Its distance is taken relative to that bound.
    """
    if outcome.keys() != reference.after.keys():
        raise Failed(f"it has results for {sorted(outcome)}, not {sorted(reference.after)}")
    errors, changes = [], []
    for name, expected in reference.after.items():
        if outcome[name].shape != expected.shape:
            raise Failed(f"its {name} has {outcome[name].size} entries to compare, not {expected.size}")
        errors.append(float(np.linalg.norm(outcome[name] - expected)))
        changes.append(float(np.linalg.norm(expected - reference.before.get(name, 0.0))))
    least = 1e-5 * max(changes, default=0.0)
    relative = [
        error / max(change, least) if max(change, least) else float(error > 0)
        for error, change in zip(errors, changes, strict=True)
    ]
    return float(np.max(relative, initial=0.0))  # unlike `max`, this returns NaN if there is one


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
    """The process of a contestant, with its own environment, and in its own process group, so that Ctrl-C in the
    terminal reaches the parent only.
    """
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
        with suppress(BrokenPipeError):  # the first request will fail, too, and report it
            ours.send((workload, name, threads))
        yield Worker(name, ours)
    finally:
        ours.close()  # the process ends when the pipe is closed
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _variables(workload: Workload, name: str, threads: int | None) -> dict[str, str]:
    """The environment variables of a contestant's process, which Python and libraries read when they start."""
    found = {"PYTHONPATH": os.pathsep.join(sys.path)}
    found |= {name: value for name, value in FOR_ALL.items() if name not in os.environ}
    if threads is not None:
        pools = ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")
        found |= {f"{pool}_THREADS" if "_" in pool else f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    if workload.platform != "cpu" and not name.startswith(ON_DEVICE):
        found["JAX_PLATFORMS"] = "cpu"  # else JAX would take memory on the accelerator without using it
    return found


# Environment variables of every contestant's process, unless the user has set them.
FOR_ALL = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # contestants share the accelerator
    # glibc returns large blocks to the system when they are freed, and mapping their pages again takes longer than many
    # ops. With these settings it keeps up to 64 MiB (mallopt(3)). Other allocators ignore them.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
