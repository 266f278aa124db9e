"""Wrong elementwise factors and masks, weight decay, and gradients computed from a wrong upstream gradient.

That actual f = expected g shows the ratio g / f of the two gradients, and not that the right gradient has the factor f:
other factors have the same ratio. So a factor is named as expected only if it occurs in the reference's backward pass.
"""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from scipy.special import gammaln

from compare.judge.diagnosis.evidence import CHANCE, MARGIN, Evidence
from compare.judge.reports.verdict import Diagnosis

# The largest number of entries at which values of the reference's program are compared with a factor.
MOST_SAMPLED = 1024


def elementwise_factor(e: Evidence) -> Iterator[Diagnosis]:
    """An elementwise factor is missing or squared, or a division by it is."""
    same = _same_shape(e)
    spread = {name: f for name, f in e.known.items() if _spreads(f, e.expected)}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for name, f in same.items():
            if e.explains(e.expected * f):
                if _is_divisor(e, name, f):
                    yield e.says("missing-factor", f"the division by {name} is missing.")
                elif _occurs(e, f) is not False:
                    yield e.says("extra-factor", f"it is multiplied by {name} once too often.")
                else:
                    continue
                return
        for name, f in (same | spread).items():
            if _explains_quotient(e, f, np.ones_like(f)):
                if _occurs(e, f) is not False:
                    what = name if name.startswith("the ") else f"the factor {name}"
                    yield e.says("missing-factor", f"{what} is missing.")
                elif _is_divisor(e, name, f):
                    yield e.says("extra-factor", f"it is divided by {name} once too often.")
                else:
                    continue
                return


def another_factor(e: Evidence) -> Iterator[Diagnosis]:
    """One elementwise factor is used instead of another."""
    same = _same_shape(e)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A mask comes before a formula that has the same values, which happens at zeros.
        rank = {name: (not _is_mask(f), not name.startswith(f"{e.path} ")) for name, f in same.items()}
        for name, other in sorted(_fitting_pairs(e, same), key=lambda pair: rank[pair[0]]):
            if _explains_quotient(e, same[name], same[other]) and _is_factor(e, name, same[name]):
                mask = "the mask " if _is_mask(same[name]) else ""
                yield e.says("wrong-factor", f"the factor is {other}, and should be {mask}{name}.")
                return


def ratio(e: Evidence) -> Iterator[Diagnosis]:
    """It is the expected gradient times or divided by an array, which need not be a factor of either."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for name, f in _same_shape(e).items():
            if e.explains(e.expected * f):
                yield e.says("extra-factor", f"it is what it should be, times {name}.")
                return
            if _explains_quotient(e, f, np.ones_like(f)):
                yield e.says("missing-factor", f"it is what it should be, divided by {name}.")
                return


def _same_shape(e: Evidence) -> dict[str, np.ndarray]:
    return {name: f for name, f in e.factors.items() if f.shape == e.expected.shape and np.ptp(f) > 0}


def _is_power(name: str) -> bool:
    """Whether a factor is a value or its square, and no formula such as 1 - y**2."""
    return not any(sign in name for sign in (" - ", " + ", " > ", "'", "sigmoid(")) and " (1" not in name


def _is_factor(e: Evidence, name: str, f: np.ndarray) -> bool:
    """Whether the right gradient has a factor. Without the reference's program, a formula counts as one."""
    found = _occurs(e, f)
    return not _is_power(name) if found is None else found


