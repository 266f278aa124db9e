"""Faults on JAX's side: wrong losses and wrong derivatives. Each is defined once, so that JAX compiles it once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

import autodiff
from compare.suite.shallow import shallow_loss


def _network(activation: Callable[..., Any] = jnp.tanh, cost: Callable[..., Any] = autodiff.compute_loss) -> Any:
    """The network with another activation or cost. Intermediate values have their names in `autodiff.shallow`."""

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        Z1 = checkpoint_name(parameters["W1"] @ x + parameters["b1"], "Z1")
        A1 = checkpoint_name(activation(Z1), "A1")
        Z2 = checkpoint_name(parameters["W2"] @ A1 + parameters["b2"], "Z2")
        return cost(Z2, y)

    return loss


def negated(parameters: Any, x: Any, y: Any) -> Any:
    return -shallow_loss(parameters, x, y)


def summed(parameters: Any, x: Any, y: Any) -> Any:
    return shallow_loss(parameters, x, y) * x.shape[1]


def averaged_over_outputs(parameters: Any, x: Any, y: Any) -> Any:
    return shallow_loss(parameters, x, y) / y.shape[0]


def stops_b1(parameters: Any, x: Any, y: Any) -> Any:
    return shallow_loss({**parameters, "b1": jax.lax.stop_gradient(parameters["b1"])}, x, y)


def _half_cost(Z2: Any, y: Any) -> Any:
    return -jnp.sum(y * jax.nn.log_sigmoid(Z2)) / Z2.shape[1]


@jax.custom_vjp
def _tanh(z: Any) -> Any:
    return jnp.tanh(z)


_tanh.defvjp(lambda z: (jnp.tanh(z), jnp.tanh(z)), lambda a, g: (g * (1 - a),))


@jax.custom_vjp
def _cost(Z2: Any, y: Any) -> Any:
    return autodiff.compute_loss(Z2, y)


_cost.defvjp(
    lambda Z2, y: (autodiff.compute_loss(Z2, y), (Z2, y)),
    lambda kept, g: (g * (jax.nn.sigmoid(kept[0]) - kept[1]), jnp.zeros_like(kept[1])),
)

without_second_term = _network(cost=_half_cost)
relu_network = _network(activation=jax.nn.relu)
wrong_tanh_vjp = _network(activation=_tanh)
wrong_cost_vjp = _network(cost=_cost)
