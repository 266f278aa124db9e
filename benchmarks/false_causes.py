"""Counts false causes: faults that are of no known kind, and for which the judge names a cause nevertheless.

    python -m benchmarks.false_causes [count]

A false cause sends the user to the wrong line. Errors that no hypothesis describes are therefore planted in networks:
mixtures of two faults with random weights, errors of low rank, and errors in some of the entries. Their sizes range
from that of the gradient down to slightly more than the rounding error. Any cause that is named is false, except that a
few entries are wrong, if the error is in some entries only.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.backward import LINES, ByHand, by_hand
from benchmarks.faults import OBLONG, SQUARE
from benchmarks.networks import Problem, network
from compare import Verdict, check_gradients
from compare.suite.shallow import shallow_loss

COUNT = 300
SHAPES = (OBLONG, SQUARE, (8, 16, 2, 50))
PLACES = {"dZ2": "W2", "dW2": "W2", "db2": "b2", "dA1": "A1", "dZ1": "A1", "dW1": "W1", "db1": "b1"}
# The smallest relative size of an error; a smaller one could be below the rounding tolerance.
SMALLEST = {"float64": 1e-9, "float32": 1e-2}


@dataclass(frozen=True)
class Nameless:
    """A fault without a known cause. `true` are kinds of causes that describe it correctly nevertheless."""

    name: str
    by_hand: ByHand
    problem: Problem
    true: frozenset[str]


# Faults from which mixtures are made: functions of the values computed so far, the right gradient, and a generator.
Change = Callable[[Any, np.ndarray, np.random.Generator], np.ndarray]
PARTS: dict[str, Change] = {
    "factor": lambda v, g, random: random.choice([0.5, 2.0, -1.0, 1 / v.m, v.m]) * g,
    "shift": lambda v, g, random: np.roll(g, 1, axis=int(np.argmax(g.shape))),
    "order": lambda v, g, random: g.ravel()[::-1].reshape(g.shape),
    "rows": lambda v, g, random: g * random.choice([0.0, 1.0, 2.0], size=(len(g), 1)),
    "average": lambda v, g, random: np.full_like(g, g.mean()),
    "noise": lambda v, g, random: g * random.standard_normal(g.shape).astype(g.dtype),
    "clip": lambda v, g, random: np.clip(g, -np.abs(g).mean(), np.abs(g).mean()),
    "square": lambda v, g, random: g * np.abs(g) / np.abs(g).max(),
}
# Pairs whose mixture could be a single fault: if the mean is near 0, an average acts as a smaller factor, for example.
ALIKE = ({"factor", "rows"}, {"factor", "average"}, {"rows", "average"}, {"shift", "order"}, {"noise", "order"})


def mixture(random: np.random.Generator) -> tuple[str, Change]:
    """A mixture of two faults of one gradient with random weights, which neither of the two explains."""
    while True:
        one, other = random.choice(list(PARTS), size=2, replace=False)
        if {one, other} not in ALIKE:
            break
    shares = 10.0 ** random.uniform(-3, 0) * random.uniform(0.3, 1.0, size=2)

    def change(v: Any, g: np.ndarray, random: np.random.Generator) -> np.ndarray:
        first, second = (
            share * (PARTS[part](v, g, random) - g) for share, part in zip(shares, (one, other), strict=True)
        )
        return first + second

    return f"{shares[0]:.2g} of {one} and {shares[1]:.2g} of {other}", change


def low_rank(random: np.random.Generator) -> tuple[str, Change]:
    rank = int(random.integers(1, 3))

    def change(v: Any, g: np.ndarray, random: np.random.Generator) -> np.ndarray:
        error = random.standard_normal((len(g), rank)) @ random.standard_normal((rank, g.shape[1]))
        return error * np.abs(g).max()

    return f"an error of rank {rank}", change


def sparse(random: np.random.Generator) -> tuple[str, Change]:
    share = random.uniform(0.05, 0.6)

    def change(v: Any, g: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return np.abs(g).max() * random.standard_normal(g.shape) * (random.random(g.shape) < share)

    return f"an error in {share:.0%} of the entries", change


KINDS = (mixture, low_rank, sparse)


def nameless(count: int = COUNT, seed: int = 0) -> Iterator[Nameless]:
    """`count` faults without a known cause, each at a random line of the backward pass of a random network."""
    random = np.random.default_rng(seed)
    for i in range(count):
        dtype = ("float64", "float64", "float32")[i // len(KINDS) % 3]
        kind = KINDS[i % len(KINDS)]
        line = str(random.choice(list(PLACES)))
        size = 10.0 ** random.uniform(np.log10(SMALLEST[dtype]), 0)
        name, change = kind(random)
        problem = network(np.random.default_rng(int(random.integers(2**31))), SHAPES[i % 2], dtype=dtype)
        yield Nameless(
            f"{line}: {size:.1g} times {name} ({dtype})",
            by_hand(**{line: _changed(line, change, size, int(random.integers(2**31)))}),
            problem,
            frozenset({"single-entry"} if kind is sparse else ()),
        )


def _changed(line: str, change: Change, size: float, seed: int) -> Callable[[Any], Any]:
    """A line with `change` added to its result, which is the same in every call with the same values."""

    def changed(v: Any) -> Any:
        right = LINES[line](v)
        error = size * change(v, right, np.random.default_rng(seed))
        return (right + error).astype(right.dtype)

    return changed


def named_falsely(faults: Iterator[Nameless]) -> tuple[int, int, list[str]]:
    """The number of faults, the number of caught ones, and a sentence for each false cause."""
    tried, caught, falsely = 0, 0, []
    for fault in faults:
        tried += 1
        report = check_gradients(fault.by_hand, shallow_loss, *fault.problem)
        caught += report.verdict is Verdict.DISAGREE
        falsely += [
            f"{fault.name}: the gradient of {d.path}: {d.kind}: {d.message}"
            for d in report.diagnoses
            if d.kind not in fault.true
        ]
    return tried, caught, falsely


def main() -> None:
    tried, caught, falsely = named_falsely(nameless(int(sys.argv[1]) if sys.argv[1:] else COUNT))
    print(f"{tried} faults without a known cause, {caught} of them caught, {len(falsely)} false causes")
    print(*falsely, sep="\n")


if __name__ == "__main__":
    main()
