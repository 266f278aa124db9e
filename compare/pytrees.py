"""Pytrees of arrays: unique names for their leaves, and the differences between the structures of two trees."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LOSS = "loss"

Pytree = Any  # a JAX pytree of arrays and numbers: dicts, lists, tuples, NamedTuples, None
Leaves = dict[str, np.ndarray]  # the leaves of a tree as arrays, by their unique names
GradientFunction = Callable[..., Any]  # hand-written: (parameters, *args) -> (loss, gradients[, intermediates])
Loss = Callable[..., Any]  # a function that JAX can trace: (parameters, *args) -> one number


def as_array(value: Any) -> np.ndarray:
    """Converts a leaf to a NumPy array.

    Args:
        value: a number, a list, an array of NumPy, JAX or PyTorch, or an array on a device that supports DLPack.

    Returns:
        The array, which may share memory with `value`.

    Raises:
        TypeError: if the value is not an array of numbers.
    """
    if is_key(value):
        value = jax.random.key_data(value)
    elif hasattr(value, "detach"):  # a PyTorch tensor, which may require a gradient
        value = value.detach()
    try:
        array = np.asarray(value)
    except TypeError:
        name = str(getattr(value, "dtype", "")).rpartition(".")[2]
        if hasattr(value, "float") and name in _SHORT:  # dtypes of PyTorch that NumPy does not have
            return np.asarray(value.float()).astype(jnp.dtype(name))
        array = np.from_dlpack(value, device="cpu", copy=True)  # CuPy copies to the host only with these options
    if array.dtype == object:
        if hasattr(value, "toarray"):
            raise TypeError(f"a leaf is a sparse {type(value).__name__}; convert it to an array with .toarray().")
        if isinstance(value, np.ndarray):
            shape = ", ".join(map(str, value.shape))
            raise TypeError(
                f"a leaf is an array of Python objects, object[{shape}]. If they are numbers, convert it with "
                ".astype(np.float64)."
            )
        raise TypeError(
            f"a leaf is {type(value).__name__}: {' '.join(repr(value).split()):.60}; leaves must be arrays or numbers."
        )
    return array


def as_input(value: Any) -> np.ndarray:
    """Copies an input of a check to NumPy.

    Args:
        value: an array or a number.

    Returns:
        A NumPy array.

    Raises:
        TypeError: if JAX does not support the dtype. The message says what to do.
    """
    array = np.array(as_array(value))
    if not array.dtype.isnative:
        raise TypeError(
            f"an input is {array.dtype}, in the byte order of another machine, which JAX does not support. Give "
            "x.astype(x.dtype.newbyteorder('='))."
        )
    try:
        jax.typeof(np.empty(0, array.dtype))
    except TypeError:
        numbers = array.dtype.kind in "fc"
        wide = "np.complex128" if array.dtype.kind == "c" else "np.float64"
        cure = f"Give x.astype({wide})." if numbers else "Name it in static=[...], or bind it with functools.partial."
        raise TypeError(f"an input is {array.dtype}, which JAX does not have. {cure}") from None
    return array


_SHORT = {"bfloat16", "float8_e4m3fn", "float8_e5m2"}  # PyTorch's dtypes that NumPy knows only through ml_dtypes


def all_finite(value: np.ndarray) -> bool:
    """Whether an array contains neither NaN nor infinity. 8-bit and 16-bit floating dtypes are supported."""
    return not jnp.issubdtype(value.dtype, jnp.inexact) or bool(np.isfinite(value).all())


def is_key(value: Any) -> bool:
    """Whether it is an array of JAX's random keys, which are not numbers."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def own(value: Any) -> Any:
    """A NumPy copy of an array in its memory layout. Python numbers, which have no dtype, are returned unchanged."""
    return value if type(value) in (float, int) else np.array(as_array(value))


def copies(tree: Any) -> Any:
    """A tree with copies of all arrays in their memory layout, which protects the caller's arrays from changes."""

    def copied(leaf: Any) -> Any:
        array = isinstance(leaf, np.ndarray | np.generic | jax.Array) and not is_key(leaf)
        return np.array(leaf) if array else leaf

    return jax.tree.map(copied, tree)


