"""Backprop derived by hand, in NumPy. Knows nothing of JAX."""

from manual import (
    activations,
    attention,
    convolution,
    layers,
    losses,
    network,
    normalization,
    optimizers,
    pooling,
    recurrent,
    schedules,
    training,
    transformer,
)
from manual._memory import keep_memory
from manual.shallow import (
    Cache,
    backpropagation,
    compute_loss,
    forward_propagation,
    initialize_parameters,
    layer_structure,
    loss_and_gradients,
    neural_net,
    predict,
    sigmoid,
    train,
    update_parameters,
)

keep_memory()

__all__ = [
    "Cache",
    "activations",
    "attention",
    "backpropagation",
    "compute_loss",
    "convolution",
    "forward_propagation",
    "initialize_parameters",
    "layer_structure",
    "layers",
    "loss_and_gradients",
    "losses",
    "network",
    "neural_net",
    "normalization",
    "optimizers",
    "pooling",
    "predict",
    "recurrent",
    "schedules",
    "sigmoid",
    "train",
    "training",
    "transformer",
    "update_parameters",
]
