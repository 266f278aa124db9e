"""The domains of parameters and arguments, which perturbed points must not leave.

A probability multiplied by ten is no longer a probability, and an error at such a point does not prove that the code
under test is wrong. With `domain={"p": "unit interval"}`, perturbed points change `p` but keep it between 0 and 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from scipy import special

from compare.errors import BadInput
from compare.judge.evaluation.perturbed_points import cast
from compare.judge.program.inputs import Inputs

Array = np.ndarray
# (leaf at the caller's point, perturbed leaf, random) -> a perturbed leaf inside the domain
Move = Callable[[Array, Array, np.random.Generator], Array]


def _growth(leaf: Array, moved: Array) -> float:
    """The factor by which a perturbation has changed the root mean square of a leaf."""
    sizes = [float(np.sqrt(np.mean(np.square(values)))) for values in (leaf, moved)]
    return sizes[1] / sizes[0] if all(0 < size < np.inf for size in sizes) else 1.0


def _positive(leaf: Array, moved: Array, random: np.random.Generator) -> Array:
    return _growth(leaf, moved) * np.abs(leaf) * np.exp(0.1 * random.standard_normal(leaf.shape))


def _negative(leaf: Array, moved: Array, random: np.random.Generator) -> Array:
    return -_positive(leaf, moved, random)


def _unit_interval(leaf: Array, moved: Array, random: np.random.Generator) -> Array:
    inside = np.clip(leaf, 1e-12, 1 - 1e-12)
    return special.expit(special.logit(inside) + random.standard_normal(leaf.shape))


def _positive_definite(leaf: Array, moved: Array, random: np.random.Generator) -> Array:
    mixing = np.eye(leaf.shape[-1]) + 0.1 * random.standard_normal(leaf.shape)
    mixed = _growth(leaf, moved) * mixing @ leaf @ np.swapaxes(mixing, -1, -2)
    return (mixed + np.swapaxes(mixed, -1, -2)) / 2


def _fixed(leaf: Array, moved: Array, random: np.random.Generator) -> Array:
    return leaf


DOMAINS: dict[str, Move] = {
    "positive": _positive,
    "negative": _negative,
    "unit interval": _unit_interval,
    "positive definite": _positive_definite,
    "fixed": _fixed,
}


def checked(domain: Mapping[str, str], inputs: Inputs) -> dict[str, str]:
    """Checks that each domain is known and belongs to an argument or a leaf.

    Args:
        domain: domains by the name of an argument or a leaf: `p`, `W1`, `options.scale`.
        inputs: the parameters and the arguments.

    Returns:
        The domains as a dict.

    Raises:
        BadInput: a ValueError, for an unknown domain or name.
    """
    known = {*inputs.names, *inputs.leaves}
    for name, argument in inputs.by_name.items():
        known |= {f"{name}.{path}" for path in inputs.by_argument[name]} if not _is_leaf(argument) else set()
    for name, kind in domain.items():
        if kind not in DOMAINS:
            raise BadInput(f"the domain of {name!r} must be one of {', '.join(map(repr, DOMAINS))}, got {kind!r}.")
        if name not in known:
            raise BadInput(f"domain names {name!r}, which is not among {', '.join(sorted(known))}.")
    return dict(domain)


def _is_leaf(argument: Any) -> bool:
    return jax.tree_util.all_leaves([argument])


def kept(domain: Mapping[str, str], before: Inputs, after: Inputs, random: np.random.Generator) -> Inputs:
    """Moves the leaves of a perturbed point into their domains.

    Args:
        domain: the domains by name.
        before: the caller's point.
        after: the perturbed point.
        random: the random generator.

    Returns:
        The perturbed point with each leaf inside its domain. Arguments whose structure has changed are not moved.
    """
    if not domain:
        return after
    found = []
    for place, (name, old) in enumerate(before.by_name.items()):
        new = after.by_name[name]
        leaves, tree = jax.tree.flatten(new)
        paths = list(before.by_argument[name])
        same = tree == jax.tree.structure(old)
        olds = jax.tree.leaves(old) if same else leaves
        moved = []
        for path, was, leaf in zip(paths, olds, leaves, strict=True) if same else ():
            kind = domain.get(f"{name}.{path}") or domain.get(name) or (domain.get(path) if place == 0 else None)
            same_shape = isinstance(leaf, np.ndarray) and np.shape(was) == leaf.shape and leaf.size
            if kind is not None and same_shape and leaf.dtype.kind == "f":
                wide = np.asarray(was, np.float64), np.asarray(leaf, np.float64)
                leaf = cast(DOMAINS[kind](*wide, random), leaf)
            elif kind == "fixed":
                leaf = was
            moved.append(leaf)
        found.append(jax.tree.unflatten(tree, moved) if same else new)
    return replace(after, parameters=found[0], args=tuple(found[1:]))
