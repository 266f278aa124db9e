"""Compares the Jacobian-vector product of a function that defines one with that of the reference in float64."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from compare.errors import BadInput
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Verdict, compare_leaves
from compare.judge.roundoff.tolerance import Scatter
from compare.torch.pair import Pair, as_numpy, doubled, tensors_of, unchanged
from compare.torch.point import RUNS, Point
from compare.torch.reports import reported
from compare.torch.rounding import Rounding


def forward_too(pair: Pair, point: Point, report: GradientReport, required: bool) -> GradientReport:
    """Check the Jacobian-vector product in a random direction.

    Args:
        pair: both functions.
        point: both sides at the caller's point.
        report: the report so far, which agrees.
        required: whether to check forward mode even if no custom function defines `jvp`.

    Returns:
        The report with additional rows for the tangents. If one is wrong, the verdict is DISAGREE.

    Raises:
        BadInput: a ValueError, if forward mode is required and the function does not support it.
    """
    if not required and not _has_its_own(pair):
        return report
    directions = _directions(pair)
    try:
        found = _tangents(pair.function, pair, pair.tensors, directions)
    except (RuntimeError, NotImplementedError) as error:
        message = f"the function does not support forward mode: {str(error).partition(chr(10))[0]}"
        if required:
            raise BadInput(message) from None
        return replace(report, notes=[*report.notes, message])
    exact, _ = pair.exact()
    wide, along = doubled(pair.tensors), [d.double() for d in directions]
    right = _tangents_of_reference(exact, pair, wide, along)
    names = ("tangent",) if len(found) == 1 else tuple(f"tangent[{i}]" for i in range(len(found)))
    actual = dict(zip(names, map(as_numpy, found), strict=True))
    expected = dict(zip(names, map(as_numpy, right), strict=True))
    outputs = [point.actual[name] for name in point.outputs]  # a tangent must have the shape and dtype of its output
    model = {name: np.zeros(value.shape, value.dtype) for name, value in zip(names, outputs, strict=True)}
    there = None
    scatters = {name: Scatter(value) for name, value in expected.items()}
    for samples in RUNS:
        for sample in range(scatters[names[0]].samples, samples):
            with Rounding(pair.dtype, 2003 * pair.seed + sample):
                moved = _tangents_of_reference(exact, pair, wide, along)
            for scatter, value in zip(scatters.values(), moved, strict=True):
                scatter.add(as_numpy(value))
        tolerance = {name: scatter.tolerance(model[name].dtype) for name, scatter in scatters.items()}
        parts = {name: scatter.parts(model[name].dtype) for name, scatter in scatters.items()}
        rows = compare_leaves(actual, model, expected, tolerance, parts=parts)
        there = Point(pair.tensors, names, actual, expected, tolerance, rows, samples, {})
        if Verdict.of([row.verdict for row in rows]) is not Verdict.DISAGREE:
            break
    assert there is not None  # the loop ran at least once
    if Verdict.of([row.verdict for row in there.rows]) is Verdict.AGREE:
        return replace(report, rows=[*report.rows, *there.rows], outputs=(*report.outputs, *names))
    wrong = reported(pair, there)
    return replace(wrong, rows=[*report.rows, *there.rows], outputs=(*report.outputs, *names))


def _has_its_own(pair: Pair) -> bool:
    """Whether a custom function between the inputs and the outputs defines `jvp`."""
    given = [
        x.detach().clone().requires_grad_() if place else x for x, place in zip(pair.tensors, pair.places, strict=True)
    ]
    with unchanged(pair.function):
        outputs = tensors_of(pair.function(*given), "function")
    return any(cls.jvp is not torch.autograd.Function.jvp for cls in _custom(outputs))


def _custom(outputs: list[torch.Tensor]) -> Iterator[Any]:
    """The classes of the custom functions in the graph by which the outputs were computed."""
    left, seen = [o.grad_fn for o in outputs], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [after for after, _ in node.next_functions]
        cls = getattr(node, "_forward_cls", None)
        if cls is not None:
            yield cls


def _directions(pair: Pair) -> list[torch.Tensor]:
    """Random tangents of the differentiated inputs."""
    generator = torch.Generator().manual_seed(1_000_033 + pair.seed)
    moving = [x for x, place in zip(pair.tensors, pair.places, strict=True) if place]
    return [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype).to(x.device) for x in moving]


def _tangents(
    function: Callable[..., Any], pair: Pair, tensors: tuple[Any, ...], directions: list[torch.Tensor]
) -> list[torch.Tensor]:
    """The Jacobian-vector product J t of each output by forward mode; zeros if it does not depend on the inputs."""
    along = iter(directions)
    with unchanged(function), forward_ad.dual_level():
        given = [
            forward_ad.make_dual(x.detach().clone(), next(along)) if place else x
            for x, place in zip(tensors, pair.places, strict=True)
        ]
        pairs = [forward_ad.unpack_dual(o) for o in tensors_of(function(*given), "function")]
        return [torch.zeros_like(p.primal) if p.tangent is None else p.tangent.detach().clone() for p in pairs]


def _tangents_of_reference(
    exact: Callable[..., Any], pair: Pair, wide: tuple[Any, ...], along: list[torch.Tensor]
) -> list[torch.Tensor]:
    """J t of the reference: by forward mode or, if that is not supported, as the gradient of <J^T c, t> in c."""
    try:
        return _tangents(exact, pair, wide, along)
    except (RuntimeError, NotImplementedError):
        given = [x.detach().clone().requires_grad_() if p else x for x, p in zip(wide, pair.places, strict=True)]
        outputs = tensors_of(exact(*given), "the reference")
        weights = [torch.ones_like(o, requires_grad=True) for o in outputs]
        moving = [x for x, place in zip(given, pair.places, strict=True) if place]
        pulled = torch.autograd.grad(outputs, moving, weights, create_graph=True, allow_unused=True)
        parts = [(g * t).sum() for g, t in zip(pulled, along, strict=True) if g is not None]
        total = torch.stack(parts).sum()
        found = torch.autograd.grad(total, weights, allow_unused=True)
        return [torch.zeros_like(o) if f is None else f for o, f in zip(outputs, found, strict=True)]
