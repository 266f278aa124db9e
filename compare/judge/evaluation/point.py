"""Both sides at one point."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.perturbed_points import typical_size
from compare.judge.evaluation.side_effects import Watched
from compare.judge.evaluation.wider import decided, widened_once
from compare.judge.program.plan import is_narrow
from compare.judge.program.trace import Program
from compare.judge.reports.verdict import Row, Verdict, compare_leaves
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import CONFIRMED, DEVIATIONS, SAMPLES, measure_gradient
from compare.judge.roundoff.whole import Part
from compare.pytrees import (
    LOSS,
    Leaves,
    Pytree,
    as_array,
    copies,
    leaves_by_path,
    like,
    number_like,
    paths,
    structure_mismatches,
)

# A tolerance of this share of what is judged leaves a verdict that could not have gone the other way.
HALF = 0.5
# An error of this share of a typical entry leaves no digit to speak of.
ONE_DIGIT = 0.5
# What agrees to this share agrees, whatever rounding might have done.
CLOSE = 0.01
# What moves the loss by less than this share of its terms is rounding, though it be as large as itself.
IMMATERIAL = 1e-6


@dataclass(frozen=True)
class Point:
    """Both sides at one point. Loss, outputs, intermediates and gradients have their names in each of the dicts.

    Args:
        parameters, args: the point.
        answer: what the hand-written side returned there.
        expected: the reference's values, in float64.
        tolerance: how far each entry may be from them, as measured by `samples` runs.
        rows: one for each quantity, in backward order.
        arithmetic: by quantity, what a wider dtype showed of it: it is right, and loses digits as it is.
        wider: whether the code under test was run in a wider dtype.
    """

    parameters: Pytree
    args: tuple[Pytree, ...]
    answer: "Answer"
    expected: Leaves
    tolerance: Leaves
    rows: list[Row]
    samples: int
    arithmetic: dict[str, str] = field(default_factory=dict)
    wider: bool = False

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

    @property
    def loss_is_finite(self) -> bool:
        """Whether both losses are."""
        return bool(np.isfinite(self.expected[LOSS]).all() and np.isfinite(self.actual[LOSS]).all())

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
    intermediates, whether or not a tap has them. `without_loss`: there was no loss, so that it is not compared.
    """

    given: Pytree
    actual: Leaves
    intermediates: Leaves
    mismatched: dict[str, str]
    offered: frozenset[str]
    without_loss: bool = False


