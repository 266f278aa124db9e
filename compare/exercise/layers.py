"""Exercises: bias, dense layer, broadcasting, embedding, tied embedding, dropout."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import layers, transformer


def bias(x, b):
    return x + b, None


BIAS = Exercise(
    title="The gradient of a bias",
    task="""y_ki = x_ki + b_i, for every example k.

    x (examples, features)    b (features,)    y and dy (examples, features)

    Ask of each input: which entries of y does it reach, and with what factor? b_i is used by every example.""",
    blank="""
    dx = ...
    db = ...
    return dx, db""",
    returns=("dx", "db"),
    hints=(
        "A gradient has the shape of what it is the gradient of: dx is (examples, features), and db is (features,).",
        "b_i is added in every example, so every dy_ki reaches it. What arrives from several places is added up.",
        "dx = dy; db_i = sum over k of dy_ki. A sum and no mean: if the loss is a mean, its 1/m is in dy already.",
    ),
    page=layers.dense_backward,
    inputs=(normal(5, 3), normal(3)),
    given=bias,
)


def dense(x, W, b):
    return x @ W + b, (x, W)


DENSE = Exercise(
    title="A dense layer",
    task="""y_kj = sum over i of x_ki W_ij, plus b_j, for every example k.

    x (examples, inputs)    W (inputs, outputs)    b (outputs,)    y and dy (examples, outputs)

    Which y does x_ki reach, and with what factor? Which does W_ij?""",
    blank="""
    x, W = cache
    dx = ...
    dW = ...
    db = ...
    return dx, dW, db""",
    returns=("dx", "dW", "db"),
    hints=(
        "dx (examples, inputs) must be made of dy (examples, outputs) and W (inputs, outputs): only one product has "
        "that shape. The same is true of dW.",
        "W_ij is used by every example, with x_ki: its gradient is a sum over examples, which a product of matrices "
        "forms by itself.",
        "dx = dy W^T, dW = x^T dy, db = sum of dy over the examples.",
    ),
    page=layers.dense_backward,
    inputs=(normal(5, 4), normal(4, 3), normal(3)),
    given=dense,
)


def broadcast(x, scale, shift):
    return x * scale + shift, (x, scale)


BROADCAST = Exercise(
    title="Arrays that are broadcast",
    task="""y_nhw = x_nhw scale_h + shift_w.

    x, y and dy (n, h, w)    scale (h, 1)    shift (w,)

    NumPy stretches scale along n and w, and shift along n and h. What is used many times gets many gradients.""",
    blank="""
    x, scale = cache
    dx = ...
    dscale = ...
    dshift = ...
    return dx, dscale, dshift""",
    returns=("dx", "dscale", "dshift"),
    hints=(
        "dscale is (h, 1) and dshift is (w,). Sum over every axis along which the array was stretched, no more: "
        "keepdims keeps the axis of length 1.",
        "scale is multiplied by x, so x stands in its gradient; shift is only added.",
        "dx = dy scale; dscale_h = sum over n, w of dy_nhw x_nhw; dshift_w = sum over n, h of dy_nhw.",
    ),
    page=layers.dense_backward,
    inputs=(normal(4, 3, 5), normal(3, 1), normal(5)),
    given=broadcast,
)


def embedding(W, ids):
    return W[ids], (W.shape, ids)


EMBEDDING = Exercise(
    title="An embedding, whose rows are used more than once",
    task="""y_t = W_v with v = ids_t: row ids_t of the table, for every place t.

    W (vocabulary, features)    ids (places,), whole numbers    y and dy (places, features)

    Which places does row v reach? An id may stand at several of them, or at none. ids have no gradient.""",
    blank="""
    shape, ids = cache
    dW = ...
    return dW""",
    returns=("dW",),
    hints=(
        "dW has the shape of the whole table, also where an id is never used.",
        "A row that is used twice gets both gradients. Look up what `a[ids] += b` does where ids repeat.",
        "dW_v = sum of dy_t over all t with ids_t = v: np.add.at(dW, ids, dy), on zeros.",
    ),
    page=layers.embedding_backward,
    inputs=(normal(6, 3), np.array([1, 4, 1, 0, 4, 1])),
    given=embedding,
)


def tied_embedding(W, ids):
    a = np.tanh(W[ids])
    return a @ W.T, (W, ids, a)


TIED_EMBEDDING = Exercise(
    title="One matrix for the embedding and for the output",
    task="""a = tanh(W[ids]) and logits = a W^T: the same W at both ends, as in GPT-2.

    W (vocabulary, features)    ids (places,)    a (places, features)    logits and dy (places, vocabulary)

    W reaches the loss in two ways. Derive both parts, and add them.""",
    blank="""
    W, ids, a = cache
    da = ...
    dW = ...
    return dW""",
    returns=("dW",),
    hints=(
        "dW is (vocabulary, features): the output's part is dy^T a, and the embedding's part is added row by row.",
        "Neither part alone is the gradient. The embedding's passes through tanh, and ids repeat.",
        "da = dy W; dW = dy^T a, and then dW_v += da_t (1 - a_t^2) for all t with ids_t = v.",
    ),
    page=transformer.apply_backward,
    inputs=(0.5 * normal(6, 3), np.array([1, 4, 1, 0, 4])),
    given=tied_embedding,
    output="the logits",
)


def dropout(x, mask, rate=0.25):
    return x * mask / (1 - rate), (mask, rate)


DROPOUT = Exercise(
    title="Dropout",
    task="""y = x mask / (1 - rate), entry by entry.

    x, mask, y and dy (examples, features); mask holds True where an entry is kept; rate is a number

    mask and rate are constants here: neither has a gradient.""",
    blank="""
    mask, rate = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x, and is 0 where x was dropped.",
        "Two things were done to x: it was masked and it was scaled. Both are done to the gradient.",
        "dx = dy mask / (1 - rate), with the mask of the forward pass and no new one.",
    ),
    page=layers.dropout_backward,
    inputs=(normal(4, 6), normal(4, 6, seed=1) > -0.6),
    given=dropout,
)

EXERCISES = {
    "bias": BIAS,
    "dense": DENSE,
    "broadcast": BROADCAST,
    "embedding": EMBEDDING,
    "tied_embedding": TIED_EMBEDDING,
    "dropout": DROPOUT,
}
