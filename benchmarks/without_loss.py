"""Measures checks without a loss in JAX: faults found, correct functions rejected, and time, beside other checkers.

    .venv/bin/pip install -e '.[peers]'
    python -m benchmarks.without_loss [--networks N] [--every K] [--without-peers] [--json PATH]

The faults are those of a backward pass and of side effects in float64 and float32: `faults`, `small_problems`,
`reported_faults`, and one planted in each of four models of the suite. Each is checked in three ways: with its loss in
JAX; with None for the loss, so that the hand-written NumPy is traced; and with None for a function that cannot be
traced, so that only finite differences are left. The command exits with 1 if too few are caught, or a correct network
is rejected.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.backward import correct
from benchmarks.faults import gradient_faults
from benchmarks.measure import correct_networks, group
from benchmarks.networks import random_networks
from benchmarks.peers import PEERS, HandWritten, Peer
from benchmarks.reported_faults import FAULTS as REPORTED
from benchmarks.small_problems import PROBLEMS
from compare import Verdict, check_gradients, check_vjp
from compare.environment import environment
from compare.judge.reports.gradient_report import SIDE_EFFECTS, GradientReport
from compare.suite.models import build

BY_DIFFERENCES = "the reference is finite differences"  # the note of a report if nothing could be traced
OTHERS = ("scipy", "numdifftools", "torch", "autograd")
LEAST = {"traced": 0.95, "differences": 0.90}  # the share of faults that must be caught

console = Console(width=None if sys.stdout.isatty() else 110)
notes = Console(stderr=True)


@dataclass(frozen=True)
class Item:
    """A function to be checked.

    `make()` returns the arguments of the check: `(by_hand, loss, parameters, *args)` or, if `pair`, `(forward,
    backward, function, *inputs)`. The functions are new objects in each call, because some of them have state.
    """

    name: str
    group: str
    make: Callable[[], tuple[Any, ...]]
    pair: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def with_loss(self) -> GradientReport:
        return self._check(self.make())

    def traced(self) -> GradientReport:
        return self._without(self.make())

    def by_differences(self) -> GradientReport:
        first, *rest = self.make()
        return self._without((undecidable(first), *rest))

    def _without(self, given: tuple[Any, ...]) -> GradientReport:
        where = 2 if self.pair else 1
        return self._check((*given[:where], None, *given[where + 1 :]))

    def _check(self, given: tuple[Any, ...]) -> GradientReport:
        return check_vjp(*given, **self.options) if self.pair else check_gradients(*given, **self.options)


def undecidable(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a branch on a value, which makes it impossible to trace."""

    @functools.wraps(function)
    def decided(*args: Any) -> Any:
        for leaf in jax.tree.leaves(args):
            if hasattr(leaf, "dtype") and leaf.size and float(np.ravel(leaf)[0]) == 0.123456789:
                raise ValueError("an unlucky number")
        return function(*args)

    return decided


# ------------------------------------------------------------------------------------ what is checked


def faults() -> Iterator[Item]:
    yield from planted()
    yield from small()
    yield from reported()
    yield from of_models()


def planted() -> Iterator[Item]:
    """The faults of the notebook's network."""
    for i, fault in enumerate(gradient_faults()):
        kind = group(fault)
        if kind in ("backward pass", "conduct"):

            def make(i: int = i) -> tuple[Any, ...]:
                fault = gradient_faults()[i]
                return fault.by_hand, fault.loss, *fault.problem()

            named = "side effects" if kind == "conduct" else kind
            yield Item(fault.name, named, make, options={"strict": True} if fault.strict else {})


def small() -> Iterator[Item]:
    for name, make in PROBLEMS.items():
        for serial in range(3):

            def made(make: Any = make, serial: int = serial) -> tuple[Any, ...]:
                problem = make(serial, True)
                return problem.loss_and_gradients, problem.loss, problem.parameters

            yield Item(f"{name} {serial}", "backward pass", made)


def reported() -> Iterator[Item]:
    """The reported faults of a backward pass. A wrong loss or output cannot be found, because it is the reference."""
    for fault in REPORTED:
        if fault.door not in ("gradients", "vjp") or {"loss", "output"} & set(fault.places):
            continue
        yield Item(
            fault.name, "backward pass", functools.partial(fault.pair, True), fault.door == "vjp", dict(fault.options)
        )


