"""Finds side effects of the code under test, which can make it unusable although its gradients are correct.

A check calls the hand-written side more than once. The calls show whether it modifies its arguments, overwrites earlier
results, depends on earlier calls, or is not deterministic.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.program.inputs import Inputs
from compare.judge.program.plan import is_narrow
from compare.judge.reports.verdict import Diagnosis
from compare.pytrees import LOSS, Leaves, Pytree, leaves_by_path, own

Tolerance = Mapping[str, np.ndarray]  # the tolerance of the difference of two results for the same arguments, by path


class Watched:
    """Calls a function of `(parameters, *args)` on copies of its arguments and records its side effects.

    Args:
        function: the code under test.
        called: the function's own name, for messages.

    Attributes:
        diagnoses: the side effects.
        remarks: notes on behavior that is not an error.
    """

    def __init__(self, function: Callable[..., Any], called: str = "loss_and_gradients") -> None:
        self.function = function
        self.called = called
        self.notes: dict[tuple[str, str], Diagnosis] = {}
        self.remarks: list[str] = []
        self._last: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}  # the last result, and its copy
        self._reuses = False  # whether two results had the same memory, even if no earlier result has changed so far

    def __call__(self, inputs: Inputs) -> Any:
        given = inputs.copies()
        try:
            result = self.function(*given)
        except Exception as error:
            raise CodeUnderTestFailed(error) from error
        for (name, before), after in zip(inputs.by_argument.items(), map(leaves_by_path, given), strict=True):
            changed = [path for path, distance in apart(before, after).items() if distance]
            if changed:
                called, leaves = inputs.labels.get(name, f"its argument {name}"), ", ".join(changed)
                where = (
                    called if changed == ["value"] else f"{called}: {leaves}" if called else f"its argument {leaves}"
                )
                self._note("modifies-arguments", name, f"it modifies {where}; work on a copy.")
        if not isinstance(result, tuple | list):
            self._last = {}, {}
            return result  # the function that reads the result raises the error
        copied = _copied(result)
        self._look_at_memory(result, copied, given[0])
        return copied

    def unwatched(self, inputs: Inputs) -> Any:
        """A copy of the function's result on copies of its arguments, without looking for side effects.

        Raises:
            CodeUnderTestFailed: if the function raises an exception or does not return a tuple of numbers.
        """
        try:
            with np.errstate(all="ignore"):
                result = self.function(*inputs.copies())
        except Exception as error:
            raise CodeUnderTestFailed(error) from error
        if not isinstance(result, tuple | list):
            raise CodeUnderTestFailed(TypeError(f"{self.called} returns {type(result).__name__} there, not a tuple"))
        return _copied(result)

    def _look_at_memory(self, result: Any, copied: Any, parameters: Pytree) -> None:
        arrays = {path: array for path, array in leaves_by_path(result).items() if array.ndim}
        before, as_it_was = self._last
        if any(not _equal(array, as_it_was[path]) for path, array in before.items()):
            self._note(
                "shared-buffer",
                None,
                "it reuses the memory of an earlier result, which changes when it is called again: return new arrays.",
            )
        self._reuses |= any(path in before and np.may_share_memory(a, before[path]) for path, a in arrays.items())
        self._last = arrays, leaves_by_path(copied)
        held = leaves_by_path(parameters)
        for name, array in arrays.items():
            for path, parameter in held.items():
                if np.may_share_memory(array, parameter) and np.shares_memory(array, parameter):
                    self._note(
                        "view-of-parameters",
                        path,
                        f"its result {name} is a view of the parameter {path}: an update in place would change both.",
                    )

    def same_again(self, first: Leaves, inputs: Inputs, after: str, tolerance: Leaves | None = None) -> None:
        """Call the function again and compare the result with that of an earlier call.

        Args:
            first: the leaves of the result of the earlier call, by path.
            inputs: the arguments of both calls.
            after: the words in the message that say what happened between the calls.
            tolerance: the tolerance of the difference, by name; None if the results must be equal.
        """
        if ("depends-on-earlier-calls", "") in self.notes:
            return
        limits = None if tolerance is None else _by_place(tolerance)
        again = self._leaves(inputs)
        self._call_at_other_parameters(inputs)
        distance = max(apart(first, again, limits).values(), default=0.0)
        if 0 < distance <= 1:
            self.remarks = [
                "the results of two calls with the same arguments differ by rounding errors, as sums over threads do."
            ]
        if distance <= 1:
            return
        third, fourth = self._leaves(inputs), self._leaves(inputs)
        ratio = _common_ratio(first, again)
        steady = _alike(again, third, limits) or _alike(first, third, limits)
        if steady or ratio is not None or _grows_evenly(again, third, fourth):
            more = ""
            if ratio is not None and ratio != 1:
                more = (
                    f"; the second result was {ratio:g} times the first: does the function add to an earlier result, "
                    "or to memory that it does not set to zero (np.empty)?"
                )
            message = f"called again with the same arguments {after}, it returns different results: it depends on "
            self._note(
                "depends-on-earlier-calls",
                None,
                f"{message}earlier calls or on memory that it does not set{more or '.'}",
            )
        else:
            self._note(
                "not-deterministic",
                None,
                "it returns different results at each call with the same arguments: pass random numbers as arguments, "
                "and set memory before you read it (np.zeros in place of np.empty).",
            )

    def _leaves(self, inputs: Inputs) -> Leaves:
        """The leaves of the function's result, by path; empty if that is no tuple."""
        self(inputs)
        return self._last[1]

    def _call_at_other_parameters(self, inputs: Inputs) -> None:
        """Call the function with other parameters, which shows whether it overwrites memory that it returned twice."""
        if not self._reuses or ("shared-buffer", "") in self.notes:
            return
        try:
            with np.errstate(all="ignore"):
                self(replace(inputs, parameters=jax.tree.map(_other_values, inputs.parameters)))
        except CodeUnderTestFailed:  # it may reject values that its caller never passes
            return

    def _note(self, kind: str, path: str | None, message: str) -> None:
        self.notes.setdefault((kind, path or ""), Diagnosis(path, kind, message))

    @property
    def diagnoses(self) -> list[Diagnosis]:
        kinds = {kind for kind, _ in self.notes}
        # A function that modifies its arguments returns different results for that reason.
        hidden = {"depends-on-earlier-calls"} if kinds & {"modifies-arguments"} else set()
        return [note for (kind, _), note in self.notes.items() if kind not in hidden]


