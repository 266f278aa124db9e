"""Checks thousands of different functions in one process, and measures what the checks leave behind.

    python -m benchmarks.many_checks [--functions 2000] [--seed 0] [--json PATH]

Every third function has a planted fault. The command exits with 1 unless all verdicts are right, memory and the number
of memory maps stop growing after the first hundred functions, every loss and its data are freed, and a function that
the caller compiled before is still compiled. Memory and maps are read from /proc/self, which only Linux has.
"""

import argparse
import gc
import json
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.random_functions import random_function
from compare import check_gradients
from compare.environment import environment

console = Console(width=None if sys.stdout.isatty() else 110)
notes = Console(stderr=True)

WARM = 100  # the number of functions after which nothing should grow
# The largest growth after that. JAX caches traces of its own functions by shape, up to a bound: merely tracing a
# thousand of these losses and their gradients leaves 40 MiB.
MOST = {"memory, MiB": 64.0, "maps": 64}
PROC = Path("/proc/self")


def measure(functions: int, seed: int) -> dict[str, Any]:
    """The wrong verdicts, memory and maps in the course of the run, and what is left in the end, as plain data."""
    traces = []

    @jax.jit
    def own(x: Any) -> Any:
        traces.append("traced")
        return jnp.sum(x**2)

    own(jnp.ones(3))
    every = max(1, min(WARM, functions // 2))
    course: dict[int, dict[str, float]] = {}
    alive: list[weakref.ref[Any]] = []
    wrong: list[str] = []
    seconds: dict[str, list[float]] = {"right": [], "faulty": []}
    for number in range(functions):
        faulty = number % 3 == 2
        start = time.perf_counter()
        said, about, references = checked(seed, number, faulty)
        seconds["faulty" if faulty else "right"].append(time.perf_counter() - start)
        alive = [reference for reference in alive + references if reference() is not None]
        if said != ("DISAGREE" if faulty else "AGREE"):
            wrong.append(f"{number}: {about}: {said}")
            notes.print(wrong[-1], markup=False, highlight=False)
        if (number + 1) % every == 0 or number + 1 == functions:
            gc.collect()
            course[number + 1] = used()
            notes.print(f"{number + 1}: {course[number + 1]}", markup=False, highlight=False)
    gc.collect()
    own(jnp.ones(3))
    return {
        "functions": functions,
        "seed": seed,
        "wrong": wrong,
        "course": course,
        "not freed": sum(reference() is not None for reference in alive),
        "traces": len(traces),
        "seconds": {kind: sorted(times)[len(times) // 2] for kind, times in seconds.items() if times},
    }


def checked(seed: int, number: int, faulty: bool) -> tuple[str, str, list[weakref.ref[Any]]]:
    """The verdict on a function, its description, and weak references to its loss and its data."""
    function = random_function(seed, number, faulty)
    loss = function.loss()
    try:
        said = check_gradients(function.loss_and_gradients(), loss, function.parameters).verdict.name
    except Exception as error:
        said = f"the check raised {type(error).__name__}: {error}"
    return said, str(function), [weakref.ref(loss), weakref.ref(function.x)]


def used() -> dict[str, float]:
    """The memory and the number of memory maps of this process; empty if the system does not report them."""
    status, maps = PROC / "status", PROC / "maps"
    if not (status.exists() and maps.exists()):
        return {}
    resident = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:"))
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    return {"memory, MiB": int(resident.split()[1]) / 1024, "maps": len(lines)}


def growth(results: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """For memory and maps: the value after the first hundred functions, the value at the end, and the difference."""
    course = list(results["course"].values())
    return {name: (course[0][name], course[-1][name], course[-1][name] - course[0][name]) for name in course[0]}


def violations(results: dict[str, Any]) -> list[str]:
    found = [f"wrong verdict on {sentence}" for sentence in results["wrong"]]
    for name, (_, _, more) in growth(results).items():
        if not more <= MOST[name]:
            found.append(f"{name}: grew by {more:.0f}, which is more than {MOST[name]:.0f}")
    if results["not freed"]:
        found.append(f"{results['not freed']} losses or their data were not freed")
    if results["traces"] != 1:
        found.append("the caller's own compiled function was dropped and had to be traced again")
    return found


def table(results: dict[str, Any]) -> Table:
    functions = results["functions"]
    shown = Table("", title=f"{functions:,} different functions in one process, a third faulty", title_justify="left")
    first, *_ = results["course"]
    for heading in (f"after {first:,}", f"after {functions:,}", "growth", "at most"):
        shown.add_column(heading, justify="right")
    for name, figures in growth(results).items():
        shown.add_row(name, *(f"{figure:,.0f}" for figure in figures), f"{MOST[name]:,.0f}")
    shown.add_section()
    shown.add_row("wrong verdicts", "", f"{len(results['wrong'])}", "", "0")
    shown.add_row("losses and data not freed", "", f"{results['not freed']}", "", "0")
    shown.add_row("traces of the caller's own function", "", f"{results['traces']}", "", "1")
    for kind, seconds in results["seconds"].items():
        shown.add_row(f"seconds of a first check, {kind}, median", "", f"{seconds:.3f}", "", "")
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--functions", type=int, default=2000, metavar="N", help="the number of functions (2000)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the functions (0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results as JSON")
    options = parser.parse_args(arguments)
    if options.functions < 1 or options.seed < 0:
        parser.error("--functions must be at least 1, and --seed not negative")
    results = measure(options.functions, options.seed)
    console.print(table(results))
    found = violations(results)
    for sentence in found:
        console.print(sentence, markup=False, highlight=False)
    where = environment()
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), markup=False, highlight=False)
    if options.json:
        everything = {"environment": where, "violations": found} | results
        options.json.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
