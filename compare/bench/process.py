"""The process of a contestant: it prepares the work, and then answers requests until the pipe is closed."""

import os
import re
import resource
import sys
import time
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from compare.bench.workloads import BOUND, Runner, Workload
from compare.errors import BadInput

SAMPLE = 10_000  # the largest number of entries of an array that are compared
ON_DEVICE = ("autodiff", "jax", "optax")  # prefixes of the names of contestants whose JAX runs on --platform


class Failed(RuntimeError):
    """A contestant could not do its work."""


def main(descriptor: int) -> None:
    """Answer the requests from a pipe until it is closed. The first message says which contestant this is."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(descriptor) as connection:
        workload, name, threads = connection.recv()
        _serve(workload, name, threads, connection)


def _serve(workload: Workload, name: str, threads: int | None, connection: Connection) -> None:
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # XLA uses all cores of the affinity mask
    with ExitStack() as stack:
        runner: Runner | None = None
        while True:
            question, *arguments = connection.recv()
            try:
                if question == "prepare":
                    _settle(workload, name, stack)
                    runner = _prepared(workload, name)
                    answer = runner.transfer, runner.flops
                else:
                    assert runner is not None
                    answer = _answer(runner, question, *arguments)
            except BadInput as error:
                answer = error
            except Exception as error:  # whatever another library raises, the other contestants go on
                answer = Failed(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
            connection.send(answer)


def _settle(workload: Workload, name: str, stack: ExitStack) -> None:
    """Set JAX's platform, matrix precision and 64-bit mode, unless the contestant does not use JAX."""
    if not name.startswith((BOUND, *ON_DEVICE)) and workload.kind == "shallow":
        return
    import jax

    from compare.platform import on_platform

    stack.enter_context(on_platform(workload.platform if name.startswith(ON_DEVICE) else "cpu"))
    stack.enter_context(jax.enable_x64(workload.dtype == "float64"))
    if name != "autodiff-fast":
        stack.enter_context(jax.default_matmul_precision("highest"))


def _prepared(workload: Workload, name: str) -> Runner:
    if name == BOUND:
        from compare.bench import gemm_bound

        return gemm_bound.prepare(workload)
    return workload.module.CONTESTANTS[name].prepare(workload)


def _answer(runner: Runner, question: str, *arguments: Any) -> Any:
    if question == "run":
        start, own = time.perf_counter(), time.process_time()
        runner.run(*arguments)
        return time.perf_counter() - start, time.process_time() - own
    if question == "outcome":
        return _sampled(runner.outcome())
    if question == "peaks":
        return _peak_memory(), _device_peak()
    raise AssertionError(question)


def _peak_memory() -> int:
    """The largest memory of this process so far, in bytes.

    On Linux, `ru_maxrss` includes the memory of the parent at the time of the fork, and VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"), flags=re.MULTILINE)
        if peak:
            return 1024 * int(peak[1])
    peak_so_far = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_so_far if sys.platform == "darwin" else 1024 * peak_so_far


def _device_peak() -> int | None:
    """The largest memory on the accelerator in bytes; None if the process uses none, or it is not reported."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if "jax" not in sys.modules:
        return None
    import jax

    (device,) = jax.device_put(0.0).devices()
    told = device.memory_stats() if device.platform != "cpu" else None
    return told.get("peak_bytes_in_use") if told else None


def _sampled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays flattened and in float64. Of a large array, only every n-th entry is taken."""
    return {
        name: np.asarray(array).reshape(-1)[:: -(-np.size(array) // SAMPLE) or 1].astype(np.float64)
        for name, array in arrays.items()
    }
