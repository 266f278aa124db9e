"""Why a training step is wrong: both sides take one step from the same parameters and state, and the steps differ."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.edits import MOST_ENTRIES, Effort, Traced
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.diagnosis.hypotheses.constants import factor_in_words
from compare.judge.diagnosis.hypotheses.edited import edited
from compare.judge.evaluation.steps import STATE, Careful, Step, both_leaves
from compare.judge.program.evaluated import Evaluated
from compare.judge.program.plan import Step as Operation
from compare.judge.program.plan import as_it_is
from compare.judge.program.trace import Program
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.pytrees import Pytree, leaves_by_path

# The largest number of constants of a step that are tried as the decay rates of Adam's two moments.
MOST_RATES = 12
# Kinds of causes that concern the update rule itself, and are no consequences of a wrong state.
OF_THE_RULE = {"frozen", "weight-decay", "bias-correction", "stale-read", "momentum"}


def explain_step(
    own_step: Careful, reference_step: Step, before: Pytree, batch: tuple[Pytree, ...], alone: list[Row], step: int
) -> list[Diagnosis]:
    """The causes of one wrong step.

    Args:
        own_step: the hand-written step.
        reference_step: JAX's step.
        before: the parameters and the optimizer's state before the step.
        batch: the arguments of the step.
        alone: the judged leaves of this step, both sides having started from `before`.
        step: the number of the step, from 1 on.

    Returns:
        One diagnosis for each wrong leaf that has a known cause, or one for all leaves if they share the cause.
    """
    found, wrong = _of_one_step(own_step, reference_step, before, batch, alone, step)
    if all(cause.kind == "factor" for cause in found) and _buffers_are_zero(before[1]):
        later = _at_a_later_step(own_step, reference_step, before, batch, alone, step)
        found = later or found
    return _shared(found, wrong, len(leaves_by_path(before[0])))


def _of_one_step(
    own_step: Careful, reference_step: Step, before: Pytree, batch: tuple[Pytree, ...], alone: list[Row], step: int
) -> tuple[list[Diagnosis], list[str]]:
    """The causes of one wrong step, and the paths of all wrong leaves."""
    ours = own_step.whole(before, *batch)
    theirs = jax.tree.map(np.asarray, reference_step(before, *batch))
    starts, actual, expected = both_leaves(before), both_leaves(ours), both_leaves(theirs)
    wrong = [row for row in alone if row.verdict is Verdict.DISAGREE]
    clipped = _clipped_one_by_one(before, ours, theirs, [row.path for row in wrong])
    if clipped is not None:
        return [clipped], [row.path for row in wrong]
    traced = functools.cache(functools.partial(_traced_step, own_step, reference_step, before, batch, Effort()))
    found: list[Diagnosis] = []
    for row in wrong:
        path = row.path
        if any(path not in leaves or leaves[path].shape != row.shape for leaves in (starts, actual, expected)):
            continue
        start = np.asarray(starts[path], np.float64)
        moves = [np.asarray(leaves[path], np.float64) - start for leaves in (actual, expected)]
        if not np.isfinite(moves[0]).all():
            continue
        # A step is the difference of two parameters, and so has their rounding errors.
        dtype = starts[path].dtype
        eps = 2 * unit_roundoff(dtype) if jnp.issubdtype(dtype, jnp.floating) else 0.0
        rounding = 4 * eps * float(np.max(np.abs(start) + np.abs(moves[1]), initial=0.0))
        allowed = np.full(start.shape, max(row.tolerance, rounding, 1e-300))
        actual_step, expected_step = moves
        e = Evidence(
            path,
            actual_step,
            expected_step,
            allowed,
            parameter=None if path.startswith(STATE) else start,
            of_a_step=True,
            dtype=starts[path].dtype,
            traced=functools.partial(traced, path),
        )
        states = tuple(
            {at: leaf for at, leaf in leaves.items() if at.startswith("state.")}
            for leaves in (starts, actual, expected)
        )
        of_the_state = any(row.path.startswith(STATE) for row in wrong)
        cause = next(_causes(e, reference_step, before, theirs, batch, step, states, of_the_state), None)
        if cause is not None:
            found.append(cause)
    return found, [row.path for row in wrong]


def _traced_step(
    own_step: Careful, reference_step: Step, before: Pytree, batch: tuple[Pytree, ...], effort: Effort, path: str
) -> Traced | None:
    """The reference's step as a traced program whose target is the new value of one leaf; None if it is too large."""
    plan = Program(reference_step, before, *batch, narrow_stays=True).plan
    starts = both_leaves(before)
    if plan.entries() > MOST_ENTRIES:
        return None
    labels = [
        f"batch[{i}]" if name == "value" else f"batch[{i}].{name}"
        for i, each in enumerate(batch)
        for name in leaves_by_path(each)
    ]

    def evaluated(both: Pytree) -> Evaluated:
        return Evaluated(plan, [*jax.tree.leaves(both), *jax.tree.leaves(batch)])

    @functools.cache
    def elsewhere() -> list[tuple[Evaluated, np.ndarray, np.ndarray]]:
        """The next step, which starts where the reference's step ends: buffers that start at 0 are filled there."""
        further = jax.tree.map(np.asarray, reference_step(before, *batch))
        ours = own_step.if_possible(further, *batch)
        actual = None if ours is None else both_leaves(ours).get(path)
        start = np.asarray(both_leaves(further)[path], np.float64)
        if actual is None or actual.shape != start.shape or not np.isfinite(actual).all():
            return []
        return [(evaluated(further), np.asarray(actual, np.float64) - start, start)]

    names = dict(zip(plan.inputs, [*starts, *labels], strict=True))
    target = plan.outputs[list(starts).index(path)]
    start = np.asarray(starts[path], np.float64)
    return Traced(evaluated(before), target, names, effort, start=start, elsewhere=elsewhere)


