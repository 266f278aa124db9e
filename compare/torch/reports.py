"""Makes the report of a point, finds causes, and checks at a perturbed point."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from compare.torch.pair import Pair, as_numpy
from compare.torch.point import Point, looked_at


def reported(pair: Pair, point: Point, probe: str | None = None) -> GradientReport:
    """The report of a point, with causes.

    Args:
        pair: both functions.
        point: both sides at the point.
        probe: the name of the point, if it is a perturbed one.
    """
    verdict = Verdict.of([row.verdict for row in point.rows])
    wrong = [row for row in point.rows if row.verdict is Verdict.DISAGREE]
    causes: list[Diagnosis] = []
    for row in wrong:
        causes += _causes(pair, point, row)
    notes = []
    if verdict is Verdict.INCONCLUSIVE:
        row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
        more = "" if row.worst_index is not None else " Check at a point where the reference is finite."
        notes = [f"{row.path}: {row.message}.{more}"]
    runs = "1 run" if point.samples == 1 else f"{point.samples} runs"
    return GradientReport(
        verdict,
        point.rows,
        wrong[0].path if wrong else None,
        causes,
        "manual" if wrong else None,
        probe,
        notes=notes,
        arithmetic=list(point.arithmetic.values()),
        outputs=point.outputs,
        tolerance_source=f"16 standard deviations of rounding in {pair.dtype} (every operation perturbed, {runs}).",
    )


def _causes(pair: Pair, point: Point, row: Row) -> list[Diagnosis]:
    actual, expected = point.actual.get(row.path), point.expected.get(row.path)
    if actual is None or expected is None:
        return [Diagnosis(row.path, "missing-leaf", f"{row.message}.")]
    plain = shape_or_dtype(row.path, actual, np.zeros(expected.shape, row.dtype))
    if plain is not None:
        return [plain]
    if not np.isfinite(np.asarray(actual, np.float64)).all():
        return [Diagnosis(row.path, "non-finite", f"{row.message}.")]
    arrays = {
        name: np.asarray(as_numpy(x), np.float64)
        for name, x in zip(pair.names or (), point.tensors, strict=True)
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    }
    sizes = {f"{name}.shape[{axis}]": n for name, x in arrays.items() for axis, n in enumerate(x.shape)}
    evidence = Evidence(
        row.path,
        np.asarray(actual, np.float64),
        expected,
        point.tolerance[row.path],
        sizes=sizes,
        thresholds={name: x for name, x in arrays.items() if x.shape == expected.shape},
        parameter=arrays.get(row.path),
        known={name: x for name, x in arrays.items() if name != row.path},
        dtype=np.dtype(np.float64),
    )
    with np.errstate(all="ignore"):
        return diagnose(evidence)


def elsewhere(pair: Pair, report: GradientReport) -> GradientReport:
    """Check at a perturbed point: inputs that are 4 times as large, with noise.

    Args:
        pair: both functions.
        report: the report of the caller's point, which agrees.

    Returns:
        The report, or that of the perturbed point if both sides are finite there and disagree.
    """
    name = "inputs x 4, moved"
    generator = torch.Generator().manual_seed(pair.seed + 17)

    def moved(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        size = float(x.detach().double().pow(2).mean().sqrt()) or 1.0 if x.numel() else 1.0
        noise = 0.1 * size * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        if bool((x >= 0).all()) or bool((x <= 0).all()):  # the function may require the sign, as sqrt does
            return 4 * x.detach()
        return (4 * (x.detach().double() + noise)).to(x.dtype)

    try:
        there = looked_at(pair, tuple(map(moved, pair.tensors)))
    except Exception as error:  # the function may reject inputs that its caller never passes
        return replace(report, probes={name: f"the code under test raised {error}"})
    finite = [np.isfinite(np.asarray(there.actual[n], np.float64)).all() for n in there.actual]
    finite += [np.isfinite(v).all() for v in there.expected.values()]
    if not all(finite):
        words = f"at the perturbed point {name!r}, a result is not finite."
        return replace(report, probes={name: "not finite"}, arithmetic=[*report.arithmetic, words])
    found = reported(pair, there, name)
    if found.verdict is Verdict.DISAGREE:
        return replace(found, probes={name: "disagree"})
    return replace(report, probes={name: found.verdict.value})
