"""Checks double backward: the derivative of the backward pass, for a random cotangent."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.torch.pair import Pair, cotangents_of, run, tensors_of


def second_order(
    pair: Pair, report: GradientReport, strict: bool, check: Callable[..., GradientReport]
) -> GradientReport:
    """Check the backward pass as a function of the inputs and the output gradients.

    Args:
        pair: both functions.
        report: the report so far, which agrees.
        strict: as in `check_function`.
        check: `check_function`, which is applied to the backward passes of both sides.

    Returns:
        The report, or that on the second derivative if it does not agree.
    """
    labels = pair.labels()
    count = len(pair.tensors)
    outputs, _ = run(pair.function, pair.parameters_of(pair.function), pair, pair.tensors)
    cotangents = cotangents_of(pair, outputs)

    def once(function: Callable[..., Any]) -> Callable[..., Any]:
        def gradients(*given: Any) -> Any:
            tensors, weights = given[:count], given[count:]
            moving = [x for x, place in zip(tensors, pair.places, strict=True) if place]
            found = torch.autograd.grad(
                tensors_of(function(*tensors), "function"), moving, weights, create_graph=True, allow_unused=True
            )
            zero = sum((w * 0).sum() for w in weights)  # makes a constant gradient differentiable as well
            return tuple(zero + (x * 0 if g is None else g + x * 0) for g, x in zip(found, moving, strict=True))

        return gradients

    try:
        twice = (once(pair.function), once(pair.reference))
        names = (*(pair.names or ()), *(f"output gradient {i}" for i in range(len(cotangents))))
        second = check(
            *twice,
            *pair.tensors,
            *cotangents,
            seed=pair.seed + 1,
            names=names,
            layouts=False,
            forward_mode=False,
            strict=strict,
        )
    except RuntimeError as error:
        words = f"the backward pass cannot be differentiated: {str(error).partition(chr(10))[0]}"
        cause = Diagnosis(None, "second-order", words)
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=[cause], wrong_side="manual")
    if second.verdict is Verdict.AGREE:
        return replace(report, notes=[*report.notes, "double backward agrees as well."])
    renamed = {f"output[{i}]": f"d{label}" for i, label in enumerate(labels)} | {"output": f"d{labels[0]}"}
    rows = [replace(row, path=renamed.get(row.path, f"{row.path} (second order)")) for row in second.rows]
    diagnoses = [
        replace(d, path=d.path and renamed.get(d.path, d.path), message=f"in the second derivative, {d.message}")
        for d in second.diagnoses
    ]
    first = second.first_wrong and renamed.get(second.first_wrong, f"{second.first_wrong} (second order)")
    outputs = tuple(row.path for row in rows)
    return replace(second, rows=rows, diagnoses=diagnoses, first_wrong=first, outputs=outputs)
