"""How the code under test behaves: gradients may be right and the function that computes them still unfit.

The hand-written side is called more than once, and watched: does it change what it was given, hand out the same
memory twice, remember earlier calls, answer differently to the same question?
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from compare.agreement import Diagnosis, as_array, leaves_by_path


class Watched:
    """A function of `(parameters, *args)`, called on copies, its results copied, its misconduct noted.

    `names` are those of its arguments, for the messages.
    """

    def __init__(self, function: Callable[..., Any], names: list[str]) -> None:
        self.function = function
        self.names = names
        self.notes: dict[tuple[str, str], Diagnosis] = {}
        self._last: dict[str, np.ndarray] = {}  # kept, so that their memory is not given out again

    def __call__(self, parameters: Any, *args: Any) -> Any:
        kept = (parameters, *args)
        given = jax.tree.map(_own, kept)
        result = self.function(*given)
        for name, before, after in zip(self.names, kept, given, strict=True):
            changed = [path for path, same in _same(before, after).items() if not same]
            if changed:
                where = name if changed == ["value"] else f"{name}: {', '.join(changed)}"
                self._note("modifies-arguments", name, f"it modifies its argument {where}; work on a copy.")
        if not isinstance(result, tuple | list):
            return result  # not what was asked for, and refused by whoever asked
        copied = jax.tree.map(lambda leaf: np.array(as_array(leaf)), result)
        self._look_at_memory(result, given[0])
        return copied

    def _look_at_memory(self, result: Any, parameters: Any) -> None:
        arrays = {path: array for path, array in leaves_by_path(result).items() if array.ndim}
        for path, array in arrays.items():
            before = self._last.get(path)
            if before is not None and np.may_share_memory(array, before):
                self._note(
                    "shared-buffer",
                    None,
                    "it returns the same memory at every call: an earlier result changes when it is called again. "
                    "Return fresh arrays, or copies.",
                )
        self._last = arrays
        held = leaves_by_path(parameters)
        for name, array in arrays.items():
            for path, parameter in held.items():
                if np.may_share_memory(array, parameter) and np.shares_memory(array, parameter):
                    self._note(
                        "view-of-parameters",
                        path,
                        f"its result {name} is a view of the parameter {path}: an update in place would change both.",
                    )

    def same_again(self, first: Any, parameters: Any, *args: Any, after: str) -> None:
        """Ask the question that was answered by `first` once more."""
        if ("depends-on-earlier-calls", "") in self.notes:
            return
        again = self(parameters, *args)
        changed = [path for path, same in _same(first, again).items() if not same]
        if not changed:
            return
        third, fourth = self(parameters, *args), self(parameters, *args)
        ratio = _common_ratio(first, again)
        steady = all(_same(again, third).values()) or all(_same(first, third).values())
        if steady or ratio is not None or _grows_evenly(again, third, fourth):
            more = f"; it was {ratio:g} times the first: does it accumulate?" if ratio is not None else "."
            message = f"called again with the same arguments {after}, it answers differently: it depends on earlier "
            self._note("depends-on-earlier-calls", None, message + "calls" + more)
        else:
            self._note(
                "not-deterministic",
                None,
                "it answers differently each time it is called with the same arguments; pass its randomness in.",
            )

    def _note(self, kind: str, path: str | None, message: str) -> None:
        self.notes.setdefault((kind, path or ""), Diagnosis(path, kind, message))

    @property
    def diagnoses(self) -> list[Diagnosis]:
        kinds = {kind for kind, _ in self.notes}
        # Memory handed out twice, or arguments changed, explain answers that change.
        hidden = {"depends-on-earlier-calls"} if kinds & {"modifies-arguments"} else set()
        return [note for (kind, _), note in self.notes.items() if kind not in hidden]


HARMLESS = {"view-of-parameters"}  # worth knowing, but no result is wrong


def _own(value: Any) -> Any:
    """A copy that the function may write to without our noticing it elsewhere. Other things pass as they are."""
    return np.array(value) if isinstance(value, np.ndarray | np.generic | jax.Array) else value


def _same(before: Any, after: Any) -> dict[str, bool]:
    first, second = leaves_by_path(before), leaves_by_path(after)
    return {
        path: path in second and first[path].dtype == second[path].dtype and _equal(first[path], second[path])
        for path in first
    }


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _grows_evenly(second: Any, third: Any, fourth: Any) -> bool:
    """Whether each call added the same again, as an accumulated gradient does."""
    series = zip(*(leaves_by_path(result).values() for result in (second, third, fourth)), strict=True)
    return all(a.shape == b.shape == c.shape and np.allclose(b - a, c - b, rtol=1e-3, atol=1e-12) for a, b, c in series)


def _common_ratio(first: Any, again: Any) -> float | None:
    """The factor between two results, if it is the same for all that changed."""
    ratios: set[float] = set()
    a, b = leaves_by_path(first), leaves_by_path(again)
    for path, before in a.items():
        after = b.get(path)
        if after is None or after.shape != before.shape or not before.size or _equal(before, after):
            continue
        scale = float(np.vdot(before, after) / np.vdot(before, before)) if before.any() else float("nan")
        if not np.allclose(after, scale * before, rtol=1e-6, atol=0):
            return None
        ratios.add(float(f"{scale:.6g}"))
    return ratios.pop() if len(ratios) == 1 else None