@dataclass(frozen=True)
class Check:
    """The two functions, and what is known of them before any number is looked at.

    Args:
        outputs: marked values that are compared themselves, by name; the hand-written side returns them fourth.
        given: of the arguments, the gradients of those values, by name: an output gradient is known, and not rounded.
        at_least: a relative tolerance, for everything or by name.
        domain: what parameters and arguments are, by name, at every point.
        accumulate: the dtype in which sums of 16-bit numbers are formed; float32 if None.
        hidden: quantities that are compared and have no row of their own, such as the loss that a pair of a forward and
            a backward function is turned into.
    """

    by_hand: Watched
    loss: Program
    dtype: np.dtype
    order: list[str]
    taps: dict[str, jax.ShapeDtypeStruct]
    names: list[str]
    seed: int
    outputs: tuple[str, ...] = ()
    given: Callable[..., Leaves] | None = None
    at_least: float | Mapping[str, float] = 0.0
    domain: Mapping[str, str] = field(default_factory=dict)
    accumulate: Any = None
    hidden: frozenset[str] = frozenset()

    def at(self, parameters: Pytree, args: tuple[Pytree, ...], *, elsewhere: bool = False) -> Point:
        """Evaluate both sides and compare.

        A disagreement is looked at again before it is one: with more samples, and then with the code under test in a
        wider dtype, if it can work in one. A wrong derivation is as wrong there, and rounding is gone. `elsewhere`: at
        a perturbed point, where all digits may be lost; at the caller's own, one is to be right.
        """
        answer = self.answer(self.by_hand(parameters, *args), parameters)
        point = self.compared(parameters, args, answer, CONFIRMED[0] if is_narrow(self.dtype) else SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self.compared(parameters, args, answer, more, steady=False)
        return point if point.verdict is Verdict.AGREE else self._widely(point, np.inf if elsewhere else ONE_DIGIT)

    def _widely(self, point: Point, most: float) -> Point:
        """The point, its rows settled by what the code under test returns for wider inputs, if it takes them."""
        try:
            with np.errstate(all="ignore"):
                given = self.by_hand.function(*copies(widened_once((point.parameters, *point.args))))
                wide = self.answer(given, point.parameters).actual
        except Exception:  # any refusal of a wider dtype means the same
            return point
        rows, arithmetic = decided(point.rows, point.actual, point.expected, wide, most)
        if arithmetic and is_narrow(self.dtype):
            # What is gone in float32 may have been summed in 16 bits, where float32 is asked for. That is a fault.
            summed = arithmetic.keys() & self.stored(point).wrong
            arithmetic = {path: words for path, words in arithmetic.items() if path not in summed}
            rows = [old if old.path in summed else new for old, new in zip(point.rows, rows, strict=True)]
        worked = any(wide[path].dtype != value.dtype for path, value in point.actual.items() if path in wide)
        return replace(point, rows=rows, arithmetic=arithmetic, wider=worked)

    def stored(self, point: Point) -> Point:
        """The point by the tolerance for a kernel that stores in 16 bits what its reference may have in float32."""
        return self.compared(point.parameters, point.args, point.answer, point.samples, intermediates=self.dtype)

    def compared(
        self,
        parameters: Pytree,
        args: tuple[Pytree, ...],
        answer: Answer,
        samples: int = SAMPLES,
        upstream: Leaves | None = None,
        steady: bool = True,
        dtype: Any = None,
        intermediates: Any = None,
    ) -> Point:
        """What was answered against the reference; with `upstream` gradients put in where they arrive at a tap.

        `dtype` is that of the rounding, if it is another than the parameters', and `intermediates` that of 16 bits to
        which intermediate results are rounded that the reference has in float32.
        """
        taps = {name: self.like(self.taps[name]) for name in answer.intermediates}
        outputs = {name: self.like(self.taps[name]) for name in self.outputs}
        measured = measure_gradient(
            self.loss,
            parameters,
            args,
            taps=taps,
            outputs=outputs,
            dtype=self.dtype if dtype is None else dtype,
            upstream=(self.given(*args) if self.given else {}) | (upstream or {}),
            samples=samples,
            seed=self.seed,
            steady=steady,
            accumulate=self.accumulate,
            intermediates=intermediates,
        )
        if answer.without_loss:
            answer = replace(answer, actual=answer.actual | {LOSS: measured.values[LOSS]})
        expected, tolerance, parts = measured.values, dict(measured.tolerances), dict(measured.parts)
        for name, value in expected.items():
            tolerance[name], parts[name] = self._at_least(name, value, tolerance[name], parts[name])
        model = {LOSS: self.like(self.loss.output), **outputs, **taps, **leaves_by_path(parameters)}
        wider = {LOSS, *outputs, *taps}
        rows = compare_leaves(answer.actual, model, expected, tolerance, answer.mismatched, parts, wider)
        rows = [self._beyond_the_dtype(row, answer.actual, float(expected[LOSS])) for row in rows]
        rows = [self._within_the_reference(row) for row in rows]
        rows = self._undecided(rows, parameters, expected, tolerance)
        hidden = self.hidden | {LOSS} if answer.without_loss else self.hidden
        rows = [row for row in rows if row.path not in hidden]
        order = {name: i for i, name in enumerate(dict.fromkeys([LOSS, *self.outputs, *self.order]))}
        rows.sort(key=lambda row: order.get(row.path, len(order)))
        return Point(parameters, args, answer, expected, tolerance, rows, samples)

    def like(self, traced: jax.ShapeDtypeStruct) -> np.ndarray:
        """An array like one of the trace, in the dtype in which the hand-written side is to return it.

        It is the trace's, which may have become float64 for a NumPy number in a float32 loss.
        """
        dtype = traced.dtype
        if jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize > self.dtype.itemsize:
            dtype = np.float32 if is_narrow(self.dtype) else self.dtype
        return np.zeros(traced.shape, dtype)

    def _at_least(
        self, name: str, value: np.ndarray, tolerance: np.ndarray, parts: list[Part]
    ) -> tuple[np.ndarray, list[Part]]:
        """A tolerance widened to what the caller asks for."""
        share = self.at_least.get(name, 0.0) if isinstance(self.at_least, Mapping) else self.at_least
        if not share or not value.size:
            return tolerance, parts
        sizes = np.maximum(np.abs(value), np.sqrt(np.mean(np.square(value))))
        wide = [
            replace(part, along=part.along + share * part.norm, across=part.across + share * part.norm)
            for part in parts
        ]
        return np.maximum(tolerance, share * sizes), wide

    def _undecided(self, rows: list[Row], parameters: Pytree, expected: Leaves, tolerance: Leaves) -> list[Row]:
        """The rows, but nothing is said to agree where rounding may be as large as what is judged.

        Not where it does not matter: a gradient that is 0 but for rounding, such as that of a bias before batch
        normalization, moves the loss by less than a rounding of the loss itself does.
        """
        unit = unit_roundoff(self.dtype)
        terms = max(float(tolerance[LOSS]) / (DEVIATIONS * unit), abs(float(expected[LOSS])))
        sizes = {path: typical_size(leaf) for path, leaf in leaves_by_path(parameters).items()}
        decided = []
        for row in rows:
            if row.verdict is not Verdict.AGREE or row.visible is None or not row.norm:  # of 0, no factor is wrong
                decided.append(row)
                continue
            close = row.digits is not None and row.digits >= -np.log10(CLOSE)
            if row.path in sizes and row.visible > HALF and not close:
                moves = float(np.max(tolerance[row.path], initial=0.0)) * sizes[row.path]
                if moves > IMMATERIAL * terms:
                    message = "rounding may be as large as the gradient itself here, so that no value could be wrong"
                    row = replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
            decided.append(row)
        return decided

    def _beyond_the_dtype(self, row: Row, actual: Leaves, loss: float) -> Row:
        """The row, but with nothing said of NaN and infinity where the loss itself is too large for its dtype.

        What is passed back there may be infinite, and 0 times that is no number, though the right value be 0.
        """
        leaf = actual.get(row.path)
        if row.verdict is not Verdict.DISAGREE or leaf is None or leaf.shape != row.shape or np.isfinite(leaf).all():
            return row
        if LOSS in self.hidden or abs(loss) <= float(jnp.finfo(self.dtype).max):
            return row
        message = f"{row.message}; but the loss is {loss:.3g}, which {self.dtype} cannot hold"
        return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)

    def _within_the_reference(self, row: Row) -> Row:
        """The row, but with nothing said of a difference that a function of JAX's own library may have made."""
        if row.verdict is not Verdict.DISAGREE or row.digits is None:
            return row
        for name, error in self.loss.inexact_functions.items():
            if row.digits >= -np.log10(error):
                message = f"JAX's own {name}, of which the reference is made, may be wrong by as much ({error:.0e})"
                return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
        return row

    def answer(self, given: Any, parameters: Pytree) -> Answer:
        """What was returned, by name. Raises CodeUnderTestFailed if it is not what it should be."""
        return read_answer(given, parameters, self.dtype, self.taps, self.outputs)


