"""Optimizers in JAX: each is a pair of pure functions, returned by a factory that holds its constants.

    state = optimizer.initialize(parameters)
    parameters, state = optimizer.update(parameters, gradients, state)

Names, arguments and conventions are those of `manual.optimizers`. Each line of the formulas is one `jax.tree.map`. If
the caller compiles the whole step, XLA fuses them into one pass over memory. `update` has no argument `donate`: use
`donate_argnums` of `jax.jit`. p is a parameter and g its gradient. Parameters are any pytree of floating-point arrays.
A schedule must be traceable, as those of `schedules` are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from autodiff._dtype import keeps_dtype
from autodiff._norm import scaled_norm
from autodiff._update import LearningRate, decays, not_negative, update_rule

Count = Int32[Array, ""] | Int32[np.ndarray, ""]


class Optimizer(NamedTuple):
    """initialize(parameters) -> state; update(parameters, gradients, state) -> (parameters, state)."""

    initialize: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


class SgdState(NamedTuple):
    step: Count


class MomentumState(NamedTuple):
    step: Count
    velocity: Any


class AdagradState(NamedTuple):
    step: Count
    sum_of_squares: Any


class RmspropState(NamedTuple):
    step: Count
    mean_square: Any


class AdamState(NamedTuple):
    step: Count
    first_moment: Any
    second_moment: Any


def sgd(learning_rate: LearningRate, *, weight_decay: float = 0.0) -> Optimizer:
    """Gradient descent.

        p = p - rate (g + weight_decay p)

    Source: Robbins and Monro (1951).
    """
    (weight_decay,) = not_negative(weight_decay=weight_decay)

    def update(parameters: Any, gradients: Any, step: Count, rate: Any) -> tuple[Any, SgdState]:
        gradients = _penalized(gradients, parameters, weight_decay)
        return _descend(parameters, rate, gradients), SgdState(step)

    return _optimizer(learning_rate, SgdState, update)


def momentum(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Heavy ball, with the rate outside of the velocity and without dampening, as in PyTorch.

        v = beta v + (g + weight_decay p)
        p = p - rate v

    Source: Polyak (1964). `manual.optimizers.momentum` describes the published variants.
    """
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def update(parameters: Any, gradients: Any, step: Count, velocity: Any, rate: Any) -> tuple[Any, MomentumState]:
        gradients = _penalized(gradients, parameters, weight_decay)
        velocity = jax.tree.map(lambda v, g: beta * v + g, velocity, gradients)
        return _descend(parameters, rate, velocity), MomentumState(step, velocity)

    return _optimizer(learning_rate, MomentumState, update)


