"""Common wrong answers to exercises, each with a sentence on what is wrong.

The judge knows nothing of an exercise's text. If the gradients of an answer equal those of a wrong answer in this
table, the sentence is shown below the judge's report. An exercise needs an entry only for mistakes that the judge
detects but does not explain.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.exercise import EXERCISES
from compare.exercise.sheet import function_name


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        sentence: What is wrong, for the learner.
        answer: The backward pass, `(dy, cache) -> gradients`, in the order of the exercise's `returns`. A gradient that
            the mistake does not concern is None.
    """

    sentence: str
    answer: Callable[[Any, Any], tuple[np.ndarray | None, ...]]


def recognized(name: str, functions: Mapping[str, Callable[..., Any]], wrong: Collection[str]) -> Mistake | None:
    """The mistake whose wrong gradients are those of an answer.

    Args:
        name: The exercise.
        functions: The learner's functions by their names.
        wrong: The gradients that are wrong, by the names in the exercise's `returns`.

    Returns:
        The mistake; None if the table has none with these gradients.
    """
    returns, known = EXERCISES[name].returns, MISTAKES.get(name, ())
    if not wrong or not known:
        return None
    value, _ = functions[name](*EXERCISES[name].inputs)
    dy = np.asarray(np.random.default_rng(0).standard_normal(np.shape(value)))

    def gradients(backward: Callable[[Any, Any], Any]) -> dict[str, Any]:
        _, cache = functions[name](*EXERCISES[name].inputs)  # anew, because an answer may change its cache
        found = backward(dy.copy(), cache)
        return dict(zip(returns, found if isinstance(found, tuple | list) else (found,), strict=False))

    actual = gradients(functions[function_name(name)])
    for mistake in known:
        predicted = gradients(mistake.answer)
        if all(_same(actual[each], predicted[each]) for each in wrong):
            return mistake
    return None


def _same(actual: Any, predicted: np.ndarray | None) -> bool:
    if predicted is None or np.shape(actual) != predicted.shape:
        return False
    return np.allclose(actual, predicted, rtol=1e-7, atol=1e-9 * float(np.max(np.abs(predicted))))


# ------------------------------------------------------------------------------ activations and layers


def _masked_by_dy(dy: Any, x: Any) -> tuple[np.ndarray]:
    return (dy * (dy > 0),)


def _dy_summed(dy: Any, y: Any) -> tuple[np.ndarray]:
    return (y * (dy - np.sum(dy, axis=1, keepdims=True)),)


def _summed_over_columns(dy: Any, y: Any) -> tuple[np.ndarray]:
    return (y * (dy - np.sum(dy * y, axis=0)),)


