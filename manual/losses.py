"""Loss functions, with every derivative by hand.

An op is `name(predictions, targets, *, options) -> (value, cache)`. `name_backward(output_gradient, cache)` is the
gradient with respect to the first argument alone: targets are data, and are cast to its dtype. Predictions and targets
have the same shape, but for cross_entropy. If shapes do not fit, or an option is unknown or out of range, ValueError is
raised. The losses of a classifier take logits, and saturated logits cause neither infinities nor warnings.

Each loss is first an array of terms: one per entry, or one per row in cross_entropy and kl_divergence, whose classes
are the last axis. `reduction="none"` returns the terms, "sum" their sum and "mean" their mean, and the output gradient
has the shape of the value. The factor 1/n of a mean appears once, in the backward pass. The mean of no terms is 0, with
gradient 0, where PyTorch and JAX give NaN. Symbols: z logits, p predictions, t targets, dy the output gradient.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from manual._reduction import Array, Targets, Value, check_reduction, checked_targets, per_term, reduced
from manual._rules import Rules
from manual.activations import sigmoid

Rows = Float[np.ndarray, "*rows classes"]


class LogitsCache(NamedTuple):
    """z, because the derivative needs sigmoid(z), which the forward pass does not compute; and t."""

    z: Float[np.ndarray, "*shape"]
    t: Float[np.ndarray, "*shape"]
    reduction: str


def binary_cross_entropy(logits: Array, targets: Targets, *, reduction: str = "mean") -> tuple[Value, LogitsCache]:
    """-t log s - (1 - t) log(1 - s) with s = sigmoid(z), computed as max(z, 0) - t z + log(1 + exp(-|z|)).

    Targets are labels 0 and 1, or probabilities, whose range is not checked. The mean is over all entries, as in
    PyTorch. `shallow.compute_loss` instead sums over the outputs of an example, and optax returns the terms.

    Args:
        logits: z, any shape.
        targets: t, in the shape of the logits.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if the shapes differ, or the reduction is unknown.

    Source: Bishop, "Pattern recognition and machine learning" (2006), 4.3.2.
    """
    z, t = logits, checked_targets("logits", logits, targets, reduction)
    # max(z, 0) - t z comes first: for a correct label it is exactly 0, and the small last term is not absorbed by z.
    terms = (np.maximum(z, 0) - t * z) + np.log1p(np.exp(-np.abs(z)))
    return reduced(terms, reduction, z.size), LogitsCache(z, t, reduction)


def binary_cross_entropy_backward(output_gradient: Value, cache: LogitsCache) -> Array:
    """dz = dy (s - t): the derivative of the sigmoid, s (1 - s), cancels against (s - t) / (s (1 - s))."""
    z, t, reduction = cache
    dy = per_term(output_gradient, reduction, z, z.size)
    s, _ = sigmoid(z)
    return dy * (s - t)


class CrossEntropyCache(NamedTuple):
    """The exponentials and their sums, whose quotient is the softmax, and the targets that define q.

    q itself is not kept: for a class index it is as large as the logits, and almost everywhere 0.
    """

    exponentials: Float[np.ndarray, "*rows classes"]  # exp(z - max z)
    sums: Float[np.ndarray, "*rows 1"]
    t: Shaped[np.ndarray, "*targets"]  # class indices, with 0 for ignored ones; or smoothed probabilities
    counted: Bool[np.ndarray, "*rows"]  # False where ignored
    label_smoothing: float
    reduction: str


def cross_entropy(
    logits: Rows, targets: Targets, *, reduction: str = "mean", label_smoothing: float = 0.0, ignore_index: int = -100
) -> tuple[Value, CrossEntropyCache]:
    """-sum_c q_c log softmax(z)_c = T log(sum_c exp(z_c)) - sum_c q_c z_c for each row of logits, with T = sum_c q_c.

    PyTorch has the classes on axis 1. Its mean, too, divides by the number of rows that are not ignored. optax returns
    the terms.

    Args:
        logits: z, (..., classes).
        targets: class indices t of shape logits.shape[:-1], so that q = [c = t]; or probabilities q in a floating dtype
            and the shape of the logits, with 0 log 0 = 0.
        reduction: "mean", "sum" or "none".
        label_smoothing: a, which mixes q with the uniform distribution: (1 - a) q + a / classes (Szegedy et al. (2016),
            section 7).
        ignore_index: rows with this index have a term of 0, for any logits, and are not counted in a mean. If all rows
            are ignored, the mean is 0 (PyTorch: NaN).

    Returns:
        The value, and the cache.

    Raises:
        ValueError: for other indices outside of the classes, and for shapes or dtypes that do not fit.

    Source: Bishop (2006), 4.3.4.
    """
    check_reduction(reduction)
    a = float(label_smoothing)
    t, counted = _checked_classes(logits, targets, a, ignore_index)
    q = _distribution(t, counted, a, logits)
    shifted = logits - np.max(logits, axis=-1, keepdims=True)  # so that exp cannot overflow
    exponentials = np.exp(shifted)
    sums = np.sum(exponentials, axis=-1, keepdims=True)
    log_p = shifted - np.log(sums)
    terms = -np.sum(q * np.where(q != 0, log_p, 0), axis=-1)
    cache = CrossEntropyCache(exponentials, sums, t, counted, a, reduction)
    return reduced(terms, reduction, int(np.count_nonzero(counted))), cache


def cross_entropy_backward(output_gradient: Value, cache: CrossEntropyCache) -> Rows:
    """dz_c = dy (T p_c - q_c) with p = softmax(z), because ∂log(sum exp z)/∂z_c = exp(z_c) / sum exp z = p_c.

    Ignored rows have dz = 0. T is 1 for a class index, and for probabilities that sum to 1.
    """
    exponentials, sums, t, counted, a, reduction = cache
    n = int(np.sum(counted))
    dy = per_term(output_gradient, reduction, sums[..., 0], n)[..., None]
    p = exponentials / sums
    q = _distribution(t, counted, a, p)
    T = np.sum(q, axis=-1, keepdims=True)
    dz = dy * (T * p - q)
    return np.where(counted[..., None], dz, 0)


def _distribution(t: np.ndarray, counted: np.ndarray, a: float, z: Rows) -> Rows:
    """q for each row, in the shape and dtype of z: the probabilities, or the smoothed index; 0 in an ignored row."""
    if t.ndim == z.ndim:
        return t
    classes = z.shape[-1]
    one_hot = t[..., None] == np.arange(classes)
    return (counted[..., None] * ((1 - a) * one_hot + a / classes)).astype(z.dtype)


def _checked_classes(logits: Array, targets: Targets, a: float, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Class indices or smoothed probabilities, and a mask of the rows that are not ignored."""
    if not 0 <= a <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {a}.")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have classes on their last axis, got shape {logits.shape}.")
    t, rows, classes = np.asarray(targets), logits.shape[:-1], logits.shape[-1]
    if np.issubdtype(t.dtype, np.floating) and t.shape == logits.shape:
        t = t.astype(logits.dtype, copy=False)
        return (1 - a) * t + a / classes if a else t, np.ones(rows, bool)
    if not np.issubdtype(t.dtype, np.integer) or t.shape != rows:
        raise ValueError(
            f"targets are {t.dtype} of shape {t.shape}; logits of shape {logits.shape} need class indices (integers) "
            f"of shape {rows}, or probabilities (floating) of shape {logits.shape}: cast one-hot rows to logits.dtype."
        )
    counted = np.asarray(t != ignore_index)
    outside = counted & ((t < 0) | (t >= classes))
    if outside.any():
        raise ValueError(
            f"targets hold the index {t[outside][0]}, but there are {classes} classes: 0 to {classes - 1}. "
            f"Use ignore_index, which is {ignore_index}, for targets to ignore."
        )
    return np.where(counted, t, 0), counted