def read_answer(
    given: Any,
    parameters: Pytree,
    dtype: np.dtype,
    taps: Mapping[str, Any] = MappingProxyType({}),
    outputs: tuple[str, ...] = (),
) -> Answer:
    """What the hand-written side returned, by name. Raises CodeUnderTestFailed if it is not what it should be.

    Args:
        given: (loss, gradients), with gradients of intermediates third, and with `outputs` those values last.
        parameters: what the gradients are of.
        dtype: of numbers of Python, which have none.
        taps: the marked values, by name, with their shapes.
        outputs: names of values that are returned by name.
    """
    shown: Leaves = {}
    if outputs:
        *given, last = given
        shown = {name: as_array(last[name]) for name in outputs if name in last}
    try:
        _refuse(given)
    except TypeError as error:
        raise CodeUnderTestFailed(error) from error
    offered = _by_name(given[2]) if len(given) == 3 else {}
    zero = np.zeros((), dtype)
    intermediates = {
        name: as_array(number_like(offered[name], np.zeros(tap.shape, dtype)))
        for name, tap in taps.items()
        if name in offered
    }
    gradients = leaves_by_path(like(parameters, given[1]))
    loss = {} if given[0] is None else {LOSS: as_array(number_like(given[0], zero))}
    actual = loss | {**shown, **intermediates, **gradients}
    differently = structure_mismatches(parameters, given[1])
    return Answer(given, actual, intermediates, differently, frozenset(offered), given[0] is None)


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
