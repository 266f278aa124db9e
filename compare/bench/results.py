"""The results of a bench, as text and as JSON."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from compare.bench.turns import Measured
from compare.bench.workloads import BOUND, shown
from compare.errors import BadInput
from compare.judge.reports.tables import plain_text, readable, table
from compare.judge.reports.verdict import plain

FORMAT = 2  # the version of the JSON format
LEAST_ROUNDS = 5  # from fewer rounds, the spread of the times is not known, and no contestant is called faster
BELOW = 0.9  # a step by hand in less than this multiple of the GEMM bound is implausible
CALL = 1e-5  # seconds; a shorter step, such as one that returns a view, consists of the call only
UNSTEADY = 3  # a larger ratio between two rounds means that other work disturbed them
VAGUE = 1.0  # a ratio with a larger spread, relative to the ratio, is not shown
NEAR = 0.05  # the ratio of the medians may always differ by this share from the median of the ratios
WORTH_TELLING = 0.02  # seconds; a shorter compilation is not shown, because any first step is slower
FEW = f"fewer than {LEAST_ROUNDS} rounds"
MORE = f"{FEW} do not show how far the times spread. Give --rounds 9, for example"
TOO_WIDE = "the rounds spread too far"


@dataclass(frozen=True)
class Cell:
    """The measurements of all contestants at one size.

    `flops` is the number of operations in the matrix products of a step, 0 if there are none.
    """

    size: str
    about: str
    flops: int
    measured: dict[str, Measured]

    def finished(self) -> list[str]:
        return [name for name, m in self.measured.items() if m.failure is None]

    def seconds(self, name: str) -> float:
        """The time of a step, the median over the rounds."""
        return statistics.median(self.measured[name].rounds)

    def ratios(self, name: str, other: str) -> list[float] | None:
        """The ratio of their times in each round; None if one of them was not timed."""
        if not {name, other} <= set(self.finished()):
            return None
        pairs = zip(self.measured[name].rounds, self.measured[other].rounds, strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def ratio(self, name: str, other: str = BOUND) -> float | None:
        ratios = self.ratios(name, other)
        return statistics.median(ratios) if ratios else None

    def spread(self, name: str, other: str = BOUND) -> float | None:
        """Half the interquartile range of the ratios, as a share of their median; None for a single round."""
        ratios = self.ratios(name, other)
        if not ratios or len(ratios) < 2:
            return None
        low, middle, high = quartiles(ratios)
        return (high - low) / 2 / middle

    def shown_ratio(self, name: str, other: str = BOUND) -> str:
        """The ratio as text: "1.23 ±4%" with its spread, "1.23" after a single round, "?" if it is vague, or ""."""
        ratio, spread = self.ratio(name, other), self.spread(name, other)
        if ratio is None:
            return ""
        if self.vague(name, other):
            return "?"
        number = f"{ratio:.2f}" if ratio >= 0.1 else two_digits(ratio)
        return number if spread is None else f"{number} ±{100 * spread:.0f}%"

    def vague(self, name: str, other: str = BOUND) -> bool:
        """Whether the ratio cannot be given: its spread is too large, or it contradicts that of the median times."""
        ratio, spread = self.ratio(name, other), self.spread(name, other)
        if ratio is None or spread is None:
            return False
        return spread > VAGUE or _apart(ratio, self.seconds(name) / self.seconds(other)) > max(spread, NEAR)

    def few(self, name: str, other: str) -> bool:
        """Whether there are too few rounds to compare the two."""
        return len(self.ratios(name, other) or ()) < LEAST_ROUNDS

    def known(self, name: str, other: str) -> bool:
        """Whether a summary may use the ratio: there are enough rounds, they are steady, and it is not vague."""
        if self.few(name, other) or self.vague(name, other):
            return False
        return not {name, other} & self.unsteady().keys()

    def decided(self, name: str, other: str) -> bool:
        """Whether the ratio is known, and one of the two is faster than the other by more than the spread."""
        ratio = self.ratio(name, other)
        return ratio is not None and self.known(name, other) and _apart(ratio, 1) >= (self.spread(name, other) or 0.0)

    def load(self, name: str) -> float | None:
        """The median number of cores that other processes kept busy during the rounds; None if it is not known."""
        load = self.measured[name].load
        return statistics.median(load) if load else None

    def unsteady(self) -> dict[str, str]:
        """A sentence for each contestant whose rounds differ much."""
        found = {}
        for name in self.finished():
            m = self.measured[name]
            middle = statistics.median(m.rounds)
            when = {f"in round {i}": seconds for i, seconds in enumerate(m.rounds, 1)}
            when |= {} if m.ready is None else {"in the warm-up": m.ready}
            place, furthest = max(when.items(), key=lambda item: abs(math.log(item[1] / middle)))
            # With two times only, either could be the outlier.
            if len(when) > 2 and max(when.values()) > UNSTEADY * min(when.values()):
                found[name] = (
                    f"Unsteady: {shown(name)} at {self.size} took {readable(furthest)} a step {place}, and "
                    f"{readable(middle)} in the median. Another process may have disturbed it: run it again."
                )
        return found

    @property
    def by_hand(self) -> str:
        """The contestant that represents NumPy: manual-fast, unless only manual was timed."""
        return "manual-fast" if "manual-fast" in self.finished() else "manual"

    def break_even(self) -> float | None:
        """The number of steps after which JAX, including compilation, is ahead of NumPy; None if it never is."""
        ratio = self.ratio(self.by_hand, "autodiff")
        if ratio is None or ratio <= 1:
            return None
        # The ratio and not the medians decide: their order may contradict it if the rounds differ much.
        gain = self.seconds(self.by_hand) * (1 - 1 / ratio)
        return self.measured["autodiff"].compilation / gain

    def rows(self) -> Iterator[tuple[str, ...]]:
        for name, m in self.measured.items():
            if m.failure is not None:
                continue
            low, middle, high = quartiles(m.rounds)
            load = self.load(name)
            yield (
                shown(name),
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
        failures = [f"{shown(name)} failed: {m.failure}" for name, m in self.measured.items() if m.failure is not None]
        return plain_text(*parts, *failures, *([f"Transfer of the data to the device: {moved}"] if moved else []))

    def to_dict(self) -> dict[str, Any]:
        def row(name: str) -> dict[str, Any]:
            m = self.measured[name]
            if m.failure is not None:
                return asdict(m)
            low, middle, high = quartiles(m.rounds)
            derived = {"median": middle, "quartiles": [low, high], "ratio_to_bound": self.ratio(name)}
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
    *("contestant", "a step", "quartiles", "GFLOP/s", "x GEMM bound", "load", "compile", "memory"),
    "error",
)


@dataclass
class Bench:
    """A whole run. `cells` has the results of the finished sizes, and `settings` everything that determines them."""

    settings: dict[str, Any]
    environment: dict[str, str]
    sizes: list[str]
    cells: list[Cell] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return [cell.size for cell in self.cells] == self.sizes

    def lines(self) -> list[str]:
        """The sentences of the summary."""
        unsteady = [sentence for cell in self.cells for sentence in cell.unsteady().values()]
        if self.settings["kind"] == "ops":
            return self._means() + unsteady
        both = [cell for cell in self.cells if cell.ratio(cell.by_hand, "autodiff") is not None]
        return ([self._overtaking(both)] if both else []) + self._warnings() + unsteady

    def _overtaking(self, cells: Sequence[Cell]) -> str:
        """A sentence on the sizes at which JAX is ahead, in the order of the operations in their matrix products."""
        cells = sorted(cells, key=lambda cell: cell.flops)
        open_ = [cell.size for cell in cells if not cell.decided(cell.by_hand, "autodiff")]
        few = any(cell.few(cell.by_hand, "autodiff") for cell in cells)
        cells = [cell for cell in cells if cell.size not in open_]
        if not cells:
            return f"Cannot tell whether NumPy or JAX is ahead at {', '.join(open_)}: {MORE if few else TOO_WIDE}."
        others = f" Cannot tell at {', '.join(open_)}: {TOO_WIDE}." if open_ else ""
        evens = [cell.break_even() for cell in cells]
        behind = [cell.size for cell, even in zip(cells, evens, strict=True) if even is None]
        if len(behind) == len(cells):
            return f"NumPy is ahead of JAX at {', '.join(behind)}.{others}"
        steps = sorted(math.ceil(even) for even in evens if even is not None)
        many = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
        when = f"compilation is made up for after {many} step{'' if steps[-1] == 1 else 's'}"
        if not behind:
            where = "" if len(cells) + len(open_) == 1 else " at every size"
            where = f" at {', '.join(cell.size for cell in cells)}" if open_ else where
            return f"JAX is ahead of NumPy{where}; {when}.{others}"
        overtaken = len(behind)  # the index of the first size at which JAX is ahead, if it stays so
        if [cell.size for cell in cells[:overtaken]] == behind:
            return f"JAX overtakes NumPy between {behind[-1]} and {cells[overtaken].size}; there, {when}.{others}"
        return f"NumPy is ahead of JAX at {', '.join(behind)}, and JAX at the other sizes; there, {when}.{others}"

    def _warnings(self) -> list[str]:
        """A warning if the GEMM bound is much slower than work with the same BLAS: other work probably disturbed it."""
        below = [cell.size for cell in self.cells if (cell.ratio(cell.by_hand) or 1) < BELOW]
        if not below:
            return []
        return [
            f"At {', '.join(below)} a step by hand takes much less time than the GEMM bound. Other work may have "
            "disturbed the measurement: run it again."
        ]

    def _means(self) -> list[str]:
        """The summary for ops: a sentence with the mean ratio to JAX, and one with that to PyTorch."""
        told = []
        for rival in ("autodiff", "torch"):
            compared = [(r, cell) for cell in self.cells if (r := cell.ratio(cell.by_hand, rival)) is not None]
            short = [cell.size for _, cell in compared if min(map(cell.seconds, (cell.by_hand, rival))) < CALL]
            rest = [(r, cell) for r, cell in compared if cell.size not in short]
            ratios = [(r, cell.size) for r, cell in rest if cell.known(cell.by_hand, rival)]
            noisy = [cell.size for _, cell in rest if not cell.known(cell.by_hand, rival)]
            few = any(cell.few(cell.by_hand, rival) for _, cell in rest)
            several = len({size.partition(":")[0] for _, size in ratios}) > 1
            left = [(short, "too short to time"), (noisy, "whose rounds differ too much")]
            without = " and ".join(f"without {', '.join(sizes)}, {why}" for sizes, why in left if sizes)
            if len(ratios) > 1:
                mean, worst = statistics.geometric_mean(r for r, _ in ratios), max(ratios)
                told.append(
                    f"{rest[0][1].by_hand} takes {two_digits(mean)} times as long as {rival}, the geometric mean of "
                    f"{len(ratios)} {'ops' if several else 'sizes'}{f' ({without})' if without else ''}; "
                    f"at most {two_digits(worst[0])} times ({worst[1]})."
                )
            elif noisy:
                why = MORE if few else TOO_WIDE
                told.append(f"Cannot tell how {rest[0][1].by_hand} compares with {rival} at {', '.join(noisy)}: {why}.")
        return told

    def table(self) -> Any:
        """A table with a row for each size: the times, and the ratios of the time by hand to the others."""
        names = list(dict.fromkeys(name for cell in self.cells for name in cell.measured))
        ours = "manual-fast" if "manual-fast" in names else "manual"
        rivals = [name for name in names if name not in (BOUND, ours, "autodiff-fast")]

        def row(cell: Cell) -> tuple[str, ...]:
            times = (readable(cell.seconds(name)) if name in cell.finished() else "" for name in names)
            loads = [load for name in names if name in cell.finished() and (load := cell.load(name)) is not None]
            load = f"{statistics.median(loads):.1f}" if loads else ""
            return cell.size, cell.about, *times, *(cell.shown_ratio(ours, rival) for rival in rivals), load

        headers = ("op", "size", *map(shown, names), *(f"{ours} / {rival}" for rival in rivals), "load")
        return table(headers, [row(cell) for cell in self.cells], left=2)

    def __str__(self) -> str:
        many = [self.table()] if self.settings["kind"] == "ops" else []
        return plain_text(*many, *self.lines(), "", self.about())

    def about(self) -> str:
        told = ", ".join(
            f"{name} {_listed(value)}" for name, value in (self.settings | self.environment).items() if value
        )
        return (
            "Times are medians over alternating rounds. A ratio is the median of the ratios within the rounds, ± half "
            'of their interquartile range; "?" means that they spread too far, or contradict the median times. load is '
            "the number of cores that other processes kept busy. error is the relative distance from float64 after 3 "
            f"steps. {told}"
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
        """The run that `to_dict` turned into a dict.

        Args:
            value: the dict.
            source: the file that it comes from, which is named in errors.

        Raises:
            BadInput: if it is no such dict, or one of another format.
        """
        try:
            if value["format"] != FORMAT:
                raise BadInput(
                    f"{source} has format {value['format']} of bench results, and this version reads format {FORMAT} "
                    "only."
                )
            cells = [Cell.from_dict(cell) for cell in value["cells"]]
            return cls(value["settings"], value["environment"], value["sizes"], cells)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{source} does not contain results of `backproof bench --json`.") from error


def _listed(value: Any) -> str:
    """A setting as text: names with commas between them, options as "hidden 8"."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {option}" for name, option in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def two_digits(ratio: float) -> str:
    """A ratio with two significant digits, or as a whole number: 0.034, 1.2, 120."""
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{Decimal(f'{ratio:.1e}'):f}"


def _apart(one: float, other: float) -> float:
    """The ratio of the larger of two numbers to the smaller, minus 1."""
    return max(one / other, other / one) - 1


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
