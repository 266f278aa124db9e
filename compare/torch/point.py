"""Evaluates and compares both sides at one point: values, gradients, tolerances and rows of the report."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from compare.errors import BadInput
from compare.judge.evaluation.wider import decided, in_last_third
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
    """The point, with rows that disagree decided by the function's results in a wider dtype, if it works in one.

    If it does not, another order of operations may explain an error in the last third of the digits, which is then
    neither blamed nor approved.
    """
    wide = _in_a_wider_dtype(pair, point)
    rows, arithmetic = decided(point.rows, point.actual, point.expected, wide)
    same = {name for name, value in point.actual.items() if name not in wide or _has_digits_of(wide[name], value)}
    words = "only its last digits differ, which rounding errors may explain, and it does not work in a wider dtype"
    rows = [
        replace(row, verdict=Verdict.INCONCLUSIVE, message=words)
        if row.verdict is Verdict.DISAGREE and row.path in same and _keeps_most_digits(row, point)
        else row
        for row in rows
    ]
    return replace(point, rows=rows, arithmetic=arithmetic)


def _in_a_wider_dtype(pair: Pair, point: Point) -> Leaves:
    """Outputs and gradients of the function in a wider dtype by name; none if it does not accept one."""
    to = WIDER.get(pair.dtype)
    if to is None:
        return {}
    tensors = tuple(x.to(to) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in point.tensors)
    try:
        function = pair.function
        if isinstance(function, torch.nn.Module):
            function = copy.deepcopy(function).to(to)
        narrow = [point.actual[name] for name in point.outputs]
        like = [torch.empty(value.shape, dtype=getattr(torch, str(value.dtype))) for value in narrow]
        cotangents = [c.to(to) for c in cotangents_of(pair, like)]
        outputs, gradients = run(function, pair.parameters_of(function), pair, tensors, cotangents)
    except Exception:  # a function that raises any error for a wider dtype does not support it
        return {}
    wide = {name: as_numpy(o) for name, o in zip(point.outputs, outputs, strict=True)}
    return wide | {name: as_numpy(g) for name, g in gradients.items() if g is not None}


def _has_digits_of(wide: np.ndarray, value: np.ndarray) -> bool:
    """Whether results in a wider dtype have no more digits than those in the dtype of `value`, which were cast."""
    with np.errstate(over="ignore"):
        return np.array_equal(wide.astype(value.dtype).astype(wide.dtype), wide)


def _keeps_most_digits(row: Row, point: Point) -> bool:
    """Whether two thirds of the digits of float32 are correct.

    Two thirds of the digits of 16 bits would hide an error of 4%, and there the tolerance is that of results rounded
    after each operation, which is larger than the errors of kernels. For float64 there is no wider dtype at all, and
    the tolerance decides.
    """
    actual, expected = point.actual.get(row.path), point.expected.get(row.path)
    if actual is None or expected is None or actual.shape != expected.shape or str(actual.dtype) != row.dtype:
        return False
    return actual.dtype == np.float32 and in_last_third(actual, expected)
