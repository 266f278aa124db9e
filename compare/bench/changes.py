"""Compares two runs of a bench: what is faster or slower by more than the spread of both, and what is undecided."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compare.bench.results import FEW, LEAST_ROUNDS, MORE, Bench, Cell, quartiles
from compare.bench.workloads import BOUND
from compare.judge.reports.tables import plain_text, table
from compare.judge.reports.verdict import plain

HEADERS = ("size", "contestant", "in", "older", "newer", "newer / older", "")
SAME = 1.1  # smaller factors count as the same
BUSY = 0.5  # cores; if other processes keep more busy, a note says so


@dataclass(frozen=True)
class Change:
    """`older` and `newer` are medians: multiples of the GEMM bound where both runs have one, else seconds.

    `doubt` is empty, or says why the two cannot be compared.
    """

    size: str
    name: str
    unit: str
    older: float
    newer: float
    noise: float  # the factor by which the rounds of both runs spread
    doubt: str = ""

    @property
    def factor(self) -> float:
        return self.newer / self.older

    @property
    def verdict(self) -> str:
        """Either "faster", "slower", "same", or "cannot tell" if the rounds spread further than the runs differ."""
        if self.doubt:
            return "cannot tell"
        if max(self.factor, 1 / self.factor) > self.noise:
            return "slower" if self.factor > 1 else "faster"
        return "same" if max(self.factor, 1 / self.factor) * self.noise <= SAME else "cannot tell"

    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.older:.3g}", f"{self.newer:.3g}", f"{self.factor:.2f} (noise {self.noise:.2f})")
        return (
            self.size,
            self.name,
            self.unit,
            *numbers,
            f"{self.verdict}: {self.doubt}" if self.doubt else self.verdict,
        )


@dataclass(frozen=True)
class Changes:
    """All changes between two runs. `lost` has a sentence for each contestant that failed in the newer run only."""

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
            f"{sum(row.verdict == verdict for row in self.rows)} {verdict}"
            for verdict in ("faster", "slower", "same", "cannot tell")
        )
        told = table(HEADERS, [row.cells() for row in self.rows], left=3) if self.rows else "Nothing can be compared."
        return plain_text(told, f"{counts}.", *self.lost, *self.notes)

    def to_dict(self) -> dict[str, Any]:
        rows = [vars(row) | {"factor": row.factor, "verdict": row.verdict} for row in self.rows]
        return plain({"rows": rows, "lost": self.lost, "notes": self.notes})


def changes(older: Bench, newer: Bench) -> Changes:
    """Compare two runs.

    Args:
        older: the older run.
        newer: the newer run.

    Returns:
        The change of every contestant at every size that both runs have, with notes on what only one of them has.
    """
    before, after = ({cell.size: cell for cell in run.cells} for run in (older, newer))
    rows, lost, notes = [], [], []
    for size in [*before, *(size for size in after if size not in before)]:
        if size not in before or size not in after:
            notes.append(f"Note: {size} is not in the {'newer' if size in before else 'older'} run.")
            continue
        old, new = before[size], after[size]
        for name in old.finished():
            if name in new.finished():
                rows += [] if name == BOUND else [_change(old, new, name)]
            elif name in new.measured:
                lost.append(f"Lost: {name} at {size}, which now fails: {new.measured[name].failure}.")
            else:
                notes.append(f"Note: {name} at {size} is not in the newer run.")
    settings, places = (older.settings, newer.settings), (older.environment, newer.environment)
    for ours, theirs in (settings, places):
        names = sorted((ours.keys() | theirs.keys()) - {"date", "only"})
        differ = [name for name in names if ours.get(name) != theirs.get(name)]
        notes += [
            f"Note: the older run has {_stated(name, ours)}, and the newer run {_stated(name, theirs)}."
            for name in differ
        ]
    if any(row.doubt == FEW for row in rows):
        notes.append(f"Note: {MORE}.")
    for run, which in ((older, "older"), (newer, "newer")):
        loads = [load for cell in run.cells for name in cell.finished() if (load := cell.load(name)) is not None]
        if loads and statistics.median(loads) > BUSY:
            busy = f"{statistics.median(loads):.1f} cores busy"
            notes.append(f"Note: other processes kept {busy} in the {which} run; compare on a quiet machine.")
    return Changes(rows, lost, notes)


def _change(older: Cell, newer: Cell, name: str) -> Change:
    ours, theirs = newer.ratios(name, BOUND), older.ratios(name, BOUND)
    unit = "x GEMM bound"
    if ours is None or theirs is None:
        ours, theirs, unit = newer.measured[name].rounds, older.measured[name].rounds, "seconds"
    noise = 1 + _spread(ours) + _spread(theirs)
    doubt = ""
    if name in older.unsteady() or name in newer.unsteady():
        doubt = "unsteady rounds"
    if min(len(ours), len(theirs)) < LEAST_ROUNDS:
        doubt = FEW
    return Change(newer.size, name, unit, statistics.median(theirs), statistics.median(ours), noise, doubt)


def _spread(values: Sequence[float]) -> float:
    """The interquartile range as a share of the median.

    It is larger than the uncertainty of the median within a run, because more differs between two runs: other work on
    the machine, clock rates, the layout of memory.
    """
    low, middle, high = quartiles(values)
    return (high - low) / middle


def _stated(name: str, known: Mapping[str, Any]) -> str:
    """A setting with its value, such as "torch 2.13.0". One without a value is missing in the run."""
    return f"no {name}" if known.get(name) is None else f"{name} {known[name]}"
