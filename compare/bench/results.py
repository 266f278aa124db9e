"""What a bench found: on the terminal, as JSON and back."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from compare.bench.turns import Measured
from compare.bench.workloads import FLOOR
from compare.errors import BadInput
from compare.judge.reports.tables import plain_text, readable, table
from compare.judge.reports.verdict import plain

FORMAT = 1  # of the JSON
BELOW = 0.9  # of the floor
CALL = 1e-5  # seconds, below which it is the call that is timed, as of a view, and not the work
UNSTEADY = 3  # times as long in one round as in another: something else was measured
WORTH_TELLING = 0.02  # seconds: a first step takes longer than others without any compilation


@dataclass(frozen=True)
class Cell:
    """All contestants at one size. `flops` are the operations in its matrix products, 0 if it has none."""

    size: str
    about: str
    flops: int
    measured: dict[str, Measured]

    def finished(self) -> list[str]:
        return [name for name, m in self.measured.items() if m.failure is None]

    def seconds(self, name: str) -> float:
        """A step's, the median over the rounds."""
        return statistics.median(self.measured[name].rounds)

    def ratios(self, name: str, other: str) -> list[float] | None:
        """How many times as long one takes as another, in each round; None if one of them is not there."""
        if not {name, other} <= set(self.finished()):
            return None
        pairs = zip(self.measured[name].rounds, self.measured[other].rounds, strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def ratio(self, name: str, other: str = FLOOR) -> float | None:
        ratios = self.ratios(name, other)
        return statistics.median(ratios) if ratios else None

    def spread(self, name: str, other: str = FLOOR) -> float | None:
        """Half the width of the middle half of the ratios, as a share of their median. None of a single round."""
        ratios = self.ratios(name, other)
        if not ratios or len(ratios) < 2:
            return None
        low, middle, high = quartiles(ratios)
        return (high - low) / 2 / middle

    def shown_ratio(self, name: str, other: str = FLOOR) -> str:
        """A ratio with its spread, "1.23 ±4%", if it has one; nothing if there is no ratio."""
        ratio, spread = self.ratio(name, other), self.spread(name, other)
        if ratio is None:
            return ""
        return f"{ratio:.2f}" if spread is None else f"{ratio:.2f} ±{100 * spread:.0f}%"

    def load(self, name: str) -> float | None:
        """Cores that others kept busy while this one had its turns, the median; None where that is not known."""
        load = self.measured[name].load
        return statistics.median(load) if load else None

    def unsteady(self) -> dict[str, str]:
        """A sentence for each contestant that took much longer at one time than at another."""
        found = {}
        for name in self.finished():
            m = self.measured[name]
            middle = statistics.median(m.rounds)
            when = {f"in round {i}": seconds for i, seconds in enumerate(m.rounds, 1)}
            when |= {} if m.ready is None else {"when it got ready": m.ready}
            place, furthest = max(when.items(), key=lambda item: abs(math.log(item[1] / middle)))
            # Of two times, nobody can say which is the odd one.
            if len(when) > 2 and max(when.values()) > UNSTEADY * min(when.values()):
                found[name] = (
                    f"Unsteady: {name} at {self.size} took {readable(furthest)} a step {place}, and {readable(middle)} "
                    "in the median. Something else was measured, too: run it again."
                )
        return found

    @property
    def by_hand(self) -> str:
        """The contestant that stands for NumPy: the fast one, unless only the page was timed."""
        return "manual-fast" if "manual-fast" in self.finished() else "manual"

    def break_even(self) -> float | None:
        """Steps after which JAX, with its compilation, is ahead of NumPy; None if that is never."""
        ratio = self.ratio(self.by_hand, "autodiff")
        if ratio is None or ratio <= 1:
            return None
        # By the ratio and not by the medians, whose order may be another one where rounds differ much.
        gain = self.seconds(self.by_hand) * (1 - 1 / ratio)
        return self.measured["autodiff"].compilation / gain

    def rows(self) -> Iterator[tuple[str, ...]]:
        for name, m in self.measured.items():
            if m.failure is not None:
                continue
            low, middle, high = quartiles(m.rounds)
            load = self.load(name)
            yield (
                name,
                readable(middle),
                f"{readable(low)} to {readable(high)}",
                f"{self.flops / middle / 1e9:.3g}" if self.flops else "",
                self.shown_ratio(name),
                "" if load is None else f"{load:.1f}",
                f"{m.compilation:.2f} s" if m.compilation >= WORTH_TELLING else "",
                _bytes(m.peak if m.device_peak is None else m.device_peak),
                "" if m.error is None else f"{m.error:.0e}",
            )

    def __str__(self) -> str:
        transfers = {name: m.transfer for name, m in self.measured.items() if m.transfer is not None}
        moved = ", ".join(f"{name} {readable(seconds)}" for name, seconds in transfers.items())
        parts: list[Any] = [f"{self.size}: {self.about}", table(HEADERS, list(self.rows()))]
        failures = [f"{name} failed: {m.failure}" for name, m in self.measured.items() if m.failure is not None]
        return plain_text(*parts, *failures, *([f"Transfer of the data to the device: {moved}"] if moved else []))

    def to_dict(self) -> dict[str, Any]:
        def row(name: str) -> dict[str, Any]:
            m = self.measured[name]
            if m.failure is not None:
                return asdict(m)
            low, middle, high = quartiles(m.rounds)
            derived = {"median": middle, "quartiles": [low, high], "ratio_to_floor": self.ratio(name)}
            derived |= {"spread_of_ratio": self.spread(name), "load_of_others": self.load(name)}
            return asdict(m) | derived | {"gflops": self.flops / middle / 1e9 if self.flops else None}

        return {
            "size": self.size,
            "about": self.about,
            "flops": self.flops,
            "contestants": {name: row(name) for name in self.measured},
            "break_even_steps": self.break_even(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Cell":
        known = Measured.__dataclass_fields__
        measured = {
            name: Measured(**{key: row[key] for key in known if key in row})
            for name, row in value["contestants"].items()
        }
        return cls(value["size"], value["about"], value["flops"], measured)


HEADERS = (
    *("contestant", "a step", "middle half", "GFLOP/s", "x floor", "load", "compilation", "peak memory"),
    "error",
)


@dataclass
class Bench:
    """A whole run; `cells` has what is finished. `settings` are those that figures depend on."""

    settings: dict[str, Any]
    environment: dict[str, str]
    sizes: list[str]
    cells: list[Cell] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return [cell.size for cell in self.cells] == self.sizes

    def lines(self) -> list[str]:
        """What one wants to know in the end."""
        unsteady = [sentence for cell in self.cells for sentence in cell.unsteady().values()]
        if self.settings["kind"] == "ops":
            return self._means() + unsteady
        both = [cell for cell in self.cells if cell.ratio(cell.by_hand, "autodiff") is not None]
        return ([self._overtaking(both)] if both else []) + self._warnings() + unsteady

    def _overtaking(self, cells: Sequence[Cell]) -> str:
        """By the work of the products, from small to large: from where on JAX stays ahead."""
        cells = sorted(cells, key=lambda cell: cell.flops)
        evens = [cell.break_even() for cell in cells]
        behind = [cell.size for cell, even in zip(cells, evens, strict=True) if even is None]
        if len(behind) == len(cells):
            return f"NumPy is ahead of JAX at {', '.join(behind)}."
        steps = sorted(math.ceil(even) for even in evens if even is not None)
        many = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
        when = f"compilation is made up for after {many} steps"
        if not behind:
            return f"JAX is ahead of NumPy{' at every size' if len(cells) > 1 else ''}; {when}."
        overtaken = len(behind)  # the index of the first size at which JAX is ahead, if it stays so
        if [cell.size for cell in cells[:overtaken]] == behind:
            return f"JAX overtakes NumPy between {behind[-1]} and {cells[overtaken].size}; there, {when}."
        return f"NumPy is ahead of JAX at {', '.join(behind)}, and JAX at the other sizes; there, {when}."

    def _warnings(self) -> list[str]:
        """A floor far above somebody who has the same BLAS was probably measured while other work got in the way."""
        below = [cell.size for cell in self.cells if (cell.ratio(cell.by_hand) or 1) < BELOW]
        if not below:
            return []
        return [f"At {', '.join(below)} the work by hand is far below the floor: was other work in the way? Run again."]

    def _means(self) -> list[str]:
        """For many sizes that are different things, as ops are: one number for each rival."""
        told = []
        for rival in ("autodiff", "torch"):
            compared = [(r, cell) for cell in self.cells if (r := cell.ratio(cell.by_hand, rival)) is not None]
            short = [cell.size for _, cell in compared if min(map(cell.seconds, (cell.by_hand, rival))) < CALL]
            ratios = [(r, cell.size) for r, cell in compared if cell.size not in short]
            if len(ratios) > 1:
                mean, worst = statistics.geometric_mean(r for r, _ in ratios), max(ratios)
                but = f" (without {', '.join(short)}, too short to time)" if short else ""
                told.append(
                    f"{compared[0][1].by_hand} takes {mean:.2f} times as long as {rival}, the geometric mean of "
                    f"{len(ratios)} ops{but}; "
                    f"at most {worst[0]:.2f} times ({worst[1]})."
                )
        return told

    def table(self) -> Any:
        """One line for each size: times, and the ratios of the work by hand to its rivals."""
        names = list(dict.fromkeys(name for cell in self.cells for name in cell.measured))
        ours = "manual-fast" if "manual-fast" in names else "manual"
        rivals = [name for name in names if name not in (FLOOR, ours, "autodiff-fast")]

        def row(cell: Cell) -> tuple[str, ...]:
            times = (readable(cell.seconds(name)) if name in cell.finished() else "" for name in names)
            loads = [load for name in names if name in cell.finished() and (load := cell.load(name)) is not None]
            load = f"{statistics.median(loads):.1f}" if loads else ""
            return cell.size, cell.about, *times, *(cell.shown_ratio(ours, rival) for rival in rivals), load

        headers = ("op", "size", *names, *(f"{ours} / {rival}" for rival in rivals), "load")
        return table(headers, [row(cell) for cell in self.cells], left=2)

    def __str__(self) -> str:
        many = [self.table()] if self.settings["kind"] == "ops" else []
        return plain_text(*many, *self.lines(), "", self.about())

    def about(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in (self.settings | self.environment).items() if value)
        return (
            "Medians over rounds in turns; ±: half of the middle half of the rounds; load: cores that other processes "
            f"kept busy meanwhile; error: distance from float64 after 3 steps. {told}"
        )

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "format": FORMAT,
                "complete": self.complete,
                "settings": self.settings,
                "environment": self.environment,
                "sizes": self.sizes,
                "cells": [cell.to_dict() for cell in self.cells],
                "summary": self.lines(),
            }
        )

    @classmethod
    def from_dict(cls, value: Any, source: str) -> "Bench":
        """Raises BadInput if it is not what `to_dict` made."""
        try:
            if value["format"] != FORMAT:
                raise BadInput(f"{source} has format {value['format']} of bench results, and this is {FORMAT}.")
            cells = [Cell.from_dict(cell) for cell in value["cells"]]
            return cls(value["settings"], value["environment"], value["sizes"], cells)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{source} has no results of `backproof bench --json` in it.") from error


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, between the ends of the middle half."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