def _buffers_are_zero(state: Pytree) -> bool:
    """Whether the optimizer's state has buffers that are all 0, so that the step does not show how they are used."""
    buffers = [
        np.asarray(leaf) for leaf in jax.tree.leaves(state) if np.ndim(leaf) and np.asarray(leaf).dtype.kind == "f"
    ]
    return bool(buffers) and not any(buffer.any() for buffer in buffers)


def _at_a_later_step(
    own_step: Careful, reference_step: Step, before: Pytree, batch: tuple[Pytree, ...], alone: list[Row], step: int
) -> list[Diagnosis]:
    """The causes that involve a buffer, by a comparison of the next step, because the buffers are 0 at this one.

    The next step starts where the reference's step ends.
    """
    further = jax.tree.map(np.asarray, reference_step(before, *batch))
    ours = own_step.if_possible(further, *batch)
    if ours is None:
        return []
    theirs = jax.tree.map(np.asarray, reference_step(further, *batch))
    starts, actual, expected = leaves_by_path(further[0]), leaves_by_path(ours[0]), leaves_by_path(theirs[0])
    found = []
    for row in alone:
        path = row.path
        if row.verdict is not Verdict.DISAGREE or path not in starts:
            continue
        start = np.asarray(starts[path], np.float64)
        actual_step, expected_step = (np.asarray(leaves[path], np.float64) - start for leaves in (actual, expected))
        rounding = (
            16 * unit_roundoff(starts[path].dtype) * float(np.max(np.abs(start) + np.abs(expected_step), initial=0.0))
        )
        e = Evidence(
            path, actual_step, expected_step, np.full(start.shape, max(rounding, 1e-300)), dtype=starts[path].dtype
        )
        found += list(_momentum_and_factor(e, further[1]))[:1]
    return found


