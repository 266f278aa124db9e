"""Kinks and ties: points where a function has more than one derivative, and no choice of one is a fault."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from compare.agreement import Verdict, leaves_by_path
from compare.compiling import compiled
from compare.localize import LOSS
from compare.point import Check, Point
from compare.tracing import widened


def kink(check: Check, point: Point) -> str | None:
    """Why a disagreement is none: the point is a kink or a tie, and what came is a generalized derivative there.

    Nearby, at points moved a little, both sides then agree; and what came is an average of what the gradient is
    around the point.
    """
    wrong = {path for path in point.wrong if path in leaves_by_path(point.parameters)}
    if not wrong or LOSS in point.wrong:
        return None
    random = np.random.default_rng(check.seed)
    for _ in range(2):
        try:
            near = check.at(_jittered(point.parameters, random), _jittered(point.args, random))
        except Exception:  # the code under test may refuse what its caller never gave
            return None
        if near.verdict is not Verdict.AGREE:
            return None
    if not _generalized(check, point, wrong):
        return None
    paths = ", ".join(sorted(wrong))
    return (
        f"this point is a kink or a tie, where {paths} has more than one derivative. The two sides choose "
        "different ones and agree nearby: move the point a little, or choose the same convention."
    )


def beside(check: Check, point: Point) -> Point | None:
    """A point a little away where both sides agree, or None."""
    random = np.random.default_rng(check.seed)
    try:
        near = check.at(_jittered(point.parameters, random), _jittered(point.args, random))
    except Exception:  # the code under test may refuse what its caller never gave
        return None
    return near if near.verdict is Verdict.AGREE else None


def _jittered(tree: Any, random: np.random.Generator, step: float | None = None) -> Any:
    def jitter(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray) or leaf.dtype.kind != "f" or np.isin(leaf, (0, 1)).all():
            return leaf  # labels and masks stay what they are
        far = step or (1e-4 if leaf.dtype == np.float64 else 1e-2)
        size = float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) or 1.0
        return (leaf + far * size * random.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(jitter, tree)


@functools.lru_cache(maxsize=128)
def _gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    return compiled(jax.grad(loss))


def _generalized(check: Check, point: Point, wrong: set[str]) -> bool:
    """Whether what came may be an average of the gradients right around the point.

    For pairs of wrong entries, what came must lie in the convex hull of what the gradient is nearby, seen from
    directions all around. A pair is enough to refuse full gradients for both sides of a tie.
    """
    random = np.random.default_rng(check.seed)
    gradient = _gradient(check.loss)
    with jax.enable_x64(True):
        near = [
            leaves_by_path(gradient(_jittered(widened(point.parameters), random, 1e-7), *widened(point.args)))
            for _ in range(48)
        ]
    came = leaves_by_path(point.gradients)
    entries = [
        (row.path, index) for row in point.rows if row.path in wrong for index in _worst_entries(row, came, near[0])
    ]
    cloud = np.array([[leaves[path][index] for path, index in entries] for leaves in near])
    target = np.array([float(came[path][index]) for path, index in entries])
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    rays = np.stack([np.cos(angles), np.sin(angles)])
    margin = 1e-4 * np.abs(cloud).max() + 1e-12
    return all(
        bool((target[[i, j]] @ rays <= (cloud[:, [i, j]] @ rays).max(axis=0) + margin).all())
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
