"""Gradients by hand against gradients by JAX: at the caller's point, at others, and where and why they part."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from compare import probes as probing
from compare.agreement import Verdict, as_array, leaves_by_path
from compare.blame import explain, fits_its_loss, side_at_fault
from compare.conduct import HARMLESS, Watched
from compare.kinks import beside, kink
from compare.localize import backward_order, find_taps
from compare.platform import precise
from compare.point import Check, Point
from compare.programs import as_it_is_now
from compare.report import GradientMismatch, GradientReport


def check_gradients(
    loss_and_gradients: Callable[..., Any],
    loss: Callable[..., Any],
    parameters: Any,
    *args: Any,
    seed: int = 0,
    probes: bool | Sequence[probing.Probe] = True,
    references: bool = True,
) -> GradientReport:
    """Compare gradients derived by hand with those that JAX derives from `loss`.

    `loss_and_gradients(parameters, *args) -> (loss, gradients)` is the side derived by hand. It gets NumPy arrays
    and may return anything that `np.asarray` or DLPack reads. `loss(parameters, *args) -> scalar` must be
    traceable by JAX. `gradients` must have the structure, shapes and dtypes of `parameters`, any pytree of
    arrays; `args`, arrays or numbers in any tree, are not differentiated.

    If it returns a third value, a dict of gradients with respect to intermediates, these are compared with those
    of the values that `loss` marks with `tap` under the same names, and a fault is located among them.

    The reference is JAX's gradient in float64. Every entry is held against what rounding in the parameters' dtype
    allows for it (`compare.rounding`). `probes` looks at other points too (`compare.probes`): True for the usual
    ones, False for none, or a sequence of your own. `references` asks finite differences and complex steps which
    side is wrong, and whether both are. Memory is bounded by a few times that of the gradient itself.

    DISAGREE is said only where a correct gradient cannot be; INCONCLUSIVE if the loss is not finite, the point
    is a kink, or the loss contradicts both sides. Raises TypeError if what is returned holds no gradients, and
    ValueError if there is nothing to differentiate.
    """
    parameters = jax.tree.map(lambda leaf: np.array(as_array(leaf)), parameters)
    args = jax.tree.map(_argument, args)
    if not jax.tree.leaves(parameters):
        raise ValueError("parameters holds no arrays: there is nothing to differentiate.")
    for path, leaf in leaves_by_path(parameters).items():
        if not jax.numpy.issubdtype(leaf.dtype, np.inexact):
            raise ValueError(
                f"parameters must be floating-point numbers, got {leaf.dtype} at {path}. Make it an argument."
            )
    dtype = np.result_type(*jax.tree.leaves(parameters))
    with precise(parameters, args):
        names = _argument_names(loss_and_gradients, len(args))
        watched = Watched(loss_and_gradients, names)
        current = as_it_is_now(loss, parameters, *args)
        result = current.output
        if not hasattr(result, "shape") or result.shape or not jax.numpy.issubdtype(result.dtype, np.inexact):
            raise TypeError(f"loss must return one floating-point number, but it returns {result}. Sum or average it.")
        check = Check(watched, current, dtype, backward_order(current, parameters), find_taps(current), names, seed)
        return _check(check, parameters, args, _chosen(probes), references)


def _argument(leaf: Any) -> Any:
    """Arrays as NumPy's, whoever made them; numbers and JAX's random keys as they are."""
    if isinstance(leaf, str | bytes) or callable(leaf):
        raise TypeError(
            f"args must be arrays, numbers or trees of them, got {leaf!r:.60}; bind others with functools.partial."
        )
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return np.array(as_array(leaf)) if hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__") else leaf


def _chosen(probes: bool | Sequence[probing.Probe]) -> Sequence[probing.Probe]:
    if isinstance(probes, bool):
        return probing.DEFAULT if probes else ()
    return probes


def _check(
    check: Check, parameters: Any, args: tuple[Any, ...], probes: Sequence[probing.Probe], references: bool
) -> GradientReport:
    here = check.at(parameters, args)
    answer = (here.loss, here.gradients, here.intermediates)[: 3 if here.intermediates else 2]
    if here.verdict is Verdict.DISAGREE or not probes:
        check.by_hand.same_again(answer, parameters, *args, after="at once")
    if here.verdict is Verdict.DISAGREE:
        note = kink(check, here)
        if note:
            rows = [replace(row, verdict=Verdict.INCONCLUSIVE) if row.path in here.wrong else row for row in here.rows]
            return GradientReport(Verdict.INCONCLUSIVE, rows, notes=[note])
    point, probe, seen = _probed(check, here, probes)
    # Before the hand-written side is called again: for a while after a product, a BLAS's threads may keep the cores.
    report = _confirmed(check, point, references) if point.verdict is Verdict.AGREE else None
    if seen:
        check.by_hand.same_again(answer, parameters, *args, after="after other calls")
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
    return replace(
        report,
        diagnoses=misconduct + report.diagnoses,
        probe=probe,
        probes=seen,
        notes=report.notes + silent,
    )


def _probed(check: Check, here: Point, probes: Sequence[probing.Probe]) -> tuple[Point, str | None, dict[str, str]]:
    """The caller's point, or the first other one at which the sides part; its name; and what each probe showed."""
    seen: dict[str, str] = {}
    if here.verdict is Verdict.AGREE:
        random = np.random.default_rng(check.seed)
        for candidate in probes:
            other, seen[candidate.name] = _probe(check, candidate, here.parameters, here.args, random)
            if other is not None and other.verdict is Verdict.DISAGREE and not kink(check, other):
                return other, candidate.name, seen
    return here, None, seen


def _blamed(check: Check, point: Point, unfit: bool, references: bool) -> GradientReport:
    """Where, why, and whose fault."""
    first_wrong, causes = explain(check, point)
    if unfit or not references:
        side = "manual" if unfit else None
        return GradientReport(Verdict.DISAGREE, point.rows, first_wrong, causes, side)
    side, opinions, notes = side_at_fault(check, point, first_wrong)
    if side == "autodiff":
        _, causes = explain(check, point, side)
    return GradientReport(Verdict.DISAGREE, point.rows, first_wrong, causes, side, references=opinions, notes=notes)


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
        "stop_gradient, a custom derivative or a jump in the loss?"
    )
    return GradientReport(Verdict.INCONCLUSIVE, here.rows, references=opinions, notes=[note])


DECIDED = {"agree", "disagree", "does not apply"}


def _probe(
    check: Check, probe: probing.Probe, parameters: Any, args: tuple[Any, ...], random: np.random.Generator
) -> tuple[Point | None, str]:
    """The point and what it showed, in a word or a sentence."""
    moved = probe.move(parameters, args, random)
    if moved is None:
        return None, "does not apply"
    try:
        with np.errstate(all="ignore"):  # overflow is looked for here, and reported as what it does
            point = check.at(*moved)
    except Exception as error:  # whatever the code under test raises where its caller never was
        return None, f"the hand-written side raised {type(error).__name__}: {error}"
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