def _clipped_one_by_one(before: Pytree, ours: Any, theirs: Any, wrong: list[str]) -> Diagnosis | None:
    """Each gradient is clipped by its own norm, where all should be clipped together by their global norm.

    With gradient descent, each clipped step then has the norm that all expected steps have together. The steps that
    were not clipped are all too long by the same factor.
    """
    starts, actual, expected = (leaves_by_path(both[0]) for both in (before, ours, theirs))
    if len(starts) < 2 or not set(wrong) >= set(starts) or any(actual[p].shape != expected[p].shape for p in starts):
        return None
    moves = {
        path: [np.asarray(leaves[path], np.float64) - np.asarray(start, np.float64) for leaves in (actual, expected)]
        for path, start in starts.items()
    }
    factors, norms = {}, {}
    for path, (by, should) in moves.items():
        unit = unit_roundoff(starts[path].dtype)
        size = float(np.linalg.norm(should))
        if not np.isfinite(by).all() or size == 0 or should.size < 2:
            return None
        c = float(np.vdot(by, should)) / size**2
        rounding = 64 * unit * (float(np.abs(starts[path]).max()) + size)
        if np.abs(by - c * should).max() > rounding * max(1.0, c) or rounding * should.size**0.5 > 1e-3 * size:
            return None
        factors[path], norms[path] = c, c * size
    together = float(np.sqrt(sum(np.square(np.linalg.norm(should)) for _, should in moves.values())))
    at_limit = [path for path, norm in norms.items() if np.isclose(norm, together, rtol=1e-3)]
    others = [factors[path] for path in norms if path not in at_limit]
    apart = max(factors.values()) > 1.01 * min(factors.values()) and min(factors.values()) > 1
    if len(at_limit) < 2 or not apart or (others and not np.allclose(others, others[0], rtol=1e-3)):
        return None
    words = f"the steps of {', '.join(at_limit)} are each clipped to the same norm, and should have that norm together"
    return Diagnosis(at_limit[0], "clipping", f"{words}: clip by the global norm of all gradients.")


def _causes(
    e: Evidence,
    reference_step: Step,
    before: Pytree,
    theirs: Any,
    batch: tuple[Pytree, ...],
    step: int,
    states: tuple[dict[str, np.ndarray], ...],
    state_is_wrong: bool,
) -> Iterator[Diagnosis]:
    if not e.actual.any():
        yield e.says("frozen", "it does not move at all: it is never updated.")
        return
    starts = leaves_by_path(before[0])
    if e.path in starts:
        yield from _decay_in_the_gradient(e, *states)
        buffers = [leaf for leaf in jax.tree.leaves(before[1]) if np.shape(leaf) == e.expected.shape]
        # Two moments, as in Adam: a velocity has no bias correction. A wrong moment explains a wrong step by itself.
        if len(buffers) > 1 and not state_is_wrong:
            counted = any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(before[1]))
            yield from _bias_correction(e, step, counted)
        yield from _stale_read(e, starts[e.path], reference_step, before, theirs, batch)
        yield from _momentum(e, before[1])
    if _buffers_are_zero(before[1]):  # in that case, many mistakes only multiply the step by a factor
        yield from edited(e)
    yield from diagnose(e)


