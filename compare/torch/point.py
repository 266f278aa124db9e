"""Evaluates and compares both sides at one point: values, gradients, tolerances and rows of the report."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from compare.errors import BadInput
from compare.judge.evaluation.wider import decided
from compare.judge.reports.verdict import Row, Verdict, compare_leaves
from compare.judge.roundoff.tolerance import Scatter
from compare.pytrees import Leaves
from compare.torch.pair import Pair, as_numpy, cotangents_of, doubled, run
from compare.torch.rounding import Rounding

RUNS = (1, 4, 8)  # the total number of perturbed runs of the reference, which is raised as long as a row disagrees
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float32: torch.float64}


@dataclass
class Point:
    """Both sides at one point.

    Attributes:
        tensors: the inputs.
        outputs: the names of the outputs.
        actual: outputs and gradients of the function under test, by name.
        expected: those of the reference, in float64.
        tolerance: the rounding tolerance of each entry of them.
        rows: the rows of the report.
        samples: the number of perturbed runs by which the tolerance was measured.
        arithmetic: sentences on lost digits, by the name of the row.
    """

    tensors: tuple[Any, ...]
    outputs: tuple[str, ...]
    actual: Leaves
    expected: Leaves
    tolerance: Leaves
    rows: list[Row]
    samples: int
    arithmetic: dict[str, str]


def looked_at(pair: Pair, tensors: tuple[Any, ...]) -> Point:
    """Evaluate and compare both sides at a point.

    If they disagree, the tolerance is measured again with more perturbed runs. If they still disagree, the function is
    run in a wider dtype, which tells rounding errors from a wrong derivation.

    Args:
        pair: both functions.
        tensors: the inputs.

    Returns:
        The point.

    Raises:
        BadInput: a ValueError, if a side cannot be differentiated, or they return different numbers or shapes of
            tensors.
    """
    outputs, gradients = run(pair.function, pair.parameters_of(pair.function), pair, tensors)
    exact, own = pair.exact()
    cotangents = [c.double() for c in cotangents_of(pair, outputs)]
    wide = doubled(tensors)
    try:
        right, right_gradients = run(exact, own, pair, wide, cotangents, who="the reference")
    except (RuntimeError, TypeError) as error:
        words = str(error).partition("\n")[0]
        raise BadInput(f"the reference cannot be evaluated or differentiated in float64: {words}") from None
    named = ("output",) if len(outputs) == 1 else tuple(f"output[{i}]" for i in range(len(outputs)))
    inputs = dict(zip(pair.labels(), (x for x, p in zip(tensors, pair.places, strict=True) if p), strict=True))
    inputs |= pair.parameters_of(pair.function)
    actual = {name: as_numpy(o) for name, o in zip(named, outputs, strict=True)}
    actual |= {name: as_numpy(g, inputs[name]) for name, g in gradients.items()}
    model = {name: np.zeros(o.shape, as_numpy(o).dtype) for name, o in zip(named, outputs, strict=True)}
    model |= {name: np.zeros(x.shape, as_numpy(x).dtype) for name, x in inputs.items() if name in gradients}
    expected = {name: as_numpy(o) for name, o in zip(named, right, strict=True)}
    expected |= {name: as_numpy(right_gradients.get(name), inputs[name]).astype(np.float64) for name in gradients}
    point, scatters = None, {name: Scatter(value) for name, value in expected.items()}
    for samples in RUNS:
        _scatter(scatters, pair, exact, own, wide, cotangents, named, samples)
        tolerance = {name: scatter.tolerance(model[name].dtype) for name, scatter in scatters.items()}
        parts = {name: scatter.parts(model[name].dtype) for name, scatter in scatters.items()}
        rows = compare_leaves(actual, model, expected, tolerance, parts=parts)
        point = Point(tensors, named, actual, expected, tolerance, rows, samples, {})
        if Verdict.of([row.verdict for row in rows]) is not Verdict.DISAGREE:
            return point
    assert point is not None  # the loop ran at least once
    return _widely(pair, point)


def _scatter(
    scatters: dict[str, Scatter],
    pair: Pair,
    exact: Callable[..., Any],
    own: dict[str, torch.Tensor],
    wide: tuple[Any, ...],
    cotangents: list[torch.Tensor],
    named: tuple[str, ...],
    samples: int,
) -> None:
    """Add perturbed runs of the reference to the scatters until each has `samples` of them."""
    for sample in range(max((scatter.samples for scatter in scatters.values()), default=0), samples):
        with Rounding(pair.dtype, 1009 * pair.seed + sample):
            outputs, gradients = run(exact, own, pair, wide, cotangents)
        values = dict(zip(named, outputs, strict=True)) | gradients
        for name, scatter in scatters.items():
            value = values.get(name)
            scatter.add(scatter.value if value is None else as_numpy(value))


def _widely(pair: Pair, point: Point) -> Point:
    """The point, with rows that disagree decided by the function's results in a wider dtype, if it accepts one."""
    to = WIDER.get(pair.dtype)
    if to is None or isinstance(pair.function, torch.nn.Module):
        return point
    tensors = tuple(x.to(to) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in point.tensors)
    try:
        narrow = [torch.from_numpy(point.expected[name]) for name in point.outputs]
        cotangents = [c.to(to) for c in cotangents_of(pair, [x.to(pair.dtype) for x in narrow])]
        outputs, gradients = run(pair.function, {}, pair, tensors, cotangents)
    except Exception:  # a function that raises any error for a wider dtype does not support it
        return point
    wide = {name: as_numpy(o) for name, o in zip(point.outputs, outputs, strict=True)}
    wide |= {name: as_numpy(g) for name, g in gradients.items() if g is not None}
    rows, arithmetic = decided(point.rows, point.actual, point.expected, wide)
    return replace(point, rows=rows, arithmetic=arithmetic)
