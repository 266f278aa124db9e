"""The loop of an optimizer over all leaves, in blocks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from manual._update import LearningRate, first_state, taken_apart
from manual.fast._blocks import in_blocks
from manual.schedules import constant


def update_rule(
    learning_rate: LearningRate,
    state_type: Any,
    formula: Callable[..., None],
    *,
    start: float = 0.0,
    epsilon: float = 0.0,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`manual._update.update_rule` for `formula(p, *fields, g, a, b, t=, rate=)`, which updates blocks in place."""
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)

    def initialize(parameters: Any) -> Any:
        return first_state(parameters, state_type, start, epsilon)

    def update(parameters: Any, gradients: Any, state: Any, donate: bool = False) -> tuple[Any, Any]:
        done, changed = taken_apart(parameters, state, state_type)
        step = partial(formula, t=done + 1, rate=float(schedule(done)))
        parameters, *fields = in_blocks(step, changed, {"gradients": gradients}, donate=donate)
        return parameters, state_type(np.array(done + 1, np.int32), *fields)

    return initialize, update