def _copied(result: Any) -> Any:
    """The result with a copy of each array. Raises CodeUnderTestFailed if a leaf is no number."""
    try:
        return jax.tree.map(_number, result)
    except TypeError as error:
        raise CodeUnderTestFailed(error) from error


def _number(leaf: Any) -> Any:
    """A copy of an array of numbers. Raises TypeError for anything else, such as a string."""
    copied = own(leaf)
    dtype = np.asarray(copied).dtype
    if dtype != np.bool_ and not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(f"the function under test must return numbers, but it returns {leaf!r:.60}.")
    return copied


HARMLESS = {"view-of-parameters"}  # side effects that are reported although no result is wrong


def _other_values(leaf: np.ndarray) -> np.ndarray:
    """Other values of the same dtype."""
    return np.where(leaf == 0, 0.1, 1.1 * leaf).astype(leaf.dtype)


def apart(first: Leaves, second: Leaves, tolerance: Tolerance | None = None) -> dict[str, float]:
    """The difference of each leaf of two trees, in multiples of its tolerance.

    Args:
        first: arrays by path.
        second: arrays by path.
        tolerance: the tolerance by path; None if the arrays must be equal.

    Returns:
        The differences by path: 0 for equal leaves; infinity for another shape or dtype, and for any difference
        without a tolerance.
    """
    return {path: _multiple(a, second.get(path), path, tolerance) for path, a in first.items()}


def _multiple(a: np.ndarray, b: np.ndarray | None, path: str, tolerance: Tolerance | None) -> float:
    if b is None or a.dtype != b.dtype or a.shape != b.shape:
        return float("inf")
    if _equal(a, b):
        return 0.0
    if tolerance is None or not jnp.issubdtype(a.dtype, jnp.inexact):
        return float("inf")
    kind = np.complex128 if np.iscomplexobj(a) else np.float64
    wide, other = np.asarray(a, kind), np.asarray(b, kind)
    with np.errstate(all="ignore"):
        limit = tolerance.get(path)
        if limit is None or limit.shape != a.shape:
            limit = 64 * float(jnp.finfo(a.dtype).eps) * np.abs(wide).max()
        # Each of the two results may have an error as large as the tolerance.
        multiple = float(np.max(np.abs(wide - other) / (2 * limit)))
    return multiple if multiple >= 0 else float("inf")  # NaN


def _by_place(tolerance: Leaves) -> Leaves:
    """The tolerances by the paths of the leaves in a result (loss, gradients, intermediates)."""
    placed = {"0": tolerance[LOSS]}
    for name, limit in tolerance.items():
        placed |= {"1": limit} if name == "value" else {f"1.{name}": limit, f"2.{name}": limit}
    return placed


def _alike(first: Leaves, second: Leaves, tolerance: Tolerance | None) -> bool:
    """Whether two results agree within the tolerance."""
    return all(distance <= 1 for distance in apart(first, second, tolerance).values())


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if np.array_equal(a, b):
        return True
    if not jnp.issubdtype(a.dtype, jnp.inexact) or a.dtype != b.dtype:
        return False
    if is_narrow(a.dtype):  # NumPy does not recognize NaN in 16-bit dtypes
        a, b = a.astype(np.float32), b.astype(np.float32)
    return np.array_equal(a, b, equal_nan=True)  # takes four times as long as the comparison above


def _grows_evenly(second: Leaves, third: Leaves, fourth: Leaves) -> bool:
    """Whether the result grows by the same amount at each call, like an accumulated gradient."""
    if not second.keys() == third.keys() == fourth.keys():
        return False
    series = zip(*(result.values() for result in (second, third, fourth)), strict=True)
    return all(a.shape == b.shape == c.shape and np.allclose(b - a, c - b, rtol=1e-3, atol=1e-12) for a, b, c in series)


def _common_ratio(first: Leaves, again: Leaves) -> float | None:
    """The ratio of two results, if it is the same for every leaf that changed; None if not."""
    ratios: set[float] = set()
    for path, before in first.items():
        after = again.get(path)
        if after is None or after.shape != before.shape or not before.size or _equal(before, after):
            continue
        scale = float(np.vdot(before, after) / np.vdot(before, before)) if before.any() else float("nan")
        if not np.allclose(after, scale * before, rtol=1e-6, atol=0):
            return None
        ratios.add(float(f"{scale:.6g}"))
    return ratios.pop() if len(ratios) == 1 else None
