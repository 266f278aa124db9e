"""Seconds of each op by hand and by PyTorch: forward and backward, at one realistic size, float32, on the CPU.

Run it from a checkout that is installed:

    python -m pip install -e '.[peers]'
    OPENBLAS_THREAD_TIMEOUT=4 python benchmarks/ops.py [--only NAME,...] [--rounds N] [--one-thread] [--json PATH]

The variable makes NumPy's BLAS give its threads back at once. By default they spin for about 25 ms after a product, on
the cores that PyTorch is to use next.
Both have their default threads and are taken in turns, in one process, so that a busy machine is busy for both. They
first have to agree on value and gradients. PyTorch is eager, its tensors laid out in memory as it prefers.

On a machine that others use, threads that share work wait for the one that is not scheduled, many times as long as
they work: there, medians say nothing, and the fastest calls something. With --one-thread, both work in one, and what
counts is seconds of CPU, which depend little on others.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.torch_ops import TORCH_OPS, as_tensors, torch
from compare.cases import Case
from compare.ops import catalog

ROUNDS = 25
ROUND_SECONDS = 0.02  # short, so that some rounds fall between the work of others
PATIENCE = 20.0  # seconds: an op that took longer has fewer rounds, but at least LEAST_ROUNDS
LEAST_ROUNDS = 5
PAUSE = 0.002  # seconds before a round, in which the other's threads cease to spin

Clock = Callable[[], float]

# Files and pipes have no width, and the table needs more than the 80 columns that rich takes them for.
console = Console(width=None if sys.stdout.isatty() else 130)
notes = Console(stderr=True)

random = np.random.default_rng(0)


def _x(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def _weight(*shape: int) -> np.ndarray:
    """Scaled to keep the variance of what goes through; the last axis is that of outputs."""
    return _x(*shape) / np.float32(math.sqrt(math.prod(shape[:-1])))


def _distribution(*shape: int) -> np.ndarray:
    p = np.exp(_x(*shape))
    return p / p.sum(axis=-1, keepdims=True)


def _elementwise() -> Case:
    return Case((_x(1024, 1024),))


def _loss(targets: Callable[[], np.ndarray]) -> Callable[[], Case]:
    return lambda: Case((_x(1024, 1024),), {"targets": targets()})


def _errors() -> np.ndarray:
    return _x(1024, 1024)


def _labels() -> np.ndarray:
    return random.integers(0, 2, (1024, 1024))


def _recurrent(*, columns: int, states: int, biases: int) -> Case:
    initial = (_x(32, 128) for _ in range(states))
    return Case(
        (_x(32, 64, 128), *initial, _weight(128, columns), _weight(128, columns), *(_x(columns) for _ in range(biases)))
    )


SIZES: dict[str, Callable[[], Case]] = {
    "tanh": _elementwise,
    "sigmoid": _elementwise,
    "relu": _elementwise,
    "leaky_relu": _elementwise,
    "elu": _elementwise,
    "selu": _elementwise,
    "softplus": _elementwise,
    "gelu": _elementwise,
    "silu": _elementwise,
    "softmax": _elementwise,
    "log_softmax": _elementwise,
    "swiglu": lambda: Case((_x(1024, 1024), _x(1024, 1024))),
    "attention": lambda: Case(tuple(_x(2, 512, 12, 64) for _ in range(3)), {"causal": True}),
    "multi_head_attention": lambda: Case(
        (_x(2, 512, 768), None, *(_weight(768, 768) for _ in range(4)), *(_x(768) for _ in range(4))),
        {"heads": 12, "causal": True},
    ),
    "dense": lambda: Case((_x(2048, 768), _weight(768, 3072), _x(3072))),
    "embedding": lambda: Case((_x(50257, 768), random.integers(0, 50257, 2048))),
    "flatten": lambda: Case((_x(32, 28, 28, 64),)),
    "binary_cross_entropy": _loss(_labels),
    "cross_entropy": lambda: Case((_x(256, 50257),), {"targets": random.integers(0, 50257, 256)}),
    "mean_squared_error": _loss(_errors),
    "mean_absolute_error": _loss(_errors),
    "huber": _loss(_errors),
    "hinge": _loss(lambda: 2 * _labels() - 1),
    "kl_divergence": lambda: Case((np.log(_distribution(1024, 1024)),), {"targets": _distribution(1024, 1024)}),
    "layer_norm": lambda: Case((_x(4096, 768), _x(768), _x(768))),
    "rms_norm": lambda: Case((_x(4096, 768), _x(768))),
    "batch_norm": lambda: Case((_x(32, 28, 28, 64), _x(64), _x(64))),
    "batch_norm_inference": lambda: Case(
        (_x(32, 28, 28, 64), _x(64), _x(64)), {"mean": _x(64), "variance": _x(64) ** 2 + 1}
    ),
    "group_norm": lambda: Case((_x(32, 28, 28, 64), _x(64), _x(64)), {"groups": 8}),
    "rnn": lambda: _recurrent(columns=128, states=1, biases=1),
    "lstm": lambda: _recurrent(columns=512, states=2, biases=1),
    "gru": lambda: _recurrent(columns=384, states=1, biases=2),
    "conv1d": lambda: Case((_x(16, 512, 64), _weight(5, 64, 64), _x(64)), {"padding": 2}),
    "conv2d": lambda: Case((_x(16, 28, 28, 64), _weight(3, 3, 64, 64), _x(64)), {"padding": 1}),
    "conv_transpose2d": lambda: Case((_x(16, 14, 14, 64), _weight(3, 3, 64, 64), _x(64)), {"stride": 2}),
    "max_pool2d": lambda: Case((_x(32, 56, 56, 64),), {"window": 2}),
    "average_pool2d": lambda: Case((_x(32, 56, 56, 64),), {"window": 2}),
    "global_average_pool": lambda: Case((_x(32, 56, 56, 64),)),
}

# PyTorch is faster with channels last in memory, as ours are, but for these.
CHANNELS_FIRST = ("group_norm", "conv1d", "global_average_pool")


@dataclass(frozen=True)
class Result:
    """Seconds of one forward and backward: medians over the rounds, their quotient in each round, fastest calls."""

    name: str
    size: str
    ours: float
    torch: float
    quotients: list[float]
    our_fastest: float
    torch_fastest: float

    @property
    def ratio(self) -> float:
        return self.ours / self.torch

    @property
    def ratio_of_fastest(self) -> float:
        return self.our_fastest / self.torch_fastest


def by_hand(name: str, case: Case, cotangent: Any) -> Callable[[], tuple[Any, Any]]:
    op = catalog()[name]

    def step() -> tuple[Any, Any]:
        value, cache = op.forward(*case.inputs, **case.options)
        return value, op.backward(cotangent, cache)

    return step


def by_torch(name: str, case: Case, cotangent: Any) -> Callable[[], tuple[Any, Any]]:
    inputs = [as_tensors(x) for x in case.inputs]
    options = {option: as_tensors(value) for option, value in case.options.items()}
    output_gradient = [torch.tensor(c) for c in jax.tree.leaves(cotangent)]
    if name in CHANNELS_FIRST:
        inputs[0], *output_gradient = map(_channels_first, (inputs[0], *output_gradient))
    leaves = [x.requires_grad_() for x in inputs if torch.is_tensor(x) and x.is_floating_point()]

    def step() -> tuple[Any, Any]:
        value = TORCH_OPS[name](*inputs, **options)
        return value, torch.autograd.grad(jax.tree.leaves(value), leaves, output_gradient)

    return step


def _channels_first(x: Any) -> Any:
    """The same numbers in another order of memory."""
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


def check(name: str, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    """Speeds are of no interest where results differ. A leaf may cancel to nothing, so the largest one is the scale."""
    right = [leaf.detach().numpy() for leaf in jax.tree.leaves(theirs)]
    scale = max(np.linalg.norm(leaf) for leaf in right)
    for mine, leaf in zip(jax.tree.leaves(ours), right, strict=True):
        error = np.linalg.norm(mine - leaf)
        if not error <= 1e-4 * scale:
            raise RuntimeError(f"{name}: a leaf {leaf.shape} is off by {error:.3g}, and the largest is {scale:.3g}")


def run(name: str, rounds: int, clock: Clock) -> Result:
    case = SIZES[name]().astype(np.float32)
    value, _ = catalog()[name].forward(*case.inputs, **case.options)
    cotangent = jax.tree.map(lambda v: np.asarray(random.standard_normal(v.shape), v.dtype), value)
    contestants = [by_hand(name, case, cotangent), by_torch(name, case, cotangent)]
    check(name, *(step() for step in contestants))
    calls: list[list[list[float]]] = []
    stop = time.perf_counter() + PATIENCE
    while len(calls) < min(rounds, LEAST_ROUNDS) or (len(calls) < rounds and time.perf_counter() < stop):
        calls.append([seconds(step, clock) for step in contestants])
    means = [[statistics.mean(times) for times in contestants] for contestants in calls]
    ours, theirs = (statistics.median(column) for column in zip(*means, strict=True))
    fastest = (min(map(min, column)) for column in zip(*calls, strict=True))
    return Result(name, size(case), ours, theirs, [mine / their for mine, their in means], *fastest)


def seconds(step: Callable[[], Any], clock: Clock) -> list[float]:
    """Of each call in a round. One before is not counted, because it finds the caches full of the other's arrays."""

    def call() -> float:
        start = clock()
        step()
        return clock() - start

    time.sleep(PAUSE)
    return [call() for _ in range(max(1, round(ROUND_SECONDS / call())))]