def of_models() -> Iterator[Item]:
    """Models of the suite in which the gradient of the largest leaf is 2% too large."""
    for name in ("mlp", "convnet", "rnn", "gpt"):

        def make(name: str = name) -> tuple[Any, ...]:
            by_hand, loss, parameters, *batch = a_model(name)
            sizes = [leaf.size for leaf in jax.tree.leaves(parameters)]
            number = sizes.index(max(sizes))

            def wrong(parameters: Any, *batch: Any) -> Any:
                value, gradients, *rest = by_hand(parameters, *batch)
                leaves, tree = jax.tree.flatten(gradients)
                leaves[number] = 1.02 * leaves[number]
                return value, jax.tree.unflatten(tree, leaves), *rest

            return wrong, loss, parameters, *batch

        yield Item(f"{name}, 2%", "backward pass", make)


def a_model(name: str) -> tuple[Any, ...]:
    small = {"batch": 4} | ({"length": 8} if name in ("rnn", "gpt") else {})
    model, _ = build(name, small, seed=0, dtype=np.float64)
    return model.loss_and_gradients, model.loss, model.parameters, *next(model.batches())


def sound(count: int) -> Iterator[Item]:
    for i, problem in enumerate(random_networks(count, seed=15)):
        yield Item(f"network {i}", "sound", lambda problem=problem: (correct, None, *problem))


# ------------------------------------------------------------------------------------ what is counted


@dataclass
class Count:
    """Counts for one way of checking and one group of faults.

    `placed` and `explained` are pairs: the faults whose place or causes are the same as in the check with a loss, and
    all faults that are caught in both ways.
    """

    faults: int = 0
    caught: int = 0
    placed: list[int] = field(default_factory=lambda: [0, 0])
    explained: list[int] = field(default_factory=lambda: [0, 0])
    untraced: int = 0
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)


def answer(check: Callable[[], GradientReport]) -> tuple[bool, str | None, frozenset[str], bool, float]:
    """The result of a check: (caught, place, causes, whether it used differences, seconds)."""
    start = time.perf_counter()
    report = check()
    kinds = frozenset(diagnosis.kind for diagnosis in report.diagnoses)
    caught = report.verdict is Verdict.DISAGREE or bool(kinds & SIDE_EFFECTS)
    by_differences = any(note.startswith(BY_DIFFERENCES) for note in report.notes)
    return caught, report.first_wrong, kinds, by_differences, time.perf_counter() - start


def measure(items: Iterable[Item]) -> dict[str, dict[str, Count]]:
    """The counts by way of checking and group of faults."""
    counts: dict[str, dict[str, Count]] = {"traced": {}, "differences": {}}
    for item in items:
        caught, place, kinds, _, _ = answer(item.with_loss)
        for way, check in (("traced", item.traced), ("differences", item.by_differences)):
            count = counts[way].setdefault(item.group, Count())
            count.faults += 1
            try:
                found, where, why, by_differences, seconds = answer(check)
            except Exception as error:
                count.remarks.append(f"{item.name}: raised {type(error).__name__}: {error}")
                continue
            count.caught += found
            count.untraced += by_differences
            count.seconds += seconds
            if not found:
                count.remarks.append(f"{item.name}: not caught{'' if caught else ', nor with a loss'}")
            elif caught:
                for what, ours, theirs in (("placed", where, place), ("explained", why, kinds)):
                    tally = getattr(count, what)
                    tally[0] += ours == theirs
                    tally[1] += 1
                    if ours != theirs:
                        count.remarks.append(f"{item.name}: {what} as {_text(ours)}, with a loss as {_text(theirs)}")
    return counts


def _text(what: Any) -> str:
    return ", ".join(sorted(what)) or "nothing" if isinstance(what, frozenset) else str(what)


