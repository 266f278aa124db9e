"""Gather, pooling, convolution: one input entry affects several outputs, whose gradients are added up for it."""

import jax
import jax.numpy as jnp
import numpy as np

from compare.museum.exhibit import Exhibit, by_gradients, by_vjp
from compare.museum.workshop import descend, one_hot, passes, random, softmax, trainer

TEXT = "the quick brown fox jumps over the lazy dog and the other fox jumps over the other dog"
LETTERS = np.array([ord(c) - 96 if c != " " else 0 for c in TEXT])

# --------------------------------------------------------------------------------- embedding-repeats


def embedding(assign):
    """The sum of dy * W[ids], and its gradient with respect to W."""

    def loss_and_gradients(parameters, ids, dy):
        W = parameters["W"]
        dW = np.zeros_like(W)
        assign(dW, ids, dy)
        return np.sum(W[ids] * dy), {"W": dW}

    return loss_and_gradients


def last_one_wins(dW, ids, dy):
    dW[ids] += dy


def adding_up(dW, ids, dy):
    np.add.at(dW, ids, dy)


def looked_up(parameters, ids, dy):
    return jnp.sum(parameters["W"][ids] * dy)


def distinct_ids_match(version):
    W, dy = random(6, 3), random(4, 3)
    right = np.zeros((6, 3))
    right[[4, 0, 5, 2]] = dy
    return np.allclose(version({"W": W}, np.array([4, 0, 5, 2]), dy)[1]["W"], right)


def train_embedding(version, steps=80):
    """Predict each letter of a line of text from the letter before, with a table of 27 rows."""
    ids, y = LETTERS[:-1], one_hot(LETTERS[1:], 27)

    def loss_and_gradients(p, ids, y):
        probabilities = softmax(p["W"][ids])
        return -np.mean(np.log(np.sum(probabilities * y, axis=1))), version(p, ids, (probabilities - y) / len(ids))[1]

    return descend(loss_and_gradients, {"W": np.zeros((27, 27))}, [(ids, y)] * steps, 20.0)


EMBEDDING_REPEATS = Exhibit(
    title="An embedding's gradient counts only one use of each row",
    op="embedding",
    source="ddbourgin/numpy-ml, Embedding._bwd; also nn-zero-to-hero #57, mxnet #9172, HIPS/autograd #39",
    wrong="dW[ids] += dy",
    right="np.add.at(dW, ids, dy)",
    unseen="With `+=`, NumPy adds to each row only once, however often the row occurs in ids. The ids in the test were "
    "distinct.",
    lesson="Use an index several times in the test. In text, every frequent word repeats.",
    faulty=embedding(last_one_wins),
    sound=embedding(adding_up),
    judge=by_gradients(looked_up, {"W": random(6, 3)}, np.array([2, 0, 2, 5, 2]), random(5, 3)),
    train=train_embedding,
    check=distinct_ids_match,
    checked="compares with a reference, for distinct ids",
)

# ------------------------------------------------------------------------------ selected-keys-repeat


def selected(assign):
    """The scores of each query with the keys that it selects."""

    def loss_and_gradients(parameters, queries, ids, dscores):
        keys = parameters["keys"]
        dkeys = np.zeros_like(keys)
        assign(dkeys, ids, dscores[..., None] * queries[:, None, :])
        return np.sum(np.einsum("qd,qkd->qk", queries, keys[ids]) * dscores), {"keys": dkeys}

    return loss_and_gradients


def scored(parameters, queries, ids, dscores):
    return jnp.sum(jnp.einsum("qd,qkd->qk", queries, parameters["keys"][ids]) * dscores)


CAUSAL = np.array([[0, 1], [0, 2], [0, 3]])  # every query selects the first key


