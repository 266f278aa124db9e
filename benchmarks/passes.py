"""The time that NumPy's own operations take in an op of `manual.fast`: the bound of what can be gained without them.

    python -m benchmarks.passes [--ops gelu,layer_norm] [--threads 2]

Forward and backward of each op run once, at the size of `backproof bench`, in the parts that `manual.fast` makes. Every
call of NumPy within them is repeated with its own operands, which are in the cache by then, and the shortest time
counts. `calls` is the sum of these times over both passes, on one core. `bound` is this sum divided by the number of
threads: what the op would take if handing over work, new memory and what is no longer in the cache cost nothing.
`op` is the time that it does take, and `torch` that of PyTorch's eager op, forward and backward.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

import manual.fast
from compare.bench.ops import CONTESTANTS, SIZES, Draw
from compare.bench.workloads import Runner, Workload
from compare.suite.ops import catalog
from manual.fast import _batch_norm, _group_norm, activations, normalization
from manual.fast._parts import elementwise, in_parts

OPS = ("gelu", "layer_norm", "group_norm", "batch_norm", "silu", "softmax")
REPETITIONS = 9
STEPS = 20
CALLERS = (activations, normalization, _batch_norm, _group_norm)
calls: list[tuple[str, float]] = []


class Timed(np.ndarray):
    """An array whose operations are timed, each on copies of what it writes to."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        plain, targets = [_plain(x) for x in inputs], tuple(_plain(x) for x in out)
        copies = {_place(x): x.copy() for x in targets}

        def call(*inputs: Any, out: Any) -> Any:
            return getattr(ufunc, method)(*inputs, **({"out": out} if out else {}), **options)

        def renew() -> None:
            for target in targets:
                np.copyto(copies[_place(target)], target)

        def again() -> None:
            call(*(copies.get(_place(x), x) for x in plain), out=tuple(copies.values()) or spare)

        spare = ()
        if not targets and method == "__call__" and isinstance(made := call(*plain, out=()), np.ndarray):
            spare = (made,)  # new memory is not in the time
        calls.append((ufunc.__name__, _shortest(again, renew)))
        result = call(*plain, out=targets)
        return out[0] if out else _timed(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        plain, named = [_plain(x) for x in arguments], {name: _plain(x) for name, x in options.items()}
        if function is np.einsum:
            calls.append(("einsum", _shortest(lambda: function(*plain, **named))))
        return _timed(function(*plain, **named))


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Timed) else x


def _place(x: Any) -> Any:
    """What two views of the same entries have in common."""
    return (x.__array_interface__["data"], x.shape, x.strides) if isinstance(x, np.ndarray) else None


def _timed(x: Any) -> Any:
    return x.view(Timed) if isinstance(x, np.ndarray) and x.ndim else x


def _shortest(work: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    times = []
    for _ in range(REPETITIONS):
        before()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def time_of_calls(op: str) -> tuple[int, float]:
    """The number of NumPy's calls in forward and backward of an op, and the sum of their times in seconds."""

    def parts(formula: Any, arrays: Any, results: Any = (), **options: Any) -> Any:
        return in_parts(lambda *given: formula(*map(_timed, given)), arrays, results, **options)

    def entries(formula: Any, *arrays: Any) -> Any:
        return elementwise(lambda *given: formula(*map(_timed, given)), *arrays)

    case, rules = SIZES[op].case(Draw(0), *SIZES[op].usual), catalog(manual.fast)[op]
    calls.clear()
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        patched: list[Any] = [mock.patch.object(module, "in_parts", parts) for module in CALLERS]
        patched.append(mock.patch.object(activations, "elementwise", entries))
        for patch in patched:
            patch.start()
        try:
            value, cache = rules.forward(*case.inputs, **case.options)
            rules.backward(Draw(1).x(*value.shape), cache)
        finally:
            for patch in patched:
                patch.stop()
    return len(calls), sum(seconds for _, seconds in calls)


def seconds_of(runner: Runner) -> float:
    """The median time of a step, in runs of STEPS."""
    runner.run(STEPS)
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        runner.run(STEPS)
        times.append((time.perf_counter() - start) / STEPS)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default=",".join(OPS))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    table = Table("op", "calls", "their time", "bound", "op takes", "torch", "bound / torch", "op / torch")
    for op in given.ops.split(","):
        count, seconds = time_of_calls(op)
        workload = Workload("compare.bench.ops", op)
        with mock.patch.dict(os.environ, OMP_NUM_THREADS=str(given.threads)):
            whole = seconds_of(CONTESTANTS["manual-fast"].prepare(workload))
            torch = seconds_of(CONTESTANTS["torch"].prepare(workload))
        bound = seconds / given.threads
        times = [f"{1e6 * each:.0f} us" for each in (seconds, bound, whole, torch)]
        table.add_row(op, str(count), *times, f"{bound / torch:.2f}", f"{whole / torch:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
