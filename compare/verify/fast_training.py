"""Training by `manual.fast`, called as it is used, against steps of JAX."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.trajectory import check_trajectory

# So many calls of the loop are checked, each of so many steps: what a loop carries from one step to the next within a
# call is seen only by a call of more than one.
CALLS, STEPS = 10, 2

Train = Callable[[Any, Any, list[Any]], tuple[Any, Any, Any]]
Step = Callable[..., tuple[Any, Any, Any]]


def check_fast_training(
    train: Train, autodiff_step: Step, parameters: Any, batches: Iterable[tuple[Any, ...]], state: Any
) -> TrajectoryReport:
    """Hold parameters, optimizer state and losses of a loop of training against the same steps by JAX.

    Args:
        train: `train(parameters, state, batches) -> (parameters, state, losses)`, NumPy's.
        autodiff_step: `autodiff_step(parameters, state, *batch) -> (parameters, state, loss)`, JAX's.
        parameters: where to begin.
        batches: at most CALLS * STEPS of them are used, so they may be without end.
        state: the optimizer's; an empty tree if it has none.

    Returns:
        The report, whose steps are calls. The losses of a call are part of its state.
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