def train_selected(version, steps=60):
    queries, target = random(3, 4), random(3, 2)
    parameters, losses = {"keys": 0.1 * random(4, 4)}, []
    for _ in range(steps):
        error = np.einsum("qd,qkd->qk", queries, parameters["keys"][CAUSAL]) - target
        gradient = version(parameters, queries, CAUSAL, error)[1]["keys"]
        parameters = {"keys": parameters["keys"] - 0.1 * gradient}
        losses.append(np.mean(error**2))
    return losses


SELECTED_KEYS = Exhibit(
    title="Sparse attention: queries that select the same key overwrite its gradient",
    op="attention",
    source="NVIDIA/cudnn-frontend #385",
    wrong="dkeys[ids] += dscores * queries",
    right="np.add.at(dkeys, ids, dscores * queries)",
    unseen="For distinct indices the result is right. In causal attention, however, all queries select the early keys. "
    "(The project's kernel corrupted dK and dV in another way; this version shows the simplest effect of repeated "
    "indices.)",
    lesson="In real use, indices repeat. Draw the indices of a test from the same distribution as in the model.",
    faulty=selected(last_one_wins),
    sound=selected(adding_up),
    judge=by_gradients(scored, {"keys": random(4, 4)}, random(3, 4), CAUSAL, random(3, 2)),
    train=train_selected,
)

# ----------------------------------------------------------------------------------------- max-ties


def largest(x):
    return x.max(axis=1), x


def largest_in_jax(x):
    """The maximum of each row. If several entries attain it, the first one gets the gradient."""
    return jnp.take_along_axis(x, jnp.argmax(x, axis=1)[:, None], axis=1)[:, 0]


def all_that_are_equal(dy, x):
    return dy[:, None] * (x == x.max(axis=1, keepdims=True))


def the_first(dy, x):
    return dy[:, None] * one_hot(x.argmax(axis=1), x.shape[1])


def train_ties(version, steps=80):
    """Predict a letter from the five before, by the maximum of each of their features."""
    windows = np.lib.stride_tricks.sliding_window_view(LETTERS, 6)
    ids, y = windows[:, :5], one_hot(windows[:, 5], 27)

    def loss_and_gradients(p, ids, y):
        features, cache = largest(np.moveaxis(p["E"][ids], 1, 2).reshape(-1, 5))
        h = features.reshape(len(ids), -1)
        probabilities = softmax(h @ p["W"])
        dlogits = (probabilities - y) / len(ids)
        drows = version((dlogits @ p["W"].T).ravel(), cache).reshape(len(ids), -1, 5)
        dE = np.zeros_like(p["E"])
        np.add.at(dE, ids, np.moveaxis(drows, 2, 1))
        return -np.mean(np.log(np.sum(probabilities * y, axis=1))), {"E": dE, "W": h.T @ dlogits}

    return descend(loss_and_gradients, {"E": random(27, 12), "W": 0.1 * random(12, 27)}, [(ids, y)] * steps, 2.0)


MAX_TIES = Exhibit(
    title="If two entries attain the maximum, both get the whole gradient",
    op="pooling",
    source="Theano/Theano #4568",
    wrong="dx = dy * (x == max(x))",
    right="dx = dy at the first maximum, 0 elsewhere (or shared between equals)",
    unseen="Random numbers are never equal, so that there was no tie in a test. Outputs of relu tie at 0, and so does "
    "a word that occurs twice in a sentence.",
    lesson="At a tie the gradient may be divided in any way, but the parts must add up to the whole. Test with equal "
    "numbers.",
    faulty=all_that_are_equal,
    sound=the_first,
    # At a tie the loss has no derivative, so that finite differences cannot confirm the gradient.
    judge=by_vjp(
        largest,
        largest_in_jax,
        np.array([[1.0, 3.0, 3.0, 2.0], [0.0, -1.0, 0.5, 0.3], [2.0, 2.0, 2.0, 1.0]]),
        references=False,
    ),
    train=train_ties,
    check=lambda version: passes(version, largest, (random(3, 4),), cotangent=random(3)),
    checked="compares with finite differences, for random numbers, of which no two are equal",
)

