"""Gradients that are added up over uses, passes or micro-batches, and layers that pass no gradient on."""

import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import tap
from compare.museum.exhibit import Exhibit, by_gradients, by_vjp
from compare.museum.workshop import (
    SITUATION,
    cross_entropy,
    descend,
    differences,
    digits,
    network,
    network_parameters,
    one_hot,
    random,
    softmax,
    trainer,
)

# ----------------------------------------------------------------------------------------- dropout

KEPT = np.random.default_rng(0).random((5, 6)) < 0.7
RATE = 0.3


def dropout(x):
    kept = np.resize(KEPT, x.shape)
    return x * kept / (1 - RATE), kept


def dropout_in_jax(x):
    return x * tap("mask", jnp.asarray(KEPT, x.dtype)) / (1 - RATE)


DROPOUT = Exhibit(
    title="Dropout's backward keeps the scale and forgets the mask",
    op="dropout",
    source="ddbourgin/numpy-ml #94",
    wrong="dx = dy / (1 - rate)",
    right="dx = dy * mask / (1 - rate)",
    unseen="Dropout had no test. The gradient has the right size on average, so that training goes on, but units that "
    "were dropped receive a gradient as well.",
    lesson="A random layer can be tested: draw the mask once, and pass it as an argument.",
    faulty=lambda dy, kept: dy / (1 - RATE),
    sound=lambda dy, kept: dy * kept / (1 - RATE),
    judge=by_vjp(dropout, dropout_in_jax, random(5, 6)),
    train=trainer(dropout),
)

# ------------------------------------------------------------------------------------- gradient-cut


def residual(x, weight):
    """y = x + tanh(x W)."""
    branch = np.tanh(x @ weight)
    return x + branch, (x, weight, branch)


def residual_in_jax(x, weight):
    return x + tap("branch", jnp.tanh(tap("Z", x @ weight)))


def sound_residual(dy, cache):
    x, weight, branch = cache
    dZ = dy * (1 - branch**2)
    return dy + dZ @ weight.T, x.T @ dZ


def cut(dy, cache):
    return dy.copy(), np.zeros_like(cache[1])


GRADIENT_CUT = Exhibit(
    title="An operation without a backward pass cuts off the gradient without an error",
    op="bookkeeping",
    source="MLSysBook/TinyTorch, commit 02364f8; huggingface/candle #3568",
    wrong="y = x + f(x, W), where the result of f is not recorded:  dW = 0,  dx = dy",
    right="dW = x.T @ dZ,  dx = dy + dZ @ W.T,  dZ = dy * f'",
    unseen="x still receives a gradient, through the path that does not contain f. The test only asserted that the "
    "gradient exists.",
    lesson="An operation that has no backward pass should raise an error. A gradient that is exactly zero deserves a "
    "closer look.",
    faulty=cut,
    sound=sound_residual,
    judge=by_vjp(residual, residual_in_jax, random(5, 4), random(4, 4)),
    train=trainer(residual, weights=(0.3 * random(16, 16),)),
    check=lambda version: version(random(5, 4), residual(random(5, 4), random(4, 4))[1])[0] is not None,
    checked="asserts that the gradient of x is not None",
)

# -------------------------------------------------------------------------------------- returns-input


def scaled(x):
    return 3.0 * x, x


RETURNS_INPUT = Exhibit(
    title="The backward pass returns the input of the forward pass",
    op="bookkeeping",
    source="explosion/thinc, pull request 492: with_getitem; torch/nn, pull request 344: nn.Padding",
    wrong="return x     # from the enclosing forward",
    right="return dx    # what was just computed",
    unseen="Both variables are in scope and have the same shape and type. In torch/nn there was a test, but it did not "
    "detect the mistake.",
    lesson="Any array of the right shape can be mistaken for a gradient. Give gradients names that say so.",
    faulty=lambda dy, x: x.copy(),
    sound=lambda dy, x: 3.0 * dy,
    judge=by_vjp(scaled, lambda x: 3.0 * x, random(5, 4)),
    train=trainer(scaled, examples=20, rate=0.008, steps=150),
)

