"""check_function: compares the derivatives of a function in PyTorch with those of an eager reference."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.torch.forward_mode import forward_too
from compare.torch.layouts import layouts_too
from compare.torch.pair import Pair, unchanged
from compare.torch.point import looked_at
from compare.torch.reports import elsewhere, reported
from compare.torch.second_order import second_order
from compare.torch.side_effects import side_effects


def check_function(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    *tensors: Any,
    seed: int = 0,
    order: int = 1,
    names: tuple[str, ...] | None = None,
    layouts: bool = True,
    strict: bool = False,
    probes: bool = True,
    forward_mode: bool | None = None,
) -> GradientReport:
    """Compare a function in PyTorch and its backward pass with an eager reference.

    Args:
        function: the `apply` of a `torch.autograd.Function`, a module, a custom operator or a compiled function. It is
            called with the tensors on their own device and in their own dtype. It must not modify them in place.
        reference: the same function in PyTorch operations, differentiated by autograd in float64. For a module, another
            module with parameters of the same names, which get the same values.
        *tensors: the inputs. Floating-point tensors are differentiated; other arguments are passed on unchanged.
        seed: the seed of everything random in the check.
        order: 2 to check double backward as well.
        names: the names of the inputs in the report; by default, the argument names of the reference.
        layouts: whether to check inputs and output gradients that are not contiguous, an expanded output gradient, and
            inputs without requires_grad.
        strict: whether lost digits make the verdict DISAGREE.
        probes: whether to check at a perturbed point as well, with inputs that are 4 times as large and have noise.
        forward_mode: whether to check the Jacobian-vector product as well; by default, only if a
            `torch.autograd.Function` defines `jvp`.

    Returns:
        A report with a row for the output, each input, and each parameter.

    Raises:
        BadInput: a ValueError, if no input can be differentiated, one is complex or modified in place, or the reference
            cannot be differentiated or is random.
    """
    pair = Pair(function, reference, tensors, seed, names)
    with unchanged(function, reference):
        return _judged(pair, order, layouts, strict, probes, forward_mode)


def _judged(
    pair: Pair, order: int, layouts: bool, strict: bool, probes: bool, forward_mode: bool | None
) -> GradientReport:
    found = side_effects(pair)
    point = looked_at(pair, pair.tensors)
    report = reported(pair, point)
    if found:
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=found, wrong_side="manual")
    if report.verdict is Verdict.AGREE and probes:
        report = elsewhere(pair, report)
    if report.verdict is Verdict.AGREE and order >= 2:
        report = second_order(pair, report, strict, check_function)
    if report.verdict is Verdict.AGREE and forward_mode is not False:
        report = forward_too(pair, point, report, required=bool(forward_mode))
    if report.verdict is Verdict.AGREE and layouts and not pair.modified:
        report = layouts_too(pair, point, report)
    if pair.modified:
        words = f"it modifies {' and '.join(pair.modified)} in place; work on a copy."
        cause = Diagnosis(None, "modifies-arguments", words)
        causes = [cause, *(other for other in report.diagnoses if other.kind != "layout")]
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual")
    if strict and report.verdict is Verdict.AGREE and report.arithmetic:
        causes = [Diagnosis(None, "arithmetic", words) for words in report.arithmetic]
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual")
    return report


def assert_function_agrees(*args: Any, **options: Any) -> None:
    """`check_function` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_function(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