class ErrorCache(NamedTuple):
    """d alone, because the derivatives of both losses are functions of d."""

    d: Float[np.ndarray, "*shape"]  # p - t
    reduction: str


def mean_squared_error(predictions: Array, targets: Targets, *, reduction: str = "mean") -> tuple[Value, ErrorCache]:
    """d^2 with d = p - t, without the 1/2 that `optax.l2_loss` and the source have.

    Args:
        predictions: p, any shape.
        targets: t, in the shape of the predictions.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if the shapes differ, or the reduction is unknown.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986), equation 3.
    """
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    return reduced(d**2, reduction, d.size), ErrorCache(d, reduction)


def mean_squared_error_backward(output_gradient: Value, cache: ErrorCache) -> Array:
    """dp = 2 dy d, because (d^2)' = 2 d and dd/dp = 1."""
    d, reduction = cache
    dy = per_term(output_gradient, reduction, d, d.size)
    return 2 * dy * d


def mean_absolute_error(predictions: Array, targets: Targets, *, reduction: str = "mean") -> tuple[Value, ErrorCache]:
    """|d| with d = p - t.

    Args:
        predictions: p, any shape.
        targets: t, in the shape of the predictions.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if the shapes differ, or the reduction is unknown.

    Source: Koenker and Bassett, "Regression quantiles" (1978), at the median.
    """
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    return reduced(np.abs(d), reduction, d.size), ErrorCache(d, reduction)


def mean_absolute_error_backward(output_gradient: Value, cache: ErrorCache) -> Array:
    """dp = dy sign(d). At the nonsmooth point d = 0 the derivative is 0."""
    d, reduction = cache
    dy = per_term(output_gradient, reduction, d, d.size)
    return dy * np.sign(d)


