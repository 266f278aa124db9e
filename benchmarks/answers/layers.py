"""Answers to the exercises on the bias, dense layer, broadcasting, embedding, tied embedding and dropout."""

import numpy as np

from benchmarks.answers.entry import Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)

# ----------------------------------------------------------------------------------------------- bias


@wrong("bias", "kvfrans/notes #5", "b", "factor")
def the_mean_over_the_batch(dy, cache):
    return dy, dy.mean(axis=0)


@wrong("bias", "mlpack/mlpack, pull request 3679; deeplearning4j/nd4j #2424", "b", "common-mistake shape missing-sum")
def not_summed(dy, cache):
    return dy, dy


@wrong("bias", "rasbt/stat453 #5", "b", "shape broadcast")
def one_number_for_all_of_b(dy, cache):
    return dy, np.sum(dy)


@right("bias")
def one_example_after_the_other(dy, cache):
    db = 0
    for row in dy[::-1]:
        db = row + db
    return dy.copy(), db


# ---------------------------------------------------------------------------------------------- dense


@wrong("dense", "d2l-ai/d2l-en, pull request 1000", "W", "factor")
def divided_by_the_batch_once_more(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy / len(x), dy.sum(axis=0)


@wrong("dense", "jcjohnson/pytorch-examples #28", "x", "wrong-operand")
def back_through_the_gradient_of_the_weight(dy, cache):
    x, _ = cache
    dW = x.T @ dy
    return dy @ dW.T, dW, dy.sum(axis=0)


@wrong("dense", "Natural Language Processing Specialization (rust0258 #62 and #64)", "b", "other-quantity weighted-sum")
def the_bias_from_the_weights(dy, cache):
    x, W = cache
    dW = x.T @ dy
    return dy @ W.T, dW, dW.sum(axis=0)


@wrong("dense", "stan-dev/math #230", "W", "shape", "there a Jacobian")
def the_transpose(dy, cache):
    x, W = cache
    return dy @ W.T, dy.T @ x, dy.sum(axis=0)


@right("dense")
def entry_by_entry(dy, cache):
    x, W = cache
    dW = np.zeros_like(W)
    for k in range(len(x)):
        dW += np.outer(x[k], dy[k])
    return np.einsum("kj,ij->ki", dy, W), dW, np.einsum("kj->j", dy)


# ------------------------------------------------------------------------------------------ broadcast


@wrong("broadcast", "deeplearning4j/nd4j #2424", "shift", "shape missing-sum")
def shift_is_not_summed(dy, cache):
    x, scale = cache
    return dy * scale, (dy * x).sum(axis=(0, 2))[:, None], dy


@wrong("broadcast", "fengdu78/Coursera-ML-AndrewNg-Notes #82", "scale", "missing-factor wrong-factor")
def the_scale_without_x(dy, cache):
    _, scale = cache
    return dy * scale, dy.sum(axis=(0, 2))[:, None], dy.sum(axis=(0, 1))


@wrong("broadcast", "kvfrans/notes #5", "shift", "factor")
def a_mean_over_what_is_stretched(dy, cache):
    x, scale = cache
    return dy * scale, (dy * x).sum(axis=(0, 2))[:, None], dy.mean(axis=(0, 1))


@wrong("broadcast", "harvard-edge/cs249r_book, pull request 1867", "scale", "shape", "there a sum over several axes")
def the_axis_is_not_kept(dy, cache):
    x, scale = cache
    return dy * scale, (dy * x).sum(axis=(0, 2)), dy.sum(axis=(0, 1))


@right("broadcast")
def as_a_product_of_matrices(dy, cache):
    x, scale = cache
    flat = np.moveaxis(dy * x, 1, 0).reshape(len(scale), -1)
    return scale * dy, flat @ np.ones((flat.shape[1], 1)), np.ones(dy.shape[0] * dy.shape[1]) @ dy.reshape(-1, 5)


# ------------------------------------------------------------------------------------------ embedding


@wrong("embedding", "karpathy/nn-zero-to-hero #57; ddbourgin/numpy-ml, Embedding._bwd", "W", "lost-repeats")
def rows_that_repeat_are_overwritten(dy, cache):
    shape, ids = cache
    dW = np.zeros(shape)
    dW[ids] += dy
    return dW


@wrong("embedding", "ooples/AiDotNet.Tensors, pull request 894", "W", "common-mistake")
def gathered_instead_of_scattered(dy, cache):
    _, ids = cache
    return dy[ids]


@wrong("embedding", "pytorch/pytorch #190063", "W", "averaged-repeats")
def divided_by_how_often_a_row_is_used(dy, cache):
    shape, ids = cache
    dW = np.zeros(shape)
    np.add.at(dW, ids, dy / np.bincount(ids)[ids][:, None])
    return dW


@wrong("embedding", "unslothai/unsloth #4533", "W", "zeros missing-leaf", "there the gain of an RMS norm")
def no_gradient_at_all(dy, cache):
    shape, _ = cache
    return np.zeros(shape)


@right("embedding")
def one_hot_rows(dy, cache):
    (vocabulary, _), ids = cache
    return np.eye(vocabulary)[:, ids] @ dy


# ------------------------------------------------------------------------------------- tied embedding


@wrong("tied_embedding", "TrenTorch, pull request 182", "W", "missing-path missing-term other-quantity")
def the_use_as_output_only(dy, cache):
    _, _, a = cache
    return dy.T @ a


@wrong(
    "tied_embedding", "MLSysBook/TinyTorch, commit 02364f8; huggingface/candle #3568", "W", "missing-path missing-term"
)
def the_use_as_embedding_only(dy, cache):
    W, ids, a = cache
    dW = np.zeros_like(W)
    np.add.at(dW, ids, dy @ W * (1 - a**2))
    return dW


@wrong("tied_embedding", "karpathy/nn-zero-to-hero #57; apache/mxnet #9172", "W", "lost-repeats")
def repeats_are_lost(dy, cache):
    W, ids, a = cache
    dW = dy.T @ a
    dW[ids] += dy @ W * (1 - a**2)
    return dW


@wrong(
    "tied_embedding",
    "Bot-Academy/NeuralNetworkFromScratch, pull request 3",
    "W",
    "common-mistake",
)
def without_the_slope_of_tanh(dy, cache):
    W, ids, a = cache
    dW = dy.T @ a
    np.add.at(dW, ids, dy @ W)
    return dW


@right("tied_embedding")
def by_one_hot_rows(dy, cache):
    W, ids, a = cache
    uses = np.eye(len(W))[ids]
    return np.einsum("tv,tf->vf", uses, np.einsum("tv,vf->tf", dy, W) * (1 + a) * (1 - a)) + np.einsum(
        "tv,tf->vf", dy, a
    )


# -------------------------------------------------------------------------------------------- dropout


@wrong("dropout", "ddbourgin/numpy-ml #94", "x", "common-mistake missing-mask missing-factor")
def without_the_mask(dy, cache):
    _, rate = cache
    return dy / (1 - rate)


@wrong(
    "dropout",
    "lmjohns3/theanets, pull request 123; rasbt/LLMs-from-scratch #431",
    "x",
    "factor",
    "there in the forward",
)
def divided_by_the_rate(dy, cache):
    mask, rate = cache
    return dy * mask / rate


@wrong("dropout", "CSTR-Edinburgh/mlpractical, pull request 32", "x", "factor", "there in the forward")
def scaled_twice(dy, cache):
    mask, rate = cache
    return dy * mask / (1 - rate) ** 2


@wrong("dropout", "aws-neuron/nki-samples #81", "x", "other-quantity")
def no_dropout_in_the_backward(dy, cache):
    return dy


@right("dropout")
def by_assignment(dy, cache):
    mask, rate = cache
    dx = np.full_like(dy, 0)
    dx[mask] = dy[mask] * (1 / (1 - rate))
    return dx