def _decay_in_the_gradient(
    e: Evidence, starts: dict[str, np.ndarray], actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> Iterator[Diagnosis]:
    """Weight decay is wrongly added to the gradient, or is missing there, as the optimizer's buffers show.

    The step itself does not show it if the gradient is divided by its own size, as in Adam. A buffer that averages
    gradients differs by a multiple of the parameter. So does the square root of a buffer of squared gradients that was
    0 before, with the signs of the gradients, which are opposite to those of the step.
    """
    p = e.parameter
    if p is None or p.size < 2 or not p.any() or not (e.actual.any() and e.expected.any()):
        return
    for path, start in starts.items():
        if start.shape != p.shape or start.dtype.kind != "f" or not (path in actual and actual[path].shape == p.shape):
            continue
        ours, theirs = (np.asarray(leaves[path], np.float64) for leaves in (actual, expected))
        forms = [(path, ours, theirs)]
        if not start.any() and (ours >= 0).all() and (theirs >= 0).all():
            signs, expected_signs = -np.sign(e.actual), -np.sign(e.expected)
            forms.append((f"the root of {path}", signs * np.sqrt(ours), expected_signs * np.sqrt(theirs)))
        for what, one, other in forms:
            extra = one - other
            share = float(np.vdot(p, extra) / np.vdot(p, p))
            rounding = 16 * unit_roundoff(start.dtype) * (np.abs(one) + np.abs(other) + np.abs(share * p)).max()
            if np.abs(extra).max() > 64 * rounding and (np.abs(extra - share * p) <= rounding).all():
                done = "is added to" if share > 0 else "is missing from"
                message = f"{abs(share):.4g} times the parameter {done} {what}: weight decay in the gradient."
                yield e.says("weight-decay", message, share)
                return


def _bias_correction(e: Evidence, step: int, counted: bool) -> Iterator[Diagnosis]:
    """The bias correction of Adam's moments is missing or wrong.

    Adam's step is lr m^ / (sqrt(v^) + eps), with m^ = m / (1 - b1^t) and v^ = v / (1 - b2^t). Each mistake in the
    corrections multiplies the step by a known factor, if eps is negligible. The decay rates must be constants of the
    reference's step, and the factor must fit at the next step, too.

    Args:
        e: the evidence about a parameter's step.
        step: the number of the step, from 1 on.
        counted: whether the state counts the steps, so that the next step has the number `step + 1`.
    """
    traced = e.traced() if e.traced is not None else None
    ratio = _ratio(e.actual, e.expected)
    if traced is None or ratio is None:
        return
    later = [
        _ratio(actual, np.asarray(there.values[traced.target], np.float64) - start)
        for there, actual, start in traced.elsewhere()
    ]
    for first, second in _decay_rates(traced):
        then = _corrections(first, second, step + 1 if counted else step)
        for what, value in _corrections(first, second, step).items():
            if not np.isclose(ratio, value, rtol=2e-4) or np.isclose(value, 1, rtol=1e-2):
                continue
            if all(next_ratio is not None and np.isclose(next_ratio, then[what], rtol=2e-4) for next_ratio in later):
                known = f"for beta1 = {first:.6g}, beta2 = {second:.6g}"
                yield e.says(
                    "bias-correction", f"its step is {ratio:.4g} times the expected one: {what} ({known}).", ratio
                )
                return


def _ratio(actual: np.ndarray, expected: np.ndarray) -> float | None:
    """The common factor of a step, if its larger entries have one."""
    telling = np.abs(expected) > 0.5 * np.abs(expected).max(initial=0.0)
    if not telling.any():
        return None
    ratio = float(np.median(actual[telling] / expected[telling]))
    return ratio if np.allclose(actual[telling], ratio * expected[telling], rtol=1e-3, atol=0) else None


def _decay_rates(traced: Traced) -> Iterator[tuple[float, float]]:
    """The pairs of constants of the reference's step that may be the decay rates of Adam's two moments.

    A decay rate b is used together with 1 - b, or as b**t.
    """
    plan, values = traced.here.plan, traced.here.values
    given = {
        float(value)
        for value in values
        if value is not None and np.ndim(value) == 0 and np.asarray(value).dtype.kind == "f" and 0 < value < 1
    }
    powers = {
        float(values[step.inputs[0]]) for step in plan if step.name == "pow" and not np.ndim(values[step.inputs[0]])
    }
    rates = [rate for rate in sorted(given) if rate in powers or any(np.isclose(rate + b, 1, atol=1e-7) for b in given)]
    rates = [rate for rate in rates if rate >= 0.4][-MOST_RATES:]
    yield from combinations_with_replacement(rates, 2)


def _corrections(first: float, second: float, step: int) -> dict[str, float]:
    """The factors by which mistakes in the bias corrections multiply a step, by their descriptions."""
    one, two = 1 - first**step, 1 - second**step
    next_one, next_two = 1 - first ** (step + 1), 1 - second ** (step + 1)
    return {
        "the bias correction of both moments is missing": one / two**0.5,
        "the bias correction of the first moment is missing": one,
        "the bias correction of the second moment is missing": two**-0.5,
        "the first moment is multiplied by 1 - beta1**t, instead of divided": one**2,
        "both moments are multiplied by 1 - beta**t, instead of divided": one**2 / two,
        "both moments are divided by 1 - beta at every step, instead of by 1 - beta**t": (
            one / (1 - first) * ((1 - second) / two) ** 0.5
        ),
        "the bias correction of both moments is that of the next step, t + 1": (
            one / next_one * (next_two / two) ** 0.5
        ),
    }


def _stale_read(
    e: Evidence, start: np.ndarray, reference_step: Step, before: Pytree, theirs: Any, batch: tuple[Pytree, ...]
) -> Iterator[Diagnosis]:
    """The step is computed with another parameter that was updated too early.

    The reference's step is evaluated operation by operation, and one of the operations that use the other parameter, or
    all of them, get its new value.
    """
    updated = leaves_by_path(theirs[0])
    program = Program(reference_step, before, *batch, narrow_stays=True)
    for path, new in updated.items():
        uses = 1
        at = -1  # every operation
        while path != e.path and at < uses:
            uses, early = _with_new_value(program, before, batch, path, new, at)
            move = np.asarray(leaves_by_path(early[0])[e.path], np.float64) - start
            if e.explains(move) and np.abs(move - e.expected).max() > e.tolerance.max():
                message = f"its step is computed with the updated {path}: read every parameter before any is updated."
                yield e.says("stale-read", message)
                return
            at += 1


def _with_new_value(
    program: Program, before: Pytree, batch: tuple[Pytree, ...], path: str, new: Any, at: int
) -> tuple[int, Any]:
    """The step's result if one operation gets a parameter's new value, and how many operations use that parameter.

    Args:
        program: the reference's step.
        before: the parameters and the state before the step.
        batch: the arguments of the step.
        path: the parameter.
        new: its new value.
        at: which of the operations that use the parameter gets the new value, from 0 on; all of them for -1.

    Returns:
        The number of operations that use the parameter, and the result of the step.
    """
    place = program.plan.inputs[list(both_leaves(before)).index(path)]
    uses = 0

    def rule(step: Operation, inputs: list[Any]) -> list[Any]:
        nonlocal uses
        if place in step.inputs:
            if at in (-1, uses):
                inputs = [new if p == place else value for p, value in zip(step.inputs, inputs, strict=True)]
            uses += 1
        return step.run(inputs, as_it_is)

    result = program(before, *batch, rule=rule)
    return uses, result


def _momentum_and_factor(e: Evidence, state: Pytree) -> Iterator[Diagnosis]:
    """The step is a multiple of the expected one plus a multiple of a buffer of the state."""
    for path, buffer in leaves_by_path(state).items():
        if buffer.shape != e.expected.shape or buffer.size < 3 or not buffer.any() or buffer.dtype.kind != "f":
            continue
        columns = np.stack([e.expected.ravel(), np.asarray(buffer, np.float64).ravel()], axis=1)
        (times, share), *_ = np.linalg.lstsq(columns, e.actual.ravel(), rcond=None)
        prediction = (columns @ [times, share]).reshape(e.expected.shape)
        size, by_buffer = float(np.abs(e.expected).max()), float(np.abs(share * buffer).max())
        if by_buffer > 1e-3 * size and e.explains(prediction, max(1.0, abs(times)), fitted=2):
            yield e.says(
                "momentum",
                f"once state.{path} is not 0, its step is {factor_in_words(float(times), 1e-4)} times the expected one "
                f"plus {share:.4g} times state.{path}: that buffer is accumulated or used in a wrong way.",
                float(times),
            )
            return


def _momentum(e: Evidence, state: Pytree) -> Iterator[Diagnosis]:
    """A multiple of a buffer of the state is added to the step."""
    extra = e.actual - e.expected
    for path, buffer in leaves_by_path(state).items():
        if buffer.shape == extra.shape and buffer.size > 1 and buffer.any() and buffer.dtype.kind == "f":
            c = float(np.vdot(buffer, extra) / np.vdot(buffer, buffer))
            if e.explains(e.expected + c * np.asarray(buffer, np.float64), fitted=1):
                yield e.says("momentum", f"{c:.4g} times state.{path} is added to its step, and should not be.", c)
                return


def _shared(found: list[Diagnosis], wrong: list[str], parameters: int) -> list[Diagnosis]:
    """The diagnoses in order, or one about the update rule.

    The update rule is at fault if the steps of all parameters have the same cause, or if all are wrong without a known
    cause.
    """
    everywhere = len([path for path in wrong if not path.startswith("state.")]) == parameters > 1
    first = found[0] if found else None
    if first is not None and everywhere:
        alike = [d for d in found if d.kind == first.kind and np.isclose(d.factor or 0, first.factor or 0, rtol=1e-2)]
        if len(alike) == len(wrong):
            words = f"{first.message} The same holds for every parameter: look at the update rule."
            return [replace(first, message=words)]
    if not found and (everywhere or any(path.startswith("state.") for path in wrong)):
        what = "every parameter's step is" if everywhere else "the optimizer's state is"
        words = f"{what} wrong, and no known cause explains it: look at the update rule."
        return [Diagnosis(wrong[0], "update-rule", words)]
    # A wrong update rule comes first, then a wrong state, because steps are computed from the state.
    return sorted(found, key=lambda d: (d.kind not in OF_THE_RULE, not str(d.path).startswith("state.")))
