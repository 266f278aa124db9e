"""The exercises on layers: bias, dense layer, broadcasting, embedding, tied embedding, dropout."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import layers, transformer


def bias(x, b):
    return x + b, None


BIAS = Exercise(
    title="The gradient of a bias",
    task="""y_ki = x_ki + b_i, for every example k.

    x (examples, features)    b (features,)    y and dy (examples, features)

    For each input, ask which entries of y depend on it, and with what factor. Every example uses b_i.""",
    blank="""
    dx = ...
    db = ...
    return dx, db""",
    returns=("dx", "db"),
    hints=(
        "A gradient has the shape of its input: dx is (examples, features), and db is (features,).",
        "b_i is added in every example, so that every dy_ki contributes to its gradient. Contributions are added up.",
        "dx = dy; db_i = sum over k of dy_ki. It is a sum, not a mean. If the loss is a mean, dy contains its 1/m "
        "already.",
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

    Which entries of y depend on x_ki, and with what factor? Which depend on W_ij?""",
    blank="""
    x, W = cache
    dx = ...
    dW = ...
    db = ...
    return dx, dW, db""",
    returns=("dx", "dW", "db"),
    hints=(
        "dx (examples, inputs) is a product of dy (examples, outputs) and W (inputs, outputs). Only one product has "
        "this shape. The same is true for dW.",
        "Every example uses W_ij, with the factor x_ki. So its gradient is a sum over the examples, which a matrix "
        "product computes.",
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

    NumPy repeats scale along n and w, and shift along n and h. The gradients of all repetitions are added up.""",
    blank="""
    x, scale = cache
    dx = ...
    dscale = ...
    dshift = ...
    return dx, dscale, dshift""",
    returns=("dx", "dscale", "dshift"),
    hints=(
        "dscale is (h, 1) and dshift is (w,). Sum over exactly those axes along which the array was repeated. "
        "keepdims=True keeps an axis of length 1.",
        "scale is multiplied by x, so that its gradient contains x. shift is only added.",
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
    task="""y_t = W_v with v = ids_t: for every position t, row ids_t of the table.

    W (vocabulary, features)    ids (positions,), integers    y and dy (positions, features)

    At which positions is row v used? An id may occur at several positions, or at none. ids have no gradient.""",
    blank="""
    shape, ids = cache
    dW = ...
    return dW""",
    returns=("dW",),
    hints=(
        "dW has the shape of the whole table. The row of an id that is never used is 0.",
        "A row that is used twice gets the sum of both gradients. Look up what `a[ids] += b` does if ids repeat.",
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
    task="""a = tanh(W[ids]) and logits = a W^T. The same W is used for both, as in GPT-2.

    W (vocabulary, features)    ids (positions,)    a (positions, features)    logits and dy (positions, vocabulary)

    W affects the loss in two ways. Derive the gradient of each, and add them.""",
    blank="""
    W, ids, a = cache
    da = ...
    dW = ...
    return dW""",
    returns=("dW",),
    hints=(
        "dW is (vocabulary, features). The part from the output is dy^T a. The part from the embedding is added by "
        "rows.",
        "Neither part alone is the gradient. The part from the embedding goes through tanh, and ids repeat.",
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

    x, mask, y and dy (examples, features); mask is True where an entry is kept; rate is a number

    mask and rate are constants, and have no gradient.""",
    blank="""
    mask, rate = cache
    dx = ...
    return dx""",
    returns=("dx",),
    hints=(
        "dx has the shape of x, and is 0 where x was dropped.",
        "x is masked and scaled. The gradient has to be masked and scaled as well.",
        "dx = dy mask / (1 - rate), with the same mask as in the forward pass.",
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
