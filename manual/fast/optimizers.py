"""Fast optimizers: an update works block by block, so that each array is read from memory once and written once.

The formulas are called with one block at a time, which fits into the cache (see `_blocks`). They update p and the state
in place, p last, and use a and b as scratch. With `donate`, the result has the memory of the parameters and the state,
as with donation in JAX.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from manual._trees import leaves_by_path
from manual._update import LearningRate, decays, not_negative
from manual.fast._norm import norm, scaled
from manual.fast._update import update_rule
from manual.optimizers import AdagradState, AdamState, MomentumState, Optimizer, RmspropState, SgdState, _check_maximum


def sgd(learning_rate: LearningRate, *, weight_decay: float = 0.0) -> Optimizer:
    (weight_decay,) = not_negative(weight_decay=weight_decay)

    def formula(p, g, a, b, *, t, rate):
        g = _with_decay(g, p, weight_decay, a)
        p -= np.multiply(g, rate, out=a)

    return Optimizer(*update_rule(learning_rate, SgdState, formula))


def momentum(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def formula(p, velocity, g, a, b, *, t, rate):
        velocity *= beta
        velocity += _with_decay(g, p, weight_decay, a)
        p -= np.multiply(velocity, rate, out=a)

    return Optimizer(*update_rule(learning_rate, MomentumState, formula))


def nesterov(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def formula(p, velocity, g, a, b, *, t, rate):
        g = _with_decay(g, p, weight_decay, a)
        velocity *= beta
        velocity += g
        ahead = np.add(np.multiply(velocity, beta, out=b), g, out=b)
        p -= np.multiply(ahead, rate, out=b)

    return Optimizer(*update_rule(learning_rate, MomentumState, formula))


def adagrad(
    learning_rate: LearningRate, *, epsilon: float = 1e-10, initial_accumulator: float = 0.0, weight_decay: float = 0.0
) -> Optimizer:
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)
    (start,) = not_negative(initial_accumulator=initial_accumulator)

    def formula(p, s, g, a, b, *, t, rate):
        g = _with_decay(g, p, weight_decay, b)
        s += np.square(g, out=a)
        p -= np.multiply(_over_root(g, s, epsilon, a), rate, out=a)

    return Optimizer(*update_rule(learning_rate, AdagradState, formula, start=start, epsilon=epsilon))


def rmsprop(
    learning_rate: LearningRate, *, decay: float = 0.99, epsilon: float = 1e-8, weight_decay: float = 0.0
) -> Optimizer:
    (decay,), (epsilon, weight_decay) = decays(decay=decay), not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def formula(p, s, g, a, b, *, t, rate):
        g = _with_decay(g, p, weight_decay, b)
        _average(s, np.square(g, out=a), decay, a)
        p -= np.multiply(_over_root(g, s, epsilon, a), rate, out=a)

    return Optimizer(*update_rule(learning_rate, RmspropState, formula, epsilon=epsilon))


def adam(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    return _adam(learning_rate, beta1, beta2, epsilon, weight_decay, apart=False)


def adamw(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    return _adam(learning_rate, beta1, beta2, epsilon, weight_decay, apart=True)


def _adam(rate: LearningRate, beta1: float, beta2: float, epsilon: float, decay: float, apart: bool) -> Optimizer:
    """With `apart`, the weight decay is added to the direction and not to the gradient."""
    beta1, beta2 = decays(beta1=beta1, beta2=beta2)
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=decay)

    def formula(p, m, v, g, a, b, *, t, rate):
        g = g if apart else _with_decay(g, p, weight_decay, b)
        _average(m, g, beta1, a)
        _average(v, np.square(g, out=a), beta2, a)
        _over_root(m, np.divide(v, 1 - beta2**t, out=a), epsilon, a)
        a *= rate / (1 - beta1**t)  # the bias correction of m, as a scalar
        if apart and weight_decay:
            a += np.multiply(p, rate * weight_decay, out=b)
        p -= a

    return Optimizer(*update_rule(rate, AdamState, formula, epsilon=epsilon))


def _with_decay(g: np.ndarray, p: np.ndarray, weight_decay: float, out: np.ndarray) -> np.ndarray:
    """g + weight_decay p, the gradient of the loss plus weight_decay / 2 |p|^2."""
    return np.add(np.multiply(p, weight_decay, out=out), g, out=out) if weight_decay else g


def _over_root(g: np.ndarray, s: np.ndarray, epsilon: float, out: np.ndarray) -> np.ndarray:
    """g / (sqrt(s) + epsilon)."""
    np.sqrt(s, out=out)
    out += epsilon
    return np.divide(g, out, out=out)


def _average(mean: np.ndarray, value: np.ndarray, decay: float, scratch: np.ndarray) -> None:
    """mean = decay mean + (1 - decay) value."""
    mean *= decay
    mean += np.multiply(value, 1 - decay, out=scratch)


def global_norm(gradients: Any) -> np.floating:
    dtypes = [leaf.dtype for leaf in leaves_by_path(gradients).values()]
    return np.result_type(*dtypes or [np.float64]).type(norm(gradients))


def clip_by_global_norm(gradients: Any, maximum: float) -> Any:
    return scaled(gradients, _clipping_factor(gradients, maximum))


def clipped(optimizer: Optimizer, maximum: float) -> Optimizer:
    """An optimizer that clips the gradients by their global norm before each update."""
    _check_maximum(maximum)

    def update(parameters: Any, gradients: Any, state: Any, donate: bool = False) -> tuple[Any, Any]:
        factor = _clipping_factor(gradients, maximum)
        limited = gradients if factor == 1 else scaled(gradients, factor)
        return optimizer.update(parameters, limited, state, donate=donate)

    return Optimizer(optimizer.initialize, update)


def _clipping_factor(gradients: Any, maximum: float) -> float:
    _check_maximum(maximum)
    size = norm(gradients)
    if not math.isfinite(size):
        return math.nan
    return 1.0 if size <= maximum else maximum / size


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
