"""Time per training step of both sides, taken in turns, results awaited, compilation apart."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from compare.judge.reports.tables import readable

ROUNDS = 5
ROUND_SECONDS = 0.03
# A step of a huge model takes seconds: one that is longer than this needs no warming, and after FEW rounds of ENOUGH
# seconds in all there are no more.
LONG, FEW, ENOUGH = 2.0, 3, 20.0


@dataclass(frozen=True)
class StepTime:
    """Seconds per step: the median of the rounds, the fastest and the slowest."""

    median: float
    fastest: float
    slowest: float

    def __str__(self) -> str:
        return f"{readable(self.median)} ({readable(self.fastest)} to {readable(self.slowest)})"


@dataclass(frozen=True)
class TrainingTimes:
    """Of each side that was timed: `autodiff`, and what trains by hand."""

    sides: dict[str, StepTime]
    compilation: float  # seconds of autodiff's first call beyond what the same call takes afterwards
    rounds: int = ROUNDS

    @property
    def comparison(self) -> str:
        """JAX, and the fastest of what trains by hand."""
        name, by_hand = min(
            (item for item in self.sides.items() if item[0] != "autodiff"), key=lambda item: item[1].median
        )
        ratio = by_hand.median / self.sides["autodiff"].median
        return (
            f"JAX is {ratio:.1f} times as fast as {name}"
            if ratio >= 1
            else f"{name} is {1 / ratio:.1f} times as fast as JAX"
        )

    def __str__(self) -> str:
        return "\n".join(
            [
                f"Time per step, medians of {self.rounds} rounds in turns, fastest and slowest in brackets:",
                *(f"  {side:<11} {seconds}" for side, seconds in self.sides.items()),
                f"{self.comparison}, after {self.compilation:.2f} s of compilation.",
            ]
        )


def time_training(sides: dict[str, Callable[[int], Any]]) -> TrainingTimes:
    """Time `sides[name](steps)`, which trains for that many steps and returns JAX or NumPy arrays.

    One of them is `autodiff`, which must not have been called before, or its compilation is not seen. Rounds alternate
    between the sides, so that a change in the machine's speed meets all; a round lasts about ROUND_SECONDS.
    """
    first = _seconds(sides["autodiff"], 1)
    compilation = max(first - _seconds(sides["autodiff"], 1), 0.0)
    steps = {name: _steps_in_a_round(side) for name, side in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for done in range(ROUNDS):
        if done == FEW and sum(map(sum, taken.values())) > ENOUGH:
            break
        for name, side in sides.items():
            taken[name].append(_seconds(side, steps[name]) / steps[name])
    times = {name: StepTime(statistics.median(seconds), min(seconds), max(seconds)) for name, seconds in taken.items()}
    return TrainingTimes(times, compilation, rounds=len(taken["autodiff"]))


def _steps_in_a_round(side: Callable[[int], Any]) -> int:
    """Double until a call is long enough to measure, then scale it to a round."""
    steps = 1
    if _seconds(side, steps) > LONG:  # whatever it had to do the first time is lost in that
        return steps
    while (seconds := _warm_seconds(side, steps)) < ROUND_SECONDS / 8:
        steps *= 2
    steps = max(1, round(steps * ROUND_SECONDS / seconds))
    _seconds(side, steps)
    return steps


def _warm_seconds(side: Callable[[int], Any], steps: int) -> float:
    """The second of two calls: a side may compile for each number of steps that it has not met before."""
    _seconds(side, steps)
    return _seconds(side, steps)


def _seconds(side: Callable[[int], Any], steps: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(side(steps))
    return time.perf_counter() - start
