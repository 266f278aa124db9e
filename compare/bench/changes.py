"""Two runs of a bench: what has become faster or slower, by more than the noise of either."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compare.bench.results import Bench, Cell, quartiles
from compare.bench.workloads import FLOOR
from compare.judge.reports.tables import plain_text, table
from compare.judge.reports.verdict import plain

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
    """`lost` are those who no longer do what they did: they fail, or are not there."""

    rows: list[Change]
    lost: list[str]
    notes: list[str]

    @property
    def slower(self) -> list[Change]:
        return [row for row in self.rows if row.verdict == "slower"]

    def worse(self, factor: float) -> bool:
        """Whether anything is slower by more than the factor and the noise, or lost, or nothing could be compared."""
        return bool(self.lost) or not self.rows or any(row.factor > factor for row in self.slower)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{sum(row.verdict == verdict for row in self.rows)} {verdict}" for verdict in ("faster", "slower", "same")
        )
        told = table(HEADERS, [row.cells() for row in self.rows], left=3) if self.rows else "Nothing can be compared."
        return plain_text(told, f"{counts}.", *self.lost, *self.notes)

    def to_dict(self) -> dict[str, Any]:
        rows = [vars(row) | {"factor": row.factor, "verdict": row.verdict} for row in self.rows]
        return plain({"rows": rows, "lost": self.lost, "notes": self.notes})


def changes(older: Bench, newer: Bench) -> Changes:
    """Of every contestant at every size that both runs have."""
    before, after = ({cell.size: cell for cell in run.cells} for run in (older, newer))
    rows, lost, notes = [], [], []
    for size in [*before, *(size for size in after if size not in before)]:
        if size not in before or size not in after:
            notes.append(f"Note: {size} is not in the {'newer' if size in before else 'older'} run.")
            continue
        old, new = before[size], after[size]
        for name in old.finished():
            if name in new.finished():
                rows += [] if name == FLOOR else [_change(old, new, name)]
            elif name in new.measured:
                lost.append(f"Lost: {name} at {size}, which now fails: {new.measured[name].failure}.")
            else:
                notes.append(f"Note: {name} at {size} is not in the newer run.")
    settings, places = (older.settings, newer.settings), (older.environment, newer.environment)
    for ours, theirs in (settings, places):
        names = sorted((ours.keys() | theirs.keys()) - {"date", "only"})
        differ = [name for name in names if ours.get(name) != theirs.get(name)]
        notes += [f"Note: the older run has {name} {ours.get(name)}, this one {theirs.get(name)}." for name in differ]
    if any(len(row.rounds) < 5 for cell in newer.cells for row in cell.measured.values() if row.failure is None):
        notes.append("Note: noise cannot be told from fewer than five rounds.")
    return Changes(rows, lost, notes)


def _change(older: Cell, newer: Cell, name: str) -> Change:
    ours, theirs = newer.ratios(name, FLOOR), older.ratios(name, FLOOR)
    unit = "x floor"
    if ours is None or theirs is None:
        ours, theirs, unit = newer.measured[name].rounds, older.measured[name].rounds, "seconds"
    noise = 1 + _uncertainty(ours) + _uncertainty(theirs)
    return Change(newer.size, name, unit, statistics.median(theirs), statistics.median(ours), noise)


def _uncertainty(values: Sequence[float]) -> float:
    """Of a median, as a share of it: the half-width of a box plot's notch, 1.57 IQR / sqrt(n).

    Two medians whose notches do not overlap differ at about the 95% level: McGill, Tukey and Larsen, "Variations of box
    plots", The American Statistician 32 (1978). It knows what varies within a run, and not from one to the next, and of
    many rows some differ by chance: that is what a factor to fail above is for.
    """
    low, middle, high = quartiles(values)
    return 1.57 * (high - low) / math.sqrt(len(values)) / middle
