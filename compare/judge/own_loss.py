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

import numpy as np

from compare.errors import BadInput, CodeUnderTestFailed
from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.evaluation.finite_differences import (
    LARGEST,
    MARGIN,
    STEPS,
    Losses,
    both_ways,
    derivative,
    hand_losses,
    only_in,
    random_direction,
    ridders,
)
from compare.judge.evaluation.perturbed_points import DEFAULT, scaled
from compare.judge.evaluation.point import ONE_DIGIT, Answer, read_answer
from compare.judge.evaluation.side_effects import HARMLESS, Watched
from compare.judge.evaluation.wider import GONE, widened_once
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import widened
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Derivative, Diagnosis, Row, Verdict
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.judge.roundoff.tolerance import norm
from compare.pytrees import LOSS, Leaves, all_finite, leaves_by_path

DIRECTIONS = 2  # the number of random directions for each leaf, because an error may be invisible along one of them
SMALL = 256  # the largest number of entries of a wrong leaf that is differentiated entry by entry
STEP = 2.0**-17  # the step of central differences in float64, relative to the norm of a leaf
NEARBY = "parameters moved a little"
ELSEWHERE = {NEARBY: scaled(1.0), DEFAULT[0].name: DEFAULT[0].move}  # the perturbed points, by name
SIZES = (*LARGEST, 2.0**-22)  # the largest steps of the extrapolations that are compared with each other
SHOWN = 8  # the number of wrong entries at which bisection stops

Slope = Callable[[np.ndarray], tuple[float, float]]  # direction of one leaf -> (slope of the loss, its rounding error)


