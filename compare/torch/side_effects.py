"""Finds random results of both functions."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from typing import Any

import numpy as np
import torch

from compare.errors import BadInput
from compare.judge.reports.verdict import Diagnosis
from compare.torch.pair import Pair, cotangents_of, doubled, run


def side_effects(pair: Pair) -> list[Diagnosis]:
    """Call each function twice with the same arguments.

    Args:
        pair: both functions.

    Returns:
        The side effects of the function under test.

    Raises:
        BadInput: a ValueError, if the results of the reference are random.
    """
    parameters = pair.parameters_of(pair.function)
    first = run(pair.function, parameters, pair, pair.tensors)
    cotangents = cotangents_of(pair, first[0])
    second = run(pair.function, parameters, pair, pair.tensors, cotangents)
    if not _alike(first, second):
        words = (
            "it returns different results at each call with the same arguments: pass random numbers as arguments, and "
            "keep no state between calls."
        )
        more = " In a module with dropout, call eval() first." if isinstance(pair.function, torch.nn.Module) else ""
        return [Diagnosis(None, "not-deterministic", words + more)]
    exact, own = pair.exact()
    wide, along = doubled(pair.tensors), [c.double() for c in cotangents]
    try:
        results = [run(exact, own, pair, wide, along, who="the reference") for _ in range(2)]
    except (RuntimeError, TypeError):  # the comparison at the point raises the error
        results = []
    if results and not _alike(*results):
        raise BadInput(
            "the reference returns different results at each call with the same arguments, so there is nothing to "
            "compare with. Pass random numbers, such as the mask of a dropout, as arguments, and keep no state between "
            "calls. In a module with dropout, call eval() first."
        )
    return []


def _alike(first: Any, second: Any) -> bool:
    """Whether two results of the same function agree to half of their digits, or to six if they have more.

    Sums over threads differ in the last digits, which in a reference may be those of float32. Of a gradient that is
    zero, nothing but such differences is left.
    """
    pairs = [*zip(first[0], second[0], strict=True), *((x, second[1][name]) for name, x in first[1].items())]
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None and a.numel()]
    sizes = [float(a.abs().max()) for a, _ in pairs]
    largest = max((size for size in sizes if np.isfinite(size)), default=0.0)
    for (a, b), size in zip(pairs, sizes, strict=True):
        eps = max(torch.finfo(a.dtype).eps, 1e-12)
        if np.isfinite(size) and not float((a - b).abs().max()) <= max(eps**0.5 * size, 64 * eps * largest):
            return False
    return True
