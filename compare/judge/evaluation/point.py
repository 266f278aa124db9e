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

# Where the tolerance exceeds this share of the gradient, no value could have been called wrong.
HALF = 0.5
# An error of this share of a typical entry leaves no correct digit.
ONE_DIGIT = 0.5
# A gradient whose relative error is below this agrees, however large its tolerance.
CLOSE = 0.01
# A gradient that changes the loss by less than this share of its terms may consist of rounding errors only.
IMMATERIAL = 1e-6


@dataclass(frozen=True)
class Point:
    """Both sides at one point. The dicts have loss, outputs, intermediates and gradients by name.

    Attributes:
        parameters, args: the point.
        answer: what the hand-written side returned.
        expected: the reference values, in float64.
        tolerance: the rounding tolerance of each entry.
        rows: one for each quantity, in backward order.
        samples: the number of perturbed runs from which the tolerance was measured.
        arithmetic: notes on quantities that lose digits and are correct in a wider dtype.
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
        """The hand-written gradients of intermediates that have a tap."""
        return self.answer.intermediates

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([row.verdict for row in self.rows])

    @property
    def wrong(self) -> set[str]:
        return {row.path for row in self.rows if row.verdict is Verdict.DISAGREE}

    @property
    def loss_is_finite(self) -> bool:
        """Whether both losses are finite."""
        return bool(np.isfinite(self.expected[LOSS]).all() and np.isfinite(self.actual[LOSS]).all())

    def upstream(self, taps: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The hand-written gradients of `taps`, or none if one of them cannot replace the reference's."""
        usable = all(
            value.shape == taps[name].shape and not np.iscomplexobj(value) and np.isfinite(value).all()
            for name, value in self.intermediates.items()
        )
        return self.intermediates if usable else {}


@dataclass(frozen=True)
class Answer:
    """What the hand-written side returned.

    Attributes:
        given: the result itself.
        actual: its values by name.
        intermediates: those that have a tap, by name.
        mismatched: how the structure of the gradients differs from that of the parameters, by parameter.
        offered: the names of all intermediates, with or without a tap.
        without_loss: whether the loss is None, so that it is not compared.
    """

    given: Pytree
    actual: Leaves
    intermediates: Leaves
    mismatched: dict[str, str]
    offered: frozenset[str]
    without_loss: bool = False


