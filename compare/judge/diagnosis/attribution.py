"""After a disagreement: the first wrong quantity, its cause, and the side at fault."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.edits import Effort
from compare.judge.diagnosis.evidence import DECISIVE, Evidence, gather
from compare.judge.diagnosis.hypotheses.constants import name_constant
from compare.judge.evaluation.complex_parts import Parts
from compare.judge.evaluation.finite_differences import (
    Derivative,
    along_entry,
    complex_step,
    derivative,
    fits_its_loss,
    opinions_on,
    random_direction,
    reference_losses,
)
from compare.judge.evaluation.intermediates import rules_of_its_own
from compare.judge.evaluation.nonsmooth import a_little_away
from compare.judge.evaluation.perturbed_points import scaled_by
from compare.judge.evaluation.point import Check, Point
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.pytrees import LOSS, Leaves, all_finite

# A change of an entry by more than this share of the largest entry, between points next to each other, shows a
# nonsmooth point.
JUMP = 0.1


def explain(check: Check, point: Point, side: str = "manual") -> tuple[str | None, list[Diagnosis]]:
    """Finds the first wrong quantity and the causes of all wrong quantities.

    Each quantity is judged given the hand-written gradients upstream of it, so that an error is not reported once more
    for each quantity that depends on it. If no cause is found at a nonsmooth point, it is looked for beside the point.

    Args:
        check: the check.
        point: a point at which the two sides disagree.
        side: the side at fault. For "autodiff", causes say how JAX's gradient differs from the hand-written one.

    Returns:
        The path of the first wrong quantity in backward order, and the causes.
    """
    first, causes = _explained(check, point, side)
    near = None if causes or not check.loss.has_nonsmooth_points else _beside(check, point)
    if near is not None:
        _, found = _explained(check, near, side)
        wrong = point.wrong
        words = "next to this point, which is nonsmooth, "
        causes = [replace(cause, message=words + cause.message) for cause in found if cause.path in wrong]
    return first, causes


def _beside(check: Check, point: Point) -> Point | None:
    """A point a little away, if a wrong entry of either side is quite different there; None at a smooth point."""
    near = a_little_away(check, point, np.random.default_rng(check.seed))
    if near is None or near.verdict is not Verdict.DISAGREE:
        return None
    for path in point.wrong & point.expected.keys() & point.actual.keys():
        here = [np.asarray(values[path], np.complex128) for values in (point.actual, point.expected)]
        if path not in near.actual or {np.shape(near.actual[path]), here[0].shape} != {here[1].shape}:
            continue
        wrong = ~(np.abs(here[0] - here[1]) <= point.tolerance[path])
        limit = JUMP * np.abs(here[1]).max(initial=0.0)
        for values, value in zip((near.actual, near.expected), here, strict=True):
            if (wrong & (np.abs(values[path] - value) > limit)).any():
                return near
    return None


def _explained(check: Check, point: Point, side: str) -> tuple[str | None, list[Diagnosis]]:
    alone, effort = judge_alone(check, point), Effort()
    actual, expected = point.actual, point.inputs.leaves
    # A gradient that was judged right is not wrong because a returned intermediate is wrong, from which it could have
    # been computed. And rows that are inconclusive at this point need no explanation.
    settled = {row.path for row in point.rows if row.verdict is not Verdict.DISAGREE}
    wrong = [row.path for row in alone.rows if row.verdict is Verdict.DISAGREE and row.path not in settled]
    mismatched = point.answer.mismatched
    renamed = _renamed([path for path in wrong if path not in actual], actual.keys() - alone.expected.keys())
    causes = _structure_mismatches(mismatched, expected) + _wrong_names(renamed)
    for path in wrong:
        if path in mismatched or path in renamed or path in renamed.values():
            continue
        row = next(row for row in alone.rows if row.path == path)
        if path not in actual:
            causes.append(Diagnosis(path, "missing-leaf", "it is missing."))
            continue
        if path not in alone.expected:
            causes.append(Diagnosis(path, "missing-leaf", "no leaf of this name is expected."))
            continue
        value, right = np.asarray(actual[path]), alone.expected[path]
        traced = check.taps[path] if path in check.taps else check.loss.output  # noqa: SIM401  # the values have different types
        model = expected[path] if path in expected else check.like(traced)
        plain = shape_or_dtype(path, value, model)
        if plain is not None:
            causes.append(plain)
        elif not np.isfinite(value).all():
            causes.append(Diagnosis(path, "non-finite", f"it is {row.message}: look for an overflow, log(0) or 0/0."))
        else:
            with np.errstate(all="ignore"):
                both = (right, value) if side == "autodiff" else (value, right)
                evidence = gather(check, point, path, *both, alone.tolerance[path], row.departure, effort)
                if side == "autodiff":  # the predictions are computed by JAX's program, which has the error
                    evidence = replace(evidence, traced=None, alternatives={}, paths={}, overwriting={}, terms={})
                constant = _constant_in_the_loss(check, point, evidence) if wrong == [LOSS] else []
                causes += constant or diagnose(evidence)
    first = wrong[0] if wrong else next((row.path for row in point.rows if row.verdict is Verdict.DISAGREE), None)
    if wrong and not set(wrong) - expected.keys():
        # No other quantity is computed from a parameter's gradient, so that one with a known cause says more.
        explained = {cause.path for cause in causes}
        first = next((path for path in wrong if path in explained), first)
        whole = jax.tree.leaves(point.inputs.parameters, is_leaf=lambda part: isinstance(part, Parts))
        common = _one_for_all(causes, expected.keys()) if len(whole) > 1 and not point.intermediates else []
        causes = common or causes
    # Causes that concern no single quantity come first, then those of the first wrong quantity.
    return first, sorted(causes, key=lambda cause: cause.path not in (None, first))


def _one_for_all(causes: list[Diagnosis], parameters: Collection[str]) -> list[Diagnosis]:
    """One diagnosis if the gradients of all parameters have the same wrong factor; else none."""
    first = causes[0] if causes else None
    if first is None or {cause.path for cause in causes} != set(parameters):
        return []
    if any(cause.kind != first.kind or cause.kind not in ("factor", "sign") for cause in causes):
        return []
    if not np.allclose([cause.factor or 0 for cause in causes], first.factor or 0, rtol=1e-3, atol=0):
        return []
    what = "has the wrong sign" if first.kind == "sign" else f"is {first.factor:.6g} times what it should be"
    names = {cause.message.partition(" (")[2].rpartition(").")[0] for cause in causes if first.kind == "factor"}
    known = f" ({names.pop()})" if len(names) == 1 and all(names) else ""
    words = f"every gradient {what}{known}: all share this factor, so look at the first line of the backward pass."
    return [Diagnosis(None, first.kind, words, first.factor)]


def _renamed(missing: list[str], unknown: Collection[str]) -> dict[str, str]:
    """The names of gradients that differ from those of their parameters in a usual way, such as dW1 for W1."""
    found = {}
    for path in missing:
        place, dot, name = path.rpartition(".")
        for form in ("d{}", "d_{}", "g{}", "g_{}", "grad_{}", "{}_grad", "d{}_", "grad{}"):
            other = f"{place}{dot}{form.format(name)}"
            if other in unknown:
                found[path] = other
                break
    return found


def _wrong_names(renamed: dict[str, str]) -> list[Diagnosis]:
    """One diagnosis for all gradients whose names differ from those of their parameters."""
    if not renamed:
        return []
    names, others = (", ".join(some) for some in (renamed, renamed.values()))
    if len(renamed) == 1:
        return [Diagnosis(None, "missing-leaf", f"the gradient of {names} is called {others}: call it {names}.")]
    words = f"the gradients are called {others}: call them {names}, like the parameters."
    return [Diagnosis(None, "missing-leaf", words)]


def _structure_mismatches(mismatched: dict[str, str], expected: dict[str, Any]) -> list[Diagnosis]:
    """One diagnosis for each subtree of the gradients whose structure differs from that of the parameters."""
    whole = len(set(mismatched.values())) == 1 and mismatched.keys() == expected.keys()
    places = {message: path for path, message in reversed(mismatched.items())}
    return [
        Diagnosis(None, "structure", f"the gradients: {message}") if whole else Diagnosis(path, "structure", message)
        for message, path in reversed(places.items())
    ]


def _constant_in_the_loss(check: Check, point: Point, evidence: Evidence) -> list[Diagnosis]:
    """A diagnosis if the losses differ by the same amount at other points, so that no gradient depends on it."""
    here, slack = _gap(point), 0.0
    for times in (1.5, 0.6):
        try:
            elsewhere = check.at(scaled_by(times, point.inputs, np.random.default_rng(check.seed)))
        except CodeUnderTestFailed:  # the code under test may reject values that its caller never passes
            return []
        slack = max(slack, 2 * float(point.tolerance[LOSS] + elsewhere.tolerance[LOSS]))
        # If the rounding errors are as large as the differences, their equality proves nothing.
        if not abs(here - _gap(elsewhere)) <= slack <= DECISIVE * abs(here):
            return []
    named = name_constant(abs(here), slack, evidence)
    known = f" ({named})" if named else ""
    words = f"it is {'larger' if here > 0 else 'smaller'} than the reference by the constant {abs(here):.9g}{known}"
    return [evidence.says("constant", f"{words}, at this point and at others. No gradient depends on it.", here)]


def _gap(point: Point) -> float:
    return float(point.actual[LOSS]) - float(point.expected[LOSS])


def judge_alone(check: Check, point: Point) -> Point:
    """Judges each quantity given what was computed before it.

    The reference of a quantity is computed from the hand-written gradients upstream of it, so that an error upstream
    does not make it wrong. The loss, and quantities without a hand-written gradient, keep their rows.

    Args:
        check: the check.
        point: both sides' values.

    Returns:
        The same values with other rows and references.
    """
    upstream = point.upstream(check.taps)
    alone = check.compared(point.inputs, point.answer, upstream=upstream)
    as_it_was = {row.path: row for row in point.rows if row.path == LOSS or row.path in check.taps.keys() - upstream}
    return replace(alone, rows=[as_it_was.get(row.path, row) for row in alone.rows])


# ----------------------------------------------------------------------------------------- which side


def side_at_fault(check: Check, point: Point, first_wrong: str | None) -> tuple[Any, dict[str, Derivative], list[str]]:
    """Finds the wrong side: each side's gradient is compared with finite differences of its own loss.

    Args:
        check: the check.
        point: a point at which the two sides disagree.
        first_wrong: the path of the first wrong quantity.

    Returns:
        The side, "manual", "autodiff", "loss" or None if it is not known; the finite differences; and notes.
    """
    parameters = point.inputs.leaves
    wrong = {path for path in point.wrong if path in parameters}
    loss_wrong = not point.wrong.isdisjoint({LOSS, *check.outputs})
    manual = gradients_of(check, point)
    if (
        point.answer.mismatched
        or set(manual) != set(parameters)
        or any(manual[p].shape != v.shape or manual[p].dtype != v.dtype for p, v in parameters.items())
        or not all(np.isfinite(g).all() for g in manual.values())
    ):
        return "manual", {}, []
    if not wrong and not loss_wrong:
        return "manual", {}, []  # only an intermediate is wrong, and no parameter's gradient
    if not wrong:
        opinions = fits_its_loss(check, point)
        fits = all(opinion.consistent for opinion in opinions.values())
        what = "output" if check.outputs else "loss"
        note = f"the gradients agree with each other and with JAX's {what}, so the hand-written {what} is wrong."
        return "loss", opinions, [note] if fits else []
    row = next(row for row in point.rows if row.path == (first_wrong if first_wrong in wrong else min(wrong)))
    directions = {"random": random_direction(parameters, check.seed, wrong)}
    if row.worst_index is not None:
        directions["worst entry"] = along_entry(parameters, row.path, row.worst_index)
    opinions = opinions_on(check, point, directions)
    fits = {
        side: all(o.consistent for name, o in opinions.items() if name.startswith(side))
        for side in ("manual", "autodiff")
    }
    if fits["manual"] and fits["autodiff"]:
        pairs = [(opinions[f"manual, {name}"], opinions[f"autodiff, {name}"]) for name in directions]
        apart = any(abs(a.by_differences - b.by_differences) > a.error + b.error for a, b in pairs)
        if apart:
            return "loss", opinions, []
        side, opinions, notes = _by_complex_step(check, point, directions, opinions)
        # If only the leaf as a whole exceeds its tolerance, a note that both gradients fit would confuse.
        return side, opinions, [] if row.departure is not None else notes
    if fits["autodiff"]:
        return "manual", opinions, []
    if fits["manual"]:
        return "autodiff", opinions, []
    return None, opinions, ["neither gradient agrees with finite differences of its own loss: both may be wrong."]


def gradients_of(check: Check, point: Point) -> Leaves:
    """The hand-written gradients by path, including those for which there is no parameter."""
    others = {LOSS, *check.outputs, *point.intermediates}
    return {name: value for name, value in point.actual.items() if name not in others}


def _by_complex_step(
    check: Check, point: Point, directions: dict[str, Leaves], opinions: dict[str, Derivative]
) -> tuple[Any, Any, list[str]]:
    """Finds the wrong side if the error is too small for finite differences of the hand-written loss.

    The complex-step derivative of JAX's loss is more accurate. If that loss is not analytic, its finite differences in
    float64 are used. Returns the side, the finite differences as given, and notes.
    """
    for name, direction in directions.items():
        exact = complex_step(check.loss, point.inputs, direction)
        rough = opinions[f"autodiff, {name}"]
        ours, theirs = opinions[f"manual, {name}"].by_gradient, rough.by_gradient
        if exact is None and rough.error < 0.1 * abs(ours - theirs):
            exact = rough.by_differences
        if exact is None or not abs(exact - rough.by_differences) <= rough.error:
            continue
        if abs(theirs - exact) < 0.1 * abs(ours - exact):
            return "manual", opinions, []
        if abs(ours - exact) < 0.1 * abs(theirs - exact):
            return "autodiff", opinions, []
    note = "both gradients agree with finite differences of the loss, which cannot resolve their difference."
    return None, opinions, [note]


def intended(check: Check, point: Point) -> str:
    """The custom rules and stop_gradient because of which JAX's gradient is not the derivative of the loss.

    Args:
        check: the check.
        point: the point.

    Returns:
        Their names, for a note; empty unless the gradient without them agrees with finite differences of the loss.
    """
    words = rules_of_its_own(check.loss)
    if not words:
        return ""
    plain = check.loss.plain_gradient(point.inputs.parameters, *point.inputs.args)
    if plain is None:
        return ""
    opinions = fits_its_loss(check, replace(point, expected=point.expected | plain))
    return words if all(opinion.consistent for opinion in opinions.values()) else ""


def reference_at_fault(check: Check, point: Point) -> GradientReport | None:
    """A report of an error on JAX's side: its gradient is not finite, and the loss and the correct gradient are.

    Examples are `linalg.norm` at 0, and a quotient whose divisor is a difference that vanishes.

    Args:
        check: the check.
        point: the point.

    Returns:
        The report; None unless finite differences of the loss confirm the hand-written gradient.
    """
    lost = [row.path for row in point.rows if row.path in point.expected and not all_finite(point.expected[row.path])]
    if not lost or not point.loss_is_finite or LOSS in lost or not all(all_finite(point.actual[path]) for path in lost):
        return None
    if {row.path for row in point.rows if row.verdict is not Verdict.AGREE} != set(lost):
        return None
    parameters = point.inputs.leaves
    if not set(lost) <= parameters.keys():
        return None
    directions = {"random": random_direction(parameters, check.seed, set(lost))}
    for path in lost:
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(point.expected[path]))[0])
        directions[f"entry of {path}"] = random_direction(parameters, check.seed, {path}, where)
    losses, value = reference_losses(check.loss, point.inputs), float(point.expected[LOSS])
    exact, own = unit_roundoff(np.float64), unit_roundoff(check.dtype)
    opinions = {
        f"manual, {name}": derivative(losses, direction, point.actual, exact, value, 64 * own)
        for name, direction in directions.items()
    }
    if not all(opinion.consistent for opinion in opinions.values()):
        return None
    causes, rows = [], []
    for row in point.rows:
        if row.path in lost:
            right = point.expected[row.path]
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(right))[0])
            place = f" at [{', '.join(map(str, where))}]" if where else ""
            words = (
                f"it is {right[where]}{place}, where the loss is finite and its finite differences agree with the "
                "hand-written gradient."
            )
            causes.append(Diagnosis(row.path, "non-finite", words))
            row = replace(row, verdict=Verdict.DISAGREE)
        rows.append(row)
    return GradientReport(Verdict.DISAGREE, rows, lost[0], causes, "autodiff", references=opinions)
