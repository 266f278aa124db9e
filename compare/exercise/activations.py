"""The exercises on activations: relu, sigmoid, tanh, softmax."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import activations


def relu(x):
    return np.maximum(x, 0), x


RELU = Exercise(
    title="relu",
    task="""y = max(x, 0), entry by entry.

    x, y and dy have the same shape.

    What is the slope of y for positive x, and for negative x?""",
    blank="""
    x = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x. Each entry of y depends only on the entry of x at the same position.",
        "Where x is positive, the slope is 1. Where x is negative, y is constant. The sign of dy does not matter.",
        "dx = dy where x > 0, else 0.",
    ),
    page=activations.relu_backward,
    inputs=(normal(4, 5),),
    given=relu,
)


def sigmoid(x):
    y = 1 / (1 + np.exp(-x))
    return y, y


SIGMOID = Exercise(
    title="sigmoid",
    task="""y = 1 / (1 + exp(-x)), entry by entry. The cache holds y, not x.

    x, y and dy have the same shape.

    Differentiate with respect to x, then write the result with y alone.""",
    blank="""
    y = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x. Each entry of y depends only on the entry of x at the same position.",
        "y' = exp(-x) / (1 + exp(-x))^2. One factor of it is y. What is the other factor? Do not forget dy.",
        "dx = dy y (1 - y).",
    ),
    page=activations.sigmoid_backward,
    inputs=(normal(4, 5),),
    given=sigmoid,
)


def tanh(x):
    y = np.tanh(x)
    return y, y


TANH = Exercise(
    title="tanh",
    task="""y = tanh(x), entry by entry. The cache holds y, not x.

    x, y and dy have the same shape.

    tanh = sinh / cosh. Differentiate the quotient, then write the result with y alone.""",
    blank="""
    y = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x. Each entry of y depends only on the entry of x at the same position.",
        "tanh' = 1 / cosh^2 = 1 - tanh^2. The cache already holds tanh(x). Do not apply tanh to it again.",
        "dx = dy (1 - y^2).",
    ),
    page=activations.tanh_backward,
    inputs=(normal(4, 5),),
    given=tanh,
)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    return y, y


SOFTMAX = Exercise(
    title="softmax",
    task="""y_ki = exp(x_ki) / sum over j of exp(x_kj), for every row k. The cache holds y.

    x, y and dy (rows, classes)

    Every x_ki changes every y_kj in its row. First derive dy_j/dx_i, for i = j and for i != j.""",
    blank="""
    y = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x. The classes of a row are coupled by one number for each row: sum with keepdims=True.",
        "dy_j/dx_i = y_i ([i = j] - y_j). The second term couples all classes. y_i (1 - y_i) alone would be the "
        "derivative of a sigmoid.",
        "dx_i = y_i (dy_i - sum over j of dy_j y_j).",
    ),
    page=activations.softmax_backward,
    inputs=(normal(4, 3),),
    given=softmax,
)

EXERCISES = {"relu": RELU, "sigmoid": SIGMOID, "tanh": TANH, "softmax": SOFTMAX}
