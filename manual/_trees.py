"""Trees of arrays: dicts, lists, tuples and named tuples, nested in any way. None is a tree without leaves."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Path = tuple[Any, ...]  # the keys, positions and field names that lead to a leaf


def leaves_by_path(tree: Any, path: Path = ()) -> dict[Path, np.ndarray]:
    """The leaves as arrays, in the order of the tree. Anything but a container is a leaf."""
    if tree is None:
        return {}
    if isinstance(tree, dict):
        children = tree.items()
    elif isinstance(tree, list | tuple):
        children = zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True)
    else:
        return {path: np.asarray(tree)}
    return {at: leaf for key, child in children for at, leaf in leaves_by_path(child, (*path, key)).items()}


def rebuilt(tree: Any, leaves: Iterator[Any]) -> Any:
    """A tree with the containers of `tree` and new leaves, in the same order."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: rebuilt(child, leaves) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        children = [rebuilt(child, leaves) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return next(leaves)


def tree_map(function: Callable[[np.ndarray], Any], tree: Any) -> Any:
    """The tree with `function` applied to each leaf."""
    return rebuilt(tree, map(function, leaves_by_path(tree).values()))


def dotted(path: Path) -> str:
    """The path as text, such as `layers.0.weight`. The path of a tree that is one leaf becomes `the only leaf`."""
    return ".".join(map(str, path)) or "the only leaf"


def check_alike(leaves: dict[str, dict[Path, np.ndarray]]) -> None:
    """Raise ValueError unless all trees have the paths, shapes and floating dtypes of the first."""
    (first, model), *others = leaves.items()
    for path, leaf in model.items():
        if not np.issubdtype(leaf.dtype, np.floating):
            raise ValueError(f"{first}: {dotted(path)} is {leaf.dtype}; leaves must be floating-point arrays. Cast it.")
    for name, tree in others:
        for path in [*model, *tree]:
            if (path in model) != (path in tree):
                has, lacks = (first, name) if path in model else (name, first)
                raise ValueError(f"{has} has a leaf {dotted(path)} and {lacks} has none; their structures must match.")
            leaf, other = model[path], tree[path]
            if leaf.shape != other.shape or leaf.dtype != other.dtype:
                raise ValueError(
                    f"{dotted(path)}: {first} has {leaf.dtype} {leaf.shape} and {name} has {other.dtype} "
                    f"{other.shape}; shapes and dtypes must be equal. Cast or reshape one of them."
                )
