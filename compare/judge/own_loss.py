"""Compares gradients with finite differences of the hand-written loss, where there is no other reference.

JAX does not need to trace the loss. Each leaf is compared along random directions, by Ridders' extrapolation with its
error estimate. In a wrong leaf, the wrong entries are found by bisection: the error of the slope along one half of the
entries, with the same random signs, is the error along all entries minus that along the other half. So one wrong entry
of n is found by log2(n) central differences.

An error of the loss itself is not detected. Nor are errors of a gradient that are smaller than the error of the
differences, which is about 1e-10 of the loss in float64 and 1e-3 in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from compare.errors import BadInput, CodeUnderTestFailed
from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.evaluation.finite_differences import (
    LARGEST,
    MARGIN,
    STEPS,
    derivative,
    hand_losses,
    moved,
    random_direction,
    ridders,
)
from compare.judge.evaluation.perturbed_points import DEFAULT, scaled
from compare.judge.evaluation.point import ONE_DIGIT, Answer, read_answer
from compare.judge.evaluation.side_effects import HARMLESS, Watched
from compare.judge.evaluation.wider import GONE, widened_once
from compare.judge.program.trace import widened
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Derivative, Diagnosis, Row, Verdict
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import norm
from compare.pytrees import LOSS, Leaves, Pytree, all_finite, as_array, copies, leaves_by_path

DIRECTIONS = 2  # the number of random directions for each leaf, because an error may be invisible along one of them
SMALL = 256  # the largest number of entries of a wrong leaf that is differentiated entry by entry
STEP = 2.0**-17  # the step of central differences in float64, relative to the norm of a leaf
NEARBY = "parameters moved a little"
ELSEWHERE = {NEARBY: scaled(1.0), DEFAULT[0].name: DEFAULT[0].move}  # the perturbed points, by name
SIZES = (*LARGEST, 2.0**-22)  # the largest steps of the extrapolations that are compared with each other
SHOWN = 8  # the number of wrong entries at which bisection stops


@dataclass(frozen=True)
class OwnLoss:
    """The hand-written loss as a function of the parameters, in the widest dtype in which it works.

    Attributes:
        loss: the function.
        unit: its unit roundoff.
        start: the parameters, in that dtype.
        here: whether `start` is the caller's point. At other points, a noisy loss leads to no verdict.
    """

    loss: Callable[[Pytree], float]
    unit: float
    start: Pytree
    here: bool = True

    def along(self, direction: Pytree, gradient: Pytree, value: float, own: float) -> Derivative:
        """Compares a gradient with finite differences along a direction.

        If they disagree, the noise of the loss is measured. A loss that is sampled, or computed by iteration, is not
        smooth, and Ridders' error estimate, which compares a few differences, may miss that.

        Args:
            direction: a pytree like the parameters.
            gradient: a pytree like the parameters.
            value: the loss at the point.
            own: the unit roundoff of the gradient.

        Returns:
            The slope by the gradient, the slope by finite differences, and the error estimate of the latter.
        """
        losses = hand_losses(self.loss)
        found = derivative(losses, self.start, direction, gradient, self.unit, value, own)
        if found.consistent:
            return found
        noise = self.noise(direction)
        if noise <= 16 * self.unit * abs(value):
            return replace(found, error=found.error + MARGIN * self._apart(direction))
        if not self.here:
            return replace(found, error=np.inf)
        steps = LARGEST[0] * 2.0 ** -np.arange(STEPS)
        slope, error = ridders(losses(self.start, direction, np.concatenate([steps, -steps])).reshape(2, -1), steps)
        return Derivative(found.by_gradient, slope, found.error + MARGIN * (error + noise / float(steps[-1])))

    def _apart(self, direction: Pytree) -> float:
        """The amount by which the two best extrapolations, from steps of different sizes, disagree beyond their errors.

        If a loss has jumps or kinks that are close together, Ridders' error estimate of one extrapolation may be too
        small.
        """
        tried = []
        for largest in SIZES:
            steps = largest * 2.0 ** -np.arange(STEPS)
            values = hand_losses(self.loss)(self.start, direction, np.concatenate([steps, -steps])).reshape(2, -1)
            slope, error = ridders(values, steps)
            error += 8 * self.unit * float(np.abs(values).max(initial=0.0)) / float(steps[STEPS // 2])
            if np.isfinite([slope, error]).all():
                tried.append((error, slope))
        (_, best), (error, second) = sorted(tried)[:2] if len(tried) > 1 else [(np.inf, 0.0)] * 2
        return max(abs(best - second) - error, 0.0) if len(tried) > 1 else np.inf

    def noise(self, direction: Pytree) -> float:
        """The standard deviation of the loss's noise along a direction, from fourth differences with tiny steps.

        Source: Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33, 2011.
        """
        values = hand_losses(self.loss)(self.start, direction, 2.0**-24 * np.arange(9))
        return float(np.sqrt(np.mean(np.diff(values, 4) ** 2) / 70))  # 70 = 8! / (4!)^2

    def size_along(self, direction: Pytree, value: float) -> float:
        """The larger |loss| of two points: the point itself and one near it along a direction."""
        return max(abs(value), abs(self.loss(moved(self.start, direction, LARGEST[0]))))

    def slope(self, direction: Pytree) -> tuple[float, float]:
        """A central difference along a direction, and an estimate of its rounding error."""
        step = STEP if self.unit < 1e-12 else self.unit ** (1 / 3)
        there, back = (self.loss(moved(self.start, direction, h)) for h in (step, -step))
        size = max(abs(there), abs(back))
        return (there - back) / (2 * step), 4 * self.unit * size / step


def check_by_differences(
    watched: Watched,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    dtype: np.dtype,
    seed: int,
    why: str,
    outputs: tuple[str, ...] = (),
) -> GradientReport:
    """Compares gradients with finite differences of the hand-written loss.

    Args:
        watched: the function under test.
        parameters: a pytree of floating-point arrays.
        args: further arguments of the function.
        dtype: the widest dtype of the parameters.
        seed: the seed of the directions.
        why: the reason why there is no other reference, for the note in the report.
        outputs: the names of outputs that the function returns last, which are not compared here.

    Returns:
        A report with a row for each parameter.

    Raises:
        BadInput: a ValueError, if the function returns no loss.
    """
    try:
        answer = read_answer(watched(parameters, *args), parameters, dtype, outputs=outputs, called=watched.called)
    except CodeUnderTestFailed as failure:  # at the caller's own point
        raise failure.error from None
    if answer.without_loss:
        raise BadInput(
            f"there is no loss to compare with: pass one that JAX can trace, or return one from {watched.called}."
        )
    watched.same_again(answer.given, parameters, *args, after="at once")
    report = _at(watched, answer, parameters, args, dtype, seed)
    probe, arithmetic = None, list(report.arithmetic)
    for name, move in ELSEWHERE.items():
        if report.verdict is not Verdict.AGREE:
            break
        there = _elsewhere(watched, move, parameters, args, dtype, seed, outputs)
        arithmetic += [f"at the perturbed point {name!r}, {words}" for words in there.arithmetic if name != NEARBY]
        if there.verdict is Verdict.DISAGREE:
            report, probe = there, name
    watched.same_again(answer.given, parameters, *args, after="after other calls")
    unfit = [note for note in watched.diagnoses if note.kind not in HARMLESS]
    notes = [
        f"the reference is finite differences of the hand-written loss, because {why}. They cannot detect an error "
        "of the loss itself, nor one below the tolerances in the table.",
        *watched.remarks,
    ]
    verdict = Verdict.DISAGREE if unfit else report.verdict
    side = "manual" if verdict is Verdict.DISAGREE else None
    notes = [*report.notes, *notes] if verdict is Verdict.INCONCLUSIVE else [*notes, *report.notes]
    return GradientReport(
        verdict,
        report.rows,
        report.first_wrong,
        watched.diagnoses + report.diagnoses,
        side,
        probe,
        references=report.references,
        notes=notes,
        tolerance_source="Ridders' error estimate of the finite differences, and the loss's rounding error in them.",
        arithmetic=arithmetic,
    )


def _elsewhere(
    watched: Watched,
    move: Callable[..., Any],
    parameters: Pytree,
    args: tuple[Pytree, ...],
    dtype: np.dtype,
    seed: int,
    outputs: tuple[str, ...],
) -> GradientReport:
    """The report at a perturbed point, where only a gradient that is finite and wrong counts as an error."""
    there = move(parameters, args, np.random.default_rng(seed))
    nothing = GradientReport(Verdict.AGREE, [])
    try:
        with np.errstate(all="ignore"):
            answer = read_answer(watched(there[0], *there[1]), there[0], dtype, outputs=outputs)
            if not np.isfinite(answer.actual[LOSS]).all():
                return nothing
            lost = [path for path, value in answer.actual.items() if not all_finite(value)]
            if lost:
                words = [f"the hand-written gradient of {path} is not finite." for path in lost]
                return replace(nothing, arithmetic=words)
            return _at(watched, answer, there[0], there[1], dtype, seed, np.inf)
    except CodeUnderTestFailed:  # the code under test may reject values that its caller never passes
        return nothing


def _at(
    watched: Watched,
    answer: Answer,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    dtype: np.dtype,
    seed: int,
    most: float = ONE_DIGIT,
) -> GradientReport:
    own = replace(_own_loss(watched, parameters, args, dtype), here=np.isfinite(most))
    value = float(answer.actual[LOSS])
    rows, causes, opinions, arithmetic = [], [], {}, []
    wide: Leaves | None = None
    for path, leaf in leaves_by_path(parameters).items():
        misfit = _misfit(path, leaf, answer)
        if not np.isfinite(value):
            message = f"the hand-written loss is {value}"
            row = Row(path, Verdict.INCONCLUSIVE, leaf.shape, str(leaf.dtype), float("nan"), message=message)
        elif misfit is not None:
            row, cause = misfit
            causes.append(cause)
        else:
            gradient = answer.actual[path]
            found = [
                own.along(direction, _alone(parameters, path, gradient), value, 64 * unit_roundoff(leaf.dtype))
                for direction in (random_direction(parameters, seed + 7 * k, {path}) for k in range(DIRECTIONS))
            ]
            opinions |= {f"manual, {path}, {k}": opinion for k, opinion in enumerate(found)}
            row = _judged(path, leaf, gradient, found, value, own)
            if row.verdict is Verdict.DISAGREE:
                wide = _wider(watched, parameters, args) if wide is None else wide
                lost = _lost_digits(path, parameters, wide.get(path), found, seed)
                if lost is not None and lost <= most:
                    row = replace(row, verdict=Verdict.AGREE, message="")
                    arithmetic.append(f"{path} loses digits in {leaf.dtype}. It is correct in a wider dtype.")
                elif lost is not None:
                    words = f"it has no correct digit in {leaf.dtype}, and is correct in a wider dtype"
                    row = replace(row, verdict=Verdict.INCONCLUSIVE, message=words)
            if row.verdict is Verdict.DISAGREE:
                causes += _causes(own, path, parameters, args, gradient, found, seed, dtype)
        rows.append(row)
    wrong = [row.path for row in rows if row.verdict is Verdict.DISAGREE]
    verdict = Verdict.of([row.verdict for row in rows])
    undecided = [f"{row.path}: {row.message}." for row in rows if row.verdict is Verdict.INCONCLUSIVE]
    return GradientReport(
        verdict,
        rows,
        wrong[0] if wrong else None,
        causes,
        references=opinions,
        notes=undecided[:1],
        arithmetic=arithmetic,
    )


def _wider(watched: Watched, parameters: Pytree, args: tuple[Pytree, ...]) -> Leaves:
    """The gradients of the function under test in a wider dtype, by path; empty if it does not work in one."""
    try:
        with np.errstate(all="ignore"):
            _, gradients, *_ = watched.function(*copies(widened_once((parameters, *args))))
        return leaves_by_path(gradients)
    except Exception:  # whatever it raises, the code under test does not work in the wider dtype
        return {}


def _lost_digits(
    path: str, parameters: Pytree, wide: np.ndarray | None, opinions: list[Derivative], seed: int
) -> float | None:
    """The largest relative error along a direction, if it disappears in a wider dtype, as only rounding errors do.

    Returns:
        The relative error; None if it does not disappear, or if there is no gradient in a wider dtype.
    """
    if wide is None or wide.shape != leaves_by_path(parameters)[path].shape:
        return None
    lost = 0.0
    for k, opinion in enumerate(opinions):
        direction = leaves_by_path(random_direction(parameters, seed + 7 * k, {path}))[path]
        left = abs(float(np.sum(wide * direction)) - opinion.by_differences)
        before = abs(opinion.by_gradient - opinion.by_differences)
        if not left <= max(opinion.error, GONE * before):
            return None
        lost = max(lost, before / max(abs(opinion.by_differences), 1e-300))
    return lost


def _misfit(path: str, leaf: np.ndarray, answer: Answer) -> tuple[Row, Diagnosis] | None:
    """The row and the cause for a gradient with a wrong structure, shape or dtype, or that is not finite; else None."""

    def failed(message: str, cause: Diagnosis) -> tuple[Row, Diagnosis]:
        row = Row(path, Verdict.DISAGREE, leaf.shape, str(leaf.dtype), float("nan"), message=message)
        return row, cause

    if path in answer.mismatched:
        words = answer.mismatched[path]
        return failed(words.rstrip("."), Diagnosis(path, "structure", words))
    gradient = answer.actual.get(path)
    if gradient is None:
        words = "missing on the manual side"
        return failed(words, Diagnosis(path, "missing-leaf", f"{words}."))
    plain = shape_or_dtype(path, gradient, leaf)
    if plain is not None:
        words = f"{plain.kind} is {getattr(gradient, plain.kind)}, expected {getattr(leaf, plain.kind)}"
        return failed(words, plain)
    if not np.isfinite(gradient).all():
        index = np.unravel_index(np.argmin(np.isfinite(gradient)), gradient.shape)
        words = f"{gradient[index]} at [{', '.join(map(str, index))}]"
        message = f"it is {words}, although the loss is {answer.actual[LOSS]:.6g}."
        return failed(words, Diagnosis(path, "non-finite", message))
    return None


def _own_loss(watched: Watched, parameters: Pytree, args: tuple[Pytree, ...], dtype: np.dtype) -> OwnLoss:
    """The loss in float64 if the function works in float64, else in its own dtype."""
    function, wide = watched.function, widened(args)
    try:
        value = as_array(function(*copies((widened(parameters), *wide)))[0])
        if value.dtype == np.float64:
            return OwnLoss(
                lambda p: float(function(p, *copies(wide))[0]), unit_roundoff(np.float64), widened(parameters)
            )
    except Exception:  # whatever it raises, the code under test does not work in float64
        pass

    def narrow(p: Pytree) -> float:
        cast = jax.tree.map(lambda leaf, like: np.asarray(leaf).astype(like.dtype), p, parameters)
        return float(function(cast, *copies(args))[0])

    return OwnLoss(narrow, unit_roundoff(dtype), widened(parameters))


def _alone(parameters: Pytree, path: str, gradient: np.ndarray) -> Pytree:
    """A pytree like the parameters that contains the gradient of one leaf, and 0 for the other leaves."""
    leaves, tree = jax.tree.flatten(parameters)
    names = leaves_by_path(parameters)
    values = [gradient if name == path else np.zeros(np.shape(leaf)) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(tree, values)


def _judged(
    path: str, leaf: np.ndarray, gradient: np.ndarray, opinions: list[Derivative], value: float, own: OwnLoss
) -> Row:
    worst = max(opinions, key=lambda o: abs(o.by_gradient - o.by_differences) / max(o.error, 1e-300))
    size = norm(np.asarray(gradient, np.float64))

    def row(verdict: Verdict, message: str = "") -> Row:
        return Row(
            path,
            verdict,
            leaf.shape,
            str(leaf.dtype),
            size,
            abs(worst.by_gradient - worst.by_differences),
            worst.error,
            manual_value=worst.by_gradient,
            autodiff_value=worst.by_differences,
            message=message,
        )

    if not all(np.isfinite([o.by_differences, o.error]).all() for o in opinions):
        return row(Verdict.INCONCLUSIVE, "finite differences of the loss are NaN or infinite here")
    if not worst.consistent:
        words = f"along a random direction, the slope is {worst.by_gradient:.9g} by the gradient, and "
        return row(Verdict.DISAGREE, f"{words}{worst.by_differences:.9g} +- {worst.error:.1g} by finite differences")
    largest = max(max(abs(o.by_gradient), abs(o.by_differences)) for o in opinions)
    size_there = own.size_along(random_direction(own.start, 0), value) if worst.error > 0.5 * largest else 0.0
    # For a gradient of 0, the error is compared with the loss instead.
    if worst.error > 0.5 * largest and not worst.error <= own.unit**0.5 * size_there:
        return row(
            Verdict.INCONCLUSIVE,
            "finite differences of the loss are too inaccurate: the loss may have jumps or lose digits",
        )
    return row(Verdict.AGREE)


def _causes(
    own: OwnLoss,
    path: str,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    gradient: np.ndarray,
    opinions: list[Derivative],
    seed: int,
    dtype: np.dtype,
) -> list[Diagnosis]:
    """The causes of a wrong leaf, from its entries if it is small, else from the wrong entries that bisection finds."""
    if gradient.size <= SMALL:
        expected, allowed = _entry_by_entry(own, path, parameters, gradient.shape)
        allowed += 64 * unit_roundoff(gradient.dtype) * np.abs(expected).max(initial=0.0)
        evidence = Evidence(
            path,
            np.asarray(gradient, np.float64),
            expected,
            allowed,
            sizes=_sizes(parameters, args),
            parameter=np.asarray(leaves_by_path(parameters)[path], np.float64),
            dtype=dtype,
        )
        with np.errstate(all="ignore"):
            return diagnose(evidence)
    signs = random_direction(parameters, seed, {path})
    found = _bisected(own, path, parameters, gradient, leaves_by_path(signs)[path], opinions[0])
    if not found:
        return []
    places = ", ".join(f"[{', '.join(map(str, index))}]" for index in found)
    if len(found) == 1:
        expected, _ = own.slope(_entry(parameters, path, found[0]))
        actual = float(gradient[found[0]])
        words = f"one entry of {gradient.size} is wrong: {places} is {actual:.9g}, where {expected:.9g} is expected."
        return [Diagnosis(path, "single-entry", words)]
    return [Diagnosis(path, "single-entry", f"entries such as {places} are wrong.")] if len(found) < SHOWN else []


def _sizes(parameters: Pytree, args: tuple[Pytree, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for number, tree in enumerate((parameters, *args)):
        for path, leaf in leaves_by_path(tree).items():
            for axis, n in enumerate(leaf.shape):
                label = "parameters" if not number else f"argument {number}"
                sizes.setdefault(f"{label}{'' if path == 'value' else '.' + path}.shape[{axis}]", n)
    return sizes


def _entry(parameters: Pytree, path: str, index: tuple[int, ...]) -> Pytree:
    one = np.zeros(leaves_by_path(parameters)[path].shape)
    one[index] = 1.0
    return _alone(parameters, path, one)


def _entry_by_entry(
    own: OwnLoss, path: str, parameters: Pytree, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    expected, allowed = np.zeros(shape), np.zeros(shape)
    for index in np.ndindex(shape):
        expected[index], error = own.slope(_entry(parameters, path, index))
        allowed[index] = 4 * error + 1e-7 * abs(expected[index])
    return expected, allowed


def _bisected(
    own: OwnLoss, path: str, parameters: Pytree, gradient: np.ndarray, signs: np.ndarray, whole: Derivative
) -> list[tuple[int, ...]]:
    """The indices of wrong entries, at most SHOWN, found by bisection.

    Args:
        own: the loss.
        path: the wrong leaf.
        parameters: the parameters.
        gradient: the hand-written gradient of the leaf.
        signs: the direction along which the gradient was compared.
        whole: the result of that comparison.
    """
    flat, products = signs.ravel(), np.asarray(gradient, np.float64).ravel() * signs.ravel()

    def error_along(part: np.ndarray) -> float:
        direction = np.zeros(flat.size)
        direction[part] = flat[part]
        expected, _ = own.slope(_alone(parameters, path, direction.reshape(gradient.shape)))
        return float(products[part].sum()) - expected

    total = whole.by_gradient - whole.by_differences
    least = max(0.02 * abs(total), 4 * whole.error)
    found: list[tuple[int, ...]] = []
    parts = [(np.arange(flat.size), total)]
    while parts and len(found) < SHOWN:
        part, error = parts.pop()
        if len(part) == 1:
            found.append(tuple(int(i) for i in np.unravel_index(part[0], gradient.shape)))
            continue
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        along_left = error_along(left)
        halves = [(left, along_left), (right, error - along_left)]
        parts += sorted((half for half in halves if abs(half[1]) > least), key=lambda half: abs(half[1]))
    return sorted(found)
