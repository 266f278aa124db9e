"""Checks derivatives in published libraries: gradients, Hessian-vector products and update rules.

    .venv/bin/pip install -e '.[real]'
    python -m benchmarks.real_code [--library NAME] [--name PART] [--faults] [--evidence] [--json PATH]

The expected verdict on each was determined without the judge: by finite differences of the library's own loss, which
`--evidence` repeats, and by high-precision arithmetic where these are not sufficient. The command exits with 1 if a
correct derivative does not agree, a wrong one does not disagree, or a planted fault is missed. A library that is not
installed is skipped.
"""

import argparse
import importlib
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.real.case import RealCase, broken, evidence
from compare.environment import environment

console = Console(width=None if sys.stdout.isatty() else 130)
notes = Console(stderr=True, width=None if sys.stderr.isatty() else 200)

# For each library, by its name on PyPI, the module of benchmarks.real with its derivatives.
LIBRARIES = {
    "scikit-learn": "scikit_learn",
    "scipy": "scipy_functions",
    "statsmodels": "statsmodels_models",
    "pints": "pints_inference",
    "skglm": "skglm_datafits",
    "scikit-survival": "scikit_survival",
    "choix": "choix_choices",
    "POT": "pot_transport",
    "metric-learn": "metric_learn_metrics",
    "pylops": "pylops_operators",
    "tslearn": "tslearn_alignment",
    "cvxpy": "cvxpy_atoms",
    "ase": "ase_calculators",
    "GPy": "gpy_models",
    "numpy-ml": "numpy_ml_layers",
    "glum": "glum_families",
}
OUTCOMES = ("AGREE", "INCONCLUSIVE", "DISAGREE", "crash")
REFUTED = 1e-3  # the relative error above which finite differences, if they are exact enough, refute a derivative


@dataclass(frozen=True)
class Result:
    """The result of checking one derivative."""

    library: str
    name: str
    kind: str
    expected: str
    outcome: str
    seconds: float
    first_lines: list[str] = field(default_factory=list)
    faulty: str = ""

    @property
    def right(self) -> bool:
        return self.outcome == self.expected


def installed(library: str) -> bool:
    try:
        version(library)
    except PackageNotFoundError:
        return False
    return True


def cases_of(library: str) -> Iterator[RealCase]:
    return importlib.import_module(f"benchmarks.real.{LIBRARIES[library]}").cases()


@contextmanager
def quiet() -> Iterator[None]:
    """A context without warnings, which libraries issue for their functions at perturbed points."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def judged(library: str, case: RealCase) -> Result:
    start = time.perf_counter()
    try:
        report = case.check()
        outcome, lines = report.verdict.name, str(report).splitlines()[:2]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = "crash"
        lines = [f"{type(error).__name__}: {error}".splitlines()[0], f"{Path(where.filename).name}:{where.lineno}"]
    seconds = time.perf_counter() - start
    return Result(library, case.name, case.kind, case.expected.name, outcome, seconds, lines, case.faulty)


def measure(chosen: Iterable[tuple[str, RealCase]], faults: bool) -> dict[str, Any]:
    """The results of all cases and, if `faults`, those of cases with planted faults."""
    results, planted = [], []
    for library, case in chosen:
        with quiet():
            result = judged(library, case)
            results.append(result)
            if not result.right:
                tell(result)
            if faults and not case.faulty:
                for fault, wrong in broken(case):
                    seen = judged(library, wrong)
                    planted.append((fault, seen))
                    if seen.outcome != "DISAGREE":
                        notes.print(f"{library}: {case.name}: {fault}: {seen.outcome}", markup=False, highlight=False)
    return {"results": results, "planted": planted}


def tell(result: Result) -> None:
    notes.print(
        f"{result.library}: {result.name}: {result.outcome}, expected {result.expected}", markup=False, highlight=False
    )


def contradictions(chosen: Iterable[tuple[str, RealCase]]) -> list[str]:
    """A sentence for each case whose expected verdict contradicts the finite differences of the library's loss."""
    found = []
    for library, case in chosen:
        with quiet():
            known = evidence(case)
        if known is None:
            continue
        most = max(REFUTED, case.at_least)
        wrong = known.error > max(most, 10 * known.doubt) or known.apart > most
        unclear = not known.error <= most
        line = (
            f"{library}: {case.name}: off by {known.error:.1e}, differences by {known.doubt:.1e}, "
            f"losses apart by {known.apart:.1e}"
        )
        notes.print(line, markup=False, highlight=False)
        if wrong != bool(case.faulty) or (unclear and not wrong):
            found.append(f"{line}; the case is marked as {'faulty' if case.faulty else 'sound'}")
    return found


