"""Measures the first check of a small function, beside its compilation by JAX and other gradient checkers.

    python -m benchmarks.first_check [--repetitions 9] [--json PATH]

There are five problems in float64, each in a correct version and with a fault. Each contestant first checks another
problem, so that the start of the process is not measured. Then each run has new functions with shapes that JAX has not
compiled before, except in the rows that say otherwise. (Outside of `jit`, JAX caches a program for each operation and
shape.) The contestants alternate, so that other work on the machine affects all of them, and a ratio is taken within a
turn. Processor seconds are those of all threads of the process. They are more reliable than seconds if there is other
work on the machine.

JAX's check_grads checks the gradient by JAX of the loss in JAX; all other checkers check the hand-written gradient.
check_grads takes most of the time of a run, because it compiles every operation for every new shape. A checker that is
not installed is listed as such (.venv/bin/pip install -e '.[peers]').
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PEERS
from benchmarks.small_problems import PROBLEMS, SmallProblem, logistic_regression
from compare import Verdict, check_gradients
from compare.environment import environment

console = Console(width=None if sys.stdout.isatty() else 140)
notes = Console(stderr=True)

OURS, JIT, CHECK_GRADS = "backproof check_gradients", "jit(value_and_grad), first call", "jax check_grads, JAX's loss"
SHOWN = ("torch gradcheck", "torch gradcheck, fast mode", "HIPS autograd check_grads")
RECURRING = "shapes seen"
LIMITS = {"right": 0.15, "faulty": 0.4}  # the most seconds that our check may take
LIMIT_OF_JIT = 0.5  # the largest ratio of our check to the first call of jit, for a correct function


def ours(problem: SmallProblem) -> bool | None:
    """Whether the checker accepts the gradient; None if it gives no verdict. All contestants return this."""
    report = check_gradients(problem.loss_and_gradients, problem.loss, problem.parameters)
    return {Verdict.AGREE: True, Verdict.DISAGREE: False}.get(report.verdict)


def compiled(problem: SmallProblem) -> bool | None:
    with jax.enable_x64(True):
        jax.block_until_ready(jax.jit(jax.value_and_grad(problem.loss))(problem.parameters))
    return None


def checked_by_jax(problem: SmallProblem) -> bool | None:
    with jax.enable_x64(True):
        parameters = jax.tree.map(jnp.asarray, problem.parameters)
        try:
            check_grads(problem.loss, (parameters,), order=1, modes=("rev",))
        except AssertionError:  # it has rejected the gradient, which along a random direction happens to right ones
            return False
    return True


@dataclass(frozen=True)
class Contestant:
    name: str
    run: Callable[[SmallProblem], bool | None]
    kinds: tuple[str, ...] = ("right", "faulty")  # or RECURRING: correct new functions with shapes seen before


def contestants() -> list[Contestant]:
    def accepted_by(peer: Any) -> Callable[[SmallProblem], bool | None]:
        return lambda problem: not peer.notices(problem.hand_written, problem.parameters, None, None)

    peers = [Contestant(p.name, accepted_by(p)) for p in PEERS if p.name in SHOWN and p.version is not None]
    return [
        Contestant(OURS, ours, ("right", RECURRING, "faulty")),
        Contestant(JIT, compiled, ("right",)),
        Contestant(CHECK_GRADS, checked_by_jax, ("right", RECURRING)),
        *peers,
    ]


# --------------------------------------------------------------------------------------- measured


def measure(repetitions: int) -> dict[str, Any]:
    """The seconds and the verdict of each run, by problem, contestant and kind of function."""
    everybody = contestants()
    for contestant in everybody:
        contestant.run(logistic_regression(0, False))
    runs = [(contestant, kind) for contestant in everybody for kind in contestant.kinds if kind != RECURRING]
    # Contestants that use JAX need a problem of new shapes in every run; they come first. The others do not compile.
    fresh = sum(contestant.name in (OURS, JIT, CHECK_GRADS) for contestant, _ in runs)
    results: dict[str, Any] = {
        name: {c.name: {kind: {"seconds": [], "processor": [], "said": []} for kind in c.kinds} for c in everybody}
        for name in PROBLEMS
    }
    for turn in range(repetitions):
        notes.print(f"turn {turn + 1} of {repetitions}")
        for name, make in PROBLEMS.items():
            for i in np.roll(np.arange(len(runs)), turn):
                contestant, kind = runs[i]
                serial = fresh * turn + int(i + turn) % fresh
                again = [RECURRING] if kind == "right" and RECURRING in contestant.kinds else []
                for this in (kind, *again):
                    for what, value in timed(contestant, make(serial, kind == "faulty")).items():
                        results[name][contestant.name][this][what].append(value)
    return results


def timed(contestant: Contestant, problem: SmallProblem) -> dict[str, Any]:
    """The seconds, the processor seconds of all threads, and the verdict of a run."""
    gc.collect()  # so that no contestant pays for the garbage of another
    start, busy = time.perf_counter(), time.process_time()
    said = contestant.run(problem)
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - busy, "said": said}


def ratios(of_problem: dict[str, Any], kind: str) -> list[float]:
    """For each turn, the ratio of the time of our check to that of the first call of jit."""
    both = zip(of_problem[OURS][kind]["seconds"], of_problem[JIT]["right"]["seconds"], strict=True)
    return [check / jit for check, jit in both]


def misjudged(results: dict[str, Any]) -> list[str]:
    """A sentence for each contestant and problem with wrong verdicts."""
    found = []
    for problem, by_contestant in results.items():
        for contestant, by_kind in by_contestant.items():
            for kind, runs in by_kind.items():
                wrong = [said for said in runs["said"] if said is not (kind != "faulty")]
                if wrong and contestant != JIT:
                    found.append(
                        f"{contestant} on the {problem}, {kind}: {len(wrong)} of {len(runs['said'])} verdicts are "
                        "wrong."
                    )
    return found


# ----------------------------------------------------------------------------------------- shown


def spread(values: Sequence[float]) -> str:
    """The median, and half the interquartile range in percent of it."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ±{(high - low) / 2 / middle:.0%}"


