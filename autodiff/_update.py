"""What all optimizers share: the initial state, the count of updates, the learning rate, and the checks of input."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autodiff._dtype import keeps_dtype
from autodiff.schedules import Schedule, constant

LearningRate = float | int | Schedule


def update_rule(
    learning_rate: LearningRate, state_type: Any, rule: Callable[..., Any], *, start: float = 0.0, epsilon: float = 0.0
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(initialize, update) for `rule(parameters, gradients, step, *buffers, rate)`, whose step counts this update."""
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)

    @keeps_dtype
    def initialize(parameters: Any) -> Any:
        parameters = jax.tree.map(jnp.asarray, parameters)
        for path, leaf in jax.tree.leaves_with_path(parameters):
            name = _dotted(path)
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(f"parameters: {name} is {leaf.dtype}; leaves must be floating-point arrays. Cast it.")
            if epsilon > 0 and np.asarray(epsilon, leaf.dtype) == 0:
                raise ValueError(
                    f"epsilon is {epsilon}, which {leaf.dtype} ({name}) rounds to 0. Give a larger one, or work in "
                    "float32."
                )
        # Each field has arrays of its own, because shared memory could not be donated.
        buffers = [jax.tree.map(lambda leaf: jnp.full_like(leaf, start), parameters) for _ in state_type._fields[1:]]
        return state_type(jnp.zeros((), jnp.int32), *buffers)

    @keeps_dtype
    def update(parameters: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        parameters, gradients, (step, *buffers) = jax.tree.map(jnp.asarray, (parameters, gradients, tuple(state)))
        _require_alike(parameters, gradients)
        if len(buffers) != len(state_type._fields) - 1:
            raise ValueError(
                f"the state has {len(state)} fields; this optimizer's has {', '.join(state_type._fields)}."
            )
        return rule(parameters, gradients, step + 1, *buffers, schedule(step))

    return initialize, update


def _require_alike(parameters: Any, gradients: Any) -> None:
    """Raises ValueError unless gradients have the structure, shapes and dtypes of the parameters."""
    these, those = ({_dotted(at): leaf for at, leaf in jax.tree.leaves_with_path(t)} for t in (parameters, gradients))
    for path in [*these, *those]:
        if (path in these) != (path in those):
            has, lacks = ("parameters", "gradients") if path in these else ("gradients", "parameters")
            raise ValueError(f"{has} has a leaf {path} and {lacks} has none; their structures must match.")
        p, g = these[path], those[path]
        if p.shape != g.shape or p.dtype != g.dtype:
            raise ValueError(
                f"{path}: parameters has {p.dtype} {p.shape} and gradients has {g.dtype} {g.shape}; shapes and dtypes "
                "must be equal. Cast or reshape one of them."
            )


def _dotted(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "the only leaf"


def not_negative(**values: float) -> list[float]:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number and at least 0, got {value}.")
    return [float(value) for value in values.values()]


def decays(**values: float) -> list[float]:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value}; it is the weight of the past.")
    return [float(value) for value in values.values()]
