"""Runs each public check on correct derivatives from published libraries, and on derivatives with faults.

    .venv/bin/pip install -e '.[peers]'
    python -m benchmarks.doors [--door NAME] [--json PATH]

A "door" is one of the public checks. Correct derivatives are from SciPy, NumPy, scikit-learn, HIPS autograd, PyTorch,
optax and textbooks. Those of statsmodels and PyLops need another environment, with the optional group `real`; what is
not installed is skipped. Faults are planted in correct derivatives, or rebuilt from public reports. The command exits
with 1 if any verdict is wrong.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.doors import custom_rules, first_order, jacobians, losses, second_order, torch_kernels, training
from benchmarks.doors.case import Case
from benchmarks.reported_faults import FAULTS
from compare import Verdict
from compare.environment import environment

DOORS: dict[str, Callable[[], Iterator[Case]]] = {
    "check_gradients, loss=None": losses.losses,
    "check_vjp": first_order.vjps,
    "check_jvp": first_order.jvps,
    "check_hvp": second_order.hvps,
    "check_jacobian": jacobians.jacobians,
    "check_hessian": second_order.hessians,
    "check_custom_rules": custom_rules.custom_rules,
    "compare.torch.check_function": torch_kernels.kernels,
    "check_trajectory": training.trajectories,
}
# The check for each door of `benchmarks.reported`. Its faults of training are cases of check_trajectory already.
REPORTED = {"vjp": "check_vjp", "jvp": "check_jvp", "hvp": "check_hvp", "jacobian": "check_jacobian",
            "hessian": "check_hessian"}  # fmt: skip

console = Console(width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True)
class Told:
    """What was said of a case."""

    door: str
    case: Case
    verdict: str
    causes: list[str]
    seconds: float

    @property
    def right(self) -> bool:
        return self.verdict == (Verdict.DISAGREE if self.case.faulty else Verdict.AGREE).name


def cases(door: str) -> Iterator[Case]:
    yield from DOORS[door]()
    for fault in FAULTS:
        if REPORTED.get(fault.door) == door:
            yield Case(fault.name, fault.source, True, lambda fault=fault: fault.report(broken=True))
            yield Case(f"{fault.name}, mended", fault.source, False, lambda fault=fault: fault.report(broken=False))


def told(door: str, case: Case) -> Told:
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # libraries warn at perturbed points
            report = case.check()
        verdict, causes = report.verdict.name, [cause.kind for cause in report.diagnoses]
    except Exception as error:
        verdict, causes = f"{type(error).__name__}: {error}".splitlines()[0], []
    return Told(door, case, verdict, causes, time.perf_counter() - start)


def table(answers: Sequence[Told]) -> Table:
    shown = Table("door", title="Derivatives of libraries, by check", title_justify="left")
    for heading in ("faults", "caught", "with a cause", "sound", "AGREE", "seconds per check"):
        shown.add_column(heading, justify="right")
    for door in dict.fromkeys(answer.door for answer in answers):
        here = [answer for answer in answers if answer.door == door]
        faulty, sound = ([a for a in here if a.case.faulty is kind] for kind in (True, False))
        shown.add_row(
            door,
            f"{len(faulty)}",
            f"{sum(a.right for a in faulty)}",
            f"{sum(bool(a.causes) for a in faulty)}",
            f"{len(sound)}",
            f"{sum(a.right for a in sound)}",
            f"{sum(a.seconds for a in here) / max(len(here), 1):.2f}",
        )
    return shown


def measure(doors: Iterable[str]) -> list[Told]:
    return [told(door, case) for door in doors for case in cases(door)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--door", choices=DOORS, metavar="NAME", help=f"one of {', '.join(DOORS)}")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the verdict on each case as JSON")
    options = parser.parse_args(arguments)
    answers = measure([options.door] if options.door else DOORS)
    console.print(table(answers))
    for answer in answers:
        if not answer.right:
            words = f"{answer.door}: {answer.case.name} ({answer.case.source}): {answer.verdict}"
            console.print(words, markup=False, highlight=False)
    where = environment()
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), markup=False, highlight=False)
    if options.json:
        plain: list[dict[str, Any]] = [
            {"door": answer.door, "verdict": answer.verdict, "causes": answer.causes, "seconds": answer.seconds}
            | {name: getattr(answer.case, name) for name in ("name", "source", "faulty")}
            for answer in answers
        ]
        options.json.write_text(json.dumps({"environment": where, "cases": plain}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(answer.right for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
