"""The exercises on windows: max pooling, convolution."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import convolution as convolutions
from manual import pooling


def max_pool(x, size=3, stride=2):
    n, h, w, c = x.shape
    y = np.zeros((n, (h - size) // stride + 1, (w - size) // stride + 1, c), x.dtype)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = window.max(axis=(1, 2))
    return y, (x, y, size, stride)


MAX_POOL = Exercise(
    title="Max pooling, with windows that overlap",
    task="""y[n, i, j, c] = the largest entry of the window x[n, i s : i s + size, j s : j s + size, c], s the stride.

    x (images, height, width, channels)    y and dy (images, new height, new width, channels)

    Which entry of its window does y depend on? Windows overlap, so that an entry may be the largest in several
    windows.""",
    blank="""
    x, y, size, stride = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x. It is 0 for an entry that is the largest in no window.",
        "Loop over the windows as the forward pass does. Because windows overlap, use +=.",
        "dx[n, i s + a, j s + b, c] += dy[n, i, j, c], where x is the maximum of the window.",
    ),
    page=pooling.max_pool2d_backward,
    inputs=(normal(2, 5, 5, 2),),
    given=max_pool,
)


def convolution(x, W, b, stride=2):
    n, h, w, _ = x.shape
    size, _, _, outputs = W.shape
    y = np.zeros((n, (h - size) // stride + 1, (w - size) // stride + 1, outputs), x.dtype)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = np.tensordot(window, W, axes=3) + b
    return y, (x, W, stride)


CONVOLUTION = Exercise(
    title="A convolution with a stride",
    task="""y[n, i, j, o] = b[o] + sum over a, b, c of x[n, i s + a, j s + b, c] W[a, b, c, o], with s the stride.

    x (images, height, width, channels)    W (size, size, channels, outputs)    b (outputs,)
    y and dy (images, new height, new width, outputs)

    It is a dense layer, applied to every window. What does one window contribute to dx, dW and db?""",
    blank="""
    x, W, stride = cache
    dx = ...
    dW = ...
    db = ...
    return dx, dW, db""",
    returns=("dx", "dW", "db"),
    hints=(
        "Start with zeros in the shapes of x and W. db is (outputs,), a sum over the images, the height and the width.",
        "Loop over the windows as the forward pass does. They begin at i * stride, and not at i. An entry of x is in "
        "several windows.",
        "For each window, dx_window += dy[:, i, j] W^T (a sum over outputs) and dW += window^T dy[:, i, j] (a sum over "
        "images). db is the sum of dy.",
    ),
    page=convolutions.conv2d_backward,
    inputs=(normal(2, 5, 5, 2), normal(3, 3, 2, 3), normal(3)),
    given=convolution,
)

EXERCISES = {"max_pool": MAX_POOL, "convolution": CONVOLUTION}
