"""Networks from a description that can be stored: a list of layers, each a dict of JSON types.

    [
        {"kind": "conv2d", "features": 8, "kernel": 3, "padding": 1},
        {"kind": "relu"},
        {"kind": "max_pool2d", "window": 2},
        {"kind": "flatten"},
        {"kind": "dense", "features": 10},
    ]

The kinds are the rows of KINDS; `describe` lists the layers of a description with their output shapes. Parameters are
a list with a dict for each layer, which is empty if the layer has none, and gradients have the same structure. Layers
are batch-first, with channels last. A recurrent layer starts from a zero state and returns its outputs at all time
steps; the kind "last" keeps the last one.

A dropout layer drops entries if it has a mask, and is the identity without one. Batch normalization uses the statistics
of the batch, unless running statistics are passed. So training passes `masks` and no `statistics`, and evaluation
passes `statistics` and no `masks`.

`ops` is the package that provides the ops of the layers and the loss: `manual`, or `manual.fast`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import DTypeLike

import manual
import manual.losses
from manual._description import Layer, check_input, check_parameters, extra_arguments, layers_of, leaves_of, located
from manual._kinds import DATA, KINDS, Leaf, Leaves, Shape, constants, kinds, variants
from manual.layers import dropout_mask
from manual.normalization import update_running_statistics

Description = Sequence[dict[str, Any]]
Parameters = list[dict[str, np.ndarray]]
Input = Shaped[np.ndarray, "..."]  # integer ids if the first layer is an embedding, else floating-point
Value = Float[np.ndarray, "..."]
Masks = Mapping[int, np.ndarray]  # layer -> mask
Statistics = Mapping[int, Mapping[str, np.ndarray]]  # layer -> mean and variance

RELU_LIKE = ("relu", "leaky_relu", "elu", "gelu", "silu")  # they suppress about half of their inputs


def initialize_parameters(
    description: Description, input_shape: Sequence[int], *, seed: int = 0, dtype: DTypeLike = np.float64
) -> Parameters:
    """Weights from a normal distribution, biases 0 and gains 1.

    The variance is 1 / fan_in (LeCun et al., "Efficient BackProp", 1998), and 2 / fan_in in a layer that is directly
    followed by one of RELU_LIKE (He et al., "Delving deep into rectifiers", 2015). fan_in is the number of inputs of an
    output: 1 for an embedding, and the number of features for the hidden weight of a recurrence.

    Args:
        description: the layers.
        input_shape: the shape of the input, without the batch axis.
        seed: of the random numbers. They are drawn in float64, layer by layer, and then cast, so that a seed gives the
            same network in every dtype, in `manual` and in `autodiff`.
        dtype: of the parameters.

    Returns:
        A dict of arrays for each layer.

    Raises:
        ValueError: if an option or a shape does not fit. The message names the layer.
    """
    random = np.random.default_rng(seed)
    plan = _plan(description, input_shape)
    following = [place.layer.kind for place in plan[1:]] + [""]

    def drawn(leaf: Leaf, gain: float) -> np.ndarray:
        if not leaf.fan_in:
            return np.full(leaf.shape, leaf.constant, dtype)
        return (math.sqrt(gain / leaf.fan_in) * random.standard_normal(leaf.shape)).astype(dtype)

    return [
        {name: drawn(leaf, 2.0 if kind in RELU_LIKE else 1.0) for name, leaf in place.leaves.items()}
        for place, kind in zip(plan, following, strict=True)
    ]


def initialize_statistics(
    description: Description, input_shape: Sequence[int], *, dtype: DTypeLike = np.float64
) -> dict[int, dict[str, np.ndarray]]:
    """The running statistics of every batch normalization before the first batch, by layer: mean 0 and variance 1.

    Args:
        description: the layers.
        input_shape: the shape of the input, without the batch axis.
        dtype: of the statistics.
    """
    found = {place.layer.index: place.statistics for place in _plan(description, input_shape)}
    return {i: constants(leaves, dtype) for i, leaves in found.items() if leaves}


def draw_masks(
    description: Description, input_shape: Sequence[int], batch_size: int, *, seed: int = 0
) -> dict[int, np.ndarray]:
    """A mask for every dropout layer, with its rate, by layer number. `autodiff` draws the same masks from a seed.

    Args:
        description: the layers.
        input_shape: the shape of the input, without the batch axis.
        batch_size: the number of examples.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    return {
        layer.index: dropout_mask((batch_size, *shape), rate=layer.options["rate"], seed=int(random.integers(2**63)))
        for layer, _, _, shape in _plan(description, input_shape)
        if layer.kind == "dropout"
    }


