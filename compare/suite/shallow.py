"""Both sides of the notebook's network, in the form that `check_gradients` takes."""

from typing import Any

import jax

import autodiff
import manual


def shallow_by_hand(parameters: Any, x: Any, y: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The loss, its gradients, and the gradients of intermediate values, which locate an error."""
    _, cache = manual.forward_propagation(x, parameters)
    intermediates: dict[str, Any] = {}
    gradients = manual.backpropagation(parameters, cache, x, y, intermediates=intermediates)
    return manual.compute_loss(cache.Z2, y), gradients, intermediates


def shallow_loss(parameters: Any, x: Any, y: Any) -> jax.Array:
    """The loss in JAX, by functions of `autodiff`."""
    _, cache = autodiff.forward_propagation(x, parameters)
    return autodiff.compute_loss(cache.Z2, y)
