"""What rounding allows for a step of training, without measuring it anew at each of thousands."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.programs import Program
from compare.rounding import unit_roundoff
from compare.stepping import Step, both_leaves

# For this many steps a measured allowance is taken as a guide to the next ones'.
LATELY = 32


class Remembered:
    """What rounding allowed when it was last measured, for the steps that follow and are no smaller."""

    def __init__(self) -> None:
        self.step = self.measured = 0
        self.allowed: dict[str, np.ndarray] = {}
        self.size: dict[str, np.ndarray] = {}
        self.size_then: dict[str, np.ndarray] = {}
        self.programs: dict[Any, Program] = {}

    def begin(self, step: int, before: Any, after: Any) -> None:
        """The step that is judged next, and how large its leaves and their moves are."""
        befores = both_leaves(before)
        self.step = step
        self.size = {path: _sizes(leaf, befores[path]) for path, leaf in both_leaves(after).items() if path in befores}

    def remember(self, allowed: dict[str, np.ndarray]) -> None:
        self.measured, self.allowed, self.size_then = self.step, allowed, self.size

    def program(self, reference_step: Step, *args: Any) -> Program:
        """The reference's step, traced in the dtypes that it gets; once, unless these change."""
        leaves, tree = jax.tree.flatten(args)
        kind = (tree, *(jnp.result_type(leaf) for leaf in leaves))
        if kind not in self.programs:
            self.programs[kind] = Program(reference_step, *args, narrow_stays=True)
        return self.programs[kind]

    def allowance(self, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The last places of what is stored, or a quarter of what was allowed lately, less where things are smaller."""
        stored = {path: _storage_allowance(leaf) for path, leaf in leaves.items()}
        if not self.allowed or self.step - self.measured > LATELY:
            return stored
        return {path: np.maximum(slack, self._share(path) * self.allowed[path]) for path, slack in stored.items()}

    def _share(self, path: str) -> float:
        if path not in self.size or path not in self.size_then:
            return 0.0
        then = self.size_then[path]
        now = np.divide(self.size[path], then, out=np.ones(2), where=then > 0)
        return 0.25 * float(min(1.0, *now)) if np.isfinite(now).all() else 0.0


def _sizes(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The largest entry, and the largest move of one."""
    if after.shape != before.shape or not after.size:
        return np.zeros(2)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.asarray(after, np.float64)
        return np.array([np.abs(wide).max(), np.abs(wide - np.asarray(before, np.float64)).max()])


def _storage_allowance(leaf: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return np.zeros(leaf.shape)
    return 2 * unit_roundoff(leaf.dtype) * np.abs(leaf) + float(jnp.finfo(leaf.dtype).tiny)
