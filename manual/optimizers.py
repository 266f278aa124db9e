"""Optimizers: each is a pair of pure functions, returned by a factory that holds its constants.

    state = optimizer.initialize(parameters)
    parameters, state = optimizer.update(parameters, gradients, state)

p is a parameter, g its gradient and rate the learning rate; all formulas are elementwise. Parameters are any tree of
dicts, lists and tuples of floating-point arrays. Gradients, and each field of the state but `step`, have the same
paths, shapes and dtypes. `step` is the number of updates done. A learning rate is a number or a schedule, which is a
function of `step`; the first update calls it with 0.

`update(..., donate=True)` promises that the parameters and the state are not used afterwards, and that their leaves
share no memory. Then `manual.fast` may overwrite them; here the result is always new. Constants are Python floats,
which never promote the dtype of an array.

Every factory raises ValueError for a constant that is out of range: a learning rate, epsilon or weight decay that is
negative or not finite, or a decay (beta, beta1, beta2) that is not in [0, 1). `initialize` and `update` raise
ValueError for leaves that are not floating-point arrays, and for trees whose structures do not match.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from manual._trees import leaves_by_path, tree_map
from manual._update import LearningRate, decays, not_negative, update_rule

Count = Int32[np.ndarray, ""]
Leaf = np.ndarray | np.floating


class Optimizer(NamedTuple):
    """initialize(parameters) -> state; update(parameters, gradients, state, donate=False) -> (parameters, state)."""

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
    """Gradient descent. Source: Robbins and Monro (1951), where the rate decreases.

    p = p - rate (g + weight_decay p)
    """
    (weight_decay,) = not_negative(weight_decay=weight_decay)

    def formula(p, g, *, t, rate):
        g = g + weight_decay * p
        return (p - rate * g,)

    return Optimizer(*update_rule(learning_rate, SgdState, formula))


def momentum(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Heavy ball. Source: Polyak (1964); Sutskever et al. (2013), section 2.

        g = g + weight_decay p
        v = beta v + g
        p = p - rate v

    Sutskever et al. have the rate inside the velocity: v = beta v - rate g and p = p + v. Both are the same while the
    rate is constant. If it changes, the new rate here also scales the accumulated velocity, as in PyTorch. There is no
    dampening: implementations that multiply g by 1 - beta have the same steps at a smaller rate.
    """
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def formula(p, g, v, *, t, rate):
        g = g + weight_decay * p
        v = beta * v + g
        return p - rate * v, v

    return Optimizer(*update_rule(learning_rate, MomentumState, formula))


