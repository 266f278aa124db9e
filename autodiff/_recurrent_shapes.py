"""Checks of the arguments of recurrent layers. Each raises ValueError."""

import numpy as np
from jax import Array

Shaped = Array | np.ndarray


def check_recurrent(
    x: Shaped,
    states: tuple[Shaped, ...],
    input_weight: Shaped,
    hidden_weight: Shaped,
    biases: tuple[Shaped, ...],
    *,
    gates: int,
) -> None:
    if x.ndim != 3 or states[0].ndim != 2:
        raise ValueError(
            f"x must be (batch, time, inputs) and a state (batch, hidden); got {x.shape} and {states[0].shape}. "
            "A single sequence is x[None], a batch of one."
        )
    batch, hidden = x.shape[0], states[0].shape[1]
    columns = gates * hidden
    expected = [*[(batch, hidden)] * len(states), (x.shape[2], columns), (hidden, columns), *[(columns,)] * len(biases)]
    actual = [array.shape for array in (*states, input_weight, hidden_weight, *biases)]
    if actual != expected:
        raise ValueError(
            f"for x {x.shape} and {gates} x {hidden} hidden units, the shapes of states, input weight, hidden weight "
            f"and biases must be {expected}; got {actual}. Weights are (inputs, gates x hidden): transpose PyTorch's."
        )


def check_activation(activation: str) -> None:
    if activation not in ("tanh", "relu"):
        raise ValueError(f"activation must be 'tanh' or 'relu', got {activation!r}.")