class HuberCache(NamedTuple):
    """d, because the derivative is d, clipped to [-delta, delta]."""

    d: Float[np.ndarray, "*shape"]  # p - t
    delta: float
    reduction: str


def huber(
    predictions: Array, targets: Targets, *, delta: float = 1.0, reduction: str = "mean"
) -> tuple[Value, HuberCache]:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = p - t.

    With m = min(|d|, delta), both are m (|d| - m / 2). PyTorch's smooth_l1_loss is this loss divided by delta.

    Args:
        predictions: p, any shape.
        targets: t, in the shape of the predictions.
        delta: where the quadratic part ends.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: unless delta is positive, and if the shapes differ.

    Source: Huber, "Robust estimation of a location parameter" (1964).
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}.")
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    m = np.minimum(np.abs(d), float(delta))
    terms = m * (np.abs(d) - m / 2)
    return reduced(terms, reduction, d.size), HuberCache(d, float(delta), reduction)


def huber_backward(output_gradient: Value, cache: HuberCache) -> Array:
    """dp = dy d where |d| <= delta, else dy delta sign(d). Both agree at |d| = delta, so the slope is continuous."""
    d, delta, reduction = cache
    dy = per_term(output_gradient, reduction, d, d.size)
    return dy * np.clip(d, -delta, delta)


class HingeCache(NamedTuple):
    """The terms, which are positive exactly where the derivative is not 0, and t, which is minus that derivative."""

    terms: Float[np.ndarray, "*shape"]
    t: Float[np.ndarray, "*shape"]
    reduction: str


def hinge(scores: Array, targets: Targets, *, margin: float = 1.0, reduction: str = "mean") -> tuple[Value, HingeCache]:
    """max(0, margin - t s), for scores s and targets t of -1 and 1.

    Args:
        scores: s, any shape.
        targets: t, -1 or 1, in the shape of the scores.
        margin: scores with t s at or above it have no loss.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: for other targets, and if the shapes differ.

    Source: Cortes and Vapnik, "Support-vector networks" (1995), with margin 1.
    """
    t = checked_targets("scores", scores, targets, reduction)
    wrong = np.abs(t) != 1
    if wrong.any():
        raise ValueError(f"targets of hinge must be -1 or 1, got {t[wrong][0]}. Labels y of 0 and 1 become 2 * y - 1.")
    terms = np.maximum(float(margin) - t * scores, 0)
    return reduced(terms, reduction, t.size), HingeCache(terms, t, reduction)


def hinge_backward(output_gradient: Value, cache: HingeCache) -> Array:
    """ds = -dy t where t s < margin, which is where the term is positive, else 0, also at the nonsmooth point."""
    terms, t, reduction = cache
    dy = per_term(output_gradient, reduction, t, t.size)
    return -dy * t * (terms > 0)


class KlDivergenceCache(NamedTuple):
    """t alone: log p is not needed, because the value is linear in log p."""

    t: Float[np.ndarray, "*rows classes"]
    reduction: str


def kl_divergence(
    log_predictions: Rows, targets: Targets, *, reduction: str = "mean"
) -> tuple[Value, KlDivergenceCache]:
    """sum_c t_c (log t_c - log p_c) for each row, as a function of log p, with 0 log 0 = 0.

    The mean is over rows. PyTorch's "mean" divides by the number of all entries instead, and its "batchmean" by the
    size of the first axis, which is the mean here if there are no further axes of rows. optax returns the terms.

    Args:
        log_predictions: log p, (..., classes).
        targets: t, probabilities in the shape of log p.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if the shapes differ, or there are no classes.

    Source: Kullback and Leibler, "On information and sufficiency" (1951).
    """
    t = checked_targets("log_predictions", log_predictions, targets, reduction)
    if t.ndim == 0 or t.shape[-1] == 0:
        raise ValueError(f"log_predictions must have classes on their last axis, got shape {t.shape}.")
    log_t = np.log(np.where(t != 0, t, 1))
    terms = np.sum(t * np.where(t != 0, log_t - log_predictions, 0), axis=-1)
    return reduced(terms, reduction, terms.size), KlDivergenceCache(t, reduction)


def kl_divergence_backward(output_gradient: Value, cache: KlDivergenceCache) -> Rows:
    """dlog p = -dy t: the term is linear in log p."""
    t, reduction = cache
    dy = per_term(output_gradient, reduction, t[..., 0], t[..., 0].size)[..., None]
    return -dy * t


LOSSES: Rules = {
    "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_backward),
    "cross_entropy": (cross_entropy, cross_entropy_backward),
    "mean_squared_error": (mean_squared_error, mean_squared_error_backward),
    "mean_absolute_error": (mean_absolute_error, mean_absolute_error_backward),
    "huber": (huber, huber_backward),
    "hinge": (hinge, hinge_backward),
    "kl_divergence": (kl_divergence, kl_divergence_backward),
}
