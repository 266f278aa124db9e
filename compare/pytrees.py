"""Trees of arrays: their leaves under names that nothing else has, and where one is built otherwise than another."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LOSS = "loss"

Pytree = Any  # a tree of arrays and numbers, as JAX has them: dicts, lists, tuples, NamedTuples, None
Leaves = dict[str, np.ndarray]  # the arrays of a tree, each under a name that nothing else has
GradientFunction = Callable[..., Any]  # (parameters, *args) -> (loss, gradients[, intermediates]), by hand
Loss = Callable[..., Any]  # (parameters, *args) -> one number, traceable by JAX


def as_array(value: Any) -> np.ndarray:
    """Anything that NumPy can read, wherever it lives: lists, JAX, PyTorch, or by DLPack from a device.

    Raises TypeError for what holds no numbers.
    """
    if is_key(value):
        value = jax.random.key_data(value)
    elif hasattr(value, "detach"):  # a tensor that still remembers where it came from
        value = value.detach()
    try:
        array = np.asarray(value)
    except TypeError:
        name = str(getattr(value, "dtype", "")).rpartition(".")[2]
        if hasattr(value, "float") and name in _SHORT:  # PyTorch's, which NumPy has no name for
            return np.asarray(value.float()).astype(jnp.dtype(name))
        array = np.from_dlpack(value, device="cpu", copy=True)  # CuPy refuses to copy to the host without being asked
    if array.dtype == object:
        if hasattr(value, "toarray"):
            raise TypeError(f"a leaf is a sparse {type(value).__name__}; make it an array first, with .toarray().")
        raise TypeError(f"a leaf is {type(value).__name__}: {value!r:.60}; leaves must be arrays or numbers.")
    return array


def as_input(value: Any) -> np.ndarray:
    """What the caller gives, as a copy in NumPy. Raises TypeError for numbers that JAX has not, with the cure."""
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
    """One of JAX's random keys, which are arrays of no numbers."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def own(value: Any) -> Any:
    """A copy of an array, as NumPy's, in its memory layout. Numbers of Python, which have no dtype, pass."""
    return value if type(value) in (float, int) else np.array(as_array(value))


def copies(tree: Any) -> Any:
    """`tree`, its arrays copied in their memory layout, so that nobody else notices what is written to them."""

    def copied(leaf: Any) -> Any:
        array = isinstance(leaf, np.ndarray | np.generic | jax.Array) and not is_key(leaf)
        return np.array(leaf) if array else leaf

    return jax.tree.map(copied, tree)


def laid_out(values: np.ndarray, model: np.ndarray) -> np.ndarray:
    """`values` in the memory layout of `model`, which a C function may count on."""
    if values.shape == model.shape:
        out = np.empty_like(model, values.dtype)
        out[...] = values
        return out
    order = "F" if model.flags.f_contiguous and not model.flags.c_contiguous else "C"
    return np.asarray(values, order=order)


def leaves_by_path(tree: Any) -> dict[str, np.ndarray]:
    """Leaves as NumPy arrays under names such as `W1` or `0.weight`; the tree itself is called `value`."""
    leaves, structure = jax.tree.flatten(tree)
    return {path: as_array(leaf) for path, leaf in zip(paths(structure), leaves, strict=True)}


@functools.lru_cache(maxsize=256)
def paths(structure: Any) -> list[str]:
    """The names of a tree's leaves: found once for a structure, because training asks at every step.

    A name that two leaves would have, or that is the loss's, is written out: `['a.b']` beside `['a']['b']`.
    """
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    keys = [path for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in keys]
    taken = Counter([LOSS, *names])
    return [jax.tree_util.keystr(path) if taken[name] > 1 else name for path, name in zip(keys, names, strict=True)]


# -------------------------------------------------------------------------- one tree beside another


def like(model: Any, tree: Any) -> Any:
    """`tree`, where it is built as `model` is, in its very structure, and its numbers in the dtypes of `model`.

    Lists and tuples stand for each other, as do all mappings. A number of Python takes the dtype of the scalar whose
    place it has. What is built otherwise, and said to be by `misbuilt`, stays as it is.
    """
    leaves, structure = jax.tree.flatten(model)
    came, built = jax.tree.flatten(tree)
    if paths(structure) != paths(built) or misbuilt(model, tree):
        return tree
    return jax.tree.unflatten(structure, [number_like(value, leaf) for value, leaf in zip(came, leaves, strict=True)])


def number_like(value: Any, model: Any) -> Any:
    """A number of Python in the dtype of a scalar; arrays, and NumPy's scalars, have one of their own."""
    if type(value) in (float, int) and np.ndim(model) == 0:
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(model.dtype)
    return value


def misbuilt(model: Any, tree: Any) -> dict[str, str]:
    """Where `tree` is built otherwise than `model`, by the leaf's path in `model`, and how, in words.

    Nothing is said of single leaves that are missing or too many: they are found by name.
    """
    if jax.tree.structure(tree) == jax.tree.structure(model):
        return {}
    names = jax.tree.unflatten(jax.tree.structure(model), paths(jax.tree.structure(model)))
    return dict(_misbuilt(model, names, tree))


def _misbuilt(model: Any, names: Any, tree: Any) -> Iterator[tuple[str, str]]:
    if _kind(model) != _kind(tree):
        message = f"{_in_words(tree)} came, where {_in_words(model)} is expected: {_cure(model)}"
        yield from ((name, message) for name in jax.tree.leaves(names))
    elif _kind(model) != "leaf":
        inner, named, came = (_children(part) for part in (model, names, tree))
        for key, child in inner.items():
            if key in came:
                yield from _misbuilt(child, named[key], came[key])


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
    """What is directly inside, by its key."""
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