def describe(description: Description, input_shape: Sequence[int]) -> list[str]:
    """One line for each layer: number, kind, options, output shape without the batch axis, and number of parameters.

    Args:
        description: the layers.
        input_shape: the shape of the input, without the batch axis.

    Raises:
        ValueError: if an option or a shape does not fit. The message names the layer.
    """
    cells = [
        (
            f"{layer.index}",
            layer.kind,
            ", ".join(f"{name}={value}" for name, value in layer.given.items()),
            f"{shape}",
            f"{sum(math.prod(leaf.shape) for leaf in leaves.values()):,}",
        )
        for layer, leaves, _, shape in _plan(description, input_shape)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


class LayerCache(NamedTuple):
    """The cache of one layer with its backward pass, so that `apply_backward` does not need the description.

    `inputs` names the arguments that the backward pass returns gradients for, and `parameters` those among them that
    are parameters of the layer.
    """

    name: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    backward: Callable[..., Any]
    cache: Any


def apply(
    parameters: Parameters,
    x: Input,
    *,
    description: Description,
    masks: Masks | None = None,
    statistics: Statistics | None = None,
    ops: ModuleType = manual,
) -> tuple[Value, list[LayerCache]]:
    """The output of the last layer.

    Args:
        parameters: a dict for each layer, as from `initialize_parameters`.
        x: the input (batch, ...), with the dtype of the parameters, or integer ids for an embedding.
        description: the layers.
        masks: by layer number, for some or all dropout layers.
        statistics: running mean and variance by layer number, for some or all batch normalizations.
        ops: `manual` or `manual.fast`.

    Returns:
        The output, and the caches of the layers.

    Raises:
        ValueError: if an option, a shape or a dtype does not fit. The message names the layer.
    """
    steps = list(_forward(parameters, x, description, masks, statistics, ops))
    value = steps[-1].value
    return value.copy() if value is x else value, [step.cache for step in steps]


def apply_backward(
    output_gradient: Value, cache: list[LayerCache], *, intermediates: dict[str, np.ndarray] | None = None
) -> Parameters:
    """The chain rule: each layer maps the gradient of its output to those of its parameters and of its input.

    The gradient of its input is the gradient of the output of the layer before.

    Args:
        output_gradient: the gradient of the loss with respect to the output of the last layer.
        cache: from `apply`.
        intermediates: a dict that receives the output gradient as "logits", and the gradient of the input of every
            layer but the first under names such as "2.conv2d.input". If one of them is wrong and the one that the
            backward pass computes just before it is right, the error is in the backward pass of the layer in the name.

    Returns:
        The gradients, with the structure of the parameters.
    """
    dy, output, gradients = output_gradient, "logits", []
    for layer in reversed(cache):
        if intermediates is not None:
            intermediates[output] = dy
        returned = layer.backward(dy, layer.cache)
        by_name = dict(zip(layer.inputs, returned if isinstance(returned, tuple) else (returned,), strict=True))
        gradients.insert(0, {name: by_name[name] for name in layer.parameters})
        dy, output = by_name.get("x", dy), f"{layer.name}.input"  # ids, the input of a first layer, have no gradient
    return gradients


def compute_loss(
    parameters: Parameters,
    x: Input,
    targets: Input,
    *,
    description: Description,
    loss: str = "cross_entropy",
    masks: Masks | None = None,
    statistics: Statistics | None = None,
    ops: ModuleType = manual,
) -> np.floating:
    """The loss of the output and the targets. `loss` is a name in `manual.losses`."""
    forward, _ = _loss(loss, ops)
    value, _ = apply(parameters, x, description=description, masks=masks, statistics=statistics, ops=ops)
    return forward(value, targets)[0]


def loss_and_gradients(
    parameters: Parameters,
    x: Input,
    targets: Input,
    *,
    description: Description,
    loss: str = "cross_entropy",
    masks: Masks | None = None,
    statistics: Statistics | None = None,
    intermediates: dict[str, np.ndarray] | None = None,
    ops: ModuleType = manual,
) -> tuple[np.floating, Parameters]:
    """`compute_loss`, and its gradient with respect to every parameter. `intermediates` is as for `apply_backward`."""
    forward, backward = _loss(loss, ops)
    value, cache = apply(parameters, x, description=description, masks=masks, statistics=statistics, ops=ops)
    total, loss_cache = forward(value, targets)
    return total, apply_backward(backward(1.0, loss_cache), cache, intermediates=intermediates)


def _loss(name: str, ops: ModuleType) -> tuple[Callable[..., Any], Callable[..., Any]]:
    losses = ops.losses.LOSSES
    if name not in losses:
        raise ValueError(f"no loss is called {name!r}; there are {', '.join(losses)}.")
    return losses[name]


def update_statistics(
    parameters: Parameters,
    x: Input,
    statistics: Statistics,
    *,
    description: Description,
    momentum: float = 0.1,
    masks: Masks | None = None,
    ops: ModuleType = manual,
) -> dict[int, dict[str, np.ndarray]]:
    """The running statistics after one more batch, for which one forward pass is computed as in training.

    Args:
        parameters, x, masks, description, ops: as for `apply`.
        statistics: the statistics before the batch, by layer number.
        momentum: the weight of the batch, as for `update_running_statistics`.
    """
    layers = layers_of(description)
    extra_arguments(layers, None, statistics)
    new = {}
    for i, step in enumerate(_forward(parameters, x, description, masks, None, ops)):
        if i in statistics:
            old = statistics[i]
            mean, variance = update_running_statistics(old["mean"], old["variance"], step.x, momentum=momentum)
            new[i] = {"mean": mean, "variance": variance}
    return new


class _Step(NamedTuple):
    x: Any
    value: Any
    cache: LayerCache


def _forward(
    parameters: Parameters,
    x: Any,
    description: Description,
    masks: Masks | None,
    statistics: Statistics | None,
    ops: ModuleType,
) -> Iterator[_Step]:
    """Yields the input, the output and the cache of each layer in turn."""
    layers = layers_of(description)
    if len(parameters) != len(layers):
        raise ValueError(
            f"the description has {len(layers)} layers and parameters {len(parameters)} entries; there must be one "
            "for each layer, empty where it has none."
        )
    extra = extra_arguments(layers, masks, statistics)
    for layer, own in zip(layers, parameters, strict=True):
        row = KINDS[layer.kind]
        check_input(layer, row, x)
        check_parameters(layer, leaves_of(layer, row, x.shape[1:]), own, x)
        step = _call(layer, own, x, extra.get(layer.index, {}), ops)
        yield step
        x = step.value


def _call(layer: Layer, own: Mapping[str, np.ndarray], x: Any, extra: dict[str, Any], ops: ModuleType) -> _Step:
    """Calls the op of a layer. A recurrence starts from a zero state, which is created here."""
    row = variants(ops).get((layer.kind, bool(extra)), kinds(ops)[layer.kind])
    arguments = row.arguments.split()
    known = {"x": x, "ids": x, **own, **extra, "bias": own.get("bias")}
    if "state" in arguments:
        known["state"] = np.zeros((len(x), layer.sizes["features"]), x.dtype)
    with located(layer):
        value, cache = row.forward(*(known[name] for name in arguments), **layer.options)
    inputs = tuple(name for name in arguments if name not in DATA)
    return _Step(x, value, LayerCache(layer.name, inputs, tuple(own), row.backward, cache))


class _Place(NamedTuple):
    layer: Layer
    leaves: Leaves
    statistics: Leaves
    shape: Shape  # of the output


def _plan(description: Description, input_shape: Sequence[int]) -> list[_Place]:
    """The parameters, statistics and output shape of each layer. The shapes come from a pass with an empty batch."""
    layers = layers_of(description)
    x = np.zeros((0, *input_shape), np.int64 if "ids" in KINDS[layers[0].kind].arguments else np.float64)
    places = []
    for layer in layers:
        row, shape = KINDS[layer.kind], x.shape[1:]
        check_input(layer, row, x)
        leaves, statistics = leaves_of(layer, row, shape), row.statistics(shape)
        x = _call(layer, constants(leaves), x, constants(statistics), manual).value
        places.append(_Place(layer, leaves, statistics, x.shape[1:]))
    return places
