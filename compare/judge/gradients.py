"""Gradients by hand against gradients by JAX: at the caller's point, at others, and where and why they part."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from compare.errors import BadInput, CodeUnderTestFailed
from compare.judge.diagnosis.attribution import explain, fits_its_loss, side_at_fault
from compare.judge.evaluation import perturbed_points as probing
from compare.judge.evaluation.intermediates import backward_order, find_taps, not_compared
from compare.judge.evaluation.nonsmooth import beside, kink
from compare.judge.evaluation.point import Check, Point
from compare.judge.evaluation.side_effects import HARMLESS, Watched, apart
from compare.judge.program.trace import Program, traced
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Verdict
from compare.judge.roundoff.tolerance import DEVIATIONS
from compare.platform import precise
from compare.pytrees import LOSS, GradientFunction, Loss, Pytree, as_array, is_key, leaves_by_path


def check_gradients(
    loss_and_gradients: GradientFunction,
    loss: Loss,
    parameters: Pytree,
    *args: Pytree,
    seed: int = 0,
    probes: bool | Sequence[probing.Probe] = True,
    references: bool = True,
) -> GradientReport:
    """Compare gradients derived by hand with those that JAX derives from `loss`.

    `loss_and_gradients(parameters, *args) -> (loss, gradients)` is the side derived by hand. It gets NumPy arrays
    and may return anything that `np.asarray` or DLPack reads. `loss(parameters, *args) -> scalar` must be
    traceable by JAX. `gradients` must have the structure, shapes and dtypes of `parameters`, any pytree of
    arrays; `args`, arrays or numbers in any tree, are not differentiated. Scalars may be numbers of Python, which have
    no dtype of their own.

    If it returns a third value, a dict of gradients with respect to intermediates, these are compared with those
    of the values that `loss` marks with `tap` under the same names, and a fault is located among them.

    The reference is JAX's gradient in float64. Every entry is held against the rounding tolerance of the parameters'
    dtype (`compare.judge.roundoff`). `probes` looks at other points too: True for the usual ones, False for none, or a
    sequence of your own (`compare.judge.evaluation.perturbed_points`). `references` asks finite differences and complex
    steps which side is wrong, and whether both are. Memory is bounded by a few times that of the gradient itself.

    DISAGREE is said only where a correct gradient cannot be; INCONCLUSIVE if the loss is not finite, the point
    is a kink, or the loss contradicts both sides. Raises TypeError if what is returned holds no gradients, and
    BadInput, a ValueError, if there is nothing to differentiate, or names cannot be told apart.
    """
    probes = _chosen(probes)
    parameters = jax.tree.map(lambda leaf: np.array(as_array(leaf)), parameters)
    args = jax.tree.map(_argument, args)
    _refuse_what_is_no_parameter(parameters)
    with jax.enable_x64(True):
        dtype = np.dtype(jax.numpy.result_type(*jax.tree.leaves(parameters)))
    with precise(parameters, args):
        names = _argument_names(loss_and_gradients, len(args))
        watched = Watched(loss_and_gradients, names)
        current = traced(loss, parameters, *args)
        result = current.output
        if not hasattr(result, "shape") or result.shape or not jax.numpy.issubdtype(result.dtype, np.inexact):
            raise TypeError(f"loss must return one floating-point number, but it returns {result}. Sum or average it.")
        taps = find_taps(current)
        twice = sorted(taps.keys() & {LOSS, *leaves_by_path(parameters)})
        if twice:
            raise BadInput(
                f"the name {twice[0]!r} marks a value in the loss, and is also that of "
                f"{'the loss' if twice[0] == LOSS else 'a parameter'}. Give the tap another name."
            )
        check = Check(watched, current, dtype, backward_order(current, parameters), taps, names, seed)
        try:
            return _check(check, current, parameters, args, probes, references)
        except CodeUnderTestFailed as failure:  # at the caller's own point
            raise failure.error from None


def _refuse_what_is_no_parameter(parameters: Pytree) -> None:
    if not jax.tree.leaves(parameters):
        raise BadInput("parameters holds no arrays: there is nothing to differentiate.")
    for path, leaf in leaves_by_path(parameters).items():
        if jax.numpy.issubdtype(leaf.dtype, np.complexfloating):
            raise BadInput(
                f"parameters must be real numbers, got {leaf.dtype} at {path}. Make its real and its imaginary part a "
                "parameter each."
            )
        if not jax.numpy.issubdtype(leaf.dtype, np.inexact):
            raise BadInput(
                f"parameters must be floating-point numbers, got {leaf.dtype} at {path}. Make it an argument."
            )


def _argument(leaf: Any) -> Any:
    """Arrays as NumPy's, whoever made them; numbers and JAX's random keys as they are."""
    if isinstance(leaf, str | bytes) or callable(leaf):
        raise TypeError(
            f"args must be arrays, numbers or trees of them, got {leaf!r:.60}; bind others with functools.partial."
        )
    readable = hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")
    return np.array(as_array(leaf)) if readable and not is_key(leaf) else leaf


def _chosen(probes: Any) -> Sequence[probing.Probe]:
    if isinstance(probes, bool):
        return probing.DEFAULT if probes else ()
    chosen = tuple(probes) if isinstance(probes, list | tuple) else (probes,)
    for probe in chosen:
        if not isinstance(probe, probing.Probe):
            raise BadInput(
                f"probes must be True, False or a list of compare.Probe, got {probe!r:.60}. Write "
                "Probe(name, move) with move(parameters, args, random) -> (parameters, args)."
            )
    return chosen


def _check(
    check: Check,
    loss: Program,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    probes: Sequence[probing.Probe],
    references: bool,
) -> GradientReport:
    here = check.at(parameters, args)
    lost = not_compared(loss, check.taps, set(here.answer.offered)) + _not_known(loss)
    if here.verdict is Verdict.DISAGREE or not probes:
        check.by_hand.same_again(here.answer.given, parameters, *args, after="at once", tolerance=here.tolerance)
    if here.verdict is Verdict.DISAGREE:
        note = kink(check, here)
        if note:
            rows = [replace(row, verdict=Verdict.INCONCLUSIVE) if row.path in here.wrong else row for row in here.rows]
            return GradientReport(Verdict.INCONCLUSIVE, rows, notes=[note, *lost], allowance=_allowance(check, here))
    point, probe, seen, more = _probed(check, here, probes)
    # Before the hand-written side is called again: for a while after a product, a BLAS's threads may keep the cores.
    report = _confirmed(check, point, references) if point.verdict is Verdict.AGREE else None
    if seen:
        check.by_hand.same_again(
            here.answer.given, parameters, *args, after="after other calls", tolerance=here.tolerance
        )
    unfit = [note for note in check.by_hand.diagnoses if note.kind not in HARMLESS]
    if point.verdict is Verdict.DISAGREE:
        report = _blamed(check, point, bool(unfit), references)
    elif unfit:
        report = GradientReport(Verdict.DISAGREE, point.rows, wrong_side="manual")
    elif report is None:
        row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
        note = f"{row.path}: {row.message}. Look at a point where the loss is finite, or write it from logits."
        report = GradientReport(Verdict.INCONCLUSIVE, point.rows, notes=[note])
    silent = [f"the probe {name!r} says nothing: {words}" for name, words in seen.items() if words not in DECIDED]
    misconduct = [] if report.wrong_side == "autodiff" else check.by_hand.diagnoses
    notes = report.notes + lost if report.verdict is Verdict.INCONCLUSIVE else lost + report.notes
    return replace(
        report,
        diagnoses=misconduct + report.diagnoses,
        probe=probe,
        probes=seen,
        notes=more + notes + check.by_hand.remarks + silent,
        changed=_changed(check, here, point),
        allowance=_allowance(check, point),
    )


def _not_known(loss: Program) -> list[str]:
    """A sentence about the operations that the table of primitives does not have."""
    names = ", ".join(loss.unknown)
    if not names:
        return []
    return [
        f"the judge has no rule for {names}: JAX evaluated it in the dtypes in which it was traced, and its rounding "
        "is estimated by moving what goes into it."
    ]


def _allowance(check: Check, point: Point) -> str:
    """Where what is allowed comes from, in a sentence."""
    runs = "1 run" if point.samples == 1 else f"{point.samples} runs"
    moved = f"every operation's result moved, {runs}"
    return f"{DEVIATIONS:g} standard deviations of rounding in {check.dtype} ({moved}), and 2 ulp."


def _changed(check: Check, here: Point, point: Point) -> list[str]:
    """The names of the arguments that are others at `point`."""
    pairs = zip((here.parameters, *here.args), (point.parameters, *point.args), strict=True)
    return [name for name, (a, b) in zip(check.names, pairs, strict=True) if any(apart(a, b).values())]


def _probed(
    check: Check, here: Point, probes: Sequence[probing.Probe]
) -> tuple[Point, str | None, dict[str, str], list[str]]:
    """The caller's point, or the first other one at which the sides part; its name; what each probe showed; notes."""
    seen: dict[str, str] = {}
    if here.verdict is Verdict.AGREE:
        random = np.random.default_rng(check.seed)
        for candidate in probes:
            other, seen[candidate.name] = _probe(check, candidate, here.parameters, here.args, random)
            if other is not None and other.verdict is Verdict.DISAGREE and not kink(check, other):
                point, more = _with_given_arguments(check, here, other)
                return point, candidate.name, seen, more
    return here, None, seen, []


