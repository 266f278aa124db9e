"""Compares gradients derived by hand with those that JAX derives, at the caller's point and at perturbed ones."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from compare.errors import BadInput, CodeUnderTestFailed, Untraceable
from compare.judge.diagnosis.attribution import explain, intended, reference_at_fault, side_at_fault
from compare.judge.evaluation import perturbed_points as probing
from compare.judge.evaluation.complex_parts import whole_report
from compare.judge.evaluation.domain import checked, kept
from compare.judge.evaluation.elsewhere import convicted
from compare.judge.evaluation.finite_differences import fits_its_loss
from compare.judge.evaluation.intermediates import backward_order, find_taps, not_compared
from compare.judge.evaluation.nonsmooth import beside, nonsmooth_reason
from compare.judge.evaluation.point import Check, Point
from compare.judge.evaluation.reading import argument_names, read
from compare.judge.evaluation.side_effects import HARMLESS, Watched, apart
from compare.judge.own_loss import check_by_differences
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import Program, traced
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.judge.roundoff.tolerance import DEVIATIONS
from compare.platform import precise
from compare.pytrees import LOSS, GradientFunction, Loss, Pytree


def check_gradients(
    loss_and_gradients: GradientFunction,
    loss: Loss | None,
    parameters: Pytree,
    *args: Pytree,
    seed: int = 0,
    probes: bool | Sequence[probing.Probe] = True,
    references: bool = True,
    strict: bool = False,
    at_least: float | Mapping[str, float] = 0.0,
    domain: Mapping[str, str] = MappingProxyType({}),
    accumulate: Any = None,
    convention: str = "jax",
    static: Collection[str | int] = (),
) -> GradientReport:
    """Compare gradients derived by hand with those that JAX derives from `loss`.

    The reference is JAX's gradient, evaluated in float64. Each entry may differ from it by the rounding tolerance of
    the parameters' dtype, which is measured at this point (`compare.judge.roundoff`). The check needs a few times the
    memory of the gradient.

    Args:
        loss_and_gradients: the hand-written side, `(parameters, *args) -> (loss, gradients)`. It gets NumPy arrays and
            may return anything that `np.asarray` or DLPack reads. `gradients` must have the structure, shapes and
            dtypes of `parameters`. The loss may be None: then it is not compared. A third value, a dict, holds the
            gradients of intermediates that `loss` marks with `tap` under the same names; an error is then located
            among them.
        loss: the reference, `(parameters, *args) -> scalar`, traceable by JAX. If it is None, the hand-written side's
            own loss is the reference: JAX traces its NumPy code, or if it cannot, finite differences are computed.
        parameters: the floating-point arrays with respect to which the loss is differentiated, in any pytree.
        *args: further arguments, which are not differentiated: arrays and numbers in any pytree. Flags, strings,
            functions, sparse matrices and data frames are passed on unchanged, but `loss` gets sparse matrices and
            data frames as arrays.
        seed: the seed of everything random in the check.
        probes: whether to check at perturbed points as well: True for the usual ones, False for none, or a list of
            `Probe`.
        references: whether to determine the wrong side by finite differences and complex steps. They also show if both
            sides are wrong.
        strict: whether lost digits, overflow and clipping (`report.arithmetic`) make the verdict DISAGREE.
        at_least: a relative tolerance for gradients that are approximate by design: one number for all leaves, or a
            dict of numbers by the path of a leaf.
        domain: the sets in which parameters and arguments remain at perturbed points, by name: "positive", "negative",
            "unit interval", "positive definite" or "fixed".
        accumulate: the dtype in which sums of 16-bit numbers are expected to be accumulated: None for float32, a dtype,
            or "input" for the dtype of the terms.
        convention: the gradient with respect to a complex parameter x + iy: "jax" for dL/dx - i dL/dy, "conjugate" for
            its complex conjugate, as in PyTorch.
        static: the names or positions of arguments that must not be traced, such as a length.

    Returns:
        The report. Its verdict is DISAGREE only if the gradient cannot be correct. It is INCONCLUSIVE if the loss is
        not finite, the point is nonsmooth, rounding errors may be as large as a gradient, or both sides agree with each
        other and not with finite differences of the loss.

    Raises:
        TypeError: if the hand-written side returns no gradients, or JAX cannot trace or differentiate the loss.
        BadInput: a ValueError, if there is nothing to differentiate, two leaves have the same name, or an option is
            invalid.
    """
    report = check(
        loss_and_gradients,
        loss,
        parameters,
        args,
        seed=seed,
        probes=probes,
        references=references,
        strict=strict,
        at_least=at_least,
        domain=domain,
        accumulate=accumulate,
        convention=convention,
        static=static,
    )
    if not jax.tree_util.all_leaves([parameters]):
        return report
    return replace(report, parameter=argument_names(loss_and_gradients, 0)[0])


def check(
    loss_and_gradients: GradientFunction,
    loss: Loss | None,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    *,
    seed: int = 0,
    probes: bool | Sequence[probing.Probe] = True,
    references: bool = True,
    strict: bool = False,
    at_least: float | Mapping[str, float] = 0.0,
    domain: Mapping[str, str] = MappingProxyType({}),
    accumulate: Any = None,
    convention: str = "jax",
    static: Collection[str | int] = (),
    outputs: tuple[str, ...] = (),
    given: Callable[..., dict[str, np.ndarray]] | None = None,
    hidden: frozenset[str] = frozenset(),
    own: bool = False,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> GradientReport:
    """`check_gradients` with the options that the other checks need. All of them call this function.

    Args:
        loss_and_gradients: as for `check_gradients`, and so are `loss`, `parameters`, and the options from `seed` to
            `static`.
        args: the further arguments of both sides.
        outputs: the names of tapped values that are compared as well. The hand-written side returns a dict of them as
            its last value.
        given: `(*args) -> gradients`: the gradients of these values, by name, where they are known exactly.
        hidden: the names of quantities that get no row in the report.
        own: whether `loss` is derived from the hand-written side, so that finite differences can replace it.
        labels: the names in messages of arguments that the caller did not name; an empty name leaves only the names of
            the argument's leaves.

    Returns:
        The report.

    Raises:
        TypeError, BadInput: as `check_gradients`.
    """
    chosen = _chosen(probes)  # invalid ones are rejected before any function is called
    called = getattr(loss_and_gradients, "__name__", "")
    by_hand, reference, inputs = read(
        loss_and_gradients, loss, parameters, args, convention=convention, static=static, labels=labels
    )
    own = own or loss is None
    with precise(inputs.parameters, inputs.args):
        watched = Watched(by_hand, called if called.isidentifier() else "loss_and_gradients")
        try:
            current = traced(reference, inputs.parameters, *inputs.args)
            refuse_what_is_no_number(current.output)
            _differentiable(current, own)
        except Untraceable as untraceable:
            report = check_by_differences(watched, inputs, seed, str(untraceable), outputs)
            return _finished(report, inputs, convention, strict)
        taps = find_taps(current)
        twice = sorted(taps.keys() & {LOSS, *inputs.leaves})
        if twice:
            raise BadInput(
                f"the name {twice[0]!r} marks a value in the loss, and is also that of "
                f"{'the loss' if twice[0] == LOSS else 'a parameter'}. Give the tap another name."
            )
        known = Check(
            watched,
            current,
            inputs.dtype,
            backward_order(current, by_use=not outputs),  # a single operation's inputs keep their order
            taps,
            seed,
            outputs=outputs,
            given=given,
            at_least=_relative(at_least, inputs),
            domain=checked(domain, inputs),
            accumulate=accumulate,
            hidden=hidden,
            own=own,
        )
        try:
            report = _check(known, inputs, chosen, references)
            report = replace(report, intermediates=tuple(taps.keys() - set(outputs)))
            report = (
                replace(report, notes=[*report.notes, _traced_from_numpy("forward pass" if outputs else "loss")])
                if own
                else report
            )
        except CodeUnderTestFailed as failure:  # at the caller's own point
            raise failure.error from None
    return _finished(report, inputs, convention, strict)


def _differentiable(loss: Program, own: bool) -> None:
    """Derives the gradient of the loss. If JAX cannot, raises TypeError, or Untraceable for the hand-written loss."""
    try:
        _ = loss.gradient_plan
    except (TypeError, ValueError, NotImplementedError) as error:
        said = str(error).partition("\n")[0].partition(". ")[0].rstrip(". ")
        words = f"JAX cannot differentiate the loss: {said}"
        raise (Untraceable(words) if own else TypeError(f"{words}.")) from error


def refuse_what_is_no_number(result: Any) -> None:
    """Rejects the result of a loss that is not a number.

    Args:
        result: the result, traced or not.

    Raises:
        TypeError: unless it is one real floating-point number.
    """
    dtype, shape = getattr(result, "dtype", None), getattr(result, "shape", None)
    if dtype is not None and shape == () and jax.numpy.issubdtype(dtype, np.floating):
        return
    received, cure = repr(result), "Sum or average it."
    if dtype is not None:
        received = f"{dtype}[{', '.join(map(str, shape or ()))}]"
        cure = "Take its real part." if jax.numpy.issubdtype(dtype, np.complexfloating) else cure
    elif isinstance(result, tuple | list):
        received = f"a {type(result).__name__} of {len(result)}"
        cure = "Return only the first, as in lambda *args: loss(*args)[0]."
    elif isinstance(result, Mapping):
        received = f"a dict with the keys {', '.join(map(str, result)) or '(none)'}"
        cure = f"Return only the number, as in lambda *args: loss(*args)[{next(iter(result), LOSS)!r}]."
    elif result is None:
        cure = "Return it."
    raise TypeError(f"loss must return one floating-point number, but it returns {received}. {cure}")


def _traced_from_numpy(what: str) -> str:
    return (
        f"the reference is JAX's derivative of the hand-written {what}, traced from its NumPy code: an error of the "
        f"{what} itself cannot be detected."
    )


def _finished(report: GradientReport, inputs: Inputs, convention: str, strict: bool) -> GradientReport:
    """The report for the caller's own parameters.

    The parts of a complex parameter are joined in it. In a strict check, the verdict is DISAGREE also if digits are
    lost, or values overflow or are clipped.
    """
    report = whole_report(report, inputs.parameters, convention)
    if not strict or report.verdict is not Verdict.AGREE or not report.arithmetic:
        return report
    causes = [Diagnosis(None, "arithmetic", words) for words in report.arithmetic]
    return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes + report.diagnoses, wrong_side="manual")


def _relative(at_least: Any, inputs: Inputs) -> Any:
    """Returns `at_least`. Raises BadInput if it names no leaf or is not from 0 to 1."""
    named = at_least if isinstance(at_least, Mapping) else {LOSS: at_least}
    known = {LOSS, *inputs.leaves}
    for name, share in named.items():
        if name not in known:
            raise BadInput(f"at_least names {name!r}, which is not among {', '.join(sorted(known))}.")
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise BadInput(f"at_least must be a relative tolerance from 0 to 1, got {share!r}.")
    return at_least


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
    inputs: Inputs,
    probes: Sequence[probing.Probe],
    references: bool,
) -> GradientReport:
    here = check.at(inputs)
    lost = not_compared(check.loss, check.taps, set(here.answer.offered)) + _not_known(check.loss)
    if here.verdict is Verdict.DISAGREE or not probes:
        check.by_hand.same_again(here.answer.leaves, inputs, after="at once", tolerance=here.tolerance)
    if here.verdict is Verdict.DISAGREE:
        note = nonsmooth_reason(check, here)
        if note:
            rows = [replace(row, verdict=Verdict.INCONCLUSIVE) if row.path in here.wrong else row for row in here.rows]
            return GradientReport(
                Verdict.INCONCLUSIVE, rows, notes=[note, *lost], tolerance_source=_tolerance_source(check, here)
            )
    seen = _probed(check, here, probes)
    point = seen.point or here
    # The confirmation comes before the next call of the hand-written side, because that call's BLAS threads keep the
    # cores busy for a while.
    report = _confirmed(check, point, references) if point.verdict is Verdict.AGREE else None
    if seen.showed:
        check.by_hand.same_again(here.answer.leaves, inputs, after="after other calls", tolerance=here.tolerance)
    unfit = [note for note in check.by_hand.diagnoses if note.kind not in HARMLESS]
    if point.verdict is Verdict.DISAGREE:
        report = _blamed(check, point, bool(unfit), references)
    elif unfit:
        report = GradientReport(Verdict.DISAGREE, point.rows, wrong_side="manual")
    elif report is None:
        report = reference_at_fault(check, point) if references else None
    if report is None:
        report = GradientReport(Verdict.INCONCLUSIVE, point.rows, notes=[_why_undecided(check, point)])
    reported = " ".join(seen.arithmetic)
    not_judged = [
        f"{_far(name)} could not be judged: {words}"
        for name, words in seen.showed.items()
        if words not in DECIDED and repr(name) not in reported
    ]
    side_effects = [] if report.wrong_side == "autodiff" else check.by_hand.diagnoses
    notes = report.notes + lost if report.verdict is Verdict.INCONCLUSIVE else lost + report.notes
    return replace(
        report,
        diagnoses=side_effects + report.diagnoses,
        probe=seen.name,
        own_point=here.verdict,
        probes=seen.showed,
        notes=[*seen.notes, *notes, *check.by_hand.remarks, *_about_the_loss(check, here), *not_judged],
        arithmetic=[*here.arithmetic.values(), *seen.arithmetic],
        changed=[called for some in _changed(here, point).values() for called in some],
        tolerance_source=_tolerance_source(check, point),
    )


def _far(name: str) -> str:
    return f"the perturbed point {name!r}"


def _about_the_loss(check: Check, here: Point) -> list[str]:
    """A note if the hand-written loss is missing or has another dtype than the reference, which are no errors."""
    if LOSS in check.hidden:
        return []
    if here.answer.without_loss:
        return ["the hand-written side returns no loss, so the loss is not compared."]
    given, traced = here.actual[LOSS].dtype, check.like(check.loss.output).dtype
    if given == traced:
        return []
    return [f"the hand-written loss is {given}, the reference's is {traced}."]


def _why_undecided(check: Check, point: Point) -> str:
    """The reason why there is no verdict, and what to do about it."""
    row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
    inputs = point.inputs
    for name, leaves in inputs.by_argument.items():
        for path, leaf in leaves.items():
            if jax.numpy.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(leaf))[0])
                label = inputs.label(name, path) if name in inputs.labels or path == "value" else f"{name}: {path}"
                place = f" at [{', '.join(map(str, where))}]" if where else ""
                return f"the input {label} holds {leaf[where]}{place}: nothing computed from it can be compared."
    if row.visible is not None:
        return (
            f"{row.path}: {row.message}. Check at another point or in a wider dtype, or use a formula that loses fewer "
            "digits."
        )
    return f"{row.path}: {row.message}. Check at a point where the loss is finite, or compute the loss from logits."


def _not_known(loss: Program) -> list[str]:
    """A note on operations that are missing from the table of primitives."""
    names = ", ".join(loss.unknown)
    if not names:
        return []
    return [
        f"the judge has no rule for {names}: JAX evaluated it in the dtypes in which it was traced, and its rounding "
        "error was estimated by perturbing its inputs."
    ]


def _tolerance_source(check: Check, point: Point) -> str:
    """A sentence about how the tolerances were measured."""
    runs = "1 run" if point.samples == 1 else f"{point.samples} runs"
    how = f"every operation perturbed, {runs}"
    return f"{DEVIATIONS:g} standard deviations of rounding in {check.dtype} ({how}), plus 2 ulp."


def _changed(here: Point, point: Point) -> dict[str, list[str]]:
    """The arguments that differ between two points: by name, the label of each, or those of its leaves."""
    found = {}
    for name, before in here.inputs.by_argument.items():
        leaves = [path for path, distance in apart(before, point.inputs.by_argument[name]).items() if distance]
        if leaves:
            called = here.inputs.label(name, "value")
            found[name] = [called] if called else [here.inputs.label(name, path) for path in leaves]
    return found


@dataclass
class Seen:
    """The results at perturbed points.

    Attributes:
        point, name: the first point at which the sides disagree, and its name; None if there is none.
        showed: a description of the result at each point, by the point's name.
        notes, arithmetic: sentences for the report's fields of the same names.
    """

    point: Point | None = None
    name: str | None = None
    showed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arithmetic: list[str] = field(default_factory=list)


def _probed(check: Check, here: Point, probes: Sequence[probing.Probe]) -> Seen:
    seen = Seen()
    if any(row.verdict is not Verdict.AGREE and row.visible is None for row in here.rows) or here.wrong:
        return seen  # only rows that are inconclusive because of rounding errors may be decided at a perturbed point
    random = np.random.default_rng(check.seed)
    for probe in probes:
        other, seen.showed[probe.name], arithmetic = _probe(check, here, probe, random)
        seen.arithmetic += arithmetic if not probe.advisory else []
        if other is None or other.verdict is not Verdict.DISAGREE or nonsmooth_reason(check, other):
            continue
        if probe.advisory:
            names = ", ".join(sorted(other.wrong))
            seen.notes.append(
                f"at {_far(probe.name)}, the sides differ in {names}: check whether such values can occur."
            )
            continue
        seen.point, seen.name = other, probe.name
        seen.point, more = _with_given_arguments(check, here, other)
        seen.notes += more
        break
    return seen


def _with_given_arguments(check: Check, here: Point, other: Point) -> tuple[Point, list[str]]:
    """The point with the perturbed parameters and the caller's own arguments, if the sides disagree there, too.

    An error there is more convincing, because the perturbed arguments may be impossible values. If both sides agree
    there, the result is the perturbed point itself, with a note.
    """
    changed, first = _changed(here, other), here.inputs.names[0]
    if first not in changed or len(changed) == 1:
        return other, []
    try:
        with np.errstate(all="ignore"):
            alone = check.at(replace(here.inputs, parameters=other.inputs.parameters), elsewhere=True)
    except CodeUnderTestFailed:  # the code under test may reject values that its caller never uses
        return other, []
    alone, _ = convicted(check, here, alone, "")
    if alone.verdict is Verdict.DISAGREE and not nonsmooth_reason(check, alone):
        return alone, []
    agree = (
        [f"if only {' and '.join(changed[first])} is changed, both sides agree."]
        if alone.verdict is Verdict.AGREE
        else []
    )
    return other, agree


def _blamed(check: Check, point: Point, unfit: bool, references: bool) -> GradientReport:
    """The report on a disagreement: the first wrong quantity, the causes and the wrong side."""
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
    "to locate the wrong step of the backward pass, mark intermediate values with compare.tap(name, value) in the JAX "
    "function, and let the hand-written side return a dict of their gradients, by the same names, as its last value."
)


def _confirmed(check: Check, here: Point, references: bool) -> GradientReport:
    """The report where both sides agree: INCONCLUSIVE if finite differences of the loss contradict both."""
    if not references:
        return GradientReport(Verdict.AGREE, here.rows)
    opinions = fits_its_loss(check, here)
    if not all(opinion.consistent for opinion in opinions.values()):
        # At a nonsmooth point, finite differences cannot confirm the derivative that both sides choose: compare
        # them with the gradient near it.
        near = beside(check, here)
        if near is not None:
            opinions = fits_its_loss(check, near)
    if all(opinion.consistent for opinion in opinions.values()):
        return GradientReport(Verdict.AGREE, here.rows, references=opinions)
    meant = intended(check, here)
    if meant:
        note = f"both sides agree, but not with finite differences of the loss, as intended: JAX's program has {meant}."
        return GradientReport(Verdict.AGREE, here.rows, references=opinions, notes=[note])
    note = (
        "both sides agree with each other but not with finite differences of the loss: does the loss have a jump? If "
        "it is intended, references=False skips the finite differences."
    )
    return GradientReport(Verdict.INCONCLUSIVE, here.rows, references=opinions, notes=[note])


DECIDED = {"agree", "disagree", "does not apply"}


def _probe(
    check: Check, here: Point, probe: probing.Probe, random: np.random.Generator
) -> tuple[Point | None, str, list[str]]:
    """The perturbed point, a description of the result there, and sentences about the arithmetic."""
    there = here.inputs.moved(probe.move, random)
    if there is None:
        return None, "does not apply", []
    try:
        with np.errstate(all="ignore"):  # overflow is expected here, and is reported
            point = check.at(kept(check.domain, here.inputs, there, random), elsewhere=True)
    except CodeUnderTestFailed as failure:  # the code under test may reject values that its caller never uses
        return None, f"the code under test raised {failure}", []
    point, arithmetic = convicted(check, here, point, probe.name, clips=probe in probing.DEFAULT and not probe.advisory)
    if point.verdict is Verdict.INCONCLUSIVE:
        row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
        return point, f"{row.path}: {row.message}", arithmetic
    return point, point.verdict.value, arithmetic


def assert_gradients_agree(*args: Any, **options: Any) -> None:
    """`check_gradients` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_gradients(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
