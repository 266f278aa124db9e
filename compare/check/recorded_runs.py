"""Compares two recorded runs: the first tensor in which they differ by more than rounding."""

from dataclasses import dataclass
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from compare.check.recording import parsed
from compare.errors import BadInput
from compare.judge.reports.tables import plain_text, table
from compare.judge.reports.verdict import Verdict, plain
from compare.judge.roundoff.tolerance import norm


@dataclass(frozen=True)
class Parting:
    """The comparison of one tensor of two runs.

    Attributes:
        name: its name in the recordings.
        shape: its shape in the first run.
        difference: the relative difference between the runs, in the Euclidean norm.
        rounding: the relative difference that rounding errors cause.
        message: why the tensors cannot be compared; empty if they can.
    """

    name: str
    shape: tuple[int, ...]
    difference: float
    rounding: float
    message: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.message:
            return Verdict.DISAGREE
        return Verdict.AGREE if self.difference <= BEYOND * self.rounding else Verdict.DISAGREE


BEYOND = 8.0  # the tolerance, as a multiple of the difference that rounding errors cause


@dataclass(frozen=True)
class RunsReport:
    """The comparison of two recorded runs.

    Attributes:
        rows: a row for each tensor, in the order of the first file.
        measured: whether the rounding errors were measured by a second run of the first program, or estimated.
        left_out: the number of entries of parameters that were not compared.
    """

    rows: list[Parting]
    measured: bool
    left_out: int = 0

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([row.verdict for row in self.rows])

    @property
    def first_wrong(self) -> str | None:
        return next((row.name for row in self.rows if row.verdict is Verdict.DISAGREE), None)

    @property
    def sentence(self) -> str:
        row = next((row for row in self.rows if row.verdict is Verdict.DISAGREE), None)
        if row is None:
            return f"AGREE: {len(self.rows)} tensors are the same to within rounding."
        times = row.difference / max(row.rounding, 1e-300)
        causes = "causes" if self.measured else "may cause"
        what = row.message or f"a relative difference of {row.difference:.2g}, {times:.2g} times what rounding {causes}"
        return f"DISAGREE: the runs first differ at {row.name}: {what}."

    @property
    def notes(self) -> list[str]:
        if not self.left_out:
            return []
        entries = f"{self.left_out} {'entry' if self.left_out == 1 else 'entries'}"
        return [
            f"{entries} of parameters were not compared, because their gradients consist of rounding errors, and so do "
            "their updates."
        ]

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "first_wrong": self.first_wrong,
                "notes": self.notes,
                "rows": [
                    {"name": row.name, "difference": row.difference, "rounding": row.rounding, "verdict": row.verdict}
                    for row in self.rows
                ],
            }
        )

    def __str__(self) -> str:
        headers = ("tensor", "shape", "difference", "rounding", "verdict")
        wrong = [i for i, row in enumerate(self.rows) if row.verdict is not Verdict.AGREE]
        begin = max(0, (wrong[0] if wrong else 0) - 3)
        shown = self.rows[begin : begin + 20]
        cells = []
        for row in shown:
            shape = "x".join(map(str, row.shape)) or "scalar"
            cells.append((row.name, shape, f"{row.difference:.1e}", f"{row.rounding:.1e}", row.verdict.value))
        hidden = len(self.rows) - len(shown)
        more = [f"{hidden} more tensors are not shown."] if hidden else []
        return plain_text(self.sentence, *(f"Note: {note}" for note in self.notes), *more, table(headers, cells))

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict")


def check_runs(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], twin: dict[str, np.ndarray] | None = None
) -> RunsReport:
    """Find the first tensor in which two recorded runs differ by more than rounding.

    Args:
        first: arrays by name, in the order in which they were computed.
        second: the arrays of the other run.
        twin: the arrays of a second correct run of the first program, which differs from the first by rounding only,
            because of another order of summation or another number of threads. The rounding error of a tensor is its
            difference between the two. Without this run, the rounding error of the n-th tensor of the file is estimated
            as 64 ULP times the square root of n.

    Returns:
        A report with a row for each tensor.

    Raises:
        BadInput: a ValueError, if the first recording has no arrays.
    """
    if not first:
        raise BadInput("the first recording holds no arrays.")
    rows: list[Parting] = []
    noise: dict[Any, np.ndarray] = {}  # for each parameter, the entries whose gradients are rounding errors
    left_out: dict[str, int] = {}
    for place, (name, one) in enumerate(first.items(), start=1):
        other = second.get(name)
        if other is None:
            rows.append(Parting(name, one.shape, float("nan"), 0.0, "the second run has no such tensor"))
            continue
        if other.shape != one.shape:
            words = f"its shape is {one.shape} in the first run, and {other.shape} in the second"
            rows.append(Parting(name, one.shape, float("nan"), 0.0, words))
            continue
        unit = max(_eps(one.dtype), _eps(other.dtype))
        rounding = 64 * unit * place**0.5
        if twin is not None and name in twin and twin[name].shape == one.shape:
            rounding = max(_apart(one, twin[name]), unit)
        _, part, leaf = parsed(name)
        apart, allowed = _apart(one, other), BEYOND * rounding
        uncertain = noise.get((leaf, one.shape))
        if apart > allowed and part in ("parameters", "next") and uncertain is not None:
            without = _apart(one, other, ~uncertain)
            if without <= allowed:
                moved = uncertain & _differing(one, other, allowed)
                left_out[leaf] = max(left_out.get(leaf, 0), int(moved.sum()))
                apart = without
        words = "" if np.isfinite(apart) else "one of the runs is not finite there"
        rows.append(Parting(name, one.shape, apart, rounding, words))
        if part == "gradients" and rows[-1].verdict is Verdict.AGREE:
            # These entries consist of rounding errors; the gradient of the bias of attention's keys, for example, is
            # exactly zero. An optimizer that divides by the size of the gradient turns them into steps of full length.
            noise[leaf, one.shape] = _differing(one, other, allowed) | (False if uncertain is None else uncertain)
    words = "the first run has no such tensor"
    rows += [Parting(name, a.shape, float("nan"), 0.0, words) for name, a in second.items() if name not in first]
    return RunsReport(rows, twin is not None, sum(left_out.values()))


def _differing(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """The entries whose relative difference is larger than `share`."""
    a, b = (np.asarray(values, np.float64) for values in (one, other))
    return np.abs(a - b) > share * np.maximum(np.abs(a), np.abs(b))


def _eps(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0


def _apart(one: np.ndarray, other: np.ndarray, kept: Any = ...) -> float:
    a, b = (np.asarray(values, np.float64)[kept] for values in (one, other))
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    with np.errstate(all="ignore"):
        return norm(a - b) / max(norm(a), 1e-300)
