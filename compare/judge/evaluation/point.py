"""Evaluates both sides at one point and compares their values."""

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
from compare.judge.evaluation.wider import decided, is_widened, keeps_most_digits, widened_once
from compare.judge.program.inputs import Inputs
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
    leaves_by_path,
    like,
    number_like,
    paths,
    structure_mismatches,
)

# If the tolerance exceeds this share of the gradient, even a wrong gradient could agree.
HALF = 0.5
# An error larger than this share of a typical entry leaves no correct digit.
ONE_DIGIT = 0.5
# A gradient with a smaller relative error than this agrees, however large its tolerance is.
CLOSE = 0.01
# The rounding errors of a gradient are negligible if they change the loss by less than this share of the loss's terms.
IMMATERIAL = 1e-6


@dataclass(frozen=True)
class Point:
    """The values of both sides at one point, and their comparison.

    The dicts contain the loss, outputs, gradients of intermediates and gradients of parameters by name.

    Attributes:
        inputs: the parameters and arguments.
        answer: the result of the hand-written side.
        expected: the reference values, in float64.
        tolerance: the rounding tolerance of each entry.
        rows: a row for each quantity, in backward order.
        samples: the number of perturbed runs from which the tolerance was measured.
        arithmetic: notes on quantities that lose digits and are correct in a wider dtype.
        wider: the quantities that the code under test returned in a wider dtype in the run that decided about them.
    """

    inputs: Inputs
    answer: "Answer"
    expected: Leaves
    tolerance: Leaves
    rows: list[Row]
    samples: int
    arithmetic: dict[str, str] = field(default_factory=dict)
    wider: frozenset[str] = frozenset()

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
        """The hand-written gradients of `taps`; empty if one of them is not finite or has the wrong shape."""
        usable = all(
            value.shape == taps[name].shape and not np.iscomplexobj(value) and np.isfinite(value).all()
            for name, value in self.intermediates.items()
        )
        return self.intermediates if usable else {}

    def undecided(self, paths: set[str], message: str) -> "Point":
        """The point with INCONCLUSIVE in place of DISAGREE for some paths."""
        rows = [
            replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
            if row.verdict is Verdict.DISAGREE and row.path in paths
            else row
            for row in self.rows
        ]
        return replace(self, rows=rows)


@dataclass(frozen=True)
class Answer:
    """The result of the hand-written side.

    Attributes:
        leaves: the leaves of the result, by path.
        actual: its values by name.
        intermediates: the gradients of intermediates that have a tap, by name.
        mismatched: how the structure of the gradients differs from that of the parameters, by parameter.
        offered: the names of all intermediates in the result, with or without a tap.
        without_loss: whether the loss is None, and therefore not compared.
    """

    leaves: Leaves
    actual: Leaves
    intermediates: Leaves
    mismatched: dict[str, str]
    offered: frozenset[str]
    without_loss: bool = False


