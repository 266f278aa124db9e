"""Backprop derived by hand, in NumPy. Knows nothing of JAX."""

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

__all__ = [
    "Cache",
    "backpropagation",
    "compute_loss",
    "forward_propagation",
    "initialize_parameters",
    "layer_structure",
    "loss_and_gradients",
    "neural_net",
    "predict",
    "sigmoid",
    "train",
    "update_parameters",
]
