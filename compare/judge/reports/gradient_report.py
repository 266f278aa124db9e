"""What a check of gradients found, for people, for programs and for notebooks."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np

from compare.judge.reports.tables import html_table, plain_text, table
from compare.judge.reports.verdict import Derivative, Diagnosis, Row, Verdict, plain
from compare.pytrees import LOSS

HEADERS = ("gradient", "shape", "dtype", "norm", "difference", "allowed", "verdict")

Side = Literal["manual", "autodiff", "loss"]

BLAME = {
    "manual": "The hand-written side is wrong: its gradient does not fit the loss.",
    "autodiff": "The JAX side is wrong: its gradient does not fit its own loss (a custom derivative?).",
    "loss": "It is a loss that is wrong: the two sides do not compute the same one.",
    "output": "The two sides do not compute the same output.",
}
# At a probe the sides are told apart, too, but it may have left what the functions are made for.
BLAME_THERE = {
    "manual": "At the perturbed point, the hand-written gradient does not fit its loss.",
    "autodiff": "At the perturbed point, JAX's gradient does not fit its own loss (a custom derivative?).",
    "loss": "At the perturbed point, the two sides do not compute the same loss.",
    "output": "At the perturbed point, the two sides do not compute the same output.",
}


@dataclass(frozen=True)
class GradientReport:
    """What came out of comparing a loss and its gradients.

    `rows` has one row for the loss, one for each intermediate and one for each parameter. `first_wrong` is the
    first wrong quantity in backward order, judged alone; `probe` names the point that showed the fault if it was
    not the caller's; `notes` say what could not be done and why. `arithmetic` says where digits are lost at the
    caller's point, and what overflows or is clipped at others: no fault of the derivation.
    """

    verdict: Verdict
    rows: list[Row]
    first_wrong: str | None = None
    diagnoses: list[Diagnosis] = field(default_factory=list)
    wrong_side: Side | None = None
    probe: str | None = None
    probes: dict[str, str] = field(default_factory=dict)
    references: dict[str, Derivative] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arithmetic: list[str] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    quantity: str = "gradient"
    changed: list[str] = field(default_factory=list)
    allowance: str = ""

    @property
    def power(self) -> dict[str, float]:
        """The smallest factor on each leaf that would have been seen: 1.003, say; infinity where none would."""
        return {row.path: 1 + row.visible for row in self.rows if row.visible is not None}

    @property
    def sentence(self) -> str:
        """The line that a person wants first."""
        if self.verdict is Verdict.AGREE:
            return f"AGREE: {self._compared()} the same to within rounding."
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"INCONCLUSIVE: {self.notes[0] if self.notes else 'nothing could be compared.'}"
        at = f" (at the perturbed point {self.probe!r})" if self.probe else ""
        what = self.diagnoses[0] if self.diagnoses else None
        if what is not None:
            subject = f"{self.subject(what.path)}: " if what.path and what.kind not in CONDUCT else ""
            return f"DISAGREE{at}: {subject}{what.message}{self._not_the_loss_alone(what.path)}"
        row = next((row for row in self.rows if row.path == self.first_wrong), None)
        message = row.message if row else "see the table"
        return f"DISAGREE{at}: {self.subject(self.first_wrong)}: {message}.{self._not_the_loss_alone(self.first_wrong)}"

    def _not_the_loss_alone(self, path: str | None) -> str:
        """A wrong loss in the first line hides no wrong gradient."""
        wrong = [row.path for row in self.rows if row.verdict is Verdict.DISAGREE and row.path != LOSS]
        if path != LOSS or not wrong:
            return ""
        names = ", ".join(wrong[:4]) + (", ..." if len(wrong) > 4 else "")
        return (
            f" The gradient{'s' if len(wrong) > 1 else ''} of {names} {'are' if len(wrong) > 1 else 'is'} wrong, too."
        )

    def _compared(self) -> str:
        if any(row.path == LOSS for row in self.rows):
            return "the loss and every gradient are"
        if self.outputs and len(self.outputs) < len(self.rows):
            return "the output and every gradient are"
        return (
            f"{' and '.join(self.outputs)} {'are' if len(self.outputs) > 1 else 'is'}"
            if self.outputs
            else (f"every {self.quantity} is")
        )

    def subject(self, path: str | None) -> str:
        if path == LOSS:
            return "the loss"
        if path is not None and path in self.outputs:
            return f"the {path}"
        return f"JAX's {self.quantity} of {path}" if self.wrong_side == "autodiff" else f"the {self.quantity} of {path}"

    def lines(self) -> list[str]:
        """Everything but the table and what is said below it, in the order of its use."""
        lines = [self.sentence]
        said = self.diagnoses[1:] if self.verdict is Verdict.DISAGREE else self.diagnoses
        lines += [f"Also: {self.subject(d.path) + ': ' if d.path else ''}{d.message}" for d in said]
        plain = any(d.kind in SELF_EVIDENT for d in self.diagnoses)
        if self.wrong_side and not plain:
            what = "output" if self.wrong_side == "loss" and self.outputs else self.wrong_side
            lines.append((BLAME_THERE if self.probe else BLAME)[what] + self._chance_of_a_miss())
        if self.probe and self.verdict is Verdict.DISAGREE:
            lines.append(self._about_the_probe())
        wrong = [row.path for row in self.rows if row.verdict is Verdict.DISAGREE and row.path != self.first_wrong]
        # What is about no one quantity has no beginning, and a gradient does not follow from the loss's value.
        elsewhere = bool(self.diagnoses) and (self.diagnoses[0].path is None or self.diagnoses[0].kind in CONDUCT)
        if self.first_wrong not in (None, LOSS) and wrong and not elsewhere:
            lines.append(f"Begin there: {', '.join(wrong)} may only follow from it.")
        if self.verdict is Verdict.AGREE and self.power:
            lines.append(self._weakest())
        said = {d.message for d in self.diagnoses}
        lines += [f"Arithmetic: {words}" for words in self.arithmetic if words not in said]
        first = self.notes[1:] if self.verdict is Verdict.INCONCLUSIVE else self.notes
        return lines + [f"Note: {note}" for note in first]

    def _weakest(self) -> str:
        """How small a fault would have shown, on the leaf where the largest one would not have."""
        seen = {path: factor for path, factor in self.power.items() if np.isfinite(factor)}
        if not seen:
            return "Every gradient is 0 but for rounding: a factor on none of them would have shown."
        path = max(seen, key=lambda path: seen[path])
        size = seen[path] - 1
        factor = f"{seen[path]:.{max(2, 1 - int(np.floor(np.log10(size))))}g}" if size > 1e-4 else f"1 + {size:.0e}"
        return f"A factor of {factor} on {path} would have shown; on any other, a smaller one."

    def _about_the_probe(self) -> str:
        what = f" It changed {' and '.join(self.changed)}." if self.changed else ""
        return (
            f"At your own point no fault shows; at the perturbed point {self.probe!r} the sides part.{what} If that "
            "cannot be (labels, an order, a domain), say so with domain=, or leave such points out with probes=False."
        )

    def _chance_of_a_miss(self) -> str:
        """How likely the side that is said to fit its loss only seems to, along the random directions it was asked."""
        relied_on = {"manual": "autodiff, random", "autodiff": "manual, random"}.get(self.wrong_side or "", "random")
        missed = [o.miss for n, o in self.references.items() if n.endswith(relied_on) and o.consistent and o.miss]
        if not missed:
            return ""
        if max(missed) > 0.5:
            return " (The other side fits its loss as far as finite differences can tell, which is not far here.)"
        chance = f"{max(missed):.0e}" if max(missed) < 0.01 else f"{max(missed):.0%}"
        return f" Confirmed by finite differences (chance of missing an error this large: {chance})."

    def cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                row.dtype,
                f"{row.norm:.3g}",
                f"{row.error:.1e}" if np.isfinite(row.error) else "-",
                f"{row.tolerance:.1e}" if np.isfinite(row.tolerance) else "-",
                row.verdict.value,
            )
            for row in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "first_wrong": self.first_wrong,
                "wrong_side": self.wrong_side,
                "probe": self.probe,
                "changed": self.changed,
                "diagnoses": list(map(asdict, self.diagnoses)),
                "rows": list(map(asdict, self.rows)),
                "probes": self.probes,
                "references": {name: asdict(value) for name, value in self.references.items()},
                "notes": self.notes,
                "arithmetic": self.arithmetic,
                "power": self.power,
                "allowance": self.allowance,
            }
        )

    def __str__(self) -> str:
        return plain_text(*self.lines(), table(HEADERS, self.cells()), *self._below())

    def _below(self) -> list[str]:
        return [f"Allowed: {self.allowance}"] if self.allowance else []

    def _repr_html_(self) -> str:
        return html_table(" ".join(self.lines() + self._below()), HEADERS, self.cells())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict, or call assert_gradients_agree")


CONDUCT = {
    "modifies-arguments",
    "shared-buffer",
    "depends-on-earlier-calls",
    "not-deterministic",
    "view-of-parameters",
}


# Faults of the hand-written side that no reference has to be asked about.
SELF_EVIDENT = (CONDUCT - {"view-of-parameters"}) | {
    "arithmetic",
    "dtype",
    "layout",
    "missing-leaf",
    "non-finite",
    "shape",
    "structure",
}


class GradientMismatch(AssertionError):
    """The two sides do not agree, or could not be compared. `report` has the details."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(f"\n{report}")
        self.report = report
