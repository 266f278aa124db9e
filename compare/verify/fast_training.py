"""Compares whole training loops of `manual.fast` with steps in JAX."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.trajectory import check_trajectory

# The loop is called CALLS times, with STEPS steps each time. An error in the state that a loop carries from one step to
# the next shows only in calls of several steps.
CALLS, STEPS = 10, 2

Train = Callable[[Any, Any, list[Any]], tuple[Any, Any, Any]]
Step = Callable[..., tuple[Any, Any, Any]]


def check_fast_training(
    train: Train, autodiff_step: Step, parameters: Any, batches: Iterable[tuple[Any, ...]], state: Any
) -> TrajectoryReport:
    """Compare the parameters, optimizer state and losses of a training loop with those of the same steps in JAX.

    Args:
        train: the loop in NumPy, `train(parameters, state, batches) -> (parameters, state, losses)`.
        autodiff_step: a step in JAX, `autodiff_step(parameters, state, *batch) -> (parameters, state, loss)`.
        parameters: the initial parameters.
        batches: at most CALLS * STEPS of them are used, so the iterable may be infinite.
        state: the initial state of the optimizer; an empty tree if it has none.

    Returns:
        The report. A step in it is a call of the loop, and the losses of the call are part of the state.
    """
    used = list(islice(batches, CALLS * STEPS))
    steps = min(STEPS, len(used))
    calls = [tuple(used[i : i + steps]) for i in range(0, len(used) - steps + 1, steps)]

    def by_hand(parameters: Any, before: Any, *batches: Any) -> Any:
        parameters, state, losses = train(parameters, before["optimizer"], list(batches))
        return parameters, {"optimizer": state, "losses": losses}

    def by_jax(parameters: Any, before: Any, *batches: Any) -> Any:
        state, losses = before["optimizer"], []
        for batch in batches:
            parameters, state, loss = autodiff_step(parameters, state, *batch)
            losses.append(loss)
        return parameters, {"optimizer": state, "losses": jnp.stack(losses)}

    nothing = np.zeros(steps, np.result_type(*jax.tree.leaves(parameters)))
    return check_trajectory(by_hand, by_jax, parameters, calls, state={"optimizer": state, "losses": nothing})
