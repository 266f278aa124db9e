"""The inputs of both sides at one point: the parameters and the further arguments.

A check reads them once. All later steps get them as one thing, alone or with a point at which they were evaluated.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from compare.pytrees import Leaves, Pytree, copies, laid_out, leaves_by_path


@dataclass(frozen=True, eq=False)
class Inputs:
    """The parameters and the further arguments of both sides.

    Attributes:
        parameters: floating-point arrays in a pytree, with respect to which the loss is differentiated.
        args: the further arguments, in pytrees.
        names: the names of the parameters and of the arguments.
        labels: replacements for some of the names in messages. An empty label means that the paths of the leaves
            suffice.
    """

    parameters: Pytree
    args: tuple[Pytree, ...] = ()
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def leaves(self) -> Leaves:
        """The leaves of the parameters, by path."""
        return leaves_by_path(self.parameters)

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """The widest dtype of the parameters."""
        with jax.enable_x64(True):
            return np.dtype(jax.numpy.result_type(*self.leaves.values()))

    @property
    def by_name(self) -> dict[str, Pytree]:
        """The parameters and the arguments, by name."""
        return dict(zip(self.names, (self.parameters, *self.args), strict=True))

    @functools.cached_property
    def by_argument(self) -> dict[str, Leaves]:
        """The leaves of the parameters and of each argument, by path, by the argument's name."""
        others = zip(self.names[1:], self.args, strict=True)
        return {self.names[0]: self.leaves} | {name: leaves_by_path(argument) for name, argument in others}

    def label(self, name: str, path: str) -> str:
        """The name of a leaf of an argument in messages."""
        called = self.labels.get(name, name)
        return ".".join(part for part in (called, "" if path == "value" else path) if part)

    def copies(self) -> tuple[Pytree, ...]:
        """(parameters, *args) with copies of all arrays, for code that may modify them."""
        return copies((self.parameters, *self.args))

    def converted(self, convert: Callable[[Any], Any]) -> "Inputs":
        """The inputs with each leaf of the parameters and of the arguments converted."""
        parameters, *args = jax.tree.map(convert, (self.parameters, *self.args))
        return replace(self, parameters=parameters, args=tuple(args))

    def moved(self, move: Callable[..., Any], random: np.random.Generator) -> "Inputs | None":
        """The inputs at another point.

        Args:
            move: `(parameters, args, random) -> (parameters, args)`, or None if it does not apply to them.
            random: the random generator.
        """
        parameters, *args = self.copies()  # which the move may modify
        there = move(parameters, tuple(args), random)
        if there is None:
            return None
        parameters, args = there
        return replace(self, parameters=parameters, args=tuple(args))

    def along(self, direction: Leaves, step: float) -> "Inputs":
        """The inputs with the parameters moved along a direction, in float64 and in their memory layouts.

        Args:
            direction: the change of each leaf of the parameters per unit step, by path.
            step: the step.
        """
        moved = {p: laid_out(np.asarray(x, np.float64) + step * direction[p], x) for p, x in self.leaves.items()}
        return replace(self, parameters=jax.tree.unflatten(jax.tree.structure(self.parameters), moved.values()))
