"""Faults that only other layouts in memory show, other calls, or inputs that need no gradient."""

# PyTorch is optional: where it is not installed, nothing is known of its names.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.torch.pair import Pair, as_numpy, cotangents_of, run
from compare.torch.point import Point


def layouts_too(pair: Pair, point: Point, report: GradientReport) -> GradientReport:
    """The report, and faults that only other layouts, other calls or other needs show."""
    parameters = pair.parameters_of(pair.function)
    outputs, usual = run(pair.function, parameters, pair, pair.tensors)
    plain = cotangents_of(pair, outputs)
    ones = [torch.full_like(c, 0.5) for c in plain]
    looks: Iterator[tuple[str, Any, Any, Any, set[str] | None]] = iter(
        [
            ("asked again", pair.tensors, plain, plain, None),
            ("with inputs that are not contiguous", tuple(map(_spread, pair.tensors)), plain, plain, None),
            ("with an output gradient that is not contiguous", pair.tensors, [*map(_spread, plain)], plain, None),
            (
                "with an expanded output gradient, as that of a sum is",
                pair.tensors,
                [torch.full((), 0.5, dtype=c.dtype, device=c.device).expand(c.shape) for c in plain],
                ones,
                None,
            ),
        ]
    )
    labels = pair.labels()
    some = [
        (f"when {label} needs no gradient", pair.tensors, plain, plain, set(labels) - {label})
        for label in labels
        if len(labels) > 1
    ]
    causes, notes = [], list(report.notes)
    for words, tensors, cotangents, same, needed in [*looks, *some]:
        try:
            expected = usual if same is plain else run(pair.function, parameters, pair, pair.tensors, same)[1]
            found_outputs, found = run(pair.function, parameters, pair, tensors, cotangents, needed)
        except Exception as error:  # a refusal is no wrong answer
            notes.append(f"{words}, it is refused: {str(error).partition(chr(10))[0]}")
            continue
        wrong = [
            name
            for name, value in found.items()
            if not _close(value, expected[name], point.tolerance.get(name), same, plain)
        ]
        wrong += [
            name
            for name, a, b in zip(point.outputs, found_outputs, outputs, strict=True)
            if not _close(a, b, point.tolerance[name], plain, plain)
        ]
        if wrong:
            kind = "not-deterministic" if words == "asked again" else "layout"
            causes.append(Diagnosis(wrong[0], kind, f"{words}, {', '.join(wrong)} is another."))
            break
    if causes:
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual", notes=notes)
    return replace(report, notes=notes)


def _close(one: Any, other: Any, tolerance: Any, same: Any, plain: Any) -> bool:
    if one is None or other is None:
        return one is other
    a, b = (np.asarray(as_numpy(x), np.float64) for x in (one, other))
    eps = float(jnp.finfo(as_numpy(one).dtype).eps)
    allowed = eps**0.5 * np.abs(b).max(initial=0)
    if same is plain and tolerance is not None and tolerance.shape == a.shape:
        allowed = np.maximum(2 * tolerance, 4 * eps * np.abs(b))
    return bool((np.abs(a - b) <= allowed).all() or not np.isfinite(b).all())


def _spread(x: Any) -> Any:
    """The same numbers, not contiguous in memory."""
    if not isinstance(x, torch.Tensor) or not x.dim() or not x.is_floating_point():
        return x
    memory = torch.full((*reversed(x.shape[1:]), 2 * x.shape[0]), 7, dtype=x.dtype, device=x.device)
    view = memory[..., ::2].permute(*reversed(range(x.dim())))
    with torch.no_grad():
        return view.copy_(x)
