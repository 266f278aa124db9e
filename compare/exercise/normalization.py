"""The exercises on normalization: layer norm, RMS norm, batch norm."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import normalization


def layer_norm(x, weight, bias, epsilon=1e-5):
    mean = x.mean(axis=1, keepdims=True)
    s = np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + epsilon)
    x_hat = (x - mean) / s
    return weight * x_hat + bias, (x_hat, s, weight)


LAYER_NORM = Exercise(
    title="Layer norm",
    task="""y = weight x_hat + bias, x_hat = (x - mean) / s, s = sqrt(variance + epsilon), along each row of x.

    x, y and dy (rows, features)    weight and bias (features,)    mean and s (rows, 1)

    x affects x_hat in three ways: directly, through the mean, and through s. Begin with g = dy weight.
    You may also return the gradient of x_hat. Then the judge can tell whether it is the first that is wrong.""",
    blank="""
    x_hat, s, weight = cache
    dweight = ...
    dbias = ...
    dx_hat = ...
    dx = ...
    return dx, dweight, dbias, {"x_hat": dx_hat}""",
    returns=("dx", "dweight", "dbias"),
    hints=(
        "dweight and dbias are (features,), because every row uses weight and bias. The means in dx are over the "
        "features, (rows, 1).",
        "With g = dx_hat there are three terms: g, mean(g), which comes from the mean, and x_hat mean(g x_hat), which "
        "comes from s.",
        "g = dy weight; dx = (g - mean(g) - x_hat mean(g x_hat)) / s; dweight = sum of dy x_hat over rows; dbias = sum "
        "of dy over rows.",
    ),
    page=normalization.layer_norm_backward,
    inputs=(normal(4, 6), normal(6), normal(6, seed=1)),
    given=layer_norm,
)


def rms_norm(x, weight, epsilon=1e-5):
    r = np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon)
    x_hat = x / r
    return weight * x_hat, (x_hat, r, weight)


RMS_NORM = Exercise(
    title="RMS norm",
    task="""y = weight x_hat, x_hat = x / r, r = sqrt(mean of x^2 + epsilon), along each row of x.

    x, y and dy (rows, features)    weight (features,)    r (rows, 1)

    x affects x_hat in two ways: directly, and through r. Begin with g = dy weight.""",
    blank="""
    x_hat, r, weight = cache
    dweight = ...
    dx_hat = ...
    dx = ...
    return dx, dweight, {"x_hat": dx_hat}""",
    returns=("dx", "dweight"),
    hints=(
        "dweight is (features,), because every row uses weight. The mean in dx is over the features, (rows, 1).",
        "dr/dx_j = x_j / (n r) = x_hat_j / n. This gives a second term, which contains g = dy weight and not dy.",
        "g = dy weight; dx = (g - x_hat mean(g x_hat)) / r; dweight = sum of dy x_hat over rows.",
    ),
    page=normalization.rms_norm_backward,
    inputs=(normal(4, 6), normal(6)),
    given=rms_norm,
)


def batch_norm(x, weight, bias, epsilon=1e-5):
    mean = x.mean(axis=0)
    s = np.sqrt(((x - mean) ** 2).mean(axis=0) + epsilon)
    x_hat = (x - mean) / s
    return weight * x_hat + bias, (x_hat, s, weight)


BATCH_NORM = Exercise(
    title="Batch norm, in training",
    task="""y = weight x_hat + bias, x_hat = (x - mean) / s, s = sqrt(variance + epsilon), down each column of x.

    x, y and dy (examples, features)    weight, bias, mean and s (features,)

    The mean and s are computed from x, so that every example affects x_hat of all other examples.""",
    blank="""
    x_hat, s, weight = cache
    dweight = ...
    dbias = ...
    dx_hat = ...
    dx = ...
    return dx, dweight, dbias, {"x_hat": dx_hat}""",
    returns=("dx", "dweight", "dbias"),
    hints=(
        "dweight, dbias and the means in dx are taken over the examples. They are (features,).",
        "As in layer norm, there are three terms: the direct one, one from the mean, and one from s. They contain "
        "means, and not sums.",
        "g = dy weight; dx = (g - mean(g) - x_hat mean(g x_hat)) / s, with means over examples; dweight = sum of dy "
        "x_hat, dbias = sum of dy.",
    ),
    page=normalization.batch_norm_backward,
    inputs=(normal(6, 4), normal(4), normal(4, seed=1)),
    given=batch_norm,
)

EXERCISES = {"layer_norm": LAYER_NORM, "rms_norm": RMS_NORM, "batch_norm": BATCH_NORM}
