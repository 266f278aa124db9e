"""Learning rates as functions of the number of updates done, which is 0 at the first update.

Names and arguments are those of `manual.schedules`. The count, an int32, may be traced, so that a schedule is part of
the compiled step. It is converted to the default float dtype first, because JAX divides int32 in float32 even if
float64 is enabled.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike

Schedule = Callable[[ArrayLike], ArrayLike]


def constant(learning_rate: float | int) -> Schedule:
    """The same rate at every update."""
    _require_finite(learning_rate=learning_rate)
    return lambda count: float(learning_rate)


def cosine_with_warmup(peak: float, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> Schedule:
    """Linear warm-up from 0 to the peak, then half a cosine down to `final`, then constant.

    After the warm-up, the rate is final + (peak - final) (1 + cos(pi progress)) / 2. It is computed with
    (1 + cos(pi progress)) / 2 = sin^2(pi left / 2) and left = 1 - progress, which is accurate in float32 near 0. Raises
    ValueError unless 0 <= warmup_steps < total_steps and the rates are finite and not negative.
    """
    _require_finite(peak=peak, final=final)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and less than total_steps, got {warmup_steps} and {total_steps}."
        )

    def rate(count: ArrayLike) -> ArrayLike:
        count = jnp.asarray(count, float)
        left = jnp.clip((total_steps - count) / (total_steps - warmup_steps), 0, 1)
        descent = final + (peak - final) * jnp.sin(jnp.pi / 2 * left) ** 2
        return jnp.where(count < warmup_steps, peak * count / max(warmup_steps, 1), descent)

    return rate


def step_decay(learning_rate: float, *, every: int, factor: float) -> Schedule:
    """The rate learning_rate factor^floor(count / every). Raises ValueError unless every is at least 1."""
    _require_finite(learning_rate=learning_rate, factor=factor)
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}; it is the number of updates at one rate.")
    return lambda count: learning_rate * jnp.power(factor, jnp.asarray(jnp.asarray(count) // every, float))


def _require_finite(**rates: float) -> None:
    for name, rate in rates.items():
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"{name} must be a finite number and at least 0, got {rate}.")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine_with_warmup": cosine_with_warmup,
    "step_decay": step_decay,
}
