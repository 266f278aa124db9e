"""A case of a check, and faults that can be planted in any array of derivatives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One check.

    Attributes:
        name: what is checked, and with which fault.
        source: where the derivative is from, or where the fault was reported; "planted" for a planted fault.
        faulty: whether the derivative is wrong.
        check: runs the check and returns the report.
    """

    name: str
    source: str
    faulty: bool
    check: Callable[[], Any]


def _first_entry(a: np.ndarray) -> np.ndarray:
    changed = a.copy()
    index = np.unravel_index(np.argmax(np.abs(a)), a.shape)
    changed[index] *= 1.01
    return changed


def _last_row(a: np.ndarray) -> np.ndarray:
    changed = a.copy()
    changed[-1] = 0
    return changed


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "negated": lambda a: -a,
    "1% too large": lambda a: 1.01 * a,
    "half": lambda a: a / 2,
    "one entry 1% off": _first_entry,
    "shifted by one": lambda a: np.roll(a, 1, axis=-1),
    "its last row zero": _last_row,
    "its absolute value": np.abs,
}


def planted(name: str, result: np.ndarray, check: Callable[[Callable[[Any], Any]], Any], count: int) -> Iterator[Case]:
    """Cases with faults planted in a derivative like `result`: `count` changes, of which the first depends on the name.

    `check(change)` must return the report of the derivative to which `change` was applied.
    """
    changes = list(CHANGES.items())
    start = sum(map(ord, name)) % len(changes)
    made = 0
    for what, change in [*changes[start:], *changes[:start]]:
        if made < count and result.ndim and _differs(change(result), result):
            made += 1
            yield Case(f"{name}, {what}", "planted", True, lambda change=change: check(lambda a: change(np.asarray(a))))


def _differs(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max(initial=0) > 1e-4 * np.abs(other).max(initial=0))


def unchanged(a: Any) -> Any:
    return a
