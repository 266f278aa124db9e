"""Networks from a description, in JAX, with the descriptions, names and arguments of `manual.network`.

There is no backward pass. The values between layers are marked with `checkpoint_name`, which is the identity. Its names
are those that `manual.network.apply_backward` uses, so that the judge can find the gradients of these values.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from autodiff import _kinds, losses
from autodiff._description import Layer, check_input, check_parameters, extra_arguments, layers_of, leaves_of, located
from autodiff._dtype import keeps_dtype
from autodiff._kinds import KINDS, Leaf, Leaves, Shape, constants, structures
from autodiff.layers import dropout_mask
from autodiff.normalization import update_running_statistics

Description = Sequence[dict[str, Any]]
Parameters = Sequence[Mapping[str, Any]]  # a dict of arrays for each layer
Value = Float[Array, "..."]
Masks = Mapping[int, ArrayLike]  # layer -> mask
Statistics = Mapping[int, Mapping[str, ArrayLike]]  # layer -> mean and variance

RELU_LIKE = ("relu", "leaky_relu", "elu", "gelu", "silu")


def initialize_parameters(
    description: Description, input_shape: Sequence[int], *, seed: int = 0, dtype: DTypeLike = np.float64
) -> list[dict[str, Array]]:
    """Weights from a normal distribution of variance 1 / fan_in, biases 0, gains 1.

    The variance is 2 / fan_in in a layer that is directly followed by one of RELU_LIKE. NumPy's generator draws the
    weights instead of JAX's, so that they are equal to those of `manual` to the last bit.
    """
    random = np.random.default_rng(seed)
    plan = _plan(description, input_shape)

    def drawn(leaf: Leaf, following: str) -> np.ndarray:
        if leaf.fan_in == 0:
            return np.full(leaf.shape, leaf.constant, dtype)
        deviation = math.sqrt((2 if following in RELU_LIKE else 1) / leaf.fan_in)
        return (deviation * random.standard_normal(leaf.shape)).astype(dtype)

    parameters = []
    for i, place in enumerate(plan):
        following = plan[i + 1].layer.kind if i + 1 < len(plan) else ""
        parameters.append({name: drawn(leaf, following) for name, leaf in place.leaves.items()})
    return _on_device(parameters)


def initialize_statistics(
    description: Description, input_shape: Sequence[int], *, dtype: DTypeLike = np.float64
) -> dict[int, dict[str, Array]]:
    """The running statistics of every batch normalization before the first batch, by layer: mean 0 and variance 1."""
    plan = [place for place in _plan(description, input_shape) if place.statistics]
    return _on_device({place.layer.index: constants(place.statistics, dtype) for place in plan})


@keeps_dtype
def _on_device(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def draw_masks(
    description: Description, input_shape: Sequence[int], batch_size: int, *, seed: int = 0
) -> dict[int, Array]:
    """A mask for every dropout layer, with its rate, by layer number. `manual` draws the same masks from a seed."""
    random = np.random.default_rng(seed)
    masks = {}
    for layer, _, _, shape in _plan(description, input_shape):
        if layer.kind == "dropout":
            number = int(random.integers(2**63))
            masks[layer.index] = dropout_mask((batch_size, *shape), rate=layer.options["rate"], seed=number)
    return masks


def describe(description: Description, input_shape: Sequence[int]) -> list[str]:
    """One line for each layer: number, kind, options, output shape without the batch axis, and number of parameters."""
    table = []
    for layer, leaves, _, shape in _plan(description, input_shape):
        options = ", ".join(f"{name}={value}" for name, value in layer.given.items())
        count = sum(math.prod(leaf.shape) for leaf in leaves.values())
        table.append([str(layer.index), layer.kind, options, str(shape), f"{count:,}"])
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


@keeps_dtype
def apply(
    parameters: Parameters,
    x: ArrayLike,
    *,
    description: Description,
    masks: Masks | None = None,
    statistics: Statistics | None = None,
) -> Value:
    """The output of the last layer. `masks` and `statistics` are by layer number, for some or all of their layers.

    Raises ValueError, with the number and kind of the layer, for shapes and options that do not fit. What compiled code
    does about values that `manual` refuses is described with each op.
    """
    return _marks(parameters, x, description, masks, statistics)[LOGITS]


@keeps_dtype
def compute_loss(
    parameters: Parameters,
    x: ArrayLike,
    targets: ArrayLike,
    *,
    description: Description,
    loss: str = "cross_entropy",
    masks: Masks | None = None,
    statistics: Statistics | None = None,
) -> Float[Array, ""]:
    """The loss of the output and the targets. `loss` is a name in `autodiff.losses`; the rest is as for `apply`."""
    return _loss(loss)(_marks(parameters, x, description, masks, statistics)[LOGITS], jnp.asarray(targets))


@keeps_dtype
def loss_and_gradients(
    parameters: Parameters,
    x: ArrayLike,
    targets: ArrayLike,
    *,
    description: Description,
    loss: str = "cross_entropy",
    masks: Masks | None = None,
    statistics: Statistics | None = None,
    intermediates: dict[str, Array] | None = None,
) -> tuple[Float[Array, ""], Parameters]:
    """The loss and its gradient with respect to every parameter, in one compiled program.

    A dict passed as `intermediates` receives the gradients of the marked values, by a separate compiled program.
    """
    _loss(loss)
    data = (parameters, x, targets, masks, statistics)
    marked = intermediates is not None
    total, (gradients, found) = _value_and_grad(*data, description=_frozen(description), loss=loss, marked=marked)
    if intermediates is not None:
        intermediates |= found
    return total, gradients


@partial(jax.jit, static_argnames=("description", "loss", "marked"))
def _value_and_grad(
    parameters: Any, x: Array, targets: Array, masks: Any, statistics: Any, *, description: str, loss: str, marked: bool
) -> Any:
    """The gradient of a marked value is the gradient of an offset that is added to it, taken at an offset of 0."""
    layers = json.loads(description)
    offsets = {}
    if marked:
        offsets = jax.tree.map(jnp.zeros_like, _marks(parameters, x, layers, masks, statistics))

    def total(parameters: Any, offsets: dict[str, Array]) -> Array:
        return losses.LOSSES[loss](_marks(parameters, x, layers, masks, statistics, offsets)[LOGITS], targets)

    return jax.value_and_grad(total, argnums=(0, 1))(parameters, offsets)


def _loss(name: str) -> Callable[..., Array]:
    if name not in losses.LOSSES:
        raise ValueError(f"no loss is called {name!r}; there are {', '.join(losses.LOSSES)}.")
    return losses.LOSSES[name]


def _frozen(description: Description) -> str:
    """The description as a string, which is hashable and so can be a static argument of a compiled program."""
    layers_of(description)
    return json.dumps(description, sort_keys=True)


@keeps_dtype
def update_statistics(
    parameters: Parameters,
    x: ArrayLike,
    statistics: Statistics,
    *,
    description: Description,
    momentum: float = 0.1,
    masks: Masks | None = None,
) -> dict[int, dict[str, Array]]:
    """The running statistics after one more batch, for which one compiled forward pass is computed as in training."""
    extra_arguments(layers_of(description), None, statistics)
    return _updated(parameters, x, statistics, masks, description=_frozen(description), momentum=float(momentum))


@partial(jax.jit, static_argnames=("description", "momentum"))
def _updated(
    parameters: Any, x: Array, statistics: Any, masks: Any, *, description: str, momentum: float
) -> dict[int, dict[str, Array]]:
    new = {}
    for layer, layer_input, _ in _forward(parameters, x, json.loads(description), masks, None):
        if layer.index in statistics:
            old = statistics[layer.index]
            pair = update_running_statistics(old["mean"], old["variance"], layer_input, momentum=momentum)
            new[layer.index] = dict(zip(("mean", "variance"), pair, strict=True))
    return new


LOGITS = "logits"


def _marks(
    parameters: Parameters,
    x: ArrayLike,
    description: Description,
    masks: Masks | None,
    statistics: Statistics | None,
    offsets: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Every marked value and the output, by name. The offset of the same name is added to each."""
    marks = {}
    for layer, layer_input, value in _forward(parameters, x, description, masks, statistics, offsets):
        if layer.index:
            marks[f"{layer.name}.input"] = layer_input
        marks[LOGITS] = value
    marks[LOGITS] = _marked(LOGITS, marks[LOGITS], offsets)
    return marks


