"""`manual.losses` in fewer passes over memory. Each formula is computed in the memory of its result."""

from math import inf

import numpy as np

from manual._reduction import Array, Targets, Value, check_reduction, checked_targets, per_term, reduced
from manual._rules import Rules
from manual.fast import _logistic
from manual.fast._parts import in_parts
from manual.fast._sums import row_products
from manual.losses import (
    CrossEntropyCache,
    ErrorCache,
    HuberCache,
    KlDivergenceCache,
    LogitsCache,
    Rows,
    _checked_classes,
    hinge,
    hinge_backward,
    kl_divergence_backward,
    mean_absolute_error,
    mean_squared_error_backward,
)


def binary_cross_entropy(logits: Array, targets: Targets, *, reduction: str = "mean") -> tuple[Value, LogitsCache]:
    def value(z: np.ndarray, t: np.ndarray, terms: np.ndarray) -> None:
        _logistic.softplus_below(z, terms)
        rest = np.clip(z, 0, inf)
        rest -= t * z  # first: for a correct answer this is 0, and digits of the softplus would be lost beside z
        terms += rest

    z, t = logits, checked_targets("logits", logits, targets, reduction)
    terms = np.empty(z.shape, z.dtype)
    in_parts(value, [z, t], [terms])
    return reduced(terms, reduction, z.size), LogitsCache(z, t, reduction)


def binary_cross_entropy_backward(output_gradient: Value, cache: LogitsCache) -> Array:
    def gradient(z: np.ndarray, t: np.ndarray, dterms: np.ndarray, dz: np.ndarray) -> None:
        _logistic.sigmoid(z, dz)
        dz -= t
        dz *= dterms

    z, t, reduction = cache
    dterms = np.broadcast_to(per_term(output_gradient, reduction, z, z.size), z.shape)
    dz = np.empty(z.shape, z.dtype)
    in_parts(gradient, [z, t, dterms], [dz])
    return dz


def cross_entropy(
    logits: Rows,
    targets: Targets,
    *,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> tuple[Value, CrossEntropyCache]:
    check_reduction(reduction)
    a = float(label_smoothing)
    t, counted = _checked_classes(logits, targets, a, ignore_index)
    z = logits - np.max(logits, axis=-1, keepdims=True)
    if t.ndim < z.ndim:
        total, expected = 1, (1 - a) * np.take_along_axis(z, t[..., None], axis=-1)[..., 0]
        if a:
            expected += a * np.mean(z, axis=-1)
    else:
        products = np.multiply(t, z, where=t != 0, out=np.zeros_like(z))  # where z is -inf, 0 z would be NaN
        total, expected = np.sum(t, axis=-1), np.sum(products, axis=-1)
    exponentials = np.exp(z, out=z)
    sums = np.sum(exponentials, axis=-1, keepdims=True)
    terms = np.where(counted, total * np.log(sums[..., 0]) - expected, 0)
    cache = CrossEntropyCache(exponentials, sums, t, counted, a, reduction)
    return reduced(terms, reduction, int(np.count_nonzero(counted))), cache


def cross_entropy_backward(output_gradient: Value, cache: CrossEntropyCache) -> Rows:
    exponentials, sums, t, counted, a, reduction = cache
    dy = per_term(output_gradient, reduction, sums[..., 0], int(np.count_nonzero(counted)))[..., None]
    if t.ndim < exponentials.ndim:
        dz = exponentials * (dy / sums)
        at_index = np.take_along_axis(dz, t[..., None], axis=-1)
        np.put_along_axis(dz, t[..., None], at_index - (1 - a) * dy, axis=-1)
        if a:
            dz -= a / dz.shape[-1] * dy
    else:
        dz = exponentials * (dy * np.sum(t, axis=-1, keepdims=True) / sums)
        dz -= dy * t
    dz[~counted] = 0
    return dz


def mean_squared_error(predictions: Array, targets: Targets, *, reduction: str = "mean") -> tuple[Value, ErrorCache]:
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    if reduction == "none" or d.dtype.itemsize < 4:
        terms = d**2
    else:
        flat = d.reshape(-1)
        terms = row_products(flat, flat).astype(d.dtype)
    return reduced(terms, reduction, d.size), ErrorCache(d, reduction)


def mean_absolute_error_backward(output_gradient: Value, cache: ErrorCache) -> Array:
    d, reduction = cache
    dy = np.broadcast_to(per_term(output_gradient, reduction, d, d.size), d.shape)

    def gradient(d: np.ndarray, dy: np.ndarray, dp: np.ndarray) -> None:
        np.sign(d, out=dp)
        dp *= dy

    dp = np.empty(d.shape, d.dtype)
    in_parts(gradient, [d, dy], [dp])
    return dp


def huber(
    predictions: Array, targets: Targets, *, delta: float = 1.0, reduction: str = "mean"
) -> tuple[Value, HuberCache]:
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}.")
    d = predictions - checked_targets("predictions", predictions, targets, reduction)
    m = np.clip(d, -delta, delta, out=np.empty_like(d))  # the terms are m (d - m / 2)
    if reduction == "none" or d.dtype.itemsize < 4:
        terms = d - 0.5 * m
        terms *= m
    else:
        flat_m, flat_d = m.reshape(-1), d.reshape(-1)
        terms = (row_products(flat_m, flat_d) - 0.5 * row_products(flat_m, flat_m)).astype(d.dtype)
    return reduced(terms, reduction, d.size), HuberCache(d, float(delta), reduction)


def huber_backward(output_gradient: Value, cache: HuberCache) -> Array:
    d, delta, reduction = cache
    dp = np.clip(d, -delta, delta, out=np.empty_like(d))
    dp *= per_term(output_gradient, reduction, d, d.size)
    return dp


def kl_divergence(
    log_predictions: Rows, targets: Targets, *, reduction: str = "mean"
) -> tuple[Value, KlDivergenceCache]:
    t = checked_targets("log_predictions", log_predictions, targets, reduction)
    if t.ndim == 0 or t.shape[-1] == 0:
        raise ValueError(f"log_predictions must have classes on their last axis, got shape {t.shape}.")
    some = t != 0
    terms = np.log(t, where=some, out=np.zeros_like(t))
    np.subtract(terms, log_predictions, where=some, out=terms)
    terms *= t
    sums = np.sum(terms, axis=-1)
    return reduced(sums, reduction, sums.size), KlDivergenceCache(t, reduction)


LOSSES: Rules = {
    "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_backward),
    "cross_entropy": (cross_entropy, cross_entropy_backward),
    "mean_squared_error": (mean_squared_error, mean_squared_error_backward),
    "mean_absolute_error": (mean_absolute_error, mean_absolute_error_backward),
    "huber": (huber, huber_backward),
    "hinge": (hinge, hinge_backward),
    "kl_divergence": (kl_divergence, kl_divergence_backward),
}