def nesterov(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Nesterov's accelerated gradient, in the variables of the lookahead point.

        g = g + weight_decay p
        v = beta v + g
        p = p - rate (g + beta v)

    Source: Sutskever et al. (2013) in the form of Bengio et al. (2013), as in PyTorch.
    """
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def update(parameters: Any, gradients: Any, step: Count, velocity: Any, rate: Any) -> tuple[Any, MomentumState]:
        gradients = _penalized(gradients, parameters, weight_decay)
        velocity = jax.tree.map(lambda v, g: beta * v + g, velocity, gradients)
        ahead = jax.tree.map(lambda v, g: g + beta * v, velocity, gradients)
        return _descend(parameters, rate, ahead), MomentumState(step, velocity)

    return _optimizer(learning_rate, MomentumState, update)


def adagrad(
    learning_rate: LearningRate, *, epsilon: float = 1e-10, initial_accumulator: float = 0.0, weight_decay: float = 0.0
) -> Optimizer:
    """A learning rate per entry, which decreases with the sum of its squared gradients.

        g = g + weight_decay p
        s = s + g^2                           starting at initial_accumulator
        p = p - rate g / (sqrt(s) + epsilon)

    Source: Duchi, Hazan and Singer (2011), figure 1, diagonal form.
    """
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)
    (start,) = not_negative(initial_accumulator=initial_accumulator)

    def update(parameters: Any, gradients: Any, step: Count, squares: Any, rate: Any) -> tuple[Any, AdagradState]:
        gradients = _penalized(gradients, parameters, weight_decay)
        squares = jax.tree.map(lambda s, g: s + g**2, squares, gradients)
        direction = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + epsilon), squares, gradients)
        return _descend(parameters, rate, direction), AdagradState(step, squares)

    return _optimizer(learning_rate, AdagradState, update, start=start, epsilon=epsilon)


def rmsprop(
    learning_rate: LearningRate, *, decay: float = 0.99, epsilon: float = 1e-8, weight_decay: float = 0.0
) -> Optimizer:
    """Gradients divided by their recent root mean square; epsilon is outside of the root.

        g = g + weight_decay p
        s = decay s + (1 - decay) g^2
        p = p - rate g / (sqrt(s) + epsilon)

    Source: Tieleman and Hinton, Coursera lecture 6e (2012).
    """
    (decay,), (epsilon, weight_decay) = decays(decay=decay), not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def update(parameters: Any, gradients: Any, step: Count, squares: Any, rate: Any) -> tuple[Any, RmspropState]:
        gradients = _penalized(gradients, parameters, weight_decay)
        squares = jax.tree.map(lambda s, g: decay * s + (1 - decay) * g**2, squares, gradients)
        direction = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + epsilon), squares, gradients)
        return _descend(parameters, rate, direction), RmspropState(step, squares)

    return _optimizer(learning_rate, RmspropState, update, epsilon=epsilon)


def adam(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Momentum divided by the root mean square, with bias correction.

        g = g + weight_decay p
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        m^ = m / (1 - beta1^t)                       t = 1 at the first update
        v^ = v / (1 - beta2^t)
        p = p - rate m^ / (sqrt(v^) + epsilon)

    The weight decay is divided by sqrt(v^) too; in `adamw` it is not. Source: Kingma and Ba (2015), algorithm 1, which
    has no weight decay.
    """
    return _adam(learning_rate, beta1, beta2, epsilon, weight_decay, apart=False)


def adamw(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay, multiplied by the learning rate as in PyTorch and optax.

        m, v, m^ and v^ as in `adam`
        p = p - rate (m^ / (sqrt(v^) + epsilon) + weight_decay p)

    Source: Loshchilov and Hutter (2019), algorithm 2.
    """
    return _adam(learning_rate, beta1, beta2, epsilon, weight_decay, apart=True)


def _adam(
    learning_rate: LearningRate, beta1: float, beta2: float, epsilon: float, weight_decay: float, *, apart: bool
) -> Optimizer:
    """With `apart`, the weight decay is added to the direction and not to the gradient."""
    beta1, beta2 = decays(beta1=beta1, beta2=beta2)
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def update(
        parameters: Any, gradients: Any, step: Count, first: Any, second: Any, rate: Any
    ) -> tuple[Any, AdamState]:
        gradients = _penalized(gradients, parameters, 0.0 if apart else weight_decay)
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, second, gradients)

        def direction(m: Array, v: Array) -> Array:
            m_hat, v_hat = _unbiased(m, beta1, step), _unbiased(v, beta2, step)
            return m_hat / (jnp.sqrt(v_hat) + epsilon)

        directions = jax.tree.map(direction, first, second)
        directions = _penalized(directions, parameters, weight_decay if apart else 0.0)
        return _descend(parameters, rate, directions), AdamState(step, first, second)

    return _optimizer(learning_rate, AdamState, update, epsilon=epsilon)


def _unbiased(mean: Array, decay: float, step: Count) -> Array:
    """mean / (1 - decay^step). In float32, 1 - 0.999 itself would be wrong in the fifth digit, so expm1 is used."""
    total = -jnp.expm1(step * math.log(decay)) if decay else 1.0
    return mean / jnp.asarray(total, mean.dtype)


def _penalized(gradients: Any, parameters: Any, weight_decay: float) -> Any:
    if weight_decay == 0:
        return gradients
    return jax.tree.map(lambda g, p: g + weight_decay * p, gradients, parameters)


def _descend(parameters: Any, rate: Any, directions: Any) -> Any:
    return jax.tree.map(lambda p, d: p - jnp.asarray(rate, p.dtype) * d, parameters, directions)


def _optimizer(*rule: Any, **options: Any) -> Optimizer:
    return Optimizer(*update_rule(*rule, **options))


@keeps_dtype
def global_norm(gradients: Any) -> Float[Array, ""]:
    """sqrt(sum g^2) over all entries of all leaves, in the widest of their dtypes.

    It overflows only if the norm itself does, and is 0 for a tree without entries. It is not finite if an entry is not.
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(gradients)]
    scale, relative = scaled_norm(leaves)
    return (relative / scale).astype(jnp.result_type(*leaves or [float]))


@keeps_dtype
def clip_by_global_norm(gradients: Any, maximum: float) -> Any:
    """g min(1, maximum / global_norm): the norm becomes at most `maximum`, and the direction is unchanged.

    If the norm is not finite, every entry is NaN. Raises ValueError unless maximum is positive. Source: Pascanu,
    Mikolov and Bengio (2013), algorithm 1.
    """
    _require_positive(maximum)
    gradients = jax.tree.map(jnp.asarray, gradients)
    scale, relative = scaled_norm(jax.tree.leaves(gradients))
    factor = jnp.where(jnp.isfinite(relative), maximum / relative, jnp.nan)

    def clip(g: Array) -> Array:
        wide = g.astype(scale.dtype)
        return jnp.where(relative <= maximum * scale, wide, wide * scale * factor).astype(g.dtype)

    return jax.tree.map(clip, gradients)


def clipped(optimizer: Optimizer, maximum: float) -> Optimizer:
    """An optimizer that clips the gradients by their global norm before each update. Raises as the clipping does."""
    _require_positive(maximum)

    def update(parameters: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
        return optimizer.update(parameters, clip_by_global_norm(gradients, maximum), state)

    return Optimizer(optimizer.initialize, update)


def _require_positive(maximum: float) -> None:
    if not maximum > 0:
        raise ValueError(f"maximum must be a positive number, got {maximum}; it is the largest norm of the gradients.")


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