def _bias_of_every_example(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    return None, dy


def _dense_bias_of_every_example(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    return None, None, dy


def _not_scaled(dy: Any, cache: Any) -> tuple[np.ndarray]:
    mask, _ = cache
    return (dy * mask,)


def _not_masked(dy: Any, cache: Any) -> tuple[np.ndarray]:
    _, rate = cache
    return (dy / (1 - rate),)


def _multiplied_by_what_is_kept(dy: Any, cache: Any) -> tuple[np.ndarray]:
    mask, rate = cache
    return (dy * mask * (1 - rate),)


def _only_the_square(dy: Any, y: Any) -> tuple[np.ndarray]:
    return (-dy * y**2,)


def _summed_over_all_rows(dy: Any, y: Any) -> tuple[np.ndarray]:
    return (y * (dy - np.sum(dy * y)),)


def _gathered(dy: Any, cache: Any) -> tuple[np.ndarray]:
    _, ids = cache
    return (dy[ids],)


def _without_slope_of_tanh(dy: Any, cache: Any) -> tuple[np.ndarray]:
    W, ids, a = cache
    dW = dy.T @ a
    np.add.at(dW, ids, dy @ W)
    return (dW,)


# --------------------------------------------------------------------------------- windows and attention


def _first_window_only(dy: Any, cache: Any) -> tuple[np.ndarray]:
    x, y, size, _ = cache
    dx = np.zeros_like(x)
    window = x[:, :size, :size]
    dx[:, :size, :size] = (window == y[:, :1, :1]) * dy[:, :1, :1]
    return (dx,)


def _windows_overwritten(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x, W, stride = cache
    size, dx = len(W), np.zeros_like(x)
    for i, j in np.ndindex(*dy.shape[1:3]):
        rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
        dx[:, rows, columns] = np.tensordot(dy[:, i, j], W, axes=(1, 3))
    return dx, None, None


def _attention_summed_over_all(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    q, k, v, p = cache
    dp = dy @ v.transpose(0, 2, 1)
    ds = p * (dp - np.sum(dp * p))
    return ds @ k / np.sqrt(q.shape[2]), ds.transpose(0, 2, 1) @ q / np.sqrt(q.shape[2]), None


def _attention_not_scaled(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    q, k, v, p = cache
    dp = dy @ v.transpose(0, 2, 1)
    ds = p * (dp - np.sum(dp * p, axis=2, keepdims=True))
    return ds @ k, ds.transpose(0, 2, 1) @ q, None


# ---------------------------------------------------------------------------------------------- losses


def _squares_over_examples(dy: Any, d: Any) -> tuple[np.ndarray, ...]:
    dp = dy * 2 * d / len(d)
    return dp, -dp


def _squares_without_dy(dy: Any, d: Any) -> tuple[np.ndarray, ...]:
    dp = 2 * d / d.size
    return dp, -dp


def _entropy_without_dy(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    return ((np.exp(log_p) - _one_hot(log_p, labels)) / len(labels),)


def _one_hot(log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.eye(log_p.shape[1])[labels]


def _softmax_twice(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    p = np.exp(log_p)
    return (dy * (p - _one_hot(log_p, labels)) * p * (1 - p) / len(labels),)


def _logarithms(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    return (dy * (log_p - _one_hot(log_p, labels)) / len(labels),)


def _whole_columns(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    p = np.exp(log_p)
    p[:, labels] -= 1
    return (dy * p / len(labels),)


def _of_probabilities(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    return (-dy * _one_hot(log_p, labels) / np.exp(log_p) / len(labels),)


def _softmax_of_columns(dy: Any, cache: Any) -> tuple[np.ndarray]:
    log_p, labels = cache
    e = np.exp(log_p)
    return (dy * (e / e.sum(axis=0) - _one_hot(log_p, labels)) / len(labels),)


# ------------------------------------------------------------------------------------------ layer norm


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis, keepdims=True)


def _means_over_rows(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, s, weight = cache
    g = dy * weight
    return (g - _mean(g, 0) - x_hat * _mean(g * x_hat, 0)) / s, None, None


def _means_of_all(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, s, weight = cache
    g = dy * weight
    return (g - g.mean() - x_hat * (g * x_hat).mean()) / s, None, None


def _of_every_row(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, _, _ = cache
    return None, dy * x_hat, dy


def _weight_last(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, s, weight = cache
    return weight * (dy - _mean(dy, 1) - x_hat * _mean(dy * x_hat, 1)) / s, None, None


def _third_without_x_hat(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, s, weight = cache
    g = dy * weight
    return (g - _mean(g, 1) - _mean(g * x_hat, 1)) / s, None, None


def _divided_twice(dy: Any, cache: Any) -> tuple[np.ndarray | None, ...]:
    x_hat, s, weight = cache
    g = dy * weight
    return (g - _mean(g, 1) - x_hat * _mean(g * x_hat, 1)) / s**2, None, None


SUM_OVER_EXAMPLES = (
    "db has a row for every example. All examples use the same b, so that their contributions are added up: sum dy "
    "over axis 0."
)
WITHOUT_DY = "dy is missing: dy is the gradient with respect to J, and multiplies every gradient."
ATTENTION_NOT_SCALED = Mistake(
    "dq and dk lack the factor 1 / sqrt(depth) of s = q k^T / sqrt(depth).", _attention_not_scaled
)

MISTAKES: dict[str, tuple[Mistake, ...]] = {
    "bias": (Mistake(SUM_OVER_EXAMPLES, _bias_of_every_example),),
    "dense": (Mistake(SUM_OVER_EXAMPLES, _dense_bias_of_every_example),),
    "dropout": (
        Mistake("The factor 1 / (1 - rate) is missing: x is scaled, and so is its gradient.", _not_scaled),
        Mistake("The mask is missing: an entry that was dropped has the gradient 0.", _not_masked),
        Mistake(
            "dx is multiplied by 1 - rate. y is x divided by it, so that dx is dy divided by it.",
            _multiplied_by_what_is_kept,
        ),
    ),
    "relu": (
        Mistake(
            "dy is masked by its own sign. The slope of relu depends on x: dx is dy where x > 0, whatever the sign of "
            "dy.",
            _masked_by_dy,
        ),
    ),
    "mean_squared_error": (
        Mistake(
            "The sum of squares is divided by the number of examples. The mean is over all entries: n is d.size.",
            _squares_over_examples,
        ),
        Mistake(WITHOUT_DY, _squares_without_dy),
    ),
    "causal_attention": (ATTENTION_NOT_SCALED,),
    "tanh": (Mistake("The derivative of tanh is 1 - y^2, but the 1 is missing: dx is -dy y^2.", _only_the_square),),
    "softmax": (
        Mistake(
            "The sum of dy y is taken over all rows. The softmax is along each row, so that each row has its own sum: "
            "axis=1, keepdims=True.",
            _summed_over_all_rows,
        ),
        Mistake(
            "The sum over the classes is that of dy. It must be that of dy y: each dy_j is weighted by its y_j.",
            _dy_summed,
        ),
        Mistake(
            "The sum of dy y is taken over axis 0. The softmax is along each row, so that the sum is over its classes: "
            "axis=1, keepdims=True.",
            _summed_over_columns,
        ),
    ),
    "embedding": (
        Mistake(
            "dW is dy[ids], which reads rows of dy by the ids. The gradient goes the other way: add row t of dy to row "
            "ids[t] of dW.",
            _gathered,
        ),
    ),
    "tied_embedding": (
        Mistake(
            "In the part from the embedding, the derivative of tanh is missing: a = tanh(W[ids]) has the slope 1 - "
            "a^2.",
            _without_slope_of_tanh,
        ),
    ),
    "max_pool": (
        Mistake(
            "Only the first window contributes to dx. Is the return statement inside of the loop?", _first_window_only
        ),
    ),
    "convolution": (
        Mistake(
            "Where windows overlap, the last one overwrites dx. An entry of x is in several windows, whose "
            "contributions are added: use +=.",
            _windows_overwritten,
        ),
    ),
    "attention": (
        Mistake(
            "In ds, the sum of p dp is taken over all entries. The softmax is along each row of keys, so that each "
            "row has its own sum: axis=2, keepdims=True.",
            _attention_summed_over_all,
        ),
        ATTENTION_NOT_SCALED,
    ),
    "cross_entropy": (
        Mistake(WITHOUT_DY, _entropy_without_dy),
        Mistake(
            "p - one_hot(labels) is multiplied by p (1 - p). It is the gradient of softmax and logarithm together: the "
            "derivative of softmax is in it already.",
            _softmax_twice,
        ),
        Mistake("log_p is used in place of p. The cache holds logarithms: p = exp(log_p).", _logarithms),
        Mistake(
            "1 is subtracted in whole columns: p[:, labels] selects every row. Select one entry of each row, with an "
            "index for the rows, too.",
            _whole_columns,
        ),
        Mistake(
            "This is the gradient with respect to the probabilities p, which is -1 / p at the label. z is before the "
            "softmax, so that the softmax has to be differentiated as well.",
            _of_probabilities,
        ),
        Mistake(
            "The probabilities are divided by their sums over axis 0. The softmax is along each row, and the rows of "
            "exp(log_p) sum to 1 already.",
            _softmax_of_columns,
        ),
    ),
    "layer_norm": (
        Mistake(
            "The means in dx are taken over the rows (axis 0), as in batch norm. Here each row is normalized by "
            "itself, so that they are over the features (axis 1).",
            _means_over_rows,
        ),
        Mistake(
            "The means in dx are taken over all entries. Each row is normalized by itself, so that they are over the "
            "features of each row: axis=1, keepdims=True.",
            _means_of_all,
        ),
        Mistake(
            "dx is multiplied by weight after the means are taken, as in batch norm. Here weight differs along the "
            "axis of the means, so that it must be inside of them: g = dy weight.",
            _weight_last,
        ),
        Mistake(
            "The gradients of weight and bias have a row for every example. All rows use the same weight and bias, so "
            "that their contributions are added up: sum over axis 0.",
            _of_every_row,
        ),
        Mistake("The third term of dx, the one from s, lacks its factor x_hat.", _third_without_x_hat),
        Mistake("dx is divided by s twice. s appears in the denominator once.", _divided_twice),
    ),
}