# ----------------------------------------------------------------------------------- first-use-only


def two_heads(first_only):
    """h = tanh(x W) is the input of two heads. J is the sum of the outputs of both heads, each times a given array."""

    def loss_and_gradients(parameters, x, du, dv):
        W, U, V = (parameters[name] for name in "WUV")
        h = np.tanh(x @ W)
        dh = du @ U.T if first_only else du @ U.T + dv @ V.T
        gradients = {"W": x.T @ (dh * (1 - h**2)), "U": h.T @ du, "V": h.T @ dv}
        return np.sum(h @ U * du) + np.sum(h @ V * dv), gradients

    return loss_and_gradients


def two_heads_in_jax(parameters, x, du, dv):
    h = jnp.tanh(x @ parameters["W"])
    first, second = tap("h for the first head", h), tap("h for the second head", h)
    return jnp.sum(first @ parameters["U"] * du) + jnp.sum(second @ parameters["V"] * dv)


HEADS = {"W": random(5, 4), "U": random(4, 3), "V": random(4, 2)}


def without_reuse(version):
    """The output gradient of the second head is zero, as if h were used only once."""
    x, du, dv = random(6, 5), random(6, 3), np.zeros((6, 2))
    right = differences(lambda W: version(HEADS | {"W": W}, x, du, dv)[0], HEADS["W"])
    return np.allclose(version(HEADS, x, du, dv)[1]["W"], right, atol=1e-6)


def train_heads(version, steps=80):
    """One head tells the digit, the other whether it is odd."""
    x, y = digits()
    odd = one_hot(y.argmax(axis=1) % 2, 2)
    start = {"W": 0.15 * random(64, 16), "U": 0.15 * random(16, 10), "V": 0.15 * random(16, 2)}

    def loss_and_gradients(p, x):
        h = np.tanh(x @ p["W"])
        u, v = softmax(h @ p["U"]), softmax(h @ p["V"])
        gradients = version(p, x, (u - y) / len(x), (v - odd) / len(x))[1]
        return -np.mean(np.log(np.sum(u * y, axis=1))) - np.mean(np.log(np.sum(v * odd, axis=1))), gradients

    return descend(loss_and_gradients, start, [(x,)] * steps, 0.5)


FIRST_USE = Exhibit(
    title="A value that is used twice gets the gradient of its first use only",
    op="bookkeeping",
    source="TrenTorch, pull request 182",
    wrong="dh = du @ U.T",
    right="dh = du @ U.T + dv @ V.T",
    unseen="No test used a value twice.",
    lesson="Where a value is used several times in the forward pass, its gradients are added in the backward pass. A "
    "test network that is a plain chain of layers does not test this.",
    faulty=two_heads(first_only=True),
    sound=two_heads(first_only=False),
    judge=by_gradients(two_heads_in_jax, HEADS, random(6, 5), random(6, 3), random(6, 2)),
    train=train_heads,
    check=without_reuse,
    checked="compares with finite differences, in a network that uses no value twice",
)

# ------------------------------------------------------------------------------------- never-cleared


class Graph:
    """A graph whose values keep their gradients from one backward pass to the next, as in a scalar autograd engine."""

    def __init__(self, *, cleared):
        self.cleared, self.dh = cleared, 0.0

    def __call__(self, parameters, x, y):
        h = np.tanh(x @ parameters["W"])
        if self.cleared:
            self.dh = 0.0
        self.dh = self.dh + (h - y) / len(x)  # it accumulates, because a value may have several uses
        return np.mean((h - y) ** 2) / 2, {"W": x.T @ (self.dh * (1 - h**2))}


