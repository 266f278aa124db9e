"""Both sides at one point."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.trace import Program
from compare.judge.reports.verdict import Row, Verdict, compare_leaves
from compare.judge.roundoff.tolerance import CONFIRMED, SAMPLES, measure_gradient
from compare.pytrees import LOSS, Leaves, Pytree, as_array, leaves_by_path, like, misbuilt, number_like, paths


@dataclass(frozen=True)
class Point:
    """Both sides at one point. Loss, intermediates and gradients have their names in each of the dicts.

    Args:
        parameters, args: the point.
        answer: what the hand-written side returned there.
        expected: the reference's values, in float64.
        tolerance: how far each entry may be from them, as measured by `samples` runs.
        rows: one for each quantity, in backward order.
    """

    parameters: Pytree
    args: tuple[Pytree, ...]
    answer: "Answer"
    expected: Leaves
    tolerance: Leaves
    rows: list[Row]
    samples: int

    @property
    def actual(self) -> Leaves:
        return self.answer.actual

    @property
    def intermediates(self) -> Leaves:
        """The hand-written gradients of the intermediates that a tap has."""
        return self.answer.intermediates

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
class Answer:
    """What the hand-written side returned: as it is, and by name.

    `mismatched` are parameters at which the gradients' tree has another structure, and how; `offered` the names of all
    intermediates, whether or not a tap has them.
    """

    given: Pytree
    actual: Leaves
    intermediates: Leaves
    mismatched: dict[str, str]
    offered: frozenset[str]


@dataclass(frozen=True)
class Check:
    """The two functions, and what is known of them before any number is looked at."""

    by_hand: Watched
    loss: Program
    dtype: np.dtype
    order: list[str]
    taps: dict[str, jax.ShapeDtypeStruct]
    names: list[str]
    seed: int

    def at(self, parameters: Pytree, args: tuple[Pytree, ...]) -> Point:
        """Evaluate both sides and compare. A disagreement is looked at again with more samples before it is one."""
        answer = self._answer(self.by_hand(parameters, *args), parameters)
        point = self.compared(parameters, args, answer, SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self.compared(parameters, args, answer, more)
        return point

    def compared(
        self,
        parameters: Pytree,
        args: tuple[Pytree, ...],
        answer: Answer,
        samples: int = SAMPLES,
        upstream: Leaves | None = None,
    ) -> Point:
        """What was answered against the reference; with `upstream` gradients put in where they arrive at a tap."""
        model = {name: np.zeros(self.taps[name].shape, self.dtype) for name in answer.intermediates}
        expected, tolerance = measure_gradient(
            self.loss,
            parameters,
            args,
            taps=model,
            dtype=self.dtype,
            upstream=upstream,
            samples=samples,
            seed=self.seed,
        )
        model = {LOSS: np.zeros((), self.dtype), **model, **leaves_by_path(parameters)}
        rows = compare_leaves(answer.actual, model, expected, tolerance, answer.mismatched)
        rows = [self._beyond_the_dtype(row, answer.actual, float(expected[LOSS])) for row in rows]
        rows.sort(key=lambda row: self.order.index(row.path) if row.path in self.order else len(self.order))
        return Point(parameters, args, answer, expected, tolerance, rows, samples)

    def _beyond_the_dtype(self, row: Row, actual: Leaves, loss: float) -> Row:
        """The row, but with nothing said of NaN and infinity where the loss itself is too large for its dtype.

        What is passed back there may be infinite, and 0 times that is no number, though the right value be 0.
        """
        leaf = actual.get(row.path)
        if row.verdict is not Verdict.DISAGREE or leaf is None or leaf.shape != row.shape or np.isfinite(leaf).all():
            return row
        if abs(loss) <= float(jnp.finfo(self.dtype).max):
            return row
        message = f"{row.message}; but the loss is {loss:.3g}, which {self.dtype} cannot hold"
        return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)

    def _answer(self, given: Any, parameters: Pytree) -> Answer:
        """Raises CodeUnderTestFailed if it is not what it should be."""
        try:
            _refuse(given)
        except TypeError as error:
            raise CodeUnderTestFailed(error) from error
        offered = _by_name(given[2]) if len(given) == 3 else {}
        zero = np.zeros((), self.dtype)
        intermediates = {
            name: as_array(number_like(offered[name], np.zeros(tap.shape, self.dtype)))
            for name, tap in self.taps.items()
            if name in offered
        }
        gradients = leaves_by_path(like(parameters, given[1]))
        actual = {LOSS: as_array(number_like(given[0], zero)), **intermediates, **gradients}
        return Answer(given, actual, intermediates, misbuilt(parameters, given[1]), frozenset(offered))


def _by_name(intermediates: Any) -> dict[str, Any]:
    leaves, structure = jax.tree.flatten(intermediates)
    return dict(zip(paths(structure), leaves, strict=True))


def _refuse(result: Any) -> None:
    """Raises TypeError for what is no answer."""
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
