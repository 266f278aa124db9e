"""Other points to look at: what one friendly point hides.

A probe makes another point from the caller's. Parameters are scaled, so that activations saturate, and moved, so
that what starts at 0 or 1 (a bias, a gain) is there no longer. Data are permuted and scaled, and ids repeated.

What a probe may do to the arguments is limited by what they may mean. Only arrays that hold numbers of both
signs are taken for data; everything between 0 and 1 may be labels, probabilities or masks, and stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from compare.compiling import SMALL

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Probe:
    """`move(parameters, args, random) -> (parameters, args)`, or None where it does not apply."""

    name: str
    move: Callable[[Any, Arguments, np.random.Generator], tuple[Any, Arguments] | None]


def _floating(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.inexact) and leaf.size > 0


def _scaled_parameters(factor: float) -> Callable[..., Any]:
    def move(parameters: Any, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments]:
        """Also moved a little: zeros, which scaling leaves alone, hide what multiplies them."""

        def scaled(leaf: Any) -> Any:
            if not _floating(leaf):
                return leaf
            noise = 0.1 * _size(leaf) * random.standard_normal(leaf.shape)
            return (factor * (leaf + noise)).astype(leaf.dtype)

        return jax.tree.map(scaled, parameters), args

    return move


def _shrunk(parameters: Any, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    """Out of tails, where gradients vanish whatever their sign: exp(-p**2 / 2) at p = 10. Models of many parameters
    start near zero anyway, and there another point would cost a quarter of the check."""
    if sum(np.size(leaf) for leaf in jax.tree.leaves(parameters)) > SMALL:
        return None
    return _scaled_parameters(0.1)(parameters, args, random)


def _size(leaf: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) or 1.0


def _is_data(leaf: Any) -> bool:
    return _floating(leaf) and bool((leaf < 0).any()) and bool((leaf > 0).any())


def _is_ids(leaf: Any) -> bool:
    """Integers in no order: sorted ones may be offsets, which must stay sorted."""
    return (
        isinstance(leaf, np.ndarray)
        and np.issubdtype(leaf.dtype, np.integer)
        and leaf.size > 2
        and bool((np.diff(leaf.ravel()) < 0).any())
    )


def _other_data(args: Arguments, random: np.random.Generator) -> Arguments:
    def other(leaf: Any) -> Any:
        return (3 * random.permutation(leaf, axis=-1)).astype(leaf.dtype) if _is_data(leaf) else leaf

    return jax.tree.map(other, args)


def _scaled_data(parameters: Any, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments]:
    """The middle of the road between ordinary and saturated, at data that the caller did not choose."""
    moved, _ = _scaled_parameters(10)(parameters, args, random)
    return moved, _other_data(args, random)


def _repeated_ids(parameters: Any, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    if not any(map(_is_ids, jax.tree.leaves(args))):
        return None

    def drawn(leaf: Any) -> Any:
        return random.choice(leaf.ravel()[: max(2, leaf.size // 2)], leaf.shape) if _is_ids(leaf) else leaf

    return parameters, jax.tree.map(drawn, args)


DEFAULT = (
    Probe("parameters x 10, other data", _scaled_data),
    Probe("parameters x 1000", _scaled_parameters(1000)),
    Probe("parameters x 0.1", _shrunk),
    Probe("repeated ids", _repeated_ids),
)


def first_example(parameters: Any, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    """The first example alone, along the first or the last axis, whichever the arrays have in common.

    Not among the defaults, because another shape means another compilation; add ONE_EXAMPLE to ask for it.
    """
    arrays = [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray) and leaf.ndim]
    axis = next((axis for axis in (0, -1) if len({array.shape[axis] for array in arrays}) == 1), None)
    if axis is None or len(arrays) < 2:
        return None

    def first(leaf: Any) -> Any:
        return np.take(leaf, [0], axis) if isinstance(leaf, np.ndarray) and leaf.ndim else leaf

    return parameters, jax.tree.map(first, args)


ONE_EXAMPLE = Probe("the first example alone", first_example)
