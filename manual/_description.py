"""Reads the description of a network, and checks the input and the parameters of each layer against it."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from manual._kinds import KINDS, Kind, Leaves, Shape


@dataclass(frozen=True)
class Layer:
    """One entry of a description. `sizes` are the options that set parameter shapes; `options` are passed to the op."""

    index: int
    kind: str
    sizes: dict[str, Any]
    options: dict[str, Any]
    given: dict[str, Any]  # all options, as written in the description

    @property
    def name(self) -> str:
        return f"{self.index}.{self.kind}"

    def __str__(self) -> str:
        return f"layer {self.index} ({self.kind})"


EXAMPLE = "{'kind': 'dense', 'features': 10}"


def layers_of(description: Any) -> list[Layer]:
    """The parsed entries of a description. Raises ValueError for an unknown kind, and unknown or missing options."""
    if not isinstance(description, list | tuple) or not description:
        raise ValueError(f"a description is a list of at least one layer, as in [{EXAMPLE}], got {description!r:.60}.")
    return [_layer(i, entry) for i, entry in enumerate(description)]


def _layer(index: int, entry: Any) -> Layer:
    if not isinstance(entry, dict) or "kind" not in entry:
        raise ValueError(f"layer {index} must be a dict with a kind, such as {EXAMPLE}, got {entry!r:.60}.")
    given = {name: value for name, value in entry.items() if name != "kind"}
    kind = entry["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"layer {index}: no kind of layer is called {kind!r}; there are {', '.join(KINDS)}.")
    of_leaves, of_op = _keywords(KINDS[kind].leaves), _keywords(KINDS[kind].forward)
    known = of_leaves | of_op
    layer = Layer(index, kind, {}, {}, given)
    for name, default in known.items():
        if default is inspect.Parameter.empty and name not in given:
            raise ValueError(f"{layer} needs the option {name!r}; it knows {', '.join(known)}.")
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{layer} has no option {name!r}; it knows {', '.join(known) or 'none'}.")
        value = _plain(layer, name, value)
        if name in of_leaves:
            layer.sizes[name] = _checked_size(layer, name, value)
        if name in of_op:
            layer.options[name] = value
    return layer


@functools.cache
def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """The names and defaults of the keyword-only arguments of a function."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _plain(layer: Layer, name: str, value: Any) -> Any:
    """The value with lists turned into tuples. Raises ValueError for a type that JSON cannot store."""
    if isinstance(value, list | tuple):
        return tuple(_plain(layer, name, item) for item in value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{layer}: {name} must be of a JSON type, got {type(value).__name__}; int() or float() makes one.")


def _checked_size(layer: Layer, name: str, value: Any) -> Any:
    if name == "bias":
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        several = name == "kernel" and isinstance(value, tuple)
        fits = all(type(size) is int and size >= 1 for size in (value if several else (value,)))
        wanted = "at least 1"
    if not fits:
        raise ValueError(f"{layer}: {name} must be {wanted}, got {value!r}.")
    return value


# -------------------------------------------------------------- checks of inputs and parameters


@contextmanager
def located(layer: Layer) -> Iterator[None]:
    """Prefixes the message of a ValueError raised inside the block with the number and kind of the layer."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{layer}: {error}") from error


def check_input(layer: Layer, row: Kind, x: np.ndarray) -> None:
    """Raise ValueError unless x has the axes and the dtype (integer ids, or floating) that the layer needs."""
    axes = row.axes.split()
    if x.ndim < len(axes) - 1 if "..." in axes else x.ndim != len(axes):
        actual = ", ".join(["batch", *map(str, x.shape[1:])][: x.ndim])
        cure = "Put a layer before it that gives these" if layer.index else "Reshape x"
        raise ValueError(f"{layer} needs input with the axes ({', '.join(axes)}), got ({actual}). {cure}.")
    wanted = "integer" if "ids" in row.arguments else "floating"
    if not np.issubdtype(x.dtype, getattr(np, wanted)):
        raise ValueError(f"{layer} needs {wanted} input, got {x.dtype}.{'' if layer.index else ' Cast x.'}")


def leaves_of(layer: Layer, row: Kind, shape: Shape) -> Leaves:
    """The parameters that the layer has for an input of this shape, which leaves out the batch axis."""
    with located(layer):
        return row.leaves(shape, **layer.sizes)


def check_parameters(layer: Layer, leaves: Leaves, own: Mapping[str, np.ndarray], x: np.ndarray) -> None:
    """Raise ValueError unless `own` has the names and shapes of `leaves`, and the dtype of x: no dtype is promoted."""
    expected, actual = ({name: v.shape for name, v in tree.items()} for tree in (leaves, own))
    if expected != actual:
        texts = [
            ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "none"
            for shapes in (expected, actual)
        ]
        raise ValueError(f"{layer} needs the parameters {texts[0]}; got {texts[1]}. initialize_parameters makes them.")
    dtypes = {v.dtype for v in (*own.values(), x) if np.issubdtype(v.dtype, np.floating)}
    if len(dtypes) > 1:
        raise ValueError(f"{layer} has input and parameters of {' and '.join(sorted(map(str, dtypes)))}: cast one.")


def extra_arguments(layers: list[Layer], masks: Any, statistics: Any) -> dict[int, dict[str, Any]]:
    """Masks and statistics by layer number, as arguments. Raises ValueError for a layer that takes none."""
    found: dict[int, dict[str, Any]] = {i: {"mask": mask} for i, mask in (masks or {}).items()}
    _check_places("masks", "dropout", found, layers)
    _check_places("statistics", "batch_norm", statistics or {}, layers)
    for i, values in (statistics or {}).items():
        if set(values) != {"mean", "variance"}:
            raise ValueError(f"statistics of {layers[i]} must be a mean and a variance, got {', '.join(values)}.")
        found[i] = dict(values)
    return found


def _check_places(what: str, kind: str, places: Any, layers: list[Layer]) -> None:
    those = [layer.index for layer in layers if layer.kind == kind]
    for i in places:
        if i not in those:
            place = layers[i] if i in range(len(layers)) else f"layer {i}"
            raise ValueError(f"{what} are for {kind} layers, which are {those or 'none'} here; got one for {place}.")