# ------------------------------------------------------------------------------- overlapping-windows

SIZE = 3


def max_pool(stride):
    def forward(x):
        starts = range(0, x.shape[1] - SIZE + 1, stride)
        winners = np.stack([start + x[:, start : start + SIZE].argmax(axis=1) for start in starts], axis=1)
        return np.take_along_axis(x, winners, axis=1), (winners, x.shape)

    return forward


def max_pool_in_jax(x):
    return jnp.stack([x[:, i : i + SIZE].max(axis=1) for i in range(x.shape[1] - SIZE + 1)], axis=1)


def written(dy, cache):
    winners, shape = cache
    dx = np.zeros(shape)
    np.put_along_axis(dx, winners, dy, axis=1)
    return dx


def added(dy, cache):
    winners, shape = cache
    dx = np.zeros(shape)
    np.add.at(dx, (np.arange(shape[0])[:, None], winners), dy)
    return dx


OVERLAPPING = Exhibit(
    title="Max pooling: overlapping windows overwrite each other's gradient",
    op="pooling",
    source="FluxML/Flux.jl #1197, mended in FluxML/NNlib.jl",
    wrong="dx[winners] = dy",
    right="dx[winners] += dy, once for each window",
    unseen="If windows do not overlap, no entry is the maximum of two windows. The tests had no overlapping windows.",
    lesson="Test pooling and convolution with a stride that is smaller than the window.",
    faulty=written,
    sound=added,
    judge=by_vjp(max_pool(1), max_pool_in_jax, random(3, 7)),
    train=trainer(max_pool(1), shape=(32,)),
    check=lambda version: passes(version, max_pool(SIZE), (random(3, 9),), cotangent=random(3, 3)),
    checked="compares with finite differences, for windows that do not overlap",
)

# -------------------------------------------------------------------------------------- conv-stride


def convolution(stride):
    """y_t = sum over k of w_k x_(t stride + k)."""

    def forward(x, w):
        outputs = (x.shape[1] - len(w)) // stride + 1
        y = np.stack([x[:, t * stride : t * stride + len(w)] @ w for t in range(outputs)], axis=1)
        return y, (x, w, stride)

    return forward


def convolution_in_jax(x, w):
    return jax.lax.conv_general_dilated(x[:, None], w[None, None], (2,), "VALID")[:, 0]


def convolution_backward(start):
    def backward(dy, cache):
        x, w, stride = cache
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for t in range(dy.shape[1]):
            window = slice(start(t, stride), start(t, stride) + len(w))
            dx[:, window] += dy[:, t, None] * w
            dw += dy[:, t] @ x[:, window]
        return dx, dw

    return backward


CONV_STRIDE = Exhibit(
    title="The backward pass of a convolution ignores the stride",
    op="convolution",
    source="Kulbear/deep-learning-coursera, pull request 34",
    wrong="start = t",
    right="start = t * stride",
    unseen="The backward pass was tested with a stride of 1 only, where t * stride equals t.",
    lesson="A test of the forward pass does not test an option's effect on the gradient. Check gradients for every "
    "option.",
    faulty=convolution_backward(lambda t, stride: t),
    sound=convolution_backward(lambda t, stride: t * stride),
    judge=by_vjp(convolution(2), convolution_in_jax, random(2, 9), random(3)),
    train=trainer(convolution(2), shape=(32,), weights=(random(4),)),
    check=lambda version: passes(version, convolution(1), (random(2, 9), random(3)), cotangent=random(2, 7)),
    checked="compares with finite differences, for a stride of 1",
)

EXHIBITS = {
    "embedding-repeats": EMBEDDING_REPEATS,
    "selected-keys-repeat": SELECTED_KEYS,
    "max-ties": MAX_TIES,
    "overlapping-windows": OVERLAPPING,
    "conv-stride": CONV_STRIDE,
}