def blamed(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """The verdicts on correct functions, by way of checking."""
    found: dict[str, dict[str, int]] = {}
    for item in items:
        for way, check in (("traced", item.traced), ("differences", item.by_differences)):
            report = check()
            verdicts = found.setdefault(way, {verdict.name: 0 for verdict in Verdict})
            verdicts[report.verdict.name] += 1
            if report.verdict is Verdict.DISAGREE:
                notes.print(f"{item.name}, {way}:\n{report}", markup=False, highlight=False)
    return found


# ------------------------------------------------------------------------------------ others' checkers


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


@dataclass
class Beside:
    """The counts of one checker on faults of a backward pass and on correct networks, in float64."""

    name: str
    faults: int = 0
    caught: int = 0
    sound: int = 0
    blamed: int = 0
    evaluations: int = 0
    seconds: float = 0.0

    def count(self, noticed: bool, faulty: bool, evaluations: int, seconds: float) -> None:
        self.faults += faulty
        self.caught += faulty and noticed
        self.sound += not faulty
        self.blamed += noticed and not faulty
        self.evaluations += evaluations
        self.seconds += seconds


def beside(peers: Iterable[Peer], every: int, networks: int) -> list[Beside]:
    """The counts of our checks without a loss in JAX, and of other checkers that need none.

    An evaluation is a call of the loss or of its gradient.
    """
    shown = [fault for fault in gradient_faults() if group(fault) == "backward pass" and fault.dtype == "float64"]
    problems = [(fault.by_hand, *fault.problem(), True) for fault in shown[::every]]
    for saturated in (False, True):
        problems += [(correct, *problem, False) for problem in correct_networks(networks, saturated=saturated)]
    found = [_ours("backproof, NumPy traced", problems, lambda f: f)]
    found.append(_ours("backproof, differences", problems, undecidable))
    for peer in peers:
        notes.print(peer.name)
        result = Beside(peer.name)
        for by_hand, parameters, x, y, faulty in problems:
            loss = Counted(lambda p, f=by_hand, x=x, y=y: f(p, x, y)[0])
            gradients = Counted(lambda p, f=by_hand, x=x, y=y: f(p, x, y)[1])
            start = time.perf_counter()
            noticed = peer.notices(HandWritten(loss, gradients), parameters, x, y)
            result.count(noticed, faulty, loss.calls + gradients.calls, time.perf_counter() - start)
        found.append(result)
    return found


def _ours(name: str, problems: Iterable[tuple[Any, ...]], changed: Callable[..., Any]) -> Beside:
    result = Beside(name)
    for by_hand, parameters, x, y, faulty in problems:
        counted = Counted(changed(by_hand))
        start = time.perf_counter()
        report = check_gradients(lambda *args, counted=counted: counted(*args), None, parameters, x, y)
        noticed = report.verdict is Verdict.DISAGREE
        result.count(noticed, faulty, counted.calls, time.perf_counter() - start)
    return result


# ------------------------------------------------------------------------------------ printing


def caught_table(counts: dict[str, dict[str, Count]]) -> Table:
    table = Table("reference", "faults in", title="Without a loss in JAX", title_justify="left")
    for heading in ("caught", "not traced", "place as with a loss", "cause as with a loss", "seconds per check"):
        table.add_column(heading, justify="right")
    for way, groups in counts.items():
        for name, count in groups.items():
            table.add_row(
                "NumPy traced" if way == "traced" else "differences",
                name,
                f"{count.caught} of {count.faults}",
                f"{count.untraced}" if way == "traced" else "",
                "{} of {}".format(*count.placed),
                "{} of {}".format(*count.explained),
                f"{count.seconds / max(count.faults, 1):.3f}",
            )
    return table


def beside_table(results: Sequence[Beside]) -> Table:
    table = Table("checker", title="Checkers that need no second loss, in float64", title_justify="left")
    for heading in ("errors found", "rejected", "evaluations per check", "seconds per check"):
        table.add_column(heading, justify="right")
    for result in results:
        checks = max(result.faults + result.sound, 1)
        table.add_row(
            result.name,
            f"{result.caught} of {result.faults}",
            f"{result.blamed} of {result.sound}",
            f"{result.evaluations / checks:.0f}",
            f"{result.seconds / checks:.3g}",
        )
    return table


def enough(counts: dict[str, dict[str, Count]], verdicts: dict[str, dict[str, int]]) -> bool:
    for way, groups in counts.items():
        total = sum(count.faults for count in groups.values())
        if sum(count.caught for count in groups.values()) < LEAST[way] * total:
            return False
    return not any(found["DISAGREE"] for found in verdicts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=500, metavar="N", help="the number of correct networks (500)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="check every K-th fault only")
    parser.add_argument("--without-peers", action="store_true", help="leave out other checkers")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results as JSON")
    options = parser.parse_args(arguments)
    counts = measure(list(faults())[:: options.every])
    console.print(caught_table(counts))
    for way, groups in counts.items():
        for name, count in groups.items():
            for remark in count.remarks:
                console.print(f"{way}, {name}: {remark}", markup=False, highlight=False)
    verdicts = blamed(sound(options.networks))
    for way, found in verdicts.items():
        words = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
        console.print(f"{options.networks} correct networks, {way}: {words}", highlight=False)
    peers = [] if options.without_peers else [p for p in PEERS if p.distribution in OTHERS and p.version is not None]
    results = beside(peers, options.every, max(options.networks // 25, 1))
    console.print(beside_table(results))
    where = environment() | {peer.distribution: peer.version or "" for peer in peers}
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), markup=False, highlight=False)
    if options.json:
        plain = {
            "environment": where,
            "faults": {way: {name: asdict(count) for name, count in of.items()} for way, of in counts.items()},
            "correct": verdicts,
            "beside": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return 0 if enough(counts, verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
