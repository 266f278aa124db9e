"""Measures the time per training step of both sides, in alternating rounds and without compilation."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from compare.judge.reports.tables import readable

ROUNDS = 5
ROUND_SECONDS = 0.02
# A step of a huge model takes seconds. A step longer than LONG seconds needs no warm-up, and if the first FEW rounds
# take more than ENOUGH seconds together, there are no more rounds.
LONG, FEW, ENOUGH = 2.0, 3, 20.0


@dataclass(frozen=True)
class StepTime:
    """Seconds per step: the median, the fastest and the slowest of all rounds."""

    median: float
    fastest: float
    slowest: float

    def __str__(self) -> str:
        return f"{readable(self.median)} ({readable(self.fastest)} to {readable(self.slowest)})"


@dataclass(frozen=True)
class TrainingTimes:
    """The times of each side: `autodiff`, and one or two hand-written ones.

    `compilation` is the time by which the first call of `autodiff` is longer than the second, in seconds.
    """

    sides: dict[str, StepTime]
    compilation: float
    rounds: int = ROUNDS

    @property
    def comparison(self) -> str:
        """A sentence that compares JAX with the fastest hand-written side."""
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
                f"Time per step: the median of {self.rounds} alternating rounds, the fastest and the slowest:",
                *(f"  {side:<11} {seconds}" for side, seconds in self.sides.items()),
                f"{self.comparison}, after {self.compilation:.2f} s of compilation.",
            ]
        )


def time_training(sides: dict[str, Callable[[int], Any]]) -> TrainingTimes:
    """Measure the time per step of each side.

    Rounds alternate between the sides, so that a change in the machine's speed affects all. A round lasts about
    ROUND_SECONDS.

    Args:
        sides: functions by name, `sides[name](steps)`, which train for that many steps and return JAX or NumPy arrays.
            One is `autodiff`, which must not have been called before, so that its compilation can be measured.

    Returns:
        The times of all sides.
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
    """The number of steps in a round: doubled until a call is long enough to be measured, then scaled."""
    steps = 1
    if _seconds(side, steps) > LONG:  # compilation is negligible in that case
        return steps
    while (seconds := _warm_seconds(side, steps)) < ROUND_SECONDS / 8:
        steps *= 2
    steps = max(1, round(steps * ROUND_SECONDS / seconds))
    _seconds(side, steps)
    return steps


def _warm_seconds(side: Callable[[int], Any], steps: int) -> float:
    """The time of the second of two calls, because a side may compile for each new number of steps."""
    _seconds(side, steps)
    return _seconds(side, steps)


def _seconds(side: Callable[[int], Any], steps: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(side(steps))
    return time.perf_counter() - start
