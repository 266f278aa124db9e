"""Two runs of a bench: what has become faster or slower, by more than the noise of either."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compare.agreement import plain
from compare.bench.results import Bench, Cell, quartiles
from compare.bench.workloads import FLOOR
from compare.rendering import plain_text, table

HEADERS = ("size", "contestant", "in", "older", "newer", "newer / older", "")


@dataclass(frozen=True)
class Change:
    """`older` and `newer` are medians: multiples of the floor where both runs have one, else seconds."""

    size: str
    name: str
    unit: str
    older: float
    newer: float
    noise: float  # the factor that the medians may be off by, both together

    @property
    def factor(self) -> float:
        return self.newer / self.older

    @property
    def verdict(self) -> str:
        if 1 / self.noise <= self.factor <= self.noise:
            return "same"
        return "slower" if self.factor > 1 else "faster"

    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.older:.3g}", f"{self.newer:.3g}", f"{self.factor:.2f} (noise {self.noise:.2f})")
        return self.size, self.name, self.unit, *numbers, self.verdict


@dataclass(frozen=True)
class Changes:
    rows: list[Change]
    notes: list[str]

    @property
    def slower(self) -> list[Change]:
        return [row for row in self.rows if row.verdict == "slower"]

    @property
    def worst(self) -> float:
        """The largest factor beyond the noise; 1 if nothing is slower."""
        return max((row.factor for row in self.slower), default=1.0)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{sum(row.verdict == verdict for row in self.rows)} {verdict}" for verdict in ("faster", "slower", "same")
        )
        return plain_text(table(HEADERS, [row.cells() for row in self.rows], left=3), f"{counts}.", *self.notes)

    def to_dict(self) -> dict[str, Any]:
        rows = [vars(row) | {"factor": row.factor, "verdict": row.verdict} for row in self.rows]
        return plain({"rows": rows, "notes": self.notes})


def changes(older: Bench, newer: Bench) -> Changes:
    """Of every contestant at every size that both runs have."""
    before = {cell.size: cell for cell in older.cells}
    rows, notes = [], []
    for cell in newer.cells:
        if cell.size not in before:
            notes.append(f"Note: {cell.size} is not in the older run.")
            continue
        old = before[cell.size]
        shared = [name for name in cell.finished() if name in old.finished() and name != FLOOR]
        rows += [_change(old, cell, name) for name in shared]
    for name in ("dtype", "threads", "platform", "options"):
        _compare(name, older.settings.get(name), newer.settings.get(name), notes)
    for name in older.environment.keys() - {"date"} | newer.environment.keys() - {"date"}:
        _compare(name, older.environment.get(name), newer.environment.get(name), notes)
    return Changes(rows, notes)


def _compare(name: str, older: Any, newer: Any, notes: list[str]) -> None:
    if older != newer:
        notes.append(f"Note: the older run has {name} {older}, this one {newer}.")


def _change(older: Cell, newer: Cell, name: str) -> Change:
    ours, theirs = newer.ratios(name, FLOOR), older.ratios(name, FLOOR)
    unit = "x floor"
    if ours is None or theirs is None:
        ours, theirs, unit = newer.measured[name].rounds, older.measured[name].rounds, "seconds"
    noise = 1 + _uncertainty(ours) + _uncertainty(theirs)
    return Change(newer.size, name, unit, statistics.median(theirs), statistics.median(ours), noise)


def _uncertainty(values: Sequence[float]) -> float:
    """Of a median, as a share of it: the half-width of a box plot's notch, 1.57 IQR / sqrt(n).

    Two medians whose notches do not overlap differ at about the 95% level. McGill, Tukey and Larsen, "Variations of
    box plots", The American Statistician 32 (1978).
    """
    low, middle, high = quartiles(values)
    return 1.57 * (high - low) / math.sqrt(len(values)) / middle