@dataclass(frozen=True)
class Check:
    """The two functions of a check, and the options of the comparison.

    Attributes:
        by_hand: the hand-written side.
        loss: the traced loss.
        dtype: the dtype under test.
        order: the names of all quantities, in backward order.
        taps: the shapes and dtypes of the marked values, by name.
        seed: the seed of all random numbers.
        outputs: the names of the marked values that are compared themselves, and not only their gradients. The
            hand-written side returns them last.
        given: `(*args) -> gradients`: the gradients of the outputs by name, which are inputs of the check and have no
            rounding error.
        at_least: the smallest relative tolerance, either one number or numbers by name.
        domain: the domains of parameters and arguments, which all points respect, by name.
        accumulate: the dtype in which 16-bit numbers are summed; float32 if None.
        hidden: quantities that are compared but have no row in the report, such as the artificial loss that a check of
            a forward and a backward pass uses.
        own: whether the loss is derived from the hand-written side.
    """

    by_hand: Watched
    loss: Program
    dtype: np.dtype
    order: list[str]
    taps: dict[str, jax.ShapeDtypeStruct]
    seed: int
    outputs: tuple[str, ...] = ()
    given: Callable[..., Leaves] | None = None
    at_least: float | Mapping[str, float] = 0.0
    domain: Mapping[str, str] = field(default_factory=dict)
    accumulate: Any = None
    hidden: frozenset[str] = frozenset()
    own: bool = False

    def at(self, inputs: Inputs, *, elsewhere: bool = False) -> Point:
        """Evaluate both sides and compare them.

        A disagreement must be confirmed by more perturbed runs. Then the code under test is run in a wider dtype, if it
        works in one: an error of the derivation remains as large, while a rounding error disappears.

        Args:
            inputs: the point.
            elsewhere: whether this is a perturbed point, where all digits may be lost. At the caller's point, one digit
                must be correct.

        Returns:
            The values of both sides, with a row for each quantity.

        Raises:
            CodeUnderTestFailed: if the code under test raises an exception or does not return gradients.
        """
        answer = self.answer(self.by_hand(inputs), inputs)
        point = self.compared(inputs, answer, CONFIRMED[0] if is_narrow(self.dtype) else SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self.compared(inputs, answer, more, steady=False)
        if point.verdict is Verdict.AGREE:
            return point
        point = self._confirmed_in_wider_dtype(point, np.inf if elsewhere else ONE_DIGIT)
        return point if elsewhere else self._undecided_without_wider_dtype(point)

    def _confirmed_in_wider_dtype(self, point: Point, most: float) -> Point:
        """The point after a run of the code under test in a wider dtype, which decides about some rows.

        `most` is the largest relative error of an entry that may be a rounding error. The point is returned unchanged
        if the code does not work in the wider dtype.
        """
        try:
            wide = self.answer(self.by_hand.unwatched(widened_once(point.inputs)), point.inputs).actual
        except CodeUnderTestFailed:  # it does not work in the wider dtype
            return point
        rows, arithmetic = decided(point.rows, point.actual, point.expected, wide, most)
        if arithmetic and is_narrow(self.dtype):
            # An error that disappears in float32 may come from a sum in 16 bits. This is an error, because sums must be
            # formed in float32. It exceeds the tolerance for storing intermediate results in 16 bits.
            summed = arithmetic.keys() & self.stored(point).wrong
            arithmetic = {path: words for path, words in arithmetic.items() if path not in summed}
            rows = [old if old.path in summed else new for old, new in zip(point.rows, rows, strict=True)]
        widened = frozenset(path for path, value in point.actual.items() if is_widened(wide.get(path), value))
        return replace(point, rows=rows, arithmetic=arithmetic, wider=widened)

    def _undecided_without_wider_dtype(self, point: Point) -> Point:
        """The point with INCONCLUSIVE for small differences in float64 that a wider run did not decide.

        Code that casts to float64 is not run in a wider dtype, and may lose digits that the model of the reference's
        rounding errors does not know. An error of the derivation would hardly leave two thirds of the digits. In
        float32 it may, such as an epsilon at another place, so there the verdict remains.
        """
        if np.dtype(self.dtype) != np.float64:
            return point
        message = "the difference may be a loss of digits: the code under test could not be run in a wider dtype"
        rows = (row for row in point.rows if row.path not in point.wider and keeps_most_digits(row, point))
        return point.undecided({row.path for row in rows}, message)

    def stored(self, point: Point) -> Point:
        """The point, compared with the tolerance for a kernel that stores intermediate results in 16 bits."""
        return self.compared(point.inputs, point.answer, point.samples, intermediates=self.dtype)

    def compared(
        self,
        inputs: Inputs,
        answer: Answer,
        samples: int = SAMPLES,
        upstream: Leaves | None = None,
        steady: bool = True,
        dtype: Any = None,
        intermediates: Any = None,
    ) -> Point:
        """Compare a result of the hand-written side with the reference.

        Args:
            inputs: the point.
            answer: the result of the hand-written side.
            samples: the number of perturbed runs.
            upstream: gradients, by tap, that replace those of the reference's backward pass.
            steady: whether perturbed runs repeat the comparisons of the unperturbed run.
            dtype: the dtype whose rounding errors are modeled; the dtype under test by default.
            intermediates: a 16-bit dtype in which the code under test may store intermediate results; by default, it
                may not.

        Returns:
            The values of both sides, with a row for each quantity.
        """
        taps = {name: self.like(self.taps[name]) for name in answer.intermediates}
        outputs = {name: self.like(self.taps[name]) for name in self.outputs}
        measured = measure_gradient(
            self.loss,
            inputs,
            taps=taps,
            outputs=outputs,
            dtype=self.dtype if dtype is None else dtype,
            upstream=(self.given(*inputs.args) if self.given else {}) | (upstream or {}),
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
        model = {LOSS: self.like(self.loss.output), **outputs, **taps, **inputs.leaves}
        wider = {LOSS, *outputs, *taps}
        rows = compare_leaves(answer.actual, model, expected, tolerance, answer.mismatched, parts, wider)
        rows = [self._unless_loss_overflows(row, answer.actual, float(expected[LOSS])) for row in rows]
        rows = [self._unless_reference_is_inexact(row) for row in rows]
        rows = self._unless_tolerance_is_large(rows, inputs, expected, tolerance)
        hidden = self.hidden | {LOSS} if answer.without_loss else self.hidden
        rows = [row for row in rows if row.path not in hidden]
        order = {name: i for i, name in enumerate(dict.fromkeys([LOSS, *self.outputs, *self.order]))}
        rows.sort(key=lambda row: order.get(row.path, len(order)))
        return Point(inputs, answer, expected, tolerance, rows, samples)

    def like(self, traced: jax.ShapeDtypeStruct) -> np.ndarray:
        """An array of zeros with a traced shape and the dtype that the hand-written side must return.

        This is the traced dtype, unless it is wider than the dtype under test: a NumPy number in a float32 loss makes
        the trace float64.
        """
        dtype = traced.dtype
        if jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize > self.dtype.itemsize:
            dtype = np.float32 if is_narrow(self.dtype) else self.dtype
        return np.broadcast_to(np.zeros((), dtype), traced.shape)  # which takes no memory

    def _at_least(
        self, name: str, value: np.ndarray, tolerance: np.ndarray, parts: list[Part]
    ) -> tuple[np.ndarray, list[Part]]:
        """The tolerances, enlarged to the caller's `at_least`."""
        share = self.at_least.get(name, 0.0) if isinstance(self.at_least, Mapping) else self.at_least
        if not share or not value.size:
            return tolerance, parts
        sizes = np.maximum(np.abs(value), np.sqrt(np.mean(np.square(value))))
        wide = [
            replace(part, along=part.along + share * part.norm, across=part.across + share * part.norm)
            for part in parts
        ]
        return np.maximum(tolerance, share * sizes), wide

    def _unless_tolerance_is_large(
        self, rows: list[Row], inputs: Inputs, expected: Leaves, tolerance: Leaves
    ) -> list[Row]:
        """The rows, with INCONCLUSIVE in place of AGREE if the tolerance is as large as the gradient.

        A gradient whose true value is 0, such as that of a bias before batch normalization, still agrees, although it
        consists of rounding errors: it changes the loss by less than the rounding error of the loss.
        """
        unit = unit_roundoff(self.dtype)
        terms = max(float(tolerance[LOSS]) / (DEVIATIONS * unit), abs(float(expected[LOSS])))
        sizes = {path: typical_size(leaf) for path, leaf in inputs.leaves.items()}
        decided = []
        for row in rows:
            # A gradient of 0 agrees: a wrong factor would not change it.
            if row.verdict is not Verdict.AGREE or row.visible is None or not row.norm:
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

    def _unless_loss_overflows(self, row: Row, actual: Leaves, loss: float) -> Row:
        """The row, with INCONCLUSIVE for NaN and infinity if the loss overflows its dtype.

        Upstream gradients may then be infinite, and their product with 0 is NaN, although 0 would be correct.
        """
        leaf = actual.get(row.path)
        if row.verdict is not Verdict.DISAGREE or leaf is None or leaf.shape != row.shape or np.isfinite(leaf).all():
            return row
        if LOSS in self.hidden or abs(loss) <= float(jnp.finfo(self.dtype).max):
            return row
        message = f"{row.message}; but the loss is {loss:.3g}, which {self.dtype} cannot hold"
        return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)

    def _unless_reference_is_inexact(self, row: Row) -> Row:
        """The row, with INCONCLUSIVE if the difference may be the error of an inexact function of JAX's library."""
        if row.verdict is not Verdict.DISAGREE or row.digits is None:
            return row
        for name, error in self.loss.inexact_functions.items():
            if row.digits >= -np.log10(error):
                message = f"the reference uses JAX's {name}, whose relative error can be as large as this ({error:.0e})"
                return replace(row, verdict=Verdict.INCONCLUSIVE, message=message)
        return row

    def answer(self, given: Any, inputs: Inputs) -> Answer:
        """`read_answer` for this check."""
        return read_answer(given, inputs, self.dtype, self.taps, self.outputs, self.by_hand.called)


def read_answer(
    given: Any,
    inputs: Inputs,
    dtype: np.dtype,
    taps: Mapping[str, Any] = MappingProxyType({}),
    outputs: tuple[str, ...] = (),
    called: str = "loss_and_gradients",
) -> Answer:
    """Reads the result of the hand-written side.

    Args:
        given: the result: (loss, gradients) or (loss, gradients, intermediates), with a dict of output values added at
            the end if there are `outputs`.
        inputs: the inputs, whose parameters have the structure that the gradients must have.
        dtype: the dtype that Python numbers in the result get.
        taps: the shapes of the marked values, by name.
        outputs: the names of the output values.
        called: the name of the hand-written function, for messages.

    Returns:
        The values by name.

    Raises:
        CodeUnderTestFailed: with a TypeError, if the result does not have this form.
    """
    parameters, shown = inputs.parameters, dict[str, np.ndarray]()
    if outputs:
        *given, last = given
        shown = {name: as_array(last[name]) for name in outputs if name in last}
    try:
        _refuse(given, parameters, called)
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
    return Answer(leaves_by_path(given), actual, intermediates, differently, frozenset(offered), given[0] is None)


def _by_name(intermediates: Any) -> dict[str, Any]:
    leaves, structure = jax.tree.flatten(intermediates)
    return dict(zip(paths(structure), leaves, strict=True))


def swapped(result: Any, parameters: Pytree) -> bool:
    """Whether a result looks like (gradients, loss) in place of (loss, gradients).

    Args:
        result: the result of the hand-written side, traced or not.
        parameters: the parameters.
    """
    if not isinstance(result, tuple | list) or len(result) != 2 or _is_one_number(parameters):
        return False
    return _is_one_number(result[1]) and result[0] is not None and not _is_one_number(result[0])


def _is_one_number(value: Any) -> bool:
    return isinstance(value, int | float) or getattr(value, "shape", None) == ()


def _refuse(result: Any, parameters: Pytree, called: str) -> None:
    """Raises TypeError unless the result is (loss, gradients) or (loss, gradients, intermediates)."""
    required = f"{called} must return (loss, gradients) or (loss, gradients, intermediates)"
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        count = f" of {len(result)}" if isinstance(result, tuple | list) else ""
        raise TypeError(f"{required}, got {type(result).__name__}{count}.")
    if len(result) == 3 and not isinstance(result[2], Mapping):
        raise TypeError(
            f"{required}, with intermediates a dict of gradients by the names of taps, but its third value is "
            f"{type(result[2]).__name__}. Return the gradients of several parameters as one tree, the second value."
        )
    if swapped(result, parameters):
        raise TypeError(
            f"{required}. The first value must be the loss, but it is not a number, and the second value is one: are "
            "they swapped?"
        )
    if isinstance(result[0], Mapping | list | tuple):
        raise TypeError(f"{required}, but its first value is {type(result[0]).__name__}. The loss must be one number.")
