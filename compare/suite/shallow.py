"""The notebook's network on both sides, as a check takes it."""

from typing import Any

import jax

import autodiff
import manual


def shallow_by_hand(parameters: Any, x: Any, y: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The loss, its gradients, and those of the intermediates, so that a fault can be located among them."""
    _, cache = manual.forward_propagation(x, parameters)
    intermediates: dict[str, Any] = {}
    gradients = manual.backpropagation(parameters, cache, x, y, intermediates=intermediates)
    return manual.compute_loss(cache.Z2, y), gradients, intermediates


def shallow_loss(parameters: Any, x: Any, y: Any) -> jax.Array:
    """The loss that JAX differentiates, from the parts that `autodiff` offers."""
    _, cache = autodiff.forward_propagation(x, parameters)
    return autodiff.compute_loss(cache.Z2, y)
