"""The exercises on losses: mean squared error, softmax with cross-entropy."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import losses


def mean_squared_error(p, t):
    d = p - t
    return np.mean(d**2), d


MEAN_SQUARED_ERROR = Exercise(
    title="Mean squared error",
    task="""J = mean over all entries of (p - t)^2.

    p and t (examples, outputs)    J and dy a number

    Both p and t have a gradient here. The mean is over all entries, and not only over the examples.""",
    blank="""
    d = cache
    dp = ...
    dt = ...
    return dp, dt""",
    returns=("dp", "dt"),
    hints=(
        "dp and dt have the shape of p. dy is a number, the gradient of the loss with respect to J.",
        "The square contributes a factor, and so does the mean. By how many entries does the mean divide?",
        "dp = dy 2 (p - t) / n with n = d.size, and dt = -dp.",
    ),
    page=losses.mean_squared_error_backward,
    inputs=(normal(5, 3), normal(5, 3, seed=1)),
    given=mean_squared_error,
    output="J",
)


def cross_entropy(z, labels):
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(len(z)), labels]), (log_p, labels)


CROSS_ENTROPY = Exercise(
    title="Softmax with cross-entropy",
    task="""J = mean over the rows k of -log p_k,label(k), with p = softmax(z) along each row.

    z (rows, classes)    labels (rows,), integers    J and dy a number

    -log p_label = log(sum over c of exp z_c) - z_label. Differentiate this form, because it is shorter.""",
    blank="""
    log_p, labels = cache
    dz = ...
    return dz""",
    returns=("dz",),
    hints=(
        "dz has the shape of z. Every class of a row has a gradient, and not only the class of the label.",
        "The derivative of log(sum of exp z) is softmax(z). The derivative of -z_label is -1 at the label and 0 "
        "elsewhere. The mean divides by the number of rows.",
        "dz = dy (p - one_hot(labels)) / rows, with p = exp(log_p).",
    ),
    page=losses.cross_entropy_backward,
    inputs=(normal(5, 4), np.array([2, 0, 3, 3, 1])),
    given=cross_entropy,
    output="J",
)

EXERCISES = {"mean_squared_error": MEAN_SQUARED_ERROR, "cross_entropy": CROSS_ENTROPY}
