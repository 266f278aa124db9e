"""Trees of arrays: unique names for their leaves, and where the structure of two trees differs."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LOSS = "loss"

Pytree = Any  # a tree of arrays and numbers, as JAX has them: dicts, lists, tuples, NamedTuples, None
Leaves = dict[str, np.ndarray]  # the arrays of a tree by their unique names
GradientFunction = Callable[..., Any]  # (parameters, *args) -> (loss, gradients[, intermediates]), by hand
Loss = Callable[..., Any]  # (parameters, *args) -> one number, traceable by JAX


def as_array(value: Any) -> np.ndarray:
    """Anything that NumPy can read as an array: lists, JAX, PyTorch, or arrays on a device by DLPack.

    Raises TypeError for what holds no numbers.
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
        array = np.from_dlpack(value, device="cpu", copy=True)  # CuPy copies to the host only if asked
    if array.dtype == object:
        if hasattr(value, "toarray"):
            raise TypeError(f"a leaf is a sparse {type(value).__name__}; make it an array first, with .toarray().")
        raise TypeError(f"a leaf is {type(value).__name__}: {value!r:.60}; leaves must be arrays or numbers.")
    return array


def as_input(value: Any) -> np.ndarray:
    """A caller's input, copied to NumPy. Raises TypeError for dtypes that JAX does not have, and says what to do."""
    array = np.array(as_array(value))
    if not array.dtype.isnative:
        raise TypeError(
            f"an input is {array.dtype}, in the byte order of another machine, which JAX does not read. Give "
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


_SHORT = {"bfloat16", "float8_e4m3fn", "float8_e5m2"}


def all_finite(value: np.ndarray) -> bool:
    """Whether an array holds no NaN and no infinity; in 16 and 8 bits, too, which NumPy does not count as floating."""
    return not jnp.issubdtype(value.dtype, jnp.inexact) or bool(np.isfinite(value).all())


def is_key(value: Any) -> bool:
    """Whether it is one of JAX's random keys, which are arrays without numbers."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def own(value: Any) -> Any:
    """A NumPy copy of an array, in its memory layout. Python numbers, which have no dtype, are returned as they are."""
    return value if type(value) in (float, int) else np.array(as_array(value))


def copies(tree: Any) -> Any:
    """`tree` with its arrays copied, in their memory layout, so that the caller's are safe from writes."""

    def copied(leaf: Any) -> Any:
        array = isinstance(leaf, np.ndarray | np.generic | jax.Array) and not is_key(leaf)
        return np.array(leaf) if array else leaf

    return jax.tree.map(copied, tree)


def laid_out(values: np.ndarray, model: np.ndarray) -> np.ndarray:
    """`values` in the memory layout of `model`, on which a C function may rely."""
    if values.shape == model.shape:
        out = np.empty_like(model, values.dtype)
        out[...] = values
        return out
    order = "F" if model.flags.f_contiguous and not model.flags.c_contiguous else "C"
    return np.asarray(values, order=order)


def leaves_by_path(tree: Any) -> dict[str, np.ndarray]:
    """Leaves as NumPy arrays, by names such as `W1` or `0.weight`. A tree that is one array is called `value`."""
    leaves, structure = jax.tree.flatten(tree)
    return {path: as_array(leaf) for path, leaf in zip(paths(structure), leaves, strict=True)}


@functools.lru_cache(maxsize=256)
def paths(structure: Any) -> list[str]:
    """The names of a tree's leaves. Cached, because a check of training needs them at every step.

    A name that two leaves would share, or that is "loss", is written out: `['a.b']` beside `['a']['b']`.
    """
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    keys = [path for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in keys]
    taken = Counter([LOSS, *names])
    return [jax.tree_util.keystr(path) if taken[name] > 1 else name for path, name in zip(keys, names, strict=True)]


# -------------------------------------------------------------------------- one tree beside another


def like(model: Any, tree: Any) -> Any:
    """`tree` with the containers of `model`, and its Python numbers in the dtypes of the scalars of `model`.

    Lists and tuples are interchangeable, and so are all mappings. A tree with `structure_mismatches` is returned as it
    is.
    """
    leaves, structure = jax.tree.flatten(model)
    values, other = jax.tree.flatten(tree)
    if paths(structure) != paths(other) or structure_mismatches(model, tree):
        return tree
    return jax.tree.unflatten(structure, [number_like(value, leaf) for value, leaf in zip(values, leaves, strict=True)])


def number_like(value: Any, model: Any) -> Any:
    """A Python number in the dtype of a scalar. Arrays and NumPy's scalars keep their own dtype."""
    if type(value) in (float, int) and np.ndim(model) == 0:
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(model.dtype)
    return value


def structure_mismatches(model: Any, tree: Any) -> dict[str, str]:
    """Where the structure of `tree` differs from that of `model`: messages by the leaf's path in `model`.

    Single leaves that are missing or superfluous are not among them, because they are found by their names.
    """
    if jax.tree.structure(tree) == jax.tree.structure(model):
        return {}
    names = jax.tree.unflatten(jax.tree.structure(model), paths(jax.tree.structure(model)))
    return dict(_structure_mismatches(model, names, tree))


def _structure_mismatches(model: Any, names: Any, tree: Any) -> Iterator[tuple[str, str]]:
    if _kind(model) != _kind(tree):
        message = f"got {_in_words(tree)}, expected {_in_words(model)}: {_cure(model)}"
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


def _cure(model: Any) -> str:
    kind = _kind(model)
    if kind == "leaf":
        return "give one array (np.array of it, if it is a list of numbers)."
    if kind == "mapping":
        return "give each gradient under its parameter's key."
    if kind == "sequence":
        return "give one gradient for each parameter, in their order."
    return f"give the gradients as a {kind}, as the parameters are."
