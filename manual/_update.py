"""What all optimizers share: the beginning of the state, the count of updates, the rate, the run over all leaves."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from manual._blocks import check_alike, in_blocks
from manual._trees import dotted, leaves_by_path, tree_map
from manual.schedules import Schedule, constant

LearningRate = float | int | Schedule


def update_rule(
    learning_rate: LearningRate,
    state_type: Any,
    formula: Callable[..., None],
    *,
    start: float = 0.0,
    epsilon: float = 0.0,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(initialize, update) for `formula(p, *buffers, g, a, b, t=, rate=)` on blocks.

    The state is a NamedTuple of the count and the buffers, which begin at `start`.
    """
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)
    fields = state_type._fields[1:]

    def buffer(leaf: np.ndarray) -> np.ndarray:
        return np.full(leaf.shape, start, leaf.dtype) if start else np.zeros(leaf.shape, leaf.dtype)

    def initialize(parameters: Any) -> Any:
        leaves = leaves_by_path(parameters)
        check_alike({"parameters": leaves})
        for path, leaf in leaves.items():
            if epsilon > 0 and leaf.dtype.type(epsilon) == 0:
                raise ValueError(
                    f"epsilon is {epsilon}, which {leaf.dtype} ({dotted(path)}) rounds to 0. "
                    "Give a larger one, or work in float32."
                )
        return state_type(np.zeros((), np.int32), *(tree_map(buffer, parameters) for _ in fields))

    def update(parameters: Any, gradients: Any, state: Any, donate: bool = False) -> tuple[Any, Any]:
        if len(state) != 1 + len(fields):
            raise ValueError(
                f"the state has {len(state)} fields; this optimizer's has {', '.join(state_type._fields)}."
            )
        done = int(state[0])
        step = partial(formula, t=done + 1, rate=float(schedule(done)))
        changed = {"parameters": parameters} | dict(zip(fields, state[1:], strict=True))
        parameters, *buffers = in_blocks(step, changed, {"gradients": gradients}, donate=donate)
        return parameters, state_type(np.array(done + 1, np.int32), *buffers)

    return initialize, update


def not_negative(**values: float) -> list[float]:
    """The values as Python floats; ValueError unless each is finite and at least 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number and at least 0, got {value}.")
    return [float(value) for value in values.values()]


def decays(**values: float) -> list[float]:
    """The values as Python floats; ValueError unless each is at least 0 and below 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value}; it is the part of the past kept.")
    return [float(value) for value in values.values()]
