"""The kinds of layers that a network can have: for each, its op, the arguments of the op, and its parameters.

A layer accepts the options of its op (stride, epsilon) and those that set its parameter shapes (features, kernel).
They are read from the keyword-only arguments of the two functions in its row, so no separate list is needed.
"""

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

import manual
import manual.activations
import manual.convolution
import manual.layers
import manual.normalization
import manual.pooling
import manual.recurrent
from manual._rules import Rule, Rules

Value = Float[np.ndarray, "..."]
Shape = tuple[int, ...]


class Leaf(NamedTuple):
    """How a parameter is initialized: normal with a variance proportional to 1 / fan_in, or constant if fan_in is 0."""

    shape: Shape
    fan_in: int = 0
    constant: float = 0.0


Leaves = dict[str, Leaf]


def constants(leaves: Leaves, dtype: DTypeLike = np.float64) -> dict[str, np.ndarray]:
    return {name: np.full(leaf.shape, leaf.constant, dtype) for name, leaf in leaves.items()}


def no_leaves(shape: Shape) -> Leaves:
    return {}


def dense_leaves(shape: Shape, *, features: int, bias: bool = True) -> Leaves:
    return {"weight": Leaf((shape[-1], features), shape[-1])} | _bias(features, bias)


def conv1d_leaves(shape: Shape, *, features: int, kernel: Any, groups: int = 1, bias: bool = True) -> Leaves:
    return _convolution((*_taps(kernel, 1), shape[-1] // groups, features)) | _bias(features, bias)


def conv2d_leaves(shape: Shape, *, features: int, kernel: Any, groups: int = 1, bias: bool = True) -> Leaves:
    return _convolution((*_taps(kernel, 2), shape[-1] // groups, features)) | _bias(features, bias)


def conv_transpose2d_leaves(shape: Shape, *, features: int, kernel: Any, groups: int = 1, bias: bool = True) -> Leaves:
    """The weight has the layout of the convolution in the opposite direction, from the features to the inputs."""
    taps = math.prod(_taps(kernel, 2))
    weight = Leaf((*_taps(kernel, 2), features // groups, shape[-1]), taps * shape[-1] // groups)
    return {"weight": weight} | _bias(features, bias)


def _convolution(shape: Shape) -> Leaves:
    """The fan-in of an output is the number of taps times the number of input channels in its group."""
    return {"weight": Leaf(shape, math.prod(shape[:-1]))}


def _taps(kernel: Any, axes: int) -> Shape:
    """The kernel size along each axis. One number stands for the same size along all axes."""
    taps = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    if len(taps) != axes:
        raise ValueError(f"kernel must be one number, or one for each of {axes} axes, got {kernel}.")
    return taps


def _bias(features: int, wanted: bool) -> Leaves:
    return {"bias": Leaf((features,))} if wanted else {}


def gain(shape: Shape) -> Leaves:
    return {"weight": Leaf(shape[-1:], constant=1)}


def gain_and_bias(shape: Shape) -> Leaves:
    return gain(shape) | {"bias": Leaf(shape[-1:])}


def running_statistics(shape: Shape) -> Leaves:
    return {"mean": Leaf(shape[-1:]), "variance": Leaf(shape[-1:], constant=1)}


def embedding_leaves(shape: Shape, *, vocabulary: int, features: int) -> Leaves:
    """The fan-in is 1, because each output is one row of the table."""
    return {"weight": Leaf((vocabulary, features), 1)}


def rnn_leaves(shape: Shape, *, features: int) -> Leaves:
    return _recurrent(shape, features, 1) | _bias(features, True)


def lstm_leaves(shape: Shape, *, features: int) -> Leaves:
    return _recurrent(shape, features, 4) | _bias(4 * features, True)


def gru_leaves(shape: Shape, *, features: int) -> Leaves:
    biases = {name: Leaf((3 * features,)) for name in ("input_bias", "hidden_bias")}
    return _recurrent(shape, features, 3) | biases


def _recurrent(shape: Shape, features: int, gates: int) -> Leaves:
    fans = {"input_weight": shape[-1], "hidden_weight": features}
    return {name: Leaf((fan, gates * features), fan) for name, fan in fans.items()}


class Kind(NamedTuple):
    """A kind of layer: its op, the arguments of the op, and the parameters.

    `arguments` lists the names of the arguments in order. x (or ids) is the input, and state is the zero initial state
    of a recurrence. The others are parameters, or a mask or statistics that the caller passes in addition.
    `axes` lists the axes of the input; "..." matches any number of axes.
    """

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    arguments: str
    axes: str
    leaves: Callable[..., Leaves] = no_leaves
    statistics: Callable[[Shape], Leaves] = no_leaves


def _outputs_of(lstm: Callable[..., Any], lstm_backward: Callable[..., Any]) -> Rule:
    """The op with the outputs as its only value: the final cell state is dropped, so its gradient is 0."""

    def forward(x: Any, hidden: Any, cell: Any, input_weight: Any, hidden_weight: Any, bias: Any) -> tuple[Value, Any]:
        (outputs, _), cache = lstm(x, hidden, cell, input_weight, hidden_weight, bias)
        return outputs, cache

    def backward(output_gradient: Value, cache: Any) -> tuple[Any, ...]:
        return lstm_backward((output_gradient, np.zeros_like(cache.initial_cell)), cache)

    return forward, backward


def _last(x: Value) -> tuple[Value, Shape]:
    """y = x_T, the last time step."""
    if not x.shape[1]:
        raise ValueError(f"x of shape {x.shape} has no time steps, and so no last one.")
    return x[:, -1].copy(), x.shape


def _last_backward(output_gradient: Value, cache: Shape) -> Value:
    """dx_T = dy, and dx_t = 0 at all other time steps."""
    dx = np.zeros(cache, output_gradient.dtype)
    dx[:, -1] = output_gradient
    return dx


def _kept(x: Value, *, rate: float) -> tuple[Value, None]:
    """Dropout without a mask: the identity."""
    return x, None


def _kept_backward(output_gradient: Value, cache: None) -> Value:
    return output_gradient


IMAGE, SIGNAL, SEQUENCE = "batch height width channels", "batch time channels", "batch time features"
ANY, CHANNELS = "batch ...", "batch ... channels"


@functools.cache
def kinds(ops: ModuleType) -> dict[str, Kind]:
    """The kinds of layers, with ops taken from a package: `manual` or `manual.fast`."""
    layers: Rules = ops.layers.LAYERS
    convolution: Rules = ops.convolution.CONVOLUTION
    pooling: Rules = ops.pooling.POOLING
    normalization: Rules = ops.normalization.NORMALIZATION
    recurrent: Rules = ops.recurrent.RECURRENT
    activations: Rules = ops.activations.ACTIVATIONS
    return {
        "dense": Kind(*layers["dense"], "x weight bias", "batch ... features", dense_leaves),
        "embedding": Kind(*layers["embedding"], "weight ids", ANY, embedding_leaves),
        "conv1d": Kind(*convolution["conv1d"], "x weight bias", SIGNAL, conv1d_leaves),
        "conv2d": Kind(*convolution["conv2d"], "x weight bias", IMAGE, conv2d_leaves),
        "conv_transpose2d": Kind(*convolution["conv_transpose2d"], "x weight bias", IMAGE, conv_transpose2d_leaves),
        "max_pool2d": Kind(*pooling["max_pool2d"], "x", IMAGE),
        "average_pool2d": Kind(*pooling["average_pool2d"], "x", IMAGE),
        "global_average_pool": Kind(*pooling["global_average_pool"], "x", CHANNELS),
        "flatten": Kind(*layers["flatten"], "x", ANY),
        "layer_norm": Kind(*normalization["layer_norm"], "x weight bias", CHANNELS, gain_and_bias),
        "rms_norm": Kind(*normalization["rms_norm"], "x weight", CHANNELS, gain),
        "batch_norm": Kind(*normalization["batch_norm"], "x weight bias", CHANNELS, gain_and_bias, running_statistics),
        "group_norm": Kind(*normalization["group_norm"], "x weight bias", CHANNELS, gain_and_bias),
        "dropout": Kind(*layers["dropout"], "x mask", ANY),
        "rnn": Kind(*recurrent["rnn"], "x state input_weight hidden_weight bias", SEQUENCE, rnn_leaves),
        "lstm": Kind(
            *_outputs_of(*recurrent["lstm"]), "x state state input_weight hidden_weight bias", SEQUENCE, lstm_leaves
        ),
        "gru": Kind(
            *recurrent["gru"], "x state input_weight hidden_weight input_bias hidden_bias", SEQUENCE, gru_leaves
        ),
        "last": Kind(_last, _last_backward, "x", "batch time ..."),
        # swiglu is left out because it takes two inputs.
        **{name: Kind(*rule, "x", ANY) for name, rule in activations.items() if name != "swiglu"},
    }


@functools.cache
def variants(ops: ModuleType) -> dict[tuple[str, bool], Kind]:
    """Rows that replace those of `kinds` when a mask or statistics are passed (True), or are not passed (False)."""
    normalization: Rules = ops.normalization.NORMALIZATION
    return {
        ("dropout", False): Kind(_kept, _kept_backward, "x", ANY),
        ("batch_norm", True): Kind(*normalization["batch_norm_inference"], "x weight bias mean variance", CHANNELS),
    }


KINDS = kinds(cast(ModuleType, manual))

DATA = {"ids", "mask", "mean", "variance"}  # arguments without a gradient
