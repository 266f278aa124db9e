"""The ops of `manual`, made fast: the same names, arguments and caches, each held to its page by a test.

    import manual.fast

    y, cache = manual.fast.normalization.layer_norm(x, weight, bias)
    loss, gradients = manual.network.loss_and_gradients(parameters, x, targets, description=..., ops=manual.fast)

What is derived stands on the page, in `manual`; what is said here is how it is made fast, where that is not plain. A
value and a cache that come from a page may be given to the backward pass of here, and the reverse.
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