def tanh_regression(parameters, x, y):
    return jnp.mean((jnp.tanh(x @ parameters["W"]) - y) ** 2) / 2


regression_judged = by_gradients(tanh_regression, {"W": random(3)}, random(6, 3), random(6))


def one_pass(version):
    x, y, W = random(6, 3), random(6), random(3)
    right = differences(lambda W: version()({"W": W}, x, y)[0], W)
    return np.allclose(version()({"W": W}, x, y)[1]["W"], right, atol=1e-7)


NEVER_CLEARED = Exhibit(
    title="Only the gradients of parameters are cleared before a pass, and not those of intermediate values",
    op="bookkeeping",
    source="karpathy/micrograd, pull request 102",
    wrong="clear(parameters);  backward()      # twice on one graph",
    right="clear(every value);  backward()",
    unseen="Every training step builds a new graph, so that backward is called only once on each graph.",
    lesson="Every gradient that accumulates must be cleared before the next pass, also those of intermediate values.",
    faulty=lambda: Graph(cleared=False),
    sound=lambda: Graph(cleared=True),
    judge=lambda build, **extra: regression_judged(build(), **extra),
    train=lambda build: descend(
        build(), {"W": np.zeros(3)}, [(random(6, 3), np.tanh(random(6, 3) @ random(3, seed=4)))] * 60, 0.1
    ),
    check=one_pass,
    checked="compares with finite differences after one backward pass",
)

# ---------------------------------------------------------------------------------- mean-of-means

SIZES = np.array([1, 2, 4])  # the number of examples in each micro-batch


def by_micro_batches(weight):
    """The gradient of the mean loss, accumulated over three micro-batches.

    `weight(n, m)` is the weight of an example in a micro-batch of n examples out of m.
    """

    def backward(v):
        sizes = SIZES if v.m == sum(SIZES) else np.full(3, v.m // 3)
        return np.repeat([weight(n, v.m) for n in sizes], sizes)[:, None] * (softmax(v.Z2) - v.y)

    return network(dZ2=backward)


def equal_sizes_match(version):
    """Six examples in three micro-batches of two."""
    parameters, x, y = SITUATION
    right = network()(parameters, x[:6], y[:6])[1]["W1"]
    return np.allclose(version(parameters, x[:6], y[:6])[1]["W1"], right)


def train_uneven(version, steps=80):
    """Seven digits at a time, in micro-batches of 1, 2 and 4."""
    x, y = digits()
    batches = [(np.roll(x, -7 * i, axis=0)[:7], np.roll(y, -7 * i, axis=0)[:7]) for i in range(steps)]
    return descend(version, network_parameters(64, 16, 10, scale=0.15), batches, 0.3)


MEAN_OF_MEANS = Exhibit(
    title="Gradient accumulation averages the means of micro-batches",
    op="bookkeeping",
    source="huggingface/transformers #34191",
    wrong="g = mean over micro-batches of (sum of their gradients / their size)",
    right="g = sum of all gradients / number of all examples (there: tokens)",
    unseen="If all micro-batches have the same size, the result is right. Texts differ in length, so that "
    "micro-batches of text differ in their number of tokens.",
    lesson="The mean of the means of unequal parts is not the mean of the whole. Test accumulation with parts of "
    "unequal size.",
    faulty=by_micro_batches(lambda n, m: 1 / (3 * n)),
    sound=by_micro_batches(lambda n, m: 1 / m),
    judge=by_gradients(cross_entropy, *SITUATION),
    train=train_uneven,
    check=equal_sizes_match,
    checked="compares with the gradient of the whole batch, for micro-batches of equal size",
)

EXHIBITS = {
    "dropout-without-mask": DROPOUT,
    "gradient-cut": GRADIENT_CUT,
    "returns-input": RETURNS_INPUT,
    "first-use-only": FIRST_USE,
    "never-cleared": NEVER_CLEARED,
    "mean-of-means": MEAN_OF_MEANS,
}