def _marked(name: str, value: Array, offsets: Mapping[str, Array] | None) -> Array:
    return checkpoint_name(value + offsets[name] if offsets else value, name)


def _forward(
    parameters: Parameters,
    x: Any,
    description: Description,
    masks: Masks | None,
    statistics: Statistics | None,
    offsets: Mapping[str, Array] | None = None,
) -> Iterator[tuple[Layer, Array, Array]]:
    """Yields each layer with its input and its output."""
    layers = layers_of(description)
    if len(parameters) != len(layers):
        raise ValueError(
            f"the description has {len(layers)} layers and parameters {len(parameters)} entries; there must be one "
            "for each layer, empty where it has none."
        )
    x, parameters, masks, statistics = jax.tree.map(jnp.asarray, (x, parameters, masks, statistics))
    extra = extra_arguments(layers, masks, statistics)
    for layer, own in zip(layers, parameters, strict=True):
        row = KINDS[layer.kind]
        check_input(layer, row, x)
        check_parameters(layer, leaves_of(layer, row, x.shape[1:]), own, x)
        if layer.index:
            x = _marked(f"{layer.name}.input", x, offsets)
        value = _call(layer, own, x, extra.get(layer.index, {}))
        yield layer, x, value
        x = value


def _call(layer: Layer, own: Mapping[str, Array], x: Array, extra: Mapping[str, Array]) -> Array:
    """Calls the op of a layer. A recurrence starts from a zero state, which is created here."""
    row = _kinds.VARIANTS.get((layer.kind, bool(extra)), KINDS[layer.kind])
    arguments = row.arguments.split()
    known = {"x": x, "ids": x, **own, **extra, "bias": own.get("bias")}
    if "state" in arguments:
        known["state"] = jnp.zeros((x.shape[0], layer.sizes["features"]), x.dtype)
    with located(layer):
        return row.function(*(known[name] for name in arguments), **layer.options)


class _Place(NamedTuple):
    layer: Layer
    leaves: Leaves
    statistics: Leaves
    shape: Shape  # of the output


def _plan(description: Description, input_shape: Sequence[int]) -> list[_Place]:
    """The parameters, statistics and output shape of each layer. The shapes come from tracing an empty batch."""
    layers = layers_of(description)
    x = jax.ShapeDtypeStruct((0, *input_shape), "int32" if "ids" in KINDS[layers[0].kind].arguments else "float32")
    places = []
    for layer in layers:
        row, shape = KINDS[layer.kind], x.shape[1:]
        check_input(layer, row, x)
        leaves, statistics = leaves_of(layer, row, shape), row.statistics(shape)
        x = jax.eval_shape(partial(_call, layer), structures(leaves), x, structures(statistics))
        places.append(_Place(layer, leaves, statistics, x.shape[1:]))
    return places