def table(results: dict[str, Any], repetitions: int) -> Table:
    shown = Table(title=f"Seconds, median of {repetitions} ± half the interquartile range", title_justify="left")
    shown.add_column("", no_wrap=True)
    for heading in ("limit", *results):
        shown.add_column(heading, justify="right")

    def row(name: str, cells: Sequence[str], limit: float | None = None) -> None:
        shown.add_row(name, "" if limit is None else f"{limit:g}", *cells)

    def seconds(contestant: str, kind: str, what: str = "seconds") -> list[str]:
        return [spread(found[contestant][kind][what]) for found in results.values()]

    for kind in ("right", "faulty", RECURRING):
        row(f"{OURS}, {kind}", seconds(OURS, kind), LIMITS.get(kind))
    row(JIT, seconds(JIT, "right"))
    for kind, limit in (("right", LIMIT_OF_JIT), ("faulty", None)):
        row(f"check / jit, {kind}", [spread(ratios(found, kind)) for found in results.values()], limit)
    shown.add_section()
    for contestant, kind in ((OURS, "right"), (OURS, "faulty"), (JIT, "right")):
        name = contestant if contestant == JIT else f"{contestant}, {kind}"
        row(f"{name}: processor seconds", seconds(contestant, kind, "processor"))
    shown.add_section()
    any_problem = next(iter(results.values()))
    for contestant in (CHECK_GRADS, *SHOWN):
        if contestant in any_problem:
            for kind in any_problem[contestant]:
                row(f"{contestant}, {kind}", seconds(contestant, kind))
        else:
            row(contestant, ["not installed"])
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9, metavar="N", help="the number of turns (9)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write all figures as JSON")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    results = measure(options.repetitions)
    console.print(table(results, options.repetitions))
    for sentence in misjudged(results) or ["All verdicts are right."]:
        console.print(sentence, markup=False, highlight=False)
    where = environment() | {peer.distribution: peer.version or "not installed" for peer in PEERS if peer.name in SHOWN}
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), markup=False, highlight=False)
    if options.json:
        limits = LIMITS | {"of jit": LIMIT_OF_JIT}
        ratio = {name: {kind: ratios(found, kind) for kind in LIMITS} for name, found in results.items()}
        everything = {"environment": where, "limits": limits, "problems": results, "check / jit": ratio}
        options.json.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
