"""Max pooling, convolution."""

import numpy as np

from benchmarks.answers.entry import Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)


def places(y):
    return np.ndindex(*y.shape[1:3])


def window_at(i, j, size, stride):
    return slice(None), slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)


def winners(x, y, i, j, size, stride):
    return x[window_at(i, j, size, stride)] == y[:, i, j][:, None, None]


# ---------------------------------------------------------------------------------------- max pooling


@wrong("max_pool", "FluxML/Flux.jl #1197; 0809zheng/CS231n-assignment2019 #19", "x", "lost-repeats overwritten")
def windows_that_overlap_are_overwritten(dy, cache):
    x, y, size, stride = cache
    dx = np.zeros_like(x)
    for i, j in places(y):
        won = winners(x, y, i, j, size, stride)
        dx[window_at(i, j, size, stride)][won] = (dy[:, i, j][:, None, None] * won)[won]
    return dx


@wrong("max_pool", "riccardoandreoni0/CNN-from-scratch #1", "x", "common-mistake")
def returns_after_the_first_window(dy, cache):
    x, y, size, stride = cache
    dx = np.zeros_like(x)
    for i, j in places(y):
        dx[window_at(i, j, size, stride)] += winners(x, y, i, j, size, stride) * dy[:, i, j][:, None, None]
        return dx
    return None


@wrong(
    "max_pool", "Kulbear/deep-learning-coursera, pull request 34", "x", "misplaced shift zeros", "there a convolution"
)
def the_stride_is_forgotten(dy, cache):
    x, y, size, stride = cache
    dx = np.zeros_like(x)
    for i, j in places(y):
        won = winners(x, y, i, j, size, stride)
        dx[window_at(i, j, size, 1)] += won * dy[:, i, j][:, None, None]
    return dx


@wrong("max_pool", "marsggbo/deeplearning.ai_JupyterNotebooks #10", "x", "term", not_yet=True)
def the_average_besides(dy, cache):
    x, y, size, stride = cache
    dx = np.zeros_like(x)
    for i, j in places(y):
        share = winners(x, y, i, j, size, stride) + 1 / size**2
        dx[window_at(i, j, size, stride)] += share * dy[:, i, j][:, None, None]
    return dx


@wrong("max_pool", "MLSysBook/TinyTorch, commit 02364f8; huggingface/candle #3568", "x", "zeros", "there other layers")
def no_backward_at_all(dy, cache):
    return np.zeros_like(cache[0])


@right("max_pool")
def one_number_after_the_other(dy, cache):
    x, _, size, stride = cache
    dx = np.zeros_like(x)
    for n, i, j, c in np.ndindex(*dy.shape):
        window = x[n, i * stride : i * stride + size, j * stride : j * stride + size, c]
        a, b = divmod(int(np.argmax(window)), size)
        dx[n, i * stride + a, j * stride + b, c] += dy[n, i, j, c]
    return dx


# ---------------------------------------------------------------------------------------- convolution


def sent_back(dy, cache, *, step=None, kernel=None):
    x, W, stride = cache
    kernel = W if kernel is None else kernel
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for i, j in places(dy):
        window = window_at(i, j, len(W), stride if step is None else step)
        dx[window] += np.tensordot(dy[:, i, j], kernel, axes=(1, 3))
        dW += np.tensordot(x[window], dy[:, i, j], axes=(0, 0))
    return dx, dW, dy.sum(axis=(0, 1, 2))


@wrong("convolution", "Kulbear/deep-learning-coursera, pull request 34", "x W", "stride zeros misplaced shift")
def without_the_stride(dy, cache):
    return sent_back(dy, cache, step=1)


@wrong("convolution", "sebgao/cTensor #3", "W", "factor")
def the_weights_are_averaged(dy, cache):
    dx, dW, db = sent_back(dy, cache)
    return dx, dW / dy.shape[1] / dy.shape[2], db


@wrong("convolution", "ddbourgin/numpy-ml #27, as a reader expected", "x", "missing-operation")
def the_kernel_is_turned_around(dy, cache):
    _, W, _ = cache
    return sent_back(dy, cache, kernel=W[::-1, ::-1])


@wrong("convolution", "FluxML/Flux.jl #1197", "x", "common-mistake", "there max pooling")
def overlapping_windows_overwrite(dy, cache):
    x, W, stride = cache
    _, dW, db = sent_back(dy, cache)
    dx = np.zeros_like(x)
    for i, j in places(dy):
        dx[window_at(i, j, len(W), stride)] = np.tensordot(dy[:, i, j], W, axes=(1, 3))
    return dx, dW, db


@wrong("convolution", "kvfrans/notes #5", "b", "factor", "there a dense layer")
def the_bias_is_a_mean(dy, cache):
    dx, dW, _ = sent_back(dy, cache)
    return dx, dW, dy.mean(axis=(0, 1, 2))


@right("convolution")
def tap_by_tap(dy, cache):
    x, W, s = cache
    height, width = s * dy.shape[1], s * dy.shape[2]
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for a, b in np.ndindex(*W.shape[:2]):
        seen = slice(None), slice(a, a + height, s), slice(b, b + width, s)
        seen = seen[0], slice(a, a + height - s + 1, s), slice(b, b + width - s + 1, s)
        dx[seen] += dy @ W[a, b].T
        dW[a, b] = np.einsum("nijc,nijo->co", x[seen], dy)
    return dx, dW, np.einsum("nijo->o", dy)