def _is_divisor(e: Evidence, name: str, f: np.ndarray) -> bool:
    """Whether the reference's backward pass divides by a value, on the way to the quantity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return not name.endswith("**2") and _is_power(name) and bool(f.all()) and bool(_occurs(e, 1 / f))


def _occurs(e: Evidence, f: np.ndarray) -> bool | None:
    """Whether the reference's backward pass multiplies an earlier value by c f on the way to the quantity, for some c.

    The product may take several operations: JAX computes g (1 - t**2) as g (1 - t) + g (1 - t) t.

    Returns:
        None if there is no program.
    """
    traced = e.traced() if e.traced is not None else None
    if traced is None:
        return None
    shape, values = e.expected.shape, traced.here.values
    some = np.linspace(0, e.expected.size - 1, min(e.expected.size, MOST_SAMPLED)).astype(int)

    def sample(place: int) -> np.ndarray | None:
        value = values[place]
        if value is None or np.asarray(value).dtype.kind not in "fi" or np.shape(value) not in (shape, ()):
            return None
        found = np.broadcast_to(np.asarray(value, np.float64), shape).ravel()[some]
        return found if np.isfinite(found).all() and found.any() else None

    steps = [traced.here.plan.steps[number] for number in traced.here.leading_to(traced.target)]
    made = [place for step in steps for place in step.outputs]  # in the order of evaluation, after what is given
    places = [*({place for step in steps for place in step.inputs} - set(made)), *made]
    back = {place for step in steps if id(step) in traced.backward for place in step.outputs}
    sampled = [(place, value) for place in places if (value := sample(place)) is not None]
    # A value such as 1 = w (1 / w) shows nothing.
    numbers = [n for n, (place, value) in enumerate(sampled) if place in back and np.ptp(value) > 0]
    if not numbers:
        return False
    after, order = np.array([sampled[n][1] for n in numbers]), np.array(numbers)
    largest, at = np.abs(after).max(axis=1), np.broadcast_to(f, shape).ravel()[some]
    # Gradients are multiplied on the way, and forward values are not: x (1 / x**0.5) is a factor x**0.5.
    befores = [(n, value) for n, (place, value) in enumerate(sampled) if place in back or place not in made]
    for number, before in [(-1, np.ones(len(some))), *befores]:
        product = before * at
        squares = float(product @ product)
        if not 0 < squares < np.inf:
            continue
        left = after - np.outer(after @ product / squares, product)
        if ((np.abs(left).max(axis=1) <= 1e-6 * largest) & (order > number)).any():
            return True
    return False


def along_another_axis(e: Evidence) -> Iterator[Diagnosis]:
    """A vector of weights multiplies a square matrix along the wrong axis."""
    for name, w in e.known.items():
        if w.ndim != 1 or w.size < 2:
            continue
        axes = [axis for axis, n in enumerate(e.expected.shape) if n == w.size]
        shapes = {axis: [w.size if i == axis else 1 for i in range(e.expected.ndim)] for axis in axes}
        for one, other in permutations(axes, 2):
            if _explains_quotient(e, w.reshape(shapes[one]), w.reshape(shapes[other])):
                message = f"{name} multiplies it along axis {other}, and should multiply it along axis {one}."
                yield e.says("wrong-axis", message)
                return


def _fitting_pairs(e: Evidence, factors: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """The pairs of factors that explain the entry with the largest error: few of them do, and only these are tried."""
    if not factors:
        return []
    names = list(factors)
    at = np.unravel_index(np.argmax(np.abs(e.actual - e.expected)), e.expected.shape)
    values = np.array([f[at] for f in factors.values()])
    actual, expected, allowed = e.actual[at], e.expected[at], e.tolerance[at]
    f, g = values[:, None], values
    fits = np.abs(actual * f - expected * g) <= MARGIN * (allowed * (np.abs(g) + 1) + 1e-14 * np.abs(actual * f))
    return [(names[i], names[j]) for i, j in np.argwhere(fits) if i != j]


def _spreads(f: np.ndarray, expected: np.ndarray) -> bool:
    """Whether an array can be broadcast to another one's shape, as a gain can, and has different entries."""
    fits = f.ndim <= expected.ndim and all(
        n in (1, m) for n, m in zip(f.shape[::-1], expected.shape[::-1], strict=False)
    )
    return fits and f.size > 1 and bool(np.ptp(f) > 0)


def missing_mask(e: Evidence) -> Iterator[Diagnosis]:
    """It should be 0 where a mask is 0, and is not; the rest is right."""
    for name, f in sorted(e.factors.items(), key=lambda item: not item[0].startswith(f"{e.path} ")):
        zero = f == 0
        if (
            f.shape != e.expected.shape
            or not _is_mask(f)
            or not np.array_equal(zero, e.wrong)
            or not zero.any()
            or e.expected[zero].any()
        ):
            continue
        # The number of ways to choose as many entries is the number of masks that could fit by chance. And where the
        # mask is 1, most entries must be nonzero, or it would not show that this mask belongs there.
        count, of = int(zero.sum()), zero.size
        ways = gammaln(of + 1) - gammaln(count + 1) - gammaln(of - count + 1)
        if ways - np.log(len(e.factors)) > -np.log(CHANCE) and np.count_nonzero(e.expected[~zero]) > 0.5 * (of - count):
            is_threshold = name.endswith(" > 0")
            where = f"{name.removesuffix(' > 0')} <= 0" if is_threshold else f"{name} is 0"
            what = f"the mask {name}" if is_threshold else f"the factor {name}"
            yield e.says("missing-mask", f"it should be 0 where {where}: {what} is missing.")
            return


