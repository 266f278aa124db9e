"""Fast training of `manual.shallow`: the loop allocates no arrays (see `_shallow_steps`). The rest is not redefined."""

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import ArrayLike

import manual.fast as ops
from manual import shallow as page
from manual.fast._shallow_steps import Steps
from manual.shallow import Parameters, layer_structure


def loss_and_gradients(
    parameters: Parameters, x: Float[np.ndarray, "n_x m"], y: Num[np.ndarray, "n_y labels"]
) -> tuple[np.floating, Parameters]:
    """The loss and gradients as each step of `train` computes them."""
    layer_structure(x, y, parameters["W1"].shape[0])
    return Steps(parameters, x, y).loss_and_gradients()


def train(
    parameters: Parameters,
    x: Float[np.ndarray, "n_x m"],
    y: Num[np.ndarray, "n_y labels"],
    *,
    iterations: int,
    learning_rate: float,
) -> tuple[Parameters, Float[np.ndarray, " iterations"]]:
    """The steps are those of `manual.shallow.train` up to rounding."""
    if iterations < 1 or not learning_rate > 0:
        raise ValueError(f"iterations and learning_rate must be positive, got {iterations} and {learning_rate}.")
    layer_structure(x, y, parameters["W1"].shape[0])
    steps = Steps(parameters, x, y)
    losses = np.empty(iterations, dtype=steps.weights.dtype)
    for i in range(iterations):
        losses[i] = steps.step(float(learning_rate))
    return steps.parameters(), losses


def neural_net(
    x: ArrayLike,
    y: ArrayLike,
    hidden_size: int,
    *,
    iterations: int = 1000,
    learning_rate: float = 1.0,
    seed: int = 0,
) -> tuple[Parameters, np.ndarray]:
    return page.neural_net(x, y, hidden_size, iterations=iterations, learning_rate=learning_rate, seed=seed, ops=ops)