@dataclass(frozen=True)
class Check:
    """The two functions of a check, and what is known about them before they are evaluated.

    Attributes:
        by_hand: the hand-written side.
        loss: the traced loss.
        dtype: the dtype under test.
        order: the names of all quantities, in backward order.
        taps: shapes and dtypes of the marked values, by name.
        names: the names of the parameters and the arguments.
        labels: what messages call some of them instead; empty where the names of their leaves say it.
        seed: the seed of everything random.
        outputs: the names of marked values that are compared themselves; the hand-written side returns them last.
        given: `(*args) -> gradients`, the gradients of these values by name, which are known without rounding error.
        at_least: a relative tolerance, one for all or by name.
        domain: the domains of parameters and arguments at every point, by name.
        accumulate: the dtype in which sums of 16-bit numbers are formed; float32 if None.
        hidden: quantities that are compared and have no row of their own, such as the loss that is made of a forward
            and a backward function.
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
    labels: Mapping[str, str] = field(default_factory=dict)

    def label(self, name: str, path: str) -> str:
        """What messages call a leaf of an argument."""
        called = self.labels.get(name, name)
        return ".".join(part for part in (called, "" if path == "value" else path) if part)

    def at(self, parameters: Pytree, args: tuple[Pytree, ...], *, elsewhere: bool = False) -> Point:
        """Evaluate both sides and compare them.

        A disagreement must be confirmed: with more perturbed runs, and then with the code under test in a wider dtype,
        if it works in one. There, an error of the derivation is as large, and rounding errors disappear.

        Args:
            parameters, args: the point.
            elsewhere: whether this is a perturbed point, where all digits may be lost. At the caller's point, one digit
                must be correct.

        Raises:
            CodeUnderTestFailed: if the code under test raises an exception, or returns something else than gradients.
        """
        answer = self.answer(self.by_hand(parameters, *args), parameters)
        point = self.compared(parameters, args, answer, CONFIRMED[0] if is_narrow(self.dtype) else SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self.compared(parameters, args, answer, more, steady=False)
        return point if point.verdict is Verdict.AGREE else self._widely(point, np.inf if elsewhere else ONE_DIGIT)

    def _widely(self, point: Point, most: float) -> Point:
        """The point, with the rows decided that the code under test in a wider dtype decides, if it works in one."""
        try:
            with np.errstate(all="ignore"):
                given = self.by_hand.function(*copies(widened_once((point.parameters, *point.args))))
                wide = self.answer(given, point.parameters).actual
        except Exception:  # whatever it raises, it does not work in the wider dtype
            return point
        rows, arithmetic = decided(point.rows, point.actual, point.expected, wide, most)
        if arithmetic and is_narrow(self.dtype):
            # An error that disappears in float32 may come from sums in 16 bits, and these must be formed in float32.
            summed = arithmetic.keys() & self.stored(point).wrong
            arithmetic = {path: words for path, words in arithmetic.items() if path not in summed}
            rows = [old if old.path in summed else new for old, new in zip(point.rows, rows, strict=True)]
        worked = any(wide[path].dtype != value.dtype for path, value in point.actual.items() if path in wide)
        return replace(point, rows=rows, arithmetic=arithmetic, wider=worked)

    def stored(self, point: Point) -> Point:
        """The point, judged by the tolerance of a kernel that stores intermediate results in 16 bits."""
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
        """Compare an answer with the reference.

        Args:
            parameters, args: the point.
            answer: what the hand-written side returned.
            samples: the number of perturbed runs.
            upstream: gradients, by tap, that replace those of the reference's backward pass.
            steady: whether perturbed runs repeat the comparisons of the unperturbed one.
            dtype: the dtype whose rounding is assumed, if not that of the parameters.
            intermediates: a 16-bit dtype in which intermediate results are stored that the reference has in float32.
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
        """An array of zeros with a traced shape, in the dtype in which the hand-written side must return it.

        This is the traced dtype, unless a NumPy number in a float32 loss has made that float64.
        """
        dtype = traced.dtype
        if jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize > self.dtype.itemsize:
            dtype = np.float32 if is_narrow(self.dtype) else self.dtype
        return np.zeros(traced.shape, dtype)

    def _at_least(
        self, name: str, value: np.ndarray, tolerance: np.ndarray, parts: list[Part]
    ) -> tuple[np.ndarray, list[Part]]:
        """The tolerances, widened to the caller's `at_least`."""
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
        """The rows, INCONCLUSIVE in place of AGREE where the rounding tolerance is as large as the gradient.

        A gradient that consists of rounding errors, such as that of a bias before batch normalization, is left out. It
        changes the loss by less than the rounding error of the loss.
        """
        unit = unit_roundoff(self.dtype)
        terms = max(float(tolerance[LOSS]) / (DEVIATIONS * unit), abs(float(expected[LOSS])))
        sizes = {path: typical_size(leaf) for path, leaf in leaves_by_path(parameters).items()}
        decided = []
        for row in rows:
            if (
                row.verdict is not Verdict.AGREE or row.visible is None or not row.norm
            ):  # 0 times a wrong factor is still 0
                decided.append(row)
                continue
            close = row.digits is not None and row.digits >= -np.log10(CLOSE)
            if row.path in sizes and row.visible > HALF and not close:
                moves = float(np.max(tolerance[row.path], initial=0.0)) * sizes[row.path]
                if moves > IMMATERIAL * terms:
                    message = "rounding errors can be as large as this gradient, so that no value could be called wrong"
                    row = replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
            decided.append(row)
        return decided

    def _beyond_the_dtype(self, row: Row, actual: Leaves, loss: float) -> Row:
        """The row, INCONCLUSIVE for NaN and infinity where the loss is too large for its dtype.

        Gradients may be infinite there, and their product with 0 is NaN, although 0 would be correct.
        """
        leaf = actual.get(row.path)
        if row.verdict is not Verdict.DISAGREE or leaf is None or leaf.shape != row.shape or np.isfinite(leaf).all():
            return row
        if LOSS in self.hidden or abs(loss) <= float(jnp.finfo(self.dtype).max):
            return row
        message = f"{row.message}; but the loss is {loss:.3g}, which {self.dtype} cannot hold"
        return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)

    def _within_the_reference(self, row: Row) -> Row:
        """The row, INCONCLUSIVE where a function of JAX's library may be as inexact as the two sides differ."""
        if row.verdict is not Verdict.DISAGREE or row.digits is None:
            return row
        for name, error in self.loss.inexact_functions.items():
            if row.digits >= -np.log10(error):
                message = f"the reference uses JAX's {name}, whose relative error can be as large ({error:.0e})"
                return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
        return row

    def answer(self, given: Any, parameters: Pytree) -> Answer:
        """`read_answer` for this check."""
        return read_answer(given, parameters, self.dtype, self.taps, self.outputs)


def read_answer(
    given: Any,
    parameters: Pytree,
    dtype: np.dtype,
    taps: Mapping[str, Any] = MappingProxyType({}),
    outputs: tuple[str, ...] = (),
) -> Answer:
    """What the hand-written side returned, by name.

    Args:
        given: (loss, gradients), with the gradients of intermediates third, and with `outputs` these values last.
        parameters: the parameters.
        dtype: the dtype of Python numbers, which have none.
        taps: shapes of the marked values, by name.
        outputs: the names of the values that are returned last.

    Raises:
        CodeUnderTestFailed: with a TypeError, if it is none of these.
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
    """Raises TypeError unless it is (loss, gradients) or (loss, gradients, intermediates)."""
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
