"""Fast versions of the ops of `manual`, with the same names, arguments and caches. One test compares each pair.

    import manual.fast

    y, cache = manual.fast.normalization.layer_norm(x, weight, bias)
    loss, gradients = manual.network.loss_and_gradients(parameters, x, targets, description=..., ops=manual.fast)

The derivations and the documentation of arguments are in `manual`; docstrings here describe how an op is made fast. The
value and the cache of either package can be passed to the backward pass of the other.
"""

from manual.fast import (
    activations,
    attention,
    convolution,
    layers,
    losses,
    normalization,
    optimizers,
    pooling,
    recurrent,
    shallow,
    training,
    transformer,
)
from manual.fast._threads import keep_threads

__all__ = [
    "activations",
    "attention",
    "convolution",
    "keep_threads",
    "layers",
    "losses",
    "normalization",
    "optimizers",
    "pooling",
    "recurrent",
    "shallow",
    "training",
    "transformer",
]