def size(case: Case) -> str:
    shapes = ["x".join(map(str, x.shape)) for x in case.inputs if isinstance(x, np.ndarray)]
    options = [f"{name}={value}" for name, value in case.options.items() if not isinstance(value, np.ndarray)]
    return ", ".join([*dict.fromkeys(shapes), *options])


def measured(names: Sequence[str], rounds: int, *, one_thread: bool) -> Iterator[Result]:
    with threadpool_limits(1 if one_thread else None):
        if one_thread:
            torch.set_num_threads(1)
        for name in names:
            notes.print(f"{name} ...", style="dim")
            yield run(name, rounds, time.process_time if one_thread else time.perf_counter)


def show(results: Sequence[Result], rounds: int, where: str) -> None:
    table = Table(title=f"Seconds {where}: forward and backward of each op, float32", title_justify="left")
    for heading in ("op", "size"):
        table.add_column(heading)
    for heading in ("ours, ms", "PyTorch, ms", "ratio", "half of rounds", "of the fastest"):
        table.add_column(heading, justify="right")
    for r in results:
        low, high = np.quantile(r.quotients, (0.25, 0.75))
        spread = f"{low:.2f} to {high:.2f}"
        milliseconds = (f"{1e3 * seconds:.3g}" for seconds in (r.ours, r.torch))
        table.add_row(r.name, r.size, *milliseconds, f"{r.ratio:.2f}", spread, f"{r.ratio_of_fastest:.2f}")
    table.add_section()
    mean = statistics.geometric_mean(r.ratio for r in results)
    mean_of_fastest = statistics.geometric_mean(r.ratio_of_fastest for r in results)
    table.add_row("geometric mean", "", "", "", f"{mean:.2f}", "", f"{mean_of_fastest:.2f}")
    worst = max(results, key=lambda r: r.ratio)
    table.caption = (
        f"Medians of {rounds} rounds in turns (fewer of slow ops), the middle half of their ratios, and the ratio of "
        f"the fastest calls. The largest ratio of medians is {worst.ratio:.2f}, of {worst.name}. "
        f"PyTorch {torch.__version__}, NumPy {np.__version__}."
    )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME,...", help=f"some of {', '.join(SIZES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"{ROUNDS} unless told otherwise")
    parser.add_argument("--one-thread", action="store_true", help="one thread for both, in seconds of CPU")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything that was measured")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(SIZES)
    if unknown := [name for name in names if name not in SIZES]:
        parser.error(f"no op here is called {', '.join(unknown)}; there are {', '.join(SIZES)}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if torch is None:
        parser.error("PyTorch is not installed: python -m pip install -e '.[peers]'")
    results = list(measured(names, options.rounds, one_thread=options.one_thread))
    show(results, options.rounds, "in one thread, of CPU" if options.one_thread else "in all threads")
    if options.json:
        rows = [asdict(r) | {"ratio": r.ratio, "ratio_of_fastest": r.ratio_of_fastest} for r in results]
        found = {"torch": torch.__version__, "numpy": np.__version__, "one thread": options.one_thread, "ops": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