@dataclass(frozen=True)
class OwnLoss:
    """The hand-written loss along lines through a point, in the widest dtype in which it works.

    Attributes:
        losses: the loss along a direction.
        unit: its unit roundoff.
        value: its value at the point.
        here: whether the point is the caller's. At other points, a noisy loss leads to no verdict.
    """

    losses: Losses
    unit: float
    value: float
    here: bool = True

    def along(self, direction: Leaves, gradient: Leaves, own: float) -> Derivative:
        """Compares a gradient with finite differences along a direction.

        If they disagree, the noise of the loss is measured. A loss that is sampled, or computed by iteration, is not
        smooth, and Ridders' error estimate, which compares a few differences, may miss that.

        Args:
            direction: the direction, by path.
            gradient: the gradient, by path.
            own: the unit roundoff of the gradient.

        Returns:
            The slope by the gradient, the slope by finite differences, and the error estimate of the latter.
        """
        found = derivative(self.losses, direction, gradient, self.unit, self.value, own)
        if found.consistent:
            return found
        noise = self.noise(direction)
        if noise <= 16 * self.unit * abs(self.value):
            return replace(found, error=found.error + MARGIN * self._apart(direction))
        if not self.here:
            return replace(found, error=np.inf)
        steps = LARGEST[0] * 2.0 ** -np.arange(STEPS)
        slope, error = ridders(both_ways(self.losses, direction, steps), steps)
        return Derivative(found.by_gradient, slope, found.error + MARGIN * (error + noise / float(steps[-1])))

    def _apart(self, direction: Leaves) -> float:
        """The amount by which the two best extrapolations, from steps of different sizes, disagree beyond their errors.

        If a loss has jumps or kinks that are close together, Ridders' error estimate of one extrapolation may be too
        small.
        """
        tried = []
        for largest in SIZES:
            steps = largest * 2.0 ** -np.arange(STEPS)
            values = both_ways(self.losses, direction, steps)
            slope, error = ridders(values, steps)
            error += 8 * self.unit * float(np.abs(values).max(initial=0.0)) / float(steps[STEPS // 2])
            if np.isfinite([slope, error]).all():
                tried.append((error, slope))
        (_, best), (error, second) = sorted(tried)[:2] if len(tried) > 1 else [(np.inf, 0.0)] * 2
        return max(abs(best - second) - error, 0.0) if len(tried) > 1 else np.inf

    def noise(self, direction: Leaves) -> float:
        """The standard deviation of the loss's noise along a direction, from fourth differences with tiny steps.

        Source: Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33, 2011.
        """
        values = self.losses(direction, 2.0**-24 * np.arange(9))
        return float(np.sqrt(np.mean(np.diff(values, 4) ** 2) / 70))  # 70 = 8! / (4!)^2

    def size_along(self, direction: Leaves) -> float:
        """The larger |loss| of two points: the point itself and one near it along a direction."""
        return max(abs(self.value), abs(float(self.losses(direction, np.array([LARGEST[0]]))[0])))

    def slope(self, direction: Leaves) -> tuple[float, float]:
        """A central difference along a direction, and an estimate of its rounding error."""
        step = STEP if self.unit < 1e-12 else self.unit ** (1 / 3)
        there, back = map(float, self.losses(direction, np.array([step, -step])))
        size = max(abs(there), abs(back))
        return (there - back) / (2 * step), 4 * self.unit * size / step


def check_by_differences(
    watched: Watched, inputs: Inputs, seed: int, why: str, outputs: tuple[str, ...] = ()
) -> GradientReport:
    """Compares gradients with finite differences of the hand-written loss.

    Args:
        watched: the function under test.
        inputs: its parameters and arguments.
        seed: the seed of the directions.
        why: the reason why there is no other reference, for the note in the report.
        outputs: the names of outputs that the function returns last, which are not compared here.

    Returns:
        A report with a row for each parameter.

    Raises:
        BadInput: a ValueError, if the function returns no loss.
    """
    try:
        answer = _answer(watched, inputs, outputs)
    except CodeUnderTestFailed as failure:  # at the caller's own point
        raise failure.error from None
    if answer.without_loss:
        raise BadInput(
            f"there is no loss to compare with: pass one that JAX can trace, or return one from {watched.called}."
        )
    watched.same_again(answer.leaves, inputs, after="at once")
    report = _at(watched, answer, inputs, seed)
    probe, arithmetic = None, list(report.arithmetic)
    for name, move in ELSEWHERE.items():
        if report.verdict is not Verdict.AGREE:
            break
        there = _elsewhere(watched, inputs.moved(move, np.random.default_rng(seed)), seed, outputs)
        arithmetic += [f"at the perturbed point {name!r}, {words}" for words in there.arithmetic if name != NEARBY]
        if there.verdict is Verdict.DISAGREE:
            report, probe = there, name
    watched.same_again(answer.leaves, inputs, after="after other calls")
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


def _answer(watched: Watched, inputs: Inputs, outputs: tuple[str, ...]) -> Answer:
    return read_answer(watched(inputs), inputs, inputs.dtype, outputs=outputs, called=watched.called)


def _elsewhere(watched: Watched, inputs: Inputs | None, seed: int, outputs: tuple[str, ...]) -> GradientReport:
    """The report at a perturbed point, where only a gradient that is finite and wrong counts as an error."""
    nothing = GradientReport(Verdict.AGREE, [])
    if inputs is None:
        return nothing
    try:
        with np.errstate(all="ignore"):
            answer = _answer(watched, inputs, outputs)
            if not np.isfinite(answer.actual[LOSS]).all():
                return nothing
            lost = [path for path, value in answer.actual.items() if not all_finite(value)]
            if lost:
                words = [f"the hand-written gradient of {path} is not finite." for path in lost]
                return replace(nothing, arithmetic=words)
            return _at(watched, answer, inputs, seed, np.inf)
    except CodeUnderTestFailed:  # the code under test may reject values that its caller never passes
        return nothing


def _at(watched: Watched, answer: Answer, inputs: Inputs, seed: int, most: float = ONE_DIGIT) -> GradientReport:
    own = OwnLoss(*hand_losses(watched, inputs, inputs.dtype), float(answer.actual[LOSS]), bool(np.isfinite(most)))
    rows, causes, opinions, arithmetic = [], [], {}, []
    wide: Leaves | None = None
    for path, leaf in inputs.leaves.items():
        misfit = _misfit(path, leaf, answer)
        if not np.isfinite(own.value):
            message = f"the hand-written loss is {own.value}"
            row = Row(path, Verdict.INCONCLUSIVE, leaf.shape, str(leaf.dtype), float("nan"), message=message)
        elif misfit is not None:
            row, cause = misfit
            causes.append(cause)
        else:
            gradient = answer.actual[path]
            directions = [random_direction(inputs.leaves, seed + 7 * k, {path}) for k in range(DIRECTIONS)]
            alone = only_in(inputs.leaves, path, gradient)
            found = [own.along(drawn, alone, 64 * unit_roundoff(leaf.dtype)) for drawn in directions]
            opinions |= {f"manual, {path}, {k}": opinion for k, opinion in enumerate(found)}
            row = _judged(own, inputs, path, gradient, found)
            if row.verdict is Verdict.DISAGREE:
                wide = _wider(watched, inputs) if wide is None else wide
                lost = _lost_digits(wide.get(path), leaf.shape, [drawn[path] for drawn in directions], found)
                if lost is not None and lost <= most:
                    row = replace(row, verdict=Verdict.AGREE, message="")
                    arithmetic.append(f"{path} loses digits in {leaf.dtype}. It is correct in a wider dtype.")
                elif lost is not None:
                    words = f"it has no correct digit in {leaf.dtype}, and is correct in a wider dtype"
                    row = replace(row, verdict=Verdict.INCONCLUSIVE, message=words)
            if row.verdict is Verdict.DISAGREE:
                causes += _causes(own, inputs, path, gradient, found[0], directions[0][path])
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


def _wider(watched: Watched, inputs: Inputs) -> Leaves:
    """The gradients of the function under test in a wider dtype, by path; empty if it does not work in one."""
    try:
        return leaves_by_path(watched.unwatched(widened_once(inputs))[1])
    except CodeUnderTestFailed:  # it does not work in the wider dtype
        return {}


def _lost_digits(
    wide: np.ndarray | None, shape: tuple[int, ...], directions: list[np.ndarray], opinions: list[Derivative]
) -> float | None:
    """The largest relative error along a direction, if it disappears in a wider dtype, as only rounding errors do.

    Args:
        wide: the gradient in the wider dtype; None if there is none.
        shape: the shape that it must have.
        directions: the directions along which the gradient was compared.
        opinions: the results of these comparisons.

    Returns:
        The relative error; None if it does not disappear, or if there is no gradient in a wider dtype.
    """
    if wide is None or wide.shape != shape:
        return None
    lost = 0.0
    for direction, opinion in zip(directions, opinions, strict=True):
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


def _judged(own: OwnLoss, inputs: Inputs, path: str, gradient: np.ndarray, opinions: list[Derivative]) -> Row:
    leaf = inputs.leaves[path]
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
    size_there = (
        own.size_along(random_direction(inputs.converted(widened).leaves, 0)) if worst.error > 0.5 * largest else 0.0
    )
    # For a gradient of 0, the error is compared with the loss instead.
    if worst.error > 0.5 * largest and not worst.error <= own.unit**0.5 * size_there:
        return row(
            Verdict.INCONCLUSIVE,
            "finite differences of the loss are too inaccurate: the loss may have jumps or lose digits",
        )
    return row(Verdict.AGREE)


def _causes(
    own: OwnLoss, inputs: Inputs, path: str, gradient: np.ndarray, whole: Derivative, signs: np.ndarray
) -> list[Diagnosis]:
    """The causes of a wrong leaf, from its entries if it is small, else from the wrong entries that bisection finds."""

    def slope(direction: np.ndarray) -> tuple[float, float]:
        return own.slope(only_in(inputs.leaves, path, direction))

    if gradient.size <= SMALL:
        expected, allowed = _entry_by_entry(slope, gradient.shape)
        allowed += 64 * unit_roundoff(gradient.dtype) * np.abs(expected).max(initial=0.0)
        evidence = Evidence(
            path,
            np.asarray(gradient, np.float64),
            expected,
            allowed,
            sizes=_sizes(inputs),
            parameter=np.asarray(inputs.leaves[path], np.float64),
            dtype=inputs.dtype,
        )
        with np.errstate(all="ignore"):
            return diagnose(evidence)
    found = _bisected(slope, gradient, signs, whole)
    if not found:
        return []
    places = ", ".join(f"[{', '.join(map(str, index))}]" for index in found)
    if len(found) == 1:
        expected, _ = slope(_entry(gradient.shape, found[0]))
        actual = float(gradient[found[0]])
        words = f"one entry of {gradient.size} is wrong: {places} is {actual:.9g}, where {expected:.9g} is expected."
        return [Diagnosis(path, "single-entry", words)]
    return [Diagnosis(path, "single-entry", f"entries such as {places} are wrong.")] if len(found) < SHOWN else []


def _sizes(inputs: Inputs) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for number, leaves in enumerate(inputs.by_argument.values()):
        for path, leaf in leaves.items():
            for axis, n in enumerate(leaf.shape):
                label = "parameters" if not number else f"argument {number}"
                sizes.setdefault(f"{label}{'' if path == 'value' else '.' + path}.shape[{axis}]", n)
    return sizes


def _entry(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    one = np.zeros(shape)
    one[index] = 1.0
    return one


def _entry_by_entry(slope: Slope, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    expected, allowed = np.zeros(shape), np.zeros(shape)
    for index in np.ndindex(shape):
        expected[index], error = slope(_entry(shape, index))
        allowed[index] = 4 * error + 1e-7 * abs(expected[index])
    return expected, allowed


def _bisected(slope: Slope, gradient: np.ndarray, signs: np.ndarray, whole: Derivative) -> list[tuple[int, ...]]:
    """The indices of wrong entries, at most SHOWN, found by bisection.

    Args:
        slope: the slope of the loss along a direction of the wrong leaf.
        gradient: the hand-written gradient of the leaf.
        signs: the direction along which the gradient was compared.
        whole: the result of that comparison.
    """
    flat, products = signs.ravel(), np.asarray(gradient, np.float64).ravel() * signs.ravel()

    def error_along(part: np.ndarray) -> float:
        direction = np.zeros(flat.size)
        direction[part] = flat[part]
        expected, _ = slope(direction.reshape(gradient.shape))
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
