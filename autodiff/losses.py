"""Loss functions in JAX, forward only, with the names, arguments and conventions of `manual.losses`.

Targets are data, cast to the dtype of the first argument, and gradients are with respect to that argument alone. The
values of targets cannot be checked under jit: where `manual` raises ValueError for them, value and gradient are NaN.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from autodiff._reduction import Targets, Value, check_reduction, checked_targets, reduced


def binary_cross_entropy(logits: Float[Array, "*shape"], targets: Targets, *, reduction: str = "mean") -> Value:
    """-t log s - (1 - t) log(1 - s) with s = sigmoid(z), for each entry; 1 - s is sigmoid(-z)."""
    t = checked_targets("logits", logits, targets, reduction)
    terms = -t * jax.nn.log_sigmoid(logits) - (1 - t) * jax.nn.log_sigmoid(-logits)
    return reduced(terms, reduction, terms.size)


def cross_entropy(
    logits: Float[Array, "*rows classes"],
    targets: Targets,
    *,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> Value:
    """-sum_c q_c log softmax(z)_c for each row, the classes on the last axis.

    Targets are class indices, or probabilities q in a floating dtype, with 0 log 0 = 0. Label smoothing mixes q with
    the uniform distribution. Rows whose index is ignore_index have a term of 0, and are not counted in a mean. Rows
    with any other index outside of the classes have a value and a gradient of NaN.
    """
    check_reduction(reduction)
    targets = jnp.asarray(targets)
    _check_classes(logits, targets, label_smoothing)
    a = float(label_smoothing)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        q = (1 - a) * targets.astype(jnp.result_type(logits)) + a / logits.shape[-1]
        terms = -jnp.sum(jnp.where(q == 0, 0, q * jax.nn.log_softmax(logits)), axis=-1)
        return reduced(terms, reduction, terms.size)
    ids = targets.astype(int)  # unsigned bytes, for example, cannot be compared with -100
    counted = ids != ignore_index
    logits = jnp.where(counted[..., None], logits, 0)
    # Only the log-softmax at the index is computed: a whole array of it takes twice as long. `top` cancels in the sum.
    top = lax.stop_gradient(jnp.max(logits, axis=-1))
    terms = jnp.log(jnp.sum(jnp.exp(logits - top[..., None]), axis=-1))
    terms -= (1 - a) * (_at_index(logits, ids, counted) - top)
    if a:
        terms -= a * jnp.mean(logits - top[..., None], axis=-1)
    return reduced(jnp.where(counted, terms, 0), reduction, jnp.count_nonzero(counted))


def _at_index(values: Array, ids: Integer[Array, "*rows"], counted: Bool[Array, "*rows"]) -> Array:
    """values[..., ids]. If a counted id is outside of the classes, its value and its gradient are NaN.

    JAX itself would wrap or clip it.
    """
    inside = (ids >= 0) & (ids < values.shape[-1])
    found = jnp.take_along_axis(values, jnp.where(inside, ids, 0)[..., None], axis=-1)[..., 0]
    return found * jnp.where(counted & ~inside, jnp.nan, 1).astype(values.dtype)


def _check_classes(logits: Array, targets: Array, label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {float(label_smoothing)}.")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have classes on their last axis, got shape {logits.shape}.")
    rows = logits.shape[:-1]
    probabilities = jnp.issubdtype(targets.dtype, jnp.floating) and targets.shape == logits.shape
    indices = jnp.issubdtype(targets.dtype, jnp.integer) and targets.shape == rows
    if not (probabilities or indices):
        raise ValueError(
            f"targets are {targets.dtype} of shape {targets.shape}; logits of shape {logits.shape} need class indices "
            f"(integers) of shape {rows}, or probabilities (floating) of shape {logits.shape}: cast one-hot rows to "
            "logits.dtype."
        )


def mean_squared_error(predictions: Float[Array, "*shape"], targets: Targets, *, reduction: str = "mean") -> Value:
    """(p - t)^2 for each entry."""
    t = checked_targets("predictions", predictions, targets, reduction)
    return reduced(jnp.square(predictions - t), reduction, t.size)


def mean_absolute_error(predictions: Float[Array, "*shape"], targets: Targets, *, reduction: str = "mean") -> Value:
    """|p - t| for each entry, as d sign(d): at d = 0 its derivative is 0, where that of jnp.abs is 1 in JAX."""
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    return reduced(d * jnp.sign(d), reduction, d.size)


def huber(
    predictions: Float[Array, "*shape"], targets: Targets, *, delta: float = 1.0, reduction: str = "mean"
) -> Value:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = p - t. Raises ValueError if delta <= 0."""
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}.")
    d, delta = predictions - checked_targets("predictions", predictions, targets, reduction), float(delta)
    terms = jnp.where(jnp.abs(d) <= delta, jnp.square(d) / 2, delta * (jnp.abs(d) - delta / 2))
    return reduced(terms, reduction, terms.size)


def hinge(scores: Float[Array, "*shape"], targets: Targets, *, margin: float = 1.0, reduction: str = "mean") -> Value:
    """max(0, margin - t s) for targets of -1 and 1; NaN for other targets. At the nonsmooth point the slope is 0."""
    t = checked_targets("scores", scores, targets, reduction)
    t = jnp.where(jnp.abs(t) == 1, t, jnp.nan)
    return reduced(jax.nn.relu(float(margin) - t * scores), reduction, t.size)


def kl_divergence(
    log_predictions: Float[Array, "*rows classes"], targets: Targets, *, reduction: str = "mean"
) -> Value:
    """sum_c t_c (log t_c - log p_c) for each row, as a function of log p, with 0 log 0 = 0. The mean is over rows."""
    t = checked_targets("log_predictions", log_predictions, targets, reduction)
    if t.ndim == 0 or t.shape[-1] == 0:
        raise ValueError(f"log_predictions must have classes on their last axis, got shape {t.shape}.")
    cross = jnp.where(t == 0, 0, t * log_predictions)
    terms = jnp.sum(jax.scipy.special.xlogy(t, t) - cross, axis=-1)
    return reduced(terms, reduction, terms.size)


LOSSES: dict[str, Callable[..., Array]] = {
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber,
    "hinge": hinge,
    "kl_divergence": kl_divergence,
}
