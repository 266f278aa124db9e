"""Recurrent layers in JAX, forward only, with the names, arguments and conventions of `manual.recurrent`.

Each layer is a function of one step, which `lax.scan` applies over time; JAX differentiates the scan.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from autodiff._recurrent_shapes import check_activation, check_recurrent

Inputs = Float[Array, "batch time inputs"]
State = Float[Array, "batch hidden"]
States = Float[Array, "batch time hidden"]


def rnn(
    x: Inputs,
    initial_state: State,
    input_weight: Float[Array, "inputs hidden"],
    hidden_weight: Float[Array, "hidden hidden"],
    bias: Float[Array, " hidden"],
    *,
    activation: Literal["tanh", "relu"] = "tanh",
) -> States:
    """h_t = activation(x_t W + h_{t-1} U + b) for all t. Raises ValueError as the op in `manual` does."""
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (bias,), gates=1)
    check_activation(activation)
    function = jnp.tanh if activation == "tanh" else jax.nn.relu

    def step(h: State, a: State) -> State:
        return function(a + h @ hidden_weight)

    return _over_time(step, initial_state, x @ input_weight + bias)[1]


def lstm(
    x: Inputs,
    initial_hidden: State,
    initial_cell: State,
    input_weight: Float[Array, "inputs 4*hidden"],
    hidden_weight: Float[Array, "hidden 4*hidden"],
    bias: Float[Array, " 4*hidden"],
) -> tuple[States, State]:
    """(h_t for all t, the last c_t) of c_t = f c_{t-1} + i g and h_t = o tanh(c_t), with blocks ordered i, f, g, o.

    Raises ValueError if shapes do not fit.
    """
    check_recurrent(x, (initial_hidden, initial_cell), input_weight, hidden_weight, (bias,), gates=4)

    def step(carry: tuple[State, State], a: Array) -> tuple[State, State]:
        h, c = carry
        i, f, g, o = jnp.split(a + h @ hidden_weight, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    (_, final_cell), (outputs, _) = _over_time(step, (initial_hidden, initial_cell), x @ input_weight + bias)
    return outputs, final_cell


def gru(
    x: Inputs,
    initial_state: State,
    input_weight: Float[Array, "inputs 3*hidden"],
    hidden_weight: Float[Array, "hidden 3*hidden"],
    input_bias: Float[Array, " 3*hidden"],
    hidden_bias: Float[Array, " 3*hidden"],
) -> States:
    """h_t = n + z (h_{t-1} - n) for all t, with blocks ordered r, z, n, and r applied after the hidden weight.

    Raises ValueError if shapes do not fit.
    """
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (input_bias, hidden_bias), gates=3)

    def step(h: State, from_x: Array) -> State:
        from_h = h @ hidden_weight + hidden_bias
        (r, z, n), (r_h, z_h, n_h) = (jnp.split(a, 3, axis=-1) for a in (from_x, from_h))
        candidate = jnp.tanh(n + jax.nn.sigmoid(r + r_h) * n_h)
        return candidate + jax.nn.sigmoid(z + z_h) * (h - candidate)

    return _over_time(step, initial_state, x @ input_weight + input_bias)[1]


def _over_time(step: Callable[..., Any], start: Any, inputs: Array) -> tuple[Any, Any]:
    """The last carry, and all carries along axis 1, of `carry = step(carry, inputs[:, t])`."""

    def body(carry: Any, a: Array) -> tuple[Any, Any]:
        carry = step(carry, a)
        return carry, carry

    last, every = lax.scan(body, start, jnp.moveaxis(inputs, 1, 0))
    return last, jax.tree.map(lambda states: jnp.moveaxis(states, 0, 1), every)


RECURRENT: dict[str, Callable[..., Any]] = {
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
}
