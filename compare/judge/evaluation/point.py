"""Both sides at one point."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.trace import Program
from compare.judge.reports.verdict import Row, Verdict, compare_leaf, compare_trees
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import CONFIRMED, SAMPLES, measure_gradient
from compare.pytrees import LOSS, as_array, leaves_by_path, like, number_like, paths


@dataclass(frozen=True)
class Point:
    """Both sides at one point, and one row for each thing compared, in backward order.

    `answer` is what the hand-written side returned, `allowed` how far each part of it may be off, by its path, as
    measured by `samples` runs; `offered` are the names of all its intermediates, whether or not a tap has them.
    """

    parameters: Any
    args: tuple[Any, ...]
    loss: Any
    gradients: Any
    intermediates: dict[str, np.ndarray]
    right_loss: float
    right_gradients: Any
    rows: list[Row]
    answer: Any
    allowed: dict[str, np.ndarray]
    samples: int
    offered: frozenset[str]

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([row.verdict for row in self.rows])

    @property
    def wrong(self) -> set[str]:
        return {row.path for row in self.rows if row.verdict is Verdict.DISAGREE}

    def upstream(self, taps: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The hand-written gradients of `taps`, or none if one of them cannot stand in the place of the reference's."""
        usable = all(
            value.shape == taps[name].shape and not np.iscomplexobj(value) and np.isfinite(value).all()
            for name, value in self.intermediates.items()
        )
        return self.intermediates if usable else {}


@dataclass(frozen=True)
class Check:
    """The two functions, and what is known of them before any number is looked at."""

    by_hand: Watched
    loss: Program
    dtype: np.dtype
    order: list[str]
    taps: dict[str, Any]
    names: list[str]
    seed: int

    def at(self, parameters: Any, args: tuple[Any, ...]) -> Point:
        """Evaluate both sides and compare. A disagreement is looked at again with more samples before it is one."""
        answer = _answer(self.by_hand(parameters, *args))
        point = self._compared(parameters, args, answer, SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self._compared(parameters, args, answer, more)
        return point

    def _compared(self, parameters: Any, args: tuple[Any, ...], answer: Any, samples: int) -> Point:
        offered = _by_name(answer[2]) if len(answer) == 3 else {}
        model = {name: np.zeros(tap.shape, self.dtype) for name, tap in self.taps.items() if name in offered}
        (right_loss, right, right_taps), (slack, slacks, tap_slacks) = measure_gradient(
            self.loss, parameters, *args, taps=model, dtype=self.dtype, samples=samples, seed=self.seed
        )
        slacks = of_own_dtypes(slacks, parameters, self.dtype)
        loss = number_like(answer[0], np.zeros((), self.dtype))
        gradients = like(parameters, answer[1])
        given = {name: as_array(number_like(offered[name], leaf)) for name, leaf in model.items()}
        rows = [compare_leaf(LOSS, as_array(loss), np.zeros((), self.dtype), right_loss, slack)]
        rows += [compare_leaf(name, given[name], model[name], right_taps[name], tap_slacks[name]) for name in model]
        rows += compare_trees(gradients, parameters, right, slacks)
        rows = in_order(rows, self.order)
        allowed = leaves_by_path((slack, slacks, tap_slacks))
        names = frozenset(offered)
        right_loss = float(right_loss)
        return Point(parameters, args, loss, gradients, given, right_loss, right, rows, answer, allowed, samples, names)


def in_order(rows: list[Row], order: list[str]) -> list[Row]:
    return sorted(rows, key=lambda row: order.index(row.path) if row.path in order else len(order))


def of_own_dtypes(slacks: Any, parameters: Any, dtype: np.dtype) -> Any:
    """Allowances in `dtype`, for every parameter in its own: a gradient is rounded as its parameter is."""

    def of_leaf(slack: np.ndarray, leaf: np.ndarray) -> np.ndarray:
        if leaf.dtype == dtype:
            return slack
        return slack * (unit_roundoff(leaf.dtype) / unit_roundoff(dtype)) + float(jnp.finfo(leaf.dtype).tiny)

    return jax.tree.map(of_leaf, slacks, parameters)


def _by_name(intermediates: Any) -> dict[str, Any]:
    leaves, structure = jax.tree.flatten(intermediates)
    return dict(zip(paths(structure), leaves, strict=True))


def _answer(result: Any) -> Any:
    """What the hand-written side returned, if it is what it should return. Raises TypeError."""
    asked = "loss_and_gradients must return (loss, gradients) or (loss, gradients, intermediates)"
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        count = f" of {len(result)}" if isinstance(result, tuple | list) else ""
        raise TypeError(f"{asked}, got {type(result).__name__}{count}.")
    if len(result) == 3 and not isinstance(result[2], Mapping):
        raise TypeError(
            f"{asked}, with intermediates a dict of gradients by the names of taps, but its third value is "
            f"{type(result[2]).__name__}. Several gradients go into the second, in a tree like the parameters."
        )
    if isinstance(result[0], Mapping | list | tuple):
        raise TypeError(f"{asked}, but its first value is {type(result[0]).__name__}: put the loss there, one number.")
    return result
