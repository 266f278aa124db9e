"""The ops of the catalog, with both sides of each, and their verification at all cases."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from types import ModuleType
from typing import Any

import manual
from compare.errors import unknown
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Verdict, plain
from compare.judge.vjp import check_vjp
from compare.suite.cases import MODULES, Case, all_cases

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Op:
    """An op: the hand-written forward and backward passes, and the function that JAX differentiates."""

    name: str
    module: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    function: Callable[..., Any]


def catalog(ops: ModuleType = manual) -> dict[str, Op]:
    """All ops by name, with the hand-written side of `manual` or of `manual.fast`.

    Each module has a table of its ops, whose name is that of the module in capitals.
    """
    found: dict[str, Op] = {}
    for module in MODULES:
        sides = (getattr(ops, module), importlib.import_module(f"autodiff.{module}"))
        by_hand, by_jax = (getattr(side, module.upper()) for side in sides)
        for name, (forward, backward) in by_hand.items():
            found[name] = Op(name, module, forward, backward, by_jax[name])
    return found


def verify_op(op: Op, case: Case, dtype: str = "float64", **options: Any) -> GradientReport:
    """`check_vjp` of an op with the arguments of `case`, in `dtype`."""
    case = case.astype(dtype)
    forward, function = partial(op.forward, **case.options), partial(op.function, **case.options)
    return check_vjp(forward, op.backward, function, *case.inputs, **options)


@dataclass(frozen=True)
class OpResult:
    """The verdict on an op at all its cases, in `manual` and `manual.fast`.

    Attributes:
        name: the name of the op.
        module: its module.
        checks: the number of checks.
        verdict: the verdict of all of them.
        worst: for each dtype, the largest ratio of the error of an entry to its tolerance.
        report: the first report that does not agree, if any.
        where: the case and dtype of that report.
    """

    name: str
    module: str
    checks: int
    verdict: Verdict
    worst: dict[str, float]
    report: GradientReport | None
    where: str

    def __str__(self) -> str:
        errors = ", ".join(f"{dtype} {share:.2g}" for dtype, share in self.worst.items())
        line = f"{self.name:<22} {self.verdict.name:<12} {self.checks:>2} checks; largest error / tolerance: {errors}"
        return line if self.report is None else f"{line}\n  at {self.where}:\n{self.report}"

    def to_dict(self) -> dict[str, Any]:
        report = None if self.report is None else self.report.to_dict()
        return plain({field.name: getattr(self, field.name) for field in fields(self)} | {"report": report})


@dataclass(frozen=True)
class Sweep:
    """The results of several ops."""

    results: list[OpResult]

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([result.verdict for result in self.results])

    def __str__(self) -> str:
        agreeing = sum(result.verdict is Verdict.AGREE for result in self.results)
        checks = sum(result.checks for result in self.results)
        share = max((share for result in self.results for share in result.worst.values()), default=0.0)
        return (
            f"{self.verdict.name}: {agreeing} of {len(self.results)} ops agree with JAX and with finite differences, "
            f"in manual and manual.fast, {checks} checks; the largest error is {share:.2g} of its tolerance."
        )

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict.value, "ops": [result.to_dict() for result in self.results]}


def sweep(names: Iterable[str], *, seed: int = 0, dtypes: Sequence[str] = DTYPES) -> Iterator[OpResult]:
    """Verify ops at all their cases.

    Args:
        names: the names of the ops.
        seed: the seed of the cases and the checks.
        dtypes: the dtypes in which each case is verified.

    Yields:
        The result of each op, in the order of the names.

    Raises:
        BadInput: for an unknown name.
    """
    import manual.fast

    known, fast, cases = catalog(), catalog(manual.fast), all_cases(seed)
    names = list(names)
    for name in names:
        if name not in known:
            raise unknown("op", name, [*known, "all"])
    # Compilation takes most of the time, and does not hold Python's global lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(lambda name: _at_all_cases(known[name], fast.get(name), cases[name], dtypes, seed), names)


def _at_all_cases(page: Op, fast: Op | None, cases: list[Case], dtypes: Sequence[str], seed: int) -> OpResult:
    worst = dict.fromkeys(dtypes, 0.0)
    verdicts, report, where = [], None, ""
    # The fast op is checked at the case's own point only, because a test compares it with that of `manual`.
    forms = [(page, "", {})]
    if fast is not None:
        forms.append((fast, ", fast", {"probes": False, "references": False}))
    for op, form, options in forms:
        for case in cases:
            for dtype in dtypes:
                found = verify_op(op, case, dtype, seed=seed, **options)
                verdicts.append(found.verdict)
                shares = [row.error / row.tolerance for row in found.rows if row.tolerance > 0]
                worst[dtype] = max([worst[dtype], *shares])
                if report is None and found.verdict is not Verdict.AGREE:
                    report, where = found, f"{case}, {dtype}{form}"
    return OpResult(page.name, page.module, len(verdicts), Verdict.of(verdicts), worst, report, where)