def _with_given_arguments(check: Check, here: Point, other: Point) -> tuple[Point, list[str]]:
    """A probe's point, but with the caller's own arguments, of which none can say that they may not be so.

    If both sides agree there, it is the probe's point itself, and a note says so.
    """
    changed = _changed(check, here, other)
    if check.names[0] not in changed or len(changed) == 1:
        return other, []
    try:
        with np.errstate(all="ignore"):
            alone = check.at(other.parameters, here.args)
    except CodeUnderTestFailed:  # it may refuse what its caller never gave it
        return other, []
    if alone.verdict is Verdict.DISAGREE and not kink(check, alone):
        return alone, []
    agree = [f"with {changed[0]} alone changed, both sides agree."] if alone.verdict is Verdict.AGREE else []
    return other, agree


def _blamed(check: Check, point: Point, unfit: bool, references: bool) -> GradientReport:
    """Where, why, and whose fault."""
    first_wrong, causes = explain(check, point)
    if unfit or not references:
        side = "manual" if unfit else None
        return GradientReport(Verdict.DISAGREE, point.rows, first_wrong, causes, side)
    side, opinions, notes = side_at_fault(check, point, first_wrong)
    if side == "autodiff":
        _, causes = explain(check, point, side)
    if not causes and first_wrong != LOSS and not point.intermediates:
        notes = [*notes, NEXT_STEP]
    return GradientReport(Verdict.DISAGREE, point.rows, first_wrong, causes, side, references=opinions, notes=notes)


