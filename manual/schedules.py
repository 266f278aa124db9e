"""Learning rates as functions of the number of updates done, which is 0 at the first update.

Rates are finite and not negative. An argument that is out of range raises ValueError.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(learning_rate: float | int) -> Schedule:
    """The same rate at every update.

    Raises:
        ValueError: unless the rate is finite and not negative.
    """
    _check_rates(learning_rate=learning_rate)
    rate = float(learning_rate)
    return lambda count: rate


def cosine_with_warmup(peak: float, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> Schedule:
    """Linear warm-up from 0 to the peak, then half a cosine down to `final`, then constant.

        peak count / warmup_steps                                  before warmup_steps
        final + (peak - final) (1 + cos(pi progress)) / 2          progress = (count - warmup_steps)
                                                                              / (total_steps - warmup_steps)

    The first rate is 0 if there is a warm-up, the rate at warmup_steps is the peak, and from total_steps on it is
    `final`. optax and Hugging Face's transformers do the same; nanoGPT starts its line at one step, not at 0.

    Args:
        peak: the largest rate.
        warmup_steps: the number of updates before the peak.
        total_steps: the number of updates after which the rate is `final`.
        final: the last rate.

    Returns:
        The schedule.

    Raises:
        ValueError: unless 0 <= warmup_steps < total_steps and the rates are finite and not negative.

    Source: Loshchilov and Hutter, "SGDR" (2017), without the restarts.
    """
    _check_rates(peak=peak, final=final)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and less than total_steps, got {warmup_steps} and {total_steps}."
        )

    def rate(count: int) -> float:
        if count < warmup_steps:
            return peak * count / warmup_steps
        progress = min((count - warmup_steps) / (total_steps - warmup_steps), 1.0)
        return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2

    return rate


def step_decay(learning_rate: float, *, every: int, factor: float) -> Schedule:
    """The rate learning_rate factor^floor(count / every).

    Args:
        learning_rate: the first rate.
        every: the number of updates at one rate, at least 1.
        factor: multiplies the rate after this number of updates.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_rates(learning_rate=learning_rate, factor=factor)
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}; it is the number of updates at one rate.")
    return lambda count: learning_rate * factor ** (count // every)


def _check_rates(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number and at least 0, got {value}.")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine_with_warmup": cosine_with_warmup,
    "step_decay": step_decay,
}