# -------------------------------------------------------------------------------------- printing


def table(results: Sequence[Result]) -> Table:
    shown = Table("library", title="Derivatives in published libraries", title_justify="left")
    for heading in ("derivatives", *OUTCOMES, "as expected", "seconds"):
        shown.add_column(heading, justify="right")
    libraries = list(dict.fromkeys(result.library for result in results))
    for library in libraries:
        shown.add_row(f"{library} {version(library)}", *_figures([r for r in results if r.library == library]))
    shown.add_section()
    shown.add_row("all", *_figures(results))
    return shown


def _figures(results: Sequence[Result]) -> list[str]:
    count = Counter(result.outcome for result in results)
    right, seconds = sum(result.right for result in results), sum(result.seconds for result in results)
    return [f"{len(results)}", *(f"{count[outcome]}" for outcome in OUTCOMES), f"{right}", f"{seconds:.0f}"]


def planted_table(planted: Sequence[tuple[str, Result]]) -> Table:
    shown = Table("planted fault", title="Faults planted in correct derivatives", title_justify="left")
    for heading in ("faults", *OUTCOMES):
        shown.add_column(heading, justify="right")
    for fault in dict.fromkeys(fault for fault, _ in planted):
        outcomes = Counter(result.outcome for name, result in planted if name == fault)
        shown.add_row(fault, f"{outcomes.total()}", *(f"{outcomes[outcome]}" for outcome in OUTCOMES))
    return shown


def show(results: dict[str, Any]) -> None:
    console.print(table(results["results"]))
    if results["planted"]:
        console.print(planted_table(results["planted"]))
    for result in results["results"]:
        if not result.right:
            _print(f"{result.library}: {result.name}: {result.outcome}, expected {result.expected}")
            for line in result.first_lines:
                _print(f"    {line}")
    for fault, result in results["planted"]:
        if result.outcome != "DISAGREE":
            _print(f"{result.library}: {result.name}: {fault}: {result.outcome}")
    for result in results["results"]:
        if result.faulty:
            _print(f"{result.library}: {result.name}: {result.outcome}. Known to be wrong: {result.faulty}")


def _print(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def selected(library: str | None, part: str) -> Iterator[tuple[str, RealCase]]:
    for name in LIBRARIES if library is None else (library,):
        if not installed(name):
            notes.print(f"{name} is not installed: skipped. .venv/bin/pip install {name}", markup=False)
            continue
        with quiet():
            every = list(cases_of(name))
        yield from ((name, case) for case in every if part in case.name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", choices=LIBRARIES, metavar="NAME", help=f"one of {', '.join(LIBRARIES)}")
    parser.add_argument("--name", default="", metavar="PART", help="only cases whose names contain this")
    parser.add_argument("--faults", action="store_true", help="also plant faults in correct derivatives")
    parser.add_argument("--evidence", action="store_true", help="use finite differences instead of the judge")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results as JSON")
    options = parser.parse_args(arguments)
    chosen = selected(options.library, options.name)
    if options.evidence:
        found = contradictions(chosen)
        for sentence in found:
            _print(sentence)
        return 1 if found else 0
    results = measure(chosen, options.faults)
    show(results)
    where = environment()
    _print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        plain = {
            "environment": where,
            "results": [asdict(result) for result in results["results"]],
            "planted": [{"fault": fault} | asdict(result) for fault, result in results["planted"]],
        }
        options.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    wrong = any(not result.right for result in results["results"])
    return 1 if wrong or any(result.outcome != "DISAGREE" for _, result in results["planted"]) else 0


if __name__ == "__main__":
    sys.exit(main())
