"""What all optimizers share: the initial state, the count of updates, the learning rate, and the loop over leaves."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from manual._trees import check_alike, dotted, leaves_by_path, rebuilt, tree_map
from manual.schedules import Schedule, constant

LearningRate = float | int | Schedule


def update_rule(
    learning_rate: LearningRate,
    state_type: Any,
    formula: Callable[..., Any],
    *,
    start: float = 0.0,
    epsilon: float = 0.0,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(initialize, update) of an optimizer, from `formula(p, g, *fields, t=, rate=) -> (p, *fields)` for one leaf.

    The state is a NamedTuple of the count and the fields. Every field has the tree of the parameters, and its leaves
    are initially filled with `start`.
    """
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)

    def initialize(parameters: Any) -> Any:
        return first_state(parameters, state_type, start, epsilon)

    def update(parameters: Any, gradients: Any, state: Any, donate: bool = False) -> tuple[Any, Any]:
        done, changed = taken_apart(parameters, state, state_type)
        rate = float(schedule(done))
        leaves = {name: leaves_by_path(tree) for name, tree in (changed | {"gradients": gradients}).items()}
        check_alike(leaves)
        found = {}
        for path in leaves["parameters"]:
            p, *fields, g = (tree[path] for tree in leaves.values())
            found[path] = formula(p, g, *fields, t=done + 1, rate=rate)
        # Leaves are matched by path, because two dicts may hold the same keys in different orders.
        new = [
            rebuilt(tree, iter([np.asarray(found[path][i]) for path in leaves[name]]))
            for i, (name, tree) in enumerate(changed.items())
        ]
        return new[0], state_type(np.array(done + 1, np.int32), *new[1:])

    return initialize, update


def first_state(parameters: Any, state_type: Any, start: float, epsilon: float) -> Any:
    """The state before the first update. Raises ValueError for leaves that are not floating or round epsilon to 0."""
    leaves = leaves_by_path(parameters)
    check_alike({"parameters": leaves})
    for path, leaf in leaves.items():
        if epsilon > 0 and leaf.dtype.type(epsilon) == 0:
            raise ValueError(
                f"epsilon is {epsilon}, which {leaf.dtype} ({dotted(path)}) rounds to 0. "
                "Give a larger one, or work in float32."
            )
    fields = (tree_map(lambda leaf: np.full(leaf.shape, start, leaf.dtype), parameters) for _ in state_type._fields[1:])
    return state_type(np.zeros((), np.int32), *fields)


def taken_apart(parameters: Any, state: Any, state_type: Any) -> tuple[int, dict[str, Any]]:
    """The number of updates done, and the trees that an update changes (parameters and fields), by name."""
    if len(state) != len(state_type._fields):
        raise ValueError(f"the state has {len(state)} fields; this optimizer's has {', '.join(state_type._fields)}.")
    return int(state[0]), {"parameters": parameters} | dict(zip(state_type._fields[1:], state[1:], strict=True))


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
            raise ValueError(f"{name} must be at least 0 and below 1, got {value}; it is the weight of the past.")
    return [float(value) for value in values.values()]
