"""What a first check of a small function costs that the process has never seen, beside JAX's compilation of it.

    python -m benchmarks.first_check [--repetitions 9] [--json PATH]

Five problems in float64, right and with a fault, in a process that is up: one check of another problem was made by
everybody. Each run is of new functions, of shapes that JAX has not seen, but for rows that say so: JAX keeps a program
for each operation and shape that it does outside of `jit`. The contestants take turns, so that a busy machine is busy
for all of them; a ratio is of two runs of one turn. Seconds of the processor are those that the process had in all of
its threads: they say more where other work is going on.

Other people's checkers are there too. JAX's check_grads asks whether JAX's gradient is that of the JAX loss, the
others whether the hand-written one is right. It takes most of a run's minutes, because it compiles every operation for
every new shape. A checker that is not installed is listed as such (.venv/bin/pip install -e '.[peers]').
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
LIMITS = {"right": 0.15, "faulty": 0.4}  # seconds of our check
LIMIT_OF_JIT = 0.5  # of the first call of jit, where the code is right


def ours(problem: SmallProblem) -> bool | None:
    """Whether the gradient is said to be right; None if nothing is said. So for every contestant."""
    report = check_gradients(problem.loss_and_gradients, problem.loss, problem.parameters)
    return {Verdict.AGREE: True, Verdict.DISAGREE: False}.get(report.verdict)


def compiled(problem: SmallProblem) -> bool | None:
    with jax.enable_x64(True):
        jax.block_until_ready(jax.jit(jax.value_and_grad(problem.loss))(problem.parameters))
    return None


def checked_by_jax(problem: SmallProblem) -> bool | None:
    with jax.enable_x64(True):
        parameters = jax.tree.map(jnp.asarray, problem.parameters)
        check_grads(problem.loss, (parameters,), order=1, modes=("rev",))
    return True


@dataclass(frozen=True)
class Contestant:
    name: str
    run: Callable[[SmallProblem], bool | None]
    kinds: tuple[str, ...] = ("right", "faulty")  # and RECURRING: right, new functions of shapes that were seen


def contestants() -> list[Contestant]:
    def asked(peer: Any) -> Callable[[SmallProblem], bool | None]:
        return lambda problem: not peer.notices(problem.hand_written, problem.parameters, None, None)

    peers = [Contestant(p.name, asked(p)) for p in PEERS if p.name in SHOWN and p.version is not None]
    return [
        Contestant(OURS, ours, ("right", RECURRING, "faulty")),
        Contestant(JIT, compiled, ("right",)),
        Contestant(CHECK_GRADS, checked_by_jax, ("right", RECURRING)),
        *peers,
    ]


# --------------------------------------------------------------------------------------- measured


def measure(repetitions: int) -> dict[str, Any]:
    """Seconds of each run by problem, contestant and kind of code, and what was said."""
    everybody = contestants()
    for contestant in everybody:
        contestant.run(logistic_regression(0, False))
    runs = [(contestant, kind) for contestant in everybody for kind in contestant.kinds if kind != RECURRING]
    # Those that use JAX need a problem each in every turn; they come first. The others have no use for what is new.
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
    """Seconds, those of the processor in all threads, and what was said."""
    gc.collect()  # nobody pays for the garbage of others
    start, busy = time.perf_counter(), time.process_time()
    said = contestant.run(problem)
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - busy, "said": said}


def ratios(of_problem: dict[str, Any], kind: str) -> list[float]:
    """Our check in first calls of jit, by turn."""
    both = zip(of_problem[OURS][kind]["seconds"], of_problem[JIT]["right"]["seconds"], strict=True)
    return [check / jit for check, jit in both]


def misjudged(results: dict[str, Any]) -> list[str]:
    """What was not said as it is, in a sentence for each contestant and problem."""
    found = []
    for problem, by_contestant in results.items():
        for contestant, by_kind in by_contestant.items():
            for kind, runs in by_kind.items():
                wrong = [said for said in runs["said"] if said is not (kind != "faulty")]
                if wrong and contestant != JIT:
                    found.append(
                        f"{contestant} on the {problem}, {kind}: not so said in {len(wrong)} of {len(runs['said'])}."
                    )
    return found


# ----------------------------------------------------------------------------------------- shown


def spread(values: Sequence[float]) -> str:
    """The median, and half the distance of the quartiles in its percent."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ±{(high - low) / 2 / middle:.0%}"


def table(results: dict[str, Any], repetitions: int) -> Table:
    shown = Table(title=f"Seconds, median of {repetitions} ± half the distance of the quartiles", title_justify="left")
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
        row(f"{name}: processor", seconds(contestant, kind, "processor"))
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
    parser.add_argument("--repetitions", type=int, default=9, metavar="N", help="turns of each contestant (9)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write every figure")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    results = measure(options.repetitions)
    console.print(table(results, options.repetitions))
    for sentence in misjudged(results) or ["Everybody said of all code what it is."]:
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
