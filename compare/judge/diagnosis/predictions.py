"""What a quantity would have been if the gradient's program had done something else on the way."""

from typing import Any

import jax
import numpy as np

from compare.judge.evaluation.point import Check, Point
from compare.judge.program.trace import Taps
from compare.pytrees import LOSS, Pytree, leaves_by_path


def alternatives(check: Check, point: Point, path: str) -> dict[tuple[str, str], np.ndarray]:
    """What a quantity would have been if something before it had been otherwise, by kind and in words."""
    if path == LOSS:
        return {}
    upstream, parameters = point.upstream(check.taps), point.parameters

    def value(parameters: Pytree, upstream: Any) -> np.ndarray:
        return _gradient(check, point, path, parameters, Taps(upstream))

    found: dict[tuple[str, str], np.ndarray] = {}
    for name, gradient in upstream.items():
        if name == path:
            continue
        for axis, n in enumerate(gradient.shape):
            for words, kept in (
                ("only the last", [n - 1]),
                ("only the first", [0]),
                ("all but the last", range(n - 1)),
            ):
                mask = np.zeros_like(gradient)
                mask[(slice(None),) * axis + (list(kept),)] = 1
                message = f"it comes from {words} along axis {axis} of d{name}, and should sum over them all."
                found["missing-sum", message] = value(parameters, upstream | {name: gradient * mask})
        for other, swapped in upstream.items():
            if other != name and swapped.shape == gradient.shape and other != path:
                message = f"it is computed from d{other}, where d{name} belongs."
                found["wrong-factor", message] = value(parameters, upstream | {name: swapped})
    leaves, tree = jax.tree.flatten(parameters)
    for i, (name, leaf) in enumerate(leaves_by_path(parameters).items()):
        if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1] > 1:
            # The forward pass stays as it is: only the backward step sees the transpose.
            turned = jax.tree.unflatten(tree, [*leaves[:i], leaf.T, *leaves[i + 1 :]])
            found["transpose", f"it is computed with the transpose of {name}."] = value(turned, upstream)
    return found


def _gradient(check: Check, point: Point, path: str, parameters: Pytree, taps: Taps) -> np.ndarray:
    """One quantity's gradient, with what `taps` puts in the place of gradients on the way."""
    _, right = check.loss.gradient(parameters, *point.args, taps=taps)
    found = taps.gradients | leaves_by_path(right)
    return np.asarray(found[path] if path in found else np.zeros(check.taps[path].shape))


def paths(check: Check, point: Point, path: str) -> dict[str, np.ndarray]:
    """What comes back to a quantity through each marked value, and is part of its gradient."""
    if path == LOSS or not check.taps:
        return {}
    cut = point.upstream(check.taps)

    def value(upstream: Any, without: str | None = None) -> np.ndarray:
        weights = {} if without is None or without in cut else {without: 0.0}
        return _gradient(check, point, path, point.parameters, Taps(upstream, weights))

    whole = value(cut)
    parts = {
        name: whole - value(cut | {name: 0 * cut[name]} if name in cut else cut, name)
        for name in check.taps
        if name != path
    }
    return {name: part for name, part in parts.items() if part.any()}
