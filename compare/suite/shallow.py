"""Both sides of the notebook's network, as arguments of a check."""

from typing import Any

import jax

import autodiff
import manual


def shallow_by_hand(parameters: Any, x: Any, y: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The loss, its gradients, and those of the intermediates, by which an error is located."""
    _, cache = manual.forward_propagation(x, parameters)
    intermediates: dict[str, Any] = {}
    gradients = manual.backpropagation(parameters, cache, x, y, intermediates=intermediates)
    return manual.compute_loss(cache.Z2, y), gradients, intermediates


def shallow_loss(parameters: Any, x: Any, y: Any) -> jax.Array:
    """The loss in JAX, made of functions of `autodiff`."""
    _, cache = autodiff.forward_propagation(x, parameters)
    return autodiff.compute_loss(cache.Z2, y)