NEXT_STEP = (
    "to learn which step of the backward pass is wrong, mark values on the way with compare.tap(name, value) in the "
    "JAX function, and return their gradients last from the hand-written side, as a dict by those names."
)


def _confirmed(check: Check, here: Point, references: bool) -> GradientReport:
    """Both sides agree: so does the loss, unless it cannot be differentiated as both sides did."""
    if not references:
        return GradientReport(Verdict.AGREE, here.rows)
    opinions = fits_its_loss(check, here)
    if not all(opinion.consistent for opinion in opinions.values()):
        # At a kink that both sides call by the same name, no difference tells: look beside it.
        near = beside(check, here)
        if near is not None:
            opinions = fits_its_loss(check, near)
    if all(opinion.consistent for opinion in opinions.values()):
        return GradientReport(Verdict.AGREE, here.rows, references=opinions)
    note = (
        "both sides agree with each other but not with the loss itself, by finite differences: is there a "
        "stop_gradient, a custom derivative or a jump in the loss? If it is meant, references=False leaves them out."
    )
    return GradientReport(Verdict.INCONCLUSIVE, here.rows, references=opinions, notes=[note])


DECIDED = {"agree", "disagree", "does not apply"}


def _probe(
    check: Check, probe: probing.Probe, parameters: Pytree, args: tuple[Pytree, ...], random: np.random.Generator
) -> tuple[Point | None, str]:
    """The point and what it showed, in a word or a sentence."""
    moved = probe.move(parameters, args, random)
    if moved is None:
        return None, "does not apply"
    try:
        with np.errstate(all="ignore"):  # overflow is looked for here, and reported as what it does
            point = check.at(*moved)
    except CodeUnderTestFailed as failure:  # where its caller never was
        return None, f"the code under test raised {failure}"
    if point.verdict is Verdict.INCONCLUSIVE:
        row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
        return point, f"{row.path}: {row.message}"
    return point, point.verdict.value


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """What the function calls its arguments, for messages."""
    try:
        signature = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin, a C function
        signature = ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [parameter.name for parameter in signature if parameter.kind in positional][: count + 1]
    return found + ["parameters", *(f"argument {i}" for i in range(1, count + 1))][len(found) :]


def assert_gradients_agree(*args: Any, **options: Any) -> None:
    """`check_gradients`, but raise GradientMismatch unless the verdict is AGREE."""
    report = check_gradients(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