def laid_out(values: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The values in the memory layout of `model`, because a C function may need this layout."""
    if values.shape == model.shape:
        out = np.empty_like(model, values.dtype)
        out[...] = values
        return out
    order = "F" if model.flags.f_contiguous and not model.flags.c_contiguous else "C"
    return np.asarray(values, order=order)


def leaves_by_path(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree as NumPy arrays, by names such as `W1` or `0.weight`. A single array is named `value`."""
    leaves, structure = jax.tree.flatten(tree)
    return {path: as_array(leaf) for path, leaf in zip(paths(structure), leaves, strict=True)}


@functools.lru_cache(maxsize=256)
def paths(structure: Any) -> list[str]:
    """The names of a tree's leaves, in order. They are cached, because a check of training needs them at every step.

    A leaf whose name would be "loss" or that of another leaf gets a longer one: `['a.b']` and `['a']['b']` in place of
    `a.b`.
    """
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    keys = [path for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in keys]
    taken = Counter([LOSS, *names])
    return [jax.tree_util.keystr(path) if taken[name] > 1 else name for path, name in zip(keys, names, strict=True)]


# -------------------------------------------------------------------------- the structures of two trees


def like(model: Any, tree: Any) -> Any:
    """Gives a tree the structure of a model.

    Args:
        model: the model.
        tree: a tree whose structure may differ in the types of containers: lists and tuples are interchangeable, and
            so are all mappings.

    Returns:
        The tree with the containers of the model. Python numbers get the dtype of the model's leaf if that is a scalar.
        A tree with any other structure or other names is returned unchanged.
    """
    leaves, structure = jax.tree.flatten(model)
    values, other = jax.tree.flatten(tree)
    if paths(structure) != paths(other) or structure_mismatches(model, tree):
        return tree
    return jax.tree.unflatten(structure, [number_like(value, leaf) for value, leaf in zip(values, leaves, strict=True)])


def number_like(value: Any, model: Any) -> Any:
    """A Python number in the dtype of `model`, if that is a scalar. All other values are returned unchanged."""
    if type(value) in (float, int) and np.ndim(model) == 0:
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(model.dtype)
    return value


def structure_mismatches(model: Any, tree: Any) -> dict[str, str]:
    """The differences between the structures of two trees.

    Args:
        model: the tree with the expected structure.
        tree: the other tree.

    Returns:
        A message for each leaf of the model that is in a part with another structure, by the leaf's name. Single leaves
        that are missing or superfluous have no message, because they are found by their names.
    """
    if jax.tree.structure(tree) == jax.tree.structure(model):
        return {}
    names = jax.tree.unflatten(jax.tree.structure(model), paths(jax.tree.structure(model)))
    return dict(_structure_mismatches(model, names, tree))


def _structure_mismatches(model: Any, names: Any, tree: Any) -> Iterator[tuple[str, str]]:
    if _kind(model) != _kind(tree):
        message = f"got {_in_words(tree)}, expected {_in_words(model)}: {_cure(model, tree)}"
        yield from ((name, message) for name in jax.tree.leaves(names))
    elif _kind(model) != "leaf":
        inner, named, actual = (_children(part) for part in (model, names, tree))
        for key, child in inner.items():
            if key in actual:
                yield from _structure_mismatches(child, named[key], actual[key])


def _kind(tree: Any) -> str:
    if tree is None:
        return "None"
    if isinstance(tree, Mapping):
        return "mapping"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree).__name__
    if isinstance(tree, list | tuple):
        return "sequence"
    return "leaf" if jax.tree_util.all_leaves([tree]) else type(tree).__name__


def _children(tree: Any) -> dict[str, Any]:
    """The direct children of a container, by key."""
    inner, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda part: part is not tree)
    return {jax.tree_util.keystr(path): part for path, part in inner}


def _in_words(tree: Any) -> str:
    kind, name = _kind(tree), type(tree).__name__
    if kind == "leaf":
        return f"an array of shape {np.shape(tree)}" if np.ndim(tree) else "a number"
    if kind == "mapping":
        return f"a dict with the keys {', '.join(map(str, tree)) or '(none)'}"
    if kind == "sequence":
        return f"a {name} of {len(tree)}"
    return f"{kind}({', '.join(tree._fields)})" if hasattr(tree, "_fields") else kind


def _cure(model: Any, tree: Any) -> str:
    kind = _kind(model)
    if tree is None:
        return "return the gradients; the gradient of a parameter on which the loss does not depend is zeros."
    if kind == "leaf":
        return "give one array (np.array of it, if it is a list of numbers)."
    if kind == "mapping":
        return "give each gradient under its parameter's key."
    if kind == "sequence":
        return "give one gradient for each parameter, in their order."
    return f"give the gradients as a {kind}, as the parameters are."