def _is_mask(f: np.ndarray) -> bool:
    """Whether every entry is 0 or 1."""
    return bool(((f == 0) | (f == 1)).all())


def line_factors(e: Evidence) -> Iterator[Diagnosis]:
    """Each line along an axis has a factor of its own."""
    for axis in range(e.expected.ndim):
        n = e.expected.shape[axis]
        actual, expected, allowed = (
            np.moveaxis(a, axis, 0).reshape(n, -1) for a in (e.actual, e.expected, e.tolerance)
        )
        telling = (expected**2).sum(axis=1)
        if n < 2 or expected.shape[1] < 2 or not telling.all():
            continue
        factors = (actual * expected).sum(axis=1) / telling
        tolerance = MARGIN * allowed * np.maximum(1, np.abs(factors))[:, None] + 1e-14 * np.abs(actual)
        if not e.decides(actual - factors[:, None] * expected, tolerance, actual - expected, fitted=n):
            continue
        for name, known in e.known.items():
            if (
                known.size == n
                and known.all()
                and np.allclose(factors * known.ravel(), known.flat[0], rtol=1e-9, atol=0)
            ):
                yield e.says(
                    "line-factors", f"the first entry of {name} is used instead of each entry, along axis {axis}."
                )
                return
        amounts = list(dict.fromkeys(f"{factor:.4g}" for factor in factors))
        listed = ", ".join(amounts[:5]) + (", ..." if len(amounts) > 5 else "")
        yield e.says("line-factors", f"each line along axis {axis} has another factor, and should have 1: {listed}.")
        return


def _explains_quotient(e: Evidence, f: np.ndarray, g: np.ndarray) -> bool:
    """Whether actual = expected g / f, compared as actual f = expected g, because f may be 0."""
    if ((np.abs(e.actual) > e.tolerance) & (f == 0) & (g == 0)).any():
        return False  # if g were the factor, the actual value would be 0 there
    allowed = MARGIN * (e.tolerance * (np.abs(g) + 1) + 1e-14 * np.abs(e.actual * f))
    return e.decides(e.actual * f - e.expected * g, allowed, e.error * f)


def weight_decay(e: Evidence) -> Iterator[Diagnosis]:
    """A multiple of the parameter is added to the gradient or the step, or is missing there."""
    p = e.parameter
    if p is None or not p.any() or p.shape != e.expected.shape or p.size < 2:
        return
    decay = float(np.vdot(p, e.error) / np.vdot(p, p))
    if not decay or not e.explains(e.expected + decay * p, fitted=1):
        return
    # If the multiple depends on the parameters, it belongs to something else, such as the gradient of a norm.
    nearby = None if e.decays_nearby is None else e.decays_nearby()
    rounding = np.linalg.norm(e.tolerance) / np.linalg.norm(p)
    if nearby is not None and not np.all(np.abs(nearby - decay) <= 1e-4 * abs(decay) + MARGIN * rounding):
        return
    much = abs(decay)
    if e.of_a_step:  # a step subtracts the gradient, so that the sign is the opposite one
        done = "should also be subtracted, and is not" if decay > 0 else "is subtracted, and should not be"
        words = f"{much:.6g} times the parameter {done}: weight decay, times the learning rate."
    else:
        done = "is missing" if decay < 0 else "is added to it"
        penalty = f"the derivative of a penalty such as {much / 2:.6g} sum({e.path}**2)"
        words = f"{much:.6g} times the parameter {done}: {penalty}, or weight decay."
    yield e.says("weight-decay", words, decay)


def error_upstream(e: Evidence) -> Iterator[Diagnosis]:
    """It is what another upstream gradient or parameter would lead to, as listed in `Evidence.alternatives`."""
    for (kind, message), value in e.alternatives.items():
        if e.explains(value):
            yield e.says(kind, message)
            return
