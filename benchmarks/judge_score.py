"""Scores the judge on planted faults and correct networks, beside other gradient checkers.

Run it from a checkout that is installed:

    .venv/bin/pip install -e '.[peers]'
    python benchmarks/judge_score.py

It takes many minutes, and a few with `--quick`. A checker that is not installed is listed as such.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.faults import gradient_faults
from benchmarks.low_precision import score as low_precision
from benchmarks.networks import random_networks
from benchmarks.peers import PEERS, Peer
from benchmarks.trajectory_faults import SOUND_TRAJECTORIES, TRAJECTORY_FAULTS

OURS = "backproof check_gradients"
STOP = 20.0  # seconds; a peer that took longer is not tried on larger networks

# The tables need more than the 80 columns that rich assumes for files and pipes.
console = Console(width=None if sys.stdout.isatty() else 110)
notes = Console(stderr=True)

LEGEND = (
    "Errors found: faults of the backward pass and of the loss. Rejected: correct networks that are called wrong. "
    "Smallest error: the smallest relative error of one entry that is found, in powers of ten.\n"
    "The other checkers get what their interfaces accept: a NumPy function in float64, at the point that the corpus "
    "has for each fault. They are not tried on float32, side effects, a wrong loss in JAX or training, and none checks "
    "at other points by itself. If a checker raises an exception, it has noticed the fault.\n"
)


def score(quick: bool, networks: int) -> dict[str, Any]:
    """All measurements, as plain data."""
    every = 4 if quick else 1
    each = 5 if quick else 20
    sizes = list(measure.TIMED)[: 2 if quick else None]
    stop, patience = (5.0, 10.0) if quick else (STOP, 120.0)
    notes.print("our judge: faults")
    results: dict[str, Any] = {
        "environment": environment(),
        "faults": {name: asdict(tally) for name, tally in measure.judge_faults(gradient_faults()[::every]).items()},
        "trajectories": asdict(measure.judge_trajectories(TRAJECTORY_FAULTS[::every])),
    }
    notes.print("our judge: correct networks and training runs")
    results["sound trajectories"] = [
        measure.run_trajectory(pair).verdict.name for pair in SOUND_TRAJECTORIES[:: 2 if quick else 1]
    ]
    notes.print("kernels in 16 bits, under all judges")
    results["low precision"] = low_precision.measure(2 if quick else low_precision.SEEDS)
    results["random networks"] = measure.judge_correct(random_networks(networks, seed=0))
    judges: dict[str, Any] = {OURS: ours(every, each, sizes)}
    for peer in PEERS:
        notes.print(peer.name)
        installed = peer.version is not None
        judges[peer.name] = scored(peer, every, each, sizes, stop, patience) if installed else None
    return results | {"judges": judges}


def ours(every: int, each: int, sizes: Sequence[int]) -> dict[str, Any]:
    shown = [fault for fault in gradient_faults() if measure.visible_to_peers(fault)][::every]
    tallies = measure.judge_faults(shown)
    blamed, open_verdicts = {}, {}
    for name in ("plain", "saturated"):
        verdicts = measure.judge_correct(measure.correct_networks(each, saturated=name == "saturated"))
        blamed[name], open_verdicts[name] = verdicts["DISAGREE"] + verdicts["RAISED"], verdicts["INCONCLUSIVE"]
    notes.print("our judge: seconds")
    times = {size: measure.time_judge(size) for size in sizes}
    return {
        "faults": sum(tally.faults for tally in tallies.values()),
        "caught": sum(tally.caught for tally in tallies.values()),
        "correct": each,
        "blamed": blamed,
        "inconclusive": open_verdicts,
        "smallest": measure.smallest_noticed(measure.judge_notices),
        "smallest in float32": measure.smallest_noticed(measure.judge_notices, "float32"),
        "seconds": {size: time["warm"] for size, time in times.items()},
        "cost": times,
    }


def scored(peer: Peer, every: int, each: int, sizes: Sequence[int], stop: float, patience: float) -> dict[str, Any]:
    shown = [fault for fault in gradient_faults() if measure.visible_to_peers(fault)][::every]
    missed = measure.peer_missed(peer, shown)
    return {
        "faults": len(shown),
        "caught": len(shown) - len(missed),
        "missed": missed,
        "correct": each,
        "blamed": {
            name: measure.peer_correct(peer, measure.correct_networks(each, saturated=name == "saturated"))
            for name in ("plain", "saturated")
        },
        "smallest": measure.smallest_noticed(measure.peer_notices(peer)),
        "seconds": measure.time_peer(peer, sizes, stop, patience),
    }


def environment() -> dict[str, str]:
    peers = {peer.distribution: peer.version or "not installed" for peer in PEERS}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, JAX on {jax.default_backend()}",
        "python": platform.python_version(),
        "backproof": version("backproof"),
        **peers,
    }


# -------------------------------------------------------------------------------------- printing


def show(results: dict[str, Any]) -> None:
    console.print(compared(results["judges"]))
    console.print(LEGEND)
    console.print(ours_in_detail(results))
    for name, tally in {**results["faults"], "training": results["trajectories"]}.items():
        for remark in tally["remarks"]:
            console.print(f"{name}: {remark}", markup=False, highlight=False)
    sound = results["sound trajectories"]
    console.print(f"Correct training runs: {sound.count('AGREE')} of {len(sound)} AGREE.")
    verdicts = results["random networks"]
    counts = ", ".join(f"{count} {name}" for name, count in verdicts.items())
    console.print(f"Correct random networks: {sum(verdicts.values())}: {counts}.")
    console.print(low_precision.compared(results["low precision"]))
    console.print(seconds(results["judges"]))
    console.print(", ".join(f"{name} {value}" for name, value in results["environment"].items()), markup=False)


def compared(judges: dict[str, Any]) -> Table:
    table = Table("judge", title="Faults and correct networks, in float64", title_justify="left")
    for heading in ("errors found", "rejected, ordinary", "rejected, saturated", "smallest error"):
        table.add_column(heading, justify="right")
    for name, result in judges.items():
        if result is None:
            table.add_row(name, "not installed")
            continue
        smallest = result["smallest"] or "none"
        if "smallest in float32" in result:
            smallest += f" (float32: {result['smallest in float32']})"
        blamed = [f"{result['blamed'][kind]} of {result['correct']}" for kind in ("plain", "saturated")]
        table.add_row(name, f"{result['caught']} of {result['faults']}", *blamed, smallest)
    return table


def ours_in_detail(results: dict[str, Any]) -> Table:
    table = Table("faults in", title=f"{OURS} and check_trajectory, all faults", title_justify="left")
    for heading in ("caught", "place right", "cause right", "side right"):
        table.add_column(heading, justify="right")
    tallies = {**results["faults"], "training": results["trajectories"]}
    for name, tally in tallies.items():
        table.add_row(name, *_fractions([tally]))
    table.add_section()
    table.add_row("all", *_fractions(list(tallies.values())))
    return table


def _fractions(tallies: Sequence[dict[str, Any]]) -> list[str]:
    def total(what: str, i: int) -> int:
        return sum(tally[what][i] for tally in tallies)

    pairs = [(sum(tally["caught"] for tally in tallies), sum(tally["faults"] for tally in tallies))]
    pairs += [(total(what, 0), total(what, 1)) for what in ("placed", "explained", "attributed")]
    return [f"{right} of {count}" if count else "" for right, count in pairs]


def seconds(judges: dict[str, Any]) -> Table:
    table = Table("judge", title="Seconds per check, by number of parameters", title_justify="left")
    cost = judges[OURS]["cost"]
    for size in cost:
        table.add_column(f"{size:,}", justify="right")
    for name, result in judges.items():
        if result is not None:
            table.add_row(name, *("-" if time is None else f"{time:.3g}" for time in result["seconds"].values()))
    table.add_section()
    table.add_row("ours, first check", *(f"{time['cold']:.3g}" for time in cost.values()))
    table.add_row("one gradient by JAX", *(f"{time['gradient']:.3g}" for time in cost.values()))
    table.add_row("ours / one gradient by JAX", *(f"{time['evaluations']:.0f}" for time in cost.values()))
    table.caption = f"{measure.EXAMPLES} examples. -: not tried, because it would take too long."
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the faults, small networks only")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write all results as JSON")
    parser.add_argument("--networks", type=int, metavar="N", help="number of correct random networks (200; quick: 20)")
    options = parser.parse_args(arguments)
    networks = options.networks if options.networks is not None else (20 if options.quick else 200)
    if networks < 0:
        parser.error(f"--networks must not be negative, got {networks}")
    results = score(options.quick, networks)
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
