"""Nonsmooth points, at which a function has several generalized derivatives. Each of them is correct."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.perturbed_points import cast, is_floating, structured
from compare.judge.evaluation.point import Check, Point
from compare.judge.program.plan import Step
from compare.judge.program.trace import Taps, widened
from compare.judge.reports.verdict import Verdict
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.pytrees import LOSS, Leaves, Pytree


def nonsmooth_reason(check: Check, point: Point) -> str | None:
    """The reason why a disagreement is not an error, if the point is nonsmooth.

    A disagreement is not an error if both sides agree at points nearby and the hand-written gradient is an average of
    the gradients around the point. The points nearby may be nonsmooth as well, because ties are common in 16 bits.

    Args:
        check: the functions.
        point: the point at which the two sides disagree.

    Returns:
        A sentence for the report, or None if the disagreement may be an error.
    """
    wrong = point.wrong
    if not check.loss.has_nonsmooth_points:
        return None
    if not wrong or not wrong.isdisjoint({LOSS, *check.outputs}) or not wrong <= point.expected.keys():
        return None
    random = np.random.default_rng(check.seed)
    for _ in range(2):
        near = a_little_away(check, point, random)
        if near is None or near.verdict is Verdict.INCONCLUSIVE:
            return None
        if near.verdict is Verdict.DISAGREE and not _is_tie(check, near):
            return None
    if not _generalized(check, point, wrong):
        return None
    names = ", ".join(sorted(wrong))
    return (
        f"the function is not differentiable with respect to {names} at this point. The two sides choose different "
        "derivatives and agree nearby: check at another point, or choose the same convention on both sides."
    )


def _is_tie(check: Check, point: Point) -> bool:
    """Whether only gradients differ, and the hand-written ones are generalized gradients."""
    wrong = point.wrong
    of_gradients = wrong.isdisjoint({LOSS, *check.outputs}) and wrong <= point.expected.keys()
    return bool(wrong) and of_gradients and _generalized(check, point, wrong)


def beside(check: Check, point: Point) -> Point | None:
    """A point nearby at which both sides agree; None if the first one that is tried is not such a point."""
    near = a_little_away(check, point, np.random.default_rng(check.seed))
    return near if near is not None and near.verdict is Verdict.AGREE else None


def a_little_away(check: Check, point: Point, random: np.random.Generator) -> Point | None:
    """Both sides at a point nearby, with unchanged labels, masks and grids; None if the code under test rejects it."""

    def jitter(leaf: Any) -> Any:
        return leaf if is_floating(leaf) and structured(leaf) else _jittered(leaf, random)

    try:
        parameters = _jittered(point.inputs.parameters, random)
        return check.at(replace(point.inputs, parameters=parameters, args=jax.tree.map(jitter, point.inputs.args)))
    except CodeUnderTestFailed:  # it may reject values that its caller never passes
        return None


def _jittered(tree: Pytree, random: np.random.Generator, step: float | None = None) -> Any:
    def jitter(leaf: Any) -> Any:
        if not is_floating(leaf):
            return leaf
        far = step or (1e-4 if leaf.dtype == np.float64 else 1e-2)
        size = float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) or 1.0
        return cast(np.asarray(leaf, np.float64) + far * size * random.standard_normal(leaf.shape), leaf)

    return jax.tree.map(jitter, tree)


class _Nudges:
    """A rule that perturbs the input of every nonsmooth operation by about 1e-7 of its size.

    It perturbs the inputs of operations and not only the parameters, because many entries may be at a nonsmooth point
    for all parameters.

    Args:
        seed: the seed of the perturbations.
        together: whether all entries are perturbed with the same sign, which corresponds to a convention such as `>=`.
            Otherwise, each entry has its own sign.
        times: a factor of the perturbation.
    """

    def __init__(self, seed: int, together: bool, times: float = 1.0) -> None:
        self.random, self.together, self.times = np.random.default_rng(seed), together, times

    def __call__(self, step: Step, inputs: list[Any]) -> list[Any]:
        if step.name != "nudged" or step.decided:  # the floor of a number is a decision, not a nonsmooth point
            return step.run(inputs, self)
        value = np.asarray(inputs[0])
        signs = self.random.choice((-1.0, 1.0), () if self.together else value.shape)
        size = float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))) if value.size else 0.0
        far = self.times * max(1e-7, 8 * unit_roundoff(value.dtype)) * (size if 0 < size < np.inf else 1.0)
        return [(value + far * signs * self.random.uniform(0.5, 1.5, value.shape)).astype(value.dtype)]


WIDER = 8.0  # the ratio of the sizes of two neighborhoods that show whether the gradient jumps


def _generalized(check: Check, point: Point, wrong: set[str]) -> bool:
    """Whether the hand-written gradient can be an average of the gradients around a nonsmooth point.

    For each pair of wrong entries, the hand-written values must lie in the convex hull of the gradients nearby. Pairs
    are sufficient to reject a gradient that both sides of a tie receive in full. The hull must not shrink with the
    neighborhood: if it does, the gradient is continuous, and the hull would also contain gradients with small errors.
    """
    if any(np.iscomplexobj(point.actual[path]) for path in wrong if path in point.actual):
        return False

    def beside(sample: int, times: float) -> Leaves:
        start = widened(point.inputs.parameters)
        random = np.random.default_rng([check.seed, sample])  # the same draws for both neighborhoods
        if sample % 2:
            start = _jittered(start, random, times * 1e-7)  # for operations whose inputs are not marked
        taps = Taps()
        nudges = _Nudges(sample, sample % 4 == 0, times)
        _, right = check.loss.gradient(start, *point.inputs.args, rule=nudges, taps=taps)
        none = {name: np.zeros(check.taps[name].shape) for name in point.intermediates}
        return right | none | taps.gradients

    near = [beside(sample, 1.0) for sample in range(48)]
    actual = point.actual
    entries = [
        (row.path, index) for row in point.rows if row.path in wrong for index in _worst_entries(row, actual, near[0])
    ]
    if {path for path, _ in entries} != wrong:
        return False  # NaN and values of another shape are no derivatives at any point
    cloud, wide = (
        np.array([[leaves[path][index] for path, index in entries] for leaves in clouds])
        for clouds in (near, [beside(sample, WIDER) for sample in range(16)])
    )
    target = np.array([float(actual[path][index]) for path, index in entries])
    spread, wider = np.ptp(cloud[:16], axis=0), np.ptp(wide, axis=0)
    error = np.abs(target - np.array([float(point.expected[path][index]) for path, index in entries]))
    jumps = (spread > 0.3 * wider) & (spread > 0.5 * error)
    rounding = np.array([float(point.tolerance[path][index]) for path, index in entries])
    beyond = error > rounding
    if not beyond.any() or not jumps[beyond].all():  # without wrong values, the dtype is wrong
        return False
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    rays = np.stack([np.cos(angles), np.sin(angles)])
    margin = 1e-4 * np.abs(cloud).max() + 1e-12
    return all(
        bool((target[[i, j]] @ rays <= (cloud[:, [i, j]] @ rays).max(axis=0) + margin + rounding[[i, j]].max()).all())
        for i in range(len(entries))
        for j in range(i, len(entries))
    )


def _worst_entries(row: Any, actual: dict[str, np.ndarray], near: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    """The indices of a row's worst entry and of the twenty entries that differ most from the gradient `near`."""
    if row.verdict is not Verdict.DISAGREE or row.worst_index is None:
        return []
    difference = np.abs(np.asarray(actual[row.path], np.float64) - near[row.path]).ravel()
    order = np.argsort(-difference)[:20]
    picked = [tuple(int(k) for k in np.unravel_index(i, actual[row.path].shape)) for i in order]
    return list(dict.fromkeys([row.worst_index, *picked]))
