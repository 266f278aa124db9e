"""The report of a check of gradients: as text, as a dict for programs, and as HTML for notebooks."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np

from compare.judge.reports.tables import html_report, plain_text, table
from compare.judge.reports.verdict import Derivative, Diagnosis, Row, Verdict, plain
from compare.pytrees import LOSS

HEADERS = ("gradient", "shape", "dtype", "norm", "difference", "tolerance", "verdict")

Side = Literal["manual", "autodiff", "loss"]

BLAME = {
    "manual": "The hand-written side is wrong: its gradient does not fit the function.",
    "autodiff": "The JAX side is wrong: its gradient does not fit its own function (a custom derivative?).",
    "loss": "A loss is wrong: the two sides do not compute the same loss.",
    "output": "The two sides do not compute the same output.",
}
# For a perturbed point these sentences are weaker, because the functions may not have to work for such values.
BLAME_THERE = {
    "manual": "At the perturbed point, the hand-written gradient does not fit its function.",
    "autodiff": "At the perturbed point, JAX's gradient does not fit its own function (a custom derivative?).",
    "loss": "At the perturbed point, the two sides do not compute the same loss.",
    "output": "At the perturbed point, the two sides do not compute the same output.",
}


@dataclass(frozen=True)
class GradientReport:
    """The result of comparing a loss and its gradients.

    Attributes:
        verdict: AGREE, DISAGREE or INCONCLUSIVE, about the derivation.
        rows: one row for the loss, one for each intermediate and one for each parameter, in backward order.
        first_wrong: the name of the first wrong quantity in backward order. A quantity that differs only because of an
            earlier error does not count. Of parameters, one whose error has a known cause is named before others.
        diagnoses: the causes that were found, the most important first.
        wrong_side: the side whose gradient does not fit its loss; None if finite differences cannot tell.
        probe: the name of the perturbed point that revealed the error; None for the caller's own point.
        probes: the result at each perturbed point, by the point's name.
        references: the directional derivatives by which `wrong_side` was found.
        notes: what could not be checked, and why.
        arithmetic: lost digits at the caller's point, overflow and clipping at perturbed points. They are not errors of
            the derivation.
        outputs: the names of the rows that are outputs and not gradients.
        intermediates: the names of the rows that are gradients of intermediates. Later gradients are computed from
            them.
        parameter: the argument's name, if the parameters are a single array, whose row has the path "value".
        quantity: the noun for a row in sentences, such as "gradient", "product" or "Jacobian".
        changed: the arguments that the perturbed point changed.
        tolerance_source: a sentence that says how the tolerances of the rows were measured.
        own_point: the verdict at the caller's own point, if perturbed points were tried as well; None if it is unknown.
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
    intermediates: tuple[str, ...] = ()
    parameter: str = ""
    quantity: str = "gradient"
    changed: list[str] = field(default_factory=list)
    tolerance_source: str = ""
    own_point: Verdict | None = None

    @property
    def power(self) -> dict[str, float]:
        """The smallest wrong factor that would have been detected, such as 1.003, by row; infinity if none would."""
        return {row.path: 1 + row.visible for row in self.rows if row.visible is not None}

    @property
    def sentence(self) -> str:
        """The first line: the verdict and, if the sides disagree, the wrong quantity and the cause."""
        if self.verdict is Verdict.AGREE:
            return f"AGREE: {self._compared()} the same to within rounding."
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"INCONCLUSIVE: {self.notes[0] if self.notes else 'nothing could be compared.'}"
        at = f" (at the perturbed point {self.probe!r})" if self.probe else ""
        what = self._headline()
        if what is not None:
            subject = f"{self.subject(what.path)}: " if what.path and what.kind not in SIDE_EFFECTS else ""
            return f"DISAGREE{at}: {subject}{what.message}{self._wrong_gradients_too(what.path)}"
        row = next((row for row in self.rows if row.path == self.first_wrong), None)
        message = row.message if row else "see the table"
        return (
            f"DISAGREE{at}: {self.subject(self.first_wrong)}: {message}.{self._wrong_gradients_too(self.first_wrong)}"
        )

    def _headline(self) -> Diagnosis | None:
        """The first cause; None if it concerns another quantity than the first wrong one."""
        what = self.diagnoses[0] if self.diagnoses else None
        if what is None or what.path in (None, self.first_wrong) or what.kind in SIDE_EFFECTS:
            return what
        return None if any(row.path == self.first_wrong for row in self.rows) else what

    def _wrong_gradients_too(self, path: str | None) -> str:
        """A sentence that names the wrong gradients, if the first line is about the loss."""
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
        """The words for a row in a sentence, such as "the gradient of W1"."""
        if path == LOSS:
            return "the loss"
        if path is not None and path in self.outputs:
            return f"the {path}"
        name = self.parameter if self.parameter and path == "value" else path
        return f"JAX's {self.quantity} of {name}" if self.wrong_side == "autodiff" else f"the {self.quantity} of {name}"

    def lines(self) -> list[str]:
        """All lines above the table, the most useful first."""
        lines = [self.sentence]
        said = self._headline() if self.verdict is Verdict.DISAGREE else None
        rest = [d for d in self.diagnoses if d is not said]
        lines += [f"Also: {self.subject(d.path) + ': ' if d.path else ''}{d.message}" for d in rest]
        plain = any(d.kind in SELF_EVIDENT for d in self.diagnoses)
        if self.wrong_side and not plain:
            what = "output" if self.wrong_side == "loss" and self.outputs else self.wrong_side
            lines.append((BLAME_THERE if self.probe else BLAME)[what] + self._chance_of_a_miss())
        if self.probe and self.verdict is Verdict.DISAGREE:
            lines.append(self._about_the_perturbed_point())
        lines += self._what_may_follow()
        if self.verdict is Verdict.AGREE and self.power:
            lines.append(self._weakest())
        said = {d.message for d in self.diagnoses}
        lines += [f"Arithmetic: {words}" for words in self.arithmetic if words not in said]
        first = self.notes[1:] if self.verdict is Verdict.INCONCLUSIVE else self.notes
        return lines + [f"Note: {note}" for note in first]

    def _what_may_follow(self) -> list[str]:
        """A line that names the errors that may follow from the first one.

        Only the gradients of intermediates are used to compute other gradients, and those of parameters are not.
        """
        # A cause without a path concerns no single quantity. Gradients do not depend on the value of the loss.
        elsewhere = bool(self.diagnoses) and (self.diagnoses[0].path is None or self.diagnoses[0].kind in SIDE_EFFECTS)
        if self.first_wrong not in (*self.intermediates, *self.outputs) or self.first_wrong == LOSS or elsewhere:
            return []
        wrong = [row.path for row in self.rows if row.verdict is Verdict.DISAGREE]
        later = wrong[wrong.index(self.first_wrong) + 1 :] if self.first_wrong in wrong else []
        return [f"Fix this first: the errors of {', '.join(later)} may follow from it."] if later else []

    def _weakest(self) -> str:
        """The line that says how small an error would have been detected in the least sensitive row."""
        seen = {path: factor for path, factor in self.power.items() if np.isfinite(factor)}
        if not seen:
            return "Sensitivity: none. Every gradient is 0 to within rounding, so no wrong factor could be detected."
        path = max(seen, key=lambda path: seen[path])
        size = seen[path] - 1
        factor = f"{seen[path]:.{max(2, 1 - int(np.floor(np.log10(size))))}g}" if size > 1e-4 else f"1 + {size:.0e}"
        rows = "every row" if len(seen) == len(self.power) else "every row that is not 0"
        return f"Sensitivity: a factor of {factor} would have been detected in {rows} (least sensitive: {path})."

    def _about_the_perturbed_point(self) -> str:
        what = f", which changes {' and '.join(self.changed)}" if self.changed else ""
        if self.own_point is Verdict.INCONCLUSIVE:
            shown = (
                f"The check at your own point is inconclusive; the error shows at the perturbed point {self.probe!r}"
            )
        else:
            shown = f"No error shows at your own point, only at the perturbed point {self.probe!r}"
        return (
            f"{shown}{what}. If such values "
            "cannot occur (labels, sorted data, a restricted domain), declare them with domain=, or check without "
            "perturbed points: probes=False."
        )

    def _chance_of_a_miss(self) -> str:
        """A sentence with the probability that finite differences have missed an error of the other side."""
        relied_on = {"manual": "autodiff, random", "autodiff": "manual, random"}.get(self.wrong_side or "", "random")
        missed = [o.miss for n, o in self.references.items() if n.endswith(relied_on) and o.consistent and o.miss]
        if not missed:
            return ""
        if max(missed) > 0.5:
            return " (Finite differences are too inexact here to confirm this.)"
        chance = f"{max(missed):.0e}" if max(missed) < 0.01 else f"{max(missed):.0%}"
        return f" Confirmed by finite differences (chance of missing an error this large: {chance})."

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of the table, one tuple for each row."""
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
        """The report as a dict of values that JSON can represent."""
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
                "tolerance_source": self.tolerance_source,
            }
        )

    def __str__(self) -> str:
        return plain_text(*self.lines(), table(HEADERS, self.cells()), *self._below())

    def __repr__(self) -> str:
        return str(self)

    def _below(self) -> list[str]:
        return [f"Tolerance: {self.tolerance_source}"] if self.tolerance_source else []

    def _repr_html_(self) -> str:
        return html_report(self.lines(), HEADERS, self.cells(), *self._below())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict, or call assert_gradients_agree")


# The kinds of diagnoses that are side effects of the hand-written side.
SIDE_EFFECTS = {
    "modifies-arguments",
    "modifies-output",
    "shared-buffer",
    "depends-on-earlier-calls",
    "not-deterministic",
    "view-of-parameters",
}


# The kinds of diagnoses that are errors of the hand-written side. No finite differences are needed to show that.
SELF_EVIDENT = (SIDE_EFFECTS - {"view-of-parameters"}) | {
    "arithmetic",
    "dtype",
    "layout",
    "missing-leaf",
    "non-finite",
    "shape",
    "structure",
}


class GradientMismatch(AssertionError):
    """Raised if the verdict is not AGREE. The attribute `report` is the report, whose text is the message."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(f"\n{report}")
        self.report = report