def nesterov(learning_rate: LearningRate, *, beta: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Nesterov's accelerated gradient, in the variables of the lookahead point. Source: Nesterov (1983).

        g = g + weight_decay p
        v = beta v + g
        p = p - rate (g + beta v)

    Sutskever et al. (2013) evaluate the gradient at p + beta v and step from p. With their velocity written as -rate v,
    the lookahead point is q = p - rate beta v, and their recurrence for q is the one above: Bengio et al. (2013), and
    PyTorch. Both give the same path while the rate is constant.
    """
    (beta,), (weight_decay,) = decays(beta=beta), not_negative(weight_decay=weight_decay)

    def formula(p, g, v, *, t, rate):
        g = g + weight_decay * p
        v = beta * v + g
        return p - rate * (g + beta * v), v

    return Optimizer(*update_rule(learning_rate, MomentumState, formula))


def adagrad(
    learning_rate: LearningRate, *, epsilon: float = 1e-10, initial_accumulator: float = 0.0, weight_decay: float = 0.0
) -> Optimizer:
    """A learning rate per entry, which decreases with the sum of its squared gradients.

        g = g + weight_decay p
        s = s + g^2                           starting at initial_accumulator
        p = p - rate g / (sqrt(s) + epsilon)

    The accumulator starts at 0 in PyTorch and at 0.1 in TensorFlow and optax, where epsilon is inside the root.
    Source: Duchi, Hazan and Singer (2011), figure 1, diagonal form.
    """
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)
    (start,) = not_negative(initial_accumulator=initial_accumulator)

    def formula(p, g, s, *, t, rate):
        g = g + weight_decay * p
        s = s + g**2
        return p - rate * g / (np.sqrt(s) + epsilon), s

    return Optimizer(*update_rule(learning_rate, AdagradState, formula, start=start, epsilon=epsilon))


def rmsprop(
    learning_rate: LearningRate, *, decay: float = 0.99, epsilon: float = 1e-8, weight_decay: float = 0.0
) -> Optimizer:
    """Gradients divided by their recent root mean square. Source: Tieleman and Hinton, Coursera lecture 6e (2012).

        g = g + weight_decay p
        s = decay s + (1 - decay) g^2
        p = p - rate g / (sqrt(s) + epsilon)

    The lecture has decay 0.9 and no epsilon. PyTorch adds epsilon outside of the root, as here. TensorFlow and optax
    add it inside, sqrt(s + epsilon), where the same number has a much larger effect.
    """
    (decay,), (epsilon, weight_decay) = decays(decay=decay), not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def formula(p, g, s, *, t, rate):
        g = g + weight_decay * p
        s = decay * s + (1 - decay) * g**2
        return p - rate * g / (np.sqrt(s) + epsilon), s

    return Optimizer(*update_rule(learning_rate, RmspropState, formula, epsilon=epsilon))


def adam(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Momentum divided by the root mean square, with bias correction. Source: Kingma and Ba (2015), algorithm 1.

        g = g + weight_decay p
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        m^ = m / (1 - beta1^t)                       t = 1 at the first update
        v^ = v / (1 - beta2^t)
        p = p - rate m^ / (sqrt(v^) + epsilon)

    The paper's faster form, rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon^), is the same only if
    epsilon^ is epsilon sqrt(1 - beta2^t). TensorFlow leaves it constant, so its epsilon has a larger effect early on.
    The weight decay, which the paper lacks, is the gradient of weight_decay / 2 |p|^2, as in PyTorch. As a part of g it
    is divided by sqrt(v^) too, so parameters with large gradients decay less. `adamw` decays all parameters alike.
    """
    beta1, beta2 = decays(beta1=beta1, beta2=beta2)
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def formula(p, g, m, v, *, t, rate):
        g = g + weight_decay * p
        m, v, direction = _adam_step(g, m, v, t, beta1, beta2, epsilon)
        return p - rate * direction, m, v

    return Optimizer(*update_rule(learning_rate, AdamState, formula, epsilon=epsilon))


def adamw(
    learning_rate: LearningRate,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter (2019), algorithm 2.

        m, v, m^ and v^ as in `adam`
        p = p - rate (m^ / (sqrt(v^) + epsilon) + weight_decay p)

    As in PyTorch and optax, the rate multiplies the decay too. In the paper only the multiplier of the schedule does,
    and not the base learning rate: to reproduce the paper, divide weight_decay by the base learning rate.
    """
    beta1, beta2 = decays(beta1=beta1, beta2=beta2)
    epsilon, weight_decay = not_negative(epsilon=epsilon, weight_decay=weight_decay)

    def formula(p, g, m, v, *, t, rate):
        m, v, direction = _adam_step(g, m, v, t, beta1, beta2, epsilon)
        return p - rate * (direction + weight_decay * p), m, v

    return Optimizer(*update_rule(learning_rate, AdamState, formula, epsilon=epsilon))


def _adam_step(
    g: Leaf, m: Leaf, v: Leaf, t: int, beta1: float, beta2: float, epsilon: float
) -> tuple[Leaf, Leaf, Leaf]:
    """m and v updated by g, and the direction m^ / (sqrt(v^) + epsilon)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return m, v, m_hat / (np.sqrt(v_hat) + epsilon)


def global_norm(gradients: Any) -> np.floating:
    """sqrt(sum g^2) over all entries of all leaves, in the widest of their dtypes.

    It overflows only if the norm itself does, and is 0 for a tree without entries. It is not finite if an entry is not.
    """
    dtypes = [leaf.dtype for leaf in leaves_by_path(gradients).values()]
    return np.result_type(*dtypes or [np.float64]).type(_norm(gradients))


def _norm(gradients: Any) -> float:
    """The global norm. Entries are divided by the largest one, so that no square overflows or underflows."""
    leaves = [leaf for leaf in leaves_by_path(gradients).values() if leaf.size]
    largest = float(np.max([np.max(np.abs(g)) for g in leaves], initial=0.0))
    if not 0 < largest < math.inf:
        return largest
    return largest * math.sqrt(math.fsum(float(np.sum((g.astype(np.float64) / largest) ** 2)) for g in leaves))


def clip_by_global_norm(gradients: Any, maximum: float) -> Any:
    """g min(1, maximum / global_norm): the norm becomes at most `maximum`, and the direction is unchanged.

    If the norm is not finite, every entry of the result is NaN, so that an overflow is not taken for a small step.
    Gradients within the limit are copied. PyTorch adds 1e-6 to the norm.

    Args:
        gradients: a tree of floating-point arrays.
        maximum: the largest norm, positive.

    Returns:
        The clipped gradients.

    Raises:
        ValueError: unless maximum is positive.

    Source: Pascanu, Mikolov and Bengio (2013), algorithm 1.
    """
    return _scaled(gradients, _clipping_factor(gradients, maximum))


def _scaled(gradients: Any, factor: float) -> Any:
    """factor g, multiplied in float64, because a small factor may be subnormal in float32."""
    return tree_map(lambda g: (g * np.float64(factor)).astype(g.dtype), gradients)


def clipped(optimizer: Optimizer, maximum: float) -> Optimizer:
    """An optimizer that clips the gradients by their global norm before each update. Raises as the clipping does."""
    _check_maximum(maximum)

    def update(parameters: Any, gradients: Any, state: Any, donate: bool = False) -> tuple[Any, Any]:
        factor = _clipping_factor(gradients, maximum)
        limited = gradients if factor == 1 else _scaled(gradients, factor)
        return optimizer.update(parameters, limited, state, donate=donate)

    return Optimizer(optimizer.initialize, update)


def _clipping_factor(gradients: Any, maximum: float) -> float:
    _check_maximum(maximum)
    size = _norm(gradients)
    if not math.isfinite(size):
        return math.nan
    return 1.0 if size <= maximum else maximum / size


def _check_maximum(maximum: float) -> None:
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
