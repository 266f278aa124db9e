"""The same networks in JAX, forward only; every gradient by automatic differentiation."""

from autodiff.shallow import (
    Cache,
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
