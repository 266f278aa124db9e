"""Checks whether the results depend on memory layouts, repeated calls, or which inputs require a gradient."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
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
    """Call the function again in several ways that must not change its results.

    Args:
        pair: both functions.
        point: both sides at the caller's point.
        report: the report so far, which agrees.

    Returns:
        The report. If a result changed, the verdict is DISAGREE.
    """
    parameters = pair.parameters_of(pair.function)
    outputs, usual = run(pair.function, parameters, pair, pair.tensors)
    plain = cotangents_of(pair, outputs)
    ones = [torch.full_like(c, 0.5) for c in plain]
    looks: Iterator[tuple[str, Any, Any, Any, set[str] | None]] = iter(
        [
            ("when called again", pair.tensors, plain, plain, None),
            ("with inputs that are not contiguous", tuple(map(_spread, pair.tensors)), plain, plain, None),
            ("with an output gradient that is not contiguous", pair.tensors, [*map(_spread, plain)], plain, None),
            (
                "with an expanded output gradient, such as that of a sum",
                pair.tensors,
                [torch.full((), 0.5, dtype=c.dtype, device=c.device).expand(c.shape) for c in plain],
                ones,
                None,
            ),
        ]
    )
    labels = pair.labels()
    some = [
        (f"when {label} does not require a gradient", pair.tensors, plain, plain, set(labels) - {label})
        for label in labels
        if len(labels) > 1
    ]
    causes, notes = [], list(report.notes)
    for words, tensors, cotangents, same, needed in [*looks, *some]:
        try:
            expected = usual if same is plain else run(pair.function, parameters, pair, pair.tensors, same)[1]
            found_outputs, found = run(pair.function, parameters, pair, tensors, cotangents, needed)
        except Exception as error:  # an error is not a wrong result
            notes.append(f"{words}, the function raises an error: {str(error).partition(chr(10))[0]}")
            continue
        wrong = [
            name
            for name, value in found.items()
            if not _close(value, expected[name], _allowed(point, name), same is plain)
        ]
        wrong += [
            name
            for name, a, b in zip(point.outputs, found_outputs, outputs, strict=True)
            if not _close(a, b, _allowed(point, name), True)
        ]
        if wrong:
            kind = "not-deterministic" if words == "when called again" else "layout"
            verb = "differs" if len(wrong) == 1 else "differ"
            causes.append(Diagnosis(wrong[0], kind, f"{words}, {', '.join(wrong)} {verb}."))
            break
    if causes:
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual", notes=notes)
    return replace(report, notes=notes)


def _allowed(point: Point, name: str) -> np.ndarray | None:
    """The error that each entry of a result may have; None if the function has larger ones than the tolerance.

    That is so if a wider dtype has overruled the tolerance of any result.
    """
    return None if point.arithmetic else point.tolerance.get(name)


def _close(one: Any, other: Any, tolerance: np.ndarray | None, same: bool) -> bool:
    """Whether two results agree.

    Args:
        one, other: the results.
        tolerance: the error that each entry may have; None if it is not known.
        same: whether both were computed with the output gradients of the tolerance. With others, an entry may have an
            error as large as the largest one, if for instance the results are 0 but for rounding errors.
    """
    if one is None or other is None:
        return one is other
    a, b = (np.asarray(as_numpy(x), np.float64) for x in (one, other))
    eps = float(jnp.finfo(as_numpy(one).dtype).eps)
    allowed = eps**0.5 * np.abs(b).max(initial=0)
    if tolerance is not None and tolerance.shape == a.shape:
        if same:  # a wrong layout shows in the leading digits
            typical = np.sqrt(np.mean(np.square(b))) if b.size else 0.0
            allowed = np.maximum(2 * tolerance, eps ** (2 / 3) * typical)
        else:
            allowed = max(allowed, 2 * tolerance.max(initial=0))
    return bool((np.abs(a - b) <= allowed).all() or not np.isfinite(b).all())


def _spread(x: Any) -> Any:
    """The same tensor, stored in memory so that it is not contiguous."""
    if not isinstance(x, torch.Tensor) or not x.dim() or not x.is_floating_point():
        return x
    memory = torch.full((*reversed(x.shape[1:]), 2 * x.shape[0]), 7, dtype=x.dtype, device=x.device)
    view = memory[..., ::2].permute(*reversed(range(x.dim())))
    with torch.no_grad():
        return view.copy_(x)
