"""What is known about one wrong quantity, and what may be said about its cause."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from compare.judge.evaluation.intermediates import tapped_values
from compare.judge.evaluation.point import Check, Point
from compare.judge.program.trace import Taps
from compare.judge.reports.verdict import Diagnosis
from compare.pytrees import LOSS, Pytree, leaves_by_path

SLACK = 4.0  # times what rounding allows: a prediction has passed one more computation


@dataclass(frozen=True)
class Evidence:
    """One wrong quantity: what came, what is right, how far apart rounding allows them to be, and what is known.

    `sizes` are dimensions by name (`x.shape[1]`), `scalars` other numbers by name; `factors` arrays that might
    stand as elementwise factors (`1 - A1**2`); `alternatives`, by kind and meaning, what it would have been if
    something before it had been otherwise; `summands` arrays whose sum over some axes the quantity may be;
    `parameter` the parameter whose gradient it is; `ids` integer arguments that may pick rows; `paths`, by the name
    of a marked value, what comes back through it; `known` arrays that may stand in its place: values, arguments and
    other gradients.
    """

    path: str
    came: np.ndarray
    right: np.ndarray
    allowed: np.ndarray
    sizes: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    summands: dict[str, np.ndarray] = field(default_factory=dict)
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)
    alternatives: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    parameter: np.ndarray | None = None
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float64))
    ids: dict[str, np.ndarray] = field(default_factory=dict)
    paths: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def wrong(self) -> np.ndarray:
        return ~(np.abs(self.came - self.right) <= self.allowed)

    @property
    def slight(self) -> bool:
        """Whether what came is right for all that a prediction is held to: anything near would explain it."""
        return bool((np.abs(self.came - self.right) <= SLACK * self.allowed).all())

    @property
    def faint(self) -> bool:
        """Whether the right values are nothing but rounding, which in another order or size is rounding again."""
        return bool((np.abs(self.right) <= self.allowed).all())

    def explains(self, prediction: np.ndarray, strength: float = 1.0) -> bool:
        """Whether what came is `prediction` to rounding. `strength`: how much it enlarges the right values."""
        if prediction.shape != self.came.shape or not np.isfinite(prediction).all():
            return False
        allowed = SLACK * max(1.0, strength) * self.allowed + 1e-14 * np.abs(prediction)
        return bool((np.abs(self.came - prediction) <= allowed).all())

    def says(self, kind: str, message: str, factor: float | None = None) -> Diagnosis:
        return Diagnosis(self.path, kind, message, factor)


def in_words(items: list[int]) -> str:
    """A list of indices, shortened."""
    runs = all(b == a + 1 for a, b in pairwise(items)) and len(items) > 3
    if runs:
        return f"{items[0]} to {items[-1]}"
    return ", ".join(map(str, items[:8])) + (", ..." if len(items) > 8 else "")


def gather(check: Check, point: Point, path: str, came: Any, right: Any, allowed: Any) -> Evidence:
    """What is known about one wrong quantity."""
    arguments = dict(zip(check.names, (point.parameters, *point.args), strict=True))
    sizes: dict[str, int] = {}
    scalars: dict[str, float] = {}
    ids: dict[str, np.ndarray] = {}
    known: dict[str, np.ndarray] = {}
    for name, argument in arguments.items():
        for leaf_path, leaf in _readable_leaves(argument).items():
            label = name if leaf_path == "value" else f"{name}.{leaf_path}"
            if leaf.ndim == 0 and leaf.dtype.kind in "fiu":
                scalars[label] = float(leaf)
            for axis, n in enumerate(leaf.shape):
                if n not in sizes.values():
                    sizes[f"{label}.shape[{axis}]"] = n
            if leaf.dtype.kind in "iu" and leaf.ndim:
                ids[label] = leaf
            if leaf.dtype.kind == "f" and leaf.ndim and not (name == check.names[0] and leaf_path == path):
                known[label] = np.asarray(leaf, np.float64)
    marked = tapped_values(check.loss, point.parameters, *point.args)
    values = {name: np.asarray(value) for name, value in marked.items() if not np.iscomplexobj(value)}
    parameters = leaves_by_path(point.parameters)
    upstream = point.upstream(check.taps)
    gradients = {name: value for name, value in point.actual.items() if name != LOSS and name not in check.taps}
    known = values | {f"d{name}": value for name, value in (gradients | upstream).items() if name != path} | known
    return Evidence(
        path,
        np.asarray(came, np.float64) if np.asarray(came).dtype != np.float64 else np.asarray(came),
        np.asarray(right),
        np.asarray(allowed),
        sizes=sizes,
        scalars=scalars,
        factors=_factors(values),
        alternatives=alternatives(check, point, path),
        summands=upstream,
        thresholds=values,
        dtype=check.dtype,
        parameter=None if path not in parameters else np.asarray(parameters[path], np.float64),
        ids=ids,
        paths=paths(check, point, path),
        known=known,
    )


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


def _readable_leaves(argument: Any) -> dict[str, np.ndarray]:
    arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, np.ndarray | float | int) else None, argument)
    return leaves_by_path(arrays)


def _factors(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a derivative may be multiplied by: each marked value, and the derivatives written with it."""
    factors: dict[str, np.ndarray] = {}
    for name, value in values.items():
        v = np.asarray(value, np.float64)
        s = np.where(v >= 0, 1, np.exp(-np.abs(v))) / (1 + np.exp(-np.abs(v)))
        factors |= {
            f"1 - {name}**2": 1 - v**2,
            f"{name} (1 - {name})": v * (1 - v),
            f"1 - {name}": 1 - v,
            f"1 - |{name}|": 1 - np.abs(v),
            f"{name}": v,
            f"{name}**2": v**2,
            f"{name} > 0": (v > 0).astype(float),
            f"1 - tanh({name})**2": 1 - np.tanh(v) ** 2,
            f"1 + {name}**2": 1 + v**2,
            f"sigmoid({name}) (1 - sigmoid({name}))": s * (1 - s),
            f"sigmoid({name})": s,
            f"silu'({name})": s * (1 + v * (1 - s)),
            f"gelu'({name}) in its tanh form": _gelu_slope(v),
        }
    return factors


def _gelu_slope(v: np.ndarray) -> np.ndarray:
    """The derivative of v (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (v + 0.044715 v**3)."""
    root = np.sqrt(2 / np.pi)
    bent = np.tanh(root * (v + 0.044715 * v**3))
    return 0.5 * (1 + bent) + 0.5 * v * (1 - bent**2) * root * (1 + 3 * 0.044715 * v**2)
