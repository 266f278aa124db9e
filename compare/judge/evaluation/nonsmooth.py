"""Nonsmooth points: where a function has more than one derivative, and no choice of one is a fault."""

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
from compare.pytrees import LOSS, Leaves, Pytree, leaves_by_path


def kink(check: Check, point: Point) -> str | None:
    """Why a disagreement is none: the point is a kink or a tie, and what came is a generalized derivative there.

    Nearby, at points moved a little, both sides then agree, but for other such points: among numbers of 16 bits there
    are ties everywhere. And what came is an average of what the gradient is around the point.
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
        f"this point is a nonsmooth one, where {names} has more than one derivative. The two sides choose "
        "different ones and agree nearby: move the point a little, or choose the same convention."
    )


def _is_tie(check: Check, point: Point) -> bool:
    wrong = point.wrong
    of_gradients = wrong.isdisjoint({LOSS, *check.outputs}) and wrong <= point.expected.keys()
    return bool(wrong) and of_gradients and _generalized(check, point, wrong)


def beside(check: Check, point: Point) -> Point | None:
    """A point a little away where both sides agree, or None."""
    near = a_little_away(check, point, np.random.default_rng(check.seed))
    return near if near is not None and near.verdict is Verdict.AGREE else None


def a_little_away(check: Check, point: Point, random: np.random.Generator) -> Point | None:
    """Both sides at a point moved a little. Arguments that may be labels, masks or grids stay what they are."""

    def jitter(leaf: Any) -> Any:
        return leaf if is_floating(leaf) and structured(leaf) else _jittered(leaf, random)

    try:
        return check.at(_jittered(point.parameters, random), jax.tree.map(jitter, point.args))
    except CodeUnderTestFailed:  # it may refuse what its caller never gave it
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
    """The rule that moves the input of every nonsmooth operation by some ten-millionths of its size.

    All entries one way if `together`, which a convention such as `>=` comes to, or else each its own way. Moved here
    and not only at the parameters: many entries may stand at a nonsmooth point that no move of the parameters leaves.
    """

    def __init__(self, seed: int, together: bool, times: float = 1.0) -> None:
        self.random, self.together, self.times = np.random.default_rng(seed), together, times

    def __call__(self, step: Step, inputs: list[Any]) -> list[Any]:
        if step.name != "nudged" or step.decided:  # the floor of a number is at no border, though it be one
            return step.run(inputs, self)
        value = np.asarray(inputs[0])
        signs = self.random.choice((-1.0, 1.0), () if self.together else value.shape)
        size = float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))) if value.size else 0.0
        far = self.times * max(1e-7, 8 * unit_roundoff(value.dtype)) * (size if 0 < size < np.inf else 1.0)
        return [(value + far * signs * self.random.uniform(0.5, 1.5, value.shape)).astype(value.dtype)]


WIDER = 8.0  # times as far are nonsmooth operations moved to see whether what they make of it is a jump


def _generalized(check: Check, point: Point, wrong: set[str]) -> bool:
    """Whether what came may be an average of the gradients right around the point, which is a nonsmooth one.

    For pairs of wrong entries, what came must lie in the convex hull of what the gradient is nearby, seen from
    directions all around. A pair is enough to refuse full gradients for both sides of a tie. And the hull must not
    shrink with the neighborhood: where it does, the gradient is continuous there, and any small error would lie in it.
    """
    if any(np.iscomplexobj(point.actual[path]) for path in wrong if path in point.actual):
        return False

    def beside(sample: int, times: float) -> Leaves:
        start = widened(point.parameters)
        random = np.random.default_rng([check.seed, sample])  # near and wide differ in nothing but how far
        if sample % 2:
            start = _jittered(start, random, times * 1e-7)  # for operations whose inputs have no marker
        taps = Taps()
        nudges = _Nudges(sample, sample % 4 == 0, times)
        _, right = check.loss.gradient(start, *point.args, rule=nudges, taps=taps)
        none = {name: np.zeros(check.taps[name].shape) for name in point.intermediates}
        return leaves_by_path(right) | none | taps.gradients

    near = [beside(sample, 1.0) for sample in range(48)]
    came = point.actual
    entries = [
        (row.path, index) for row in point.rows if row.path in wrong for index in _worst_entries(row, came, near[0])
    ]
    if {path for path, _ in entries} != wrong:
        return False  # what is no number, or no gradient of that shape, is no derivative anywhere
    cloud, wide = (
        np.array([[leaves[path][index] for path, index in entries] for leaves in clouds])
        for clouds in (near, [beside(sample, WIDER) for sample in range(16)])
    )
    target = np.array([float(came[path][index]) for path, index in entries])
    spread, wider = np.ptp(cloud[:16], axis=0), np.ptp(wide, axis=0)
    error = np.abs(target - np.array([float(point.expected[path][index]) for path, index in entries]))
    jumps = (spread > 0.3 * wider) & (spread > 0.5 * error)
    rounding = np.array([float(point.tolerance[path][index]) for path, index in entries])  # what came is rounded
    beyond = error > rounding
    if not beyond.any() or not jumps[beyond].all():  # a dtype may be wrong where no number is
        return False
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    rays = np.stack([np.cos(angles), np.sin(angles)])
    margin = 1e-4 * np.abs(cloud).max() + 1e-12
    return all(
        bool((target[[i, j]] @ rays <= (cloud[:, [i, j]] @ rays).max(axis=0) + margin + rounding[[i, j]].max()).all())
        for i in range(len(entries))
        for j in range(i, len(entries))
    )


def _worst_entries(row: Any, came: dict[str, np.ndarray], near: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    if row.verdict is not Verdict.DISAGREE or row.worst_index is None:
        return []
    difference = np.abs(np.asarray(came[row.path], np.float64) - near[row.path]).ravel()
    order = np.argsort(-difference)[:20]
    picked = [tuple(int(k) for k in np.unravel_index(i, came[row.path].shape)) for i in order]
    return list(dict.fromkeys([row.worst_index, *picked]))
