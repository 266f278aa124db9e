"""Gradients that meet: several uses, several passes, several micro-batches, and layers that pass nothing on."""

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
    unseen="Dropout had no test. The size of the gradient is right on average, and dropped units learn from noise.",
    lesson="Randomness is no reason not to test: draw the mask once and hand it in.",
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
    title="An operation without a backward cuts the gradient off in silence",
    op="bookkeeping",
    source="MLSysBook/TinyTorch, commit 02364f8; huggingface/candle #3568",
    wrong="y = x + f(x, W), where the result of f is not recorded:  dW = 0,  dx = dy",
    right="dW = x.T @ dZ,  dx = dy + dZ @ W.T,  dZ = dy * f'",
    unseen="x still has a gradient, by the way around f, and the test asked no more of it than to exist.",
    lesson="An operation that cannot go back should say so. A gradient of exactly zero is a finding.",
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
    title="Backward returns the input of forward",
    op="bookkeeping",
    source="explosion/thinc, pull request 492: with_getitem; torch/nn, pull request 344: nn.Padding",
    wrong="return x     # from the enclosing forward",
    right="return dx    # what was just computed",
    unseen="Both names are within reach, of one shape and type. In torch/nn there was a test, which did not catch it.",
    lesson="Whatever has the right shape will pass for a gradient. Name gradients as gradients.",
    faulty=lambda dy, x: x.copy(),
    sound=lambda dy, x: 3.0 * dy,
    judge=by_vjp(scaled, lambda x: 3.0 * x, random(5, 4)),
    train=trainer(scaled, examples=20, rate=0.008, steps=150),
)

# ----------------------------------------------------------------------------------- first-use-only


def two_heads(first_only):
    """h = tanh(x W) is read by two heads; J is the sum of both heads' outputs, each times a given array."""

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
    """The second head is silent, so that h is used once."""
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
    title="A value that is used twice gets the gradient of its first use",
    op="bookkeeping",
    source="TrenTorch, pull request 182",
    wrong="dh = du @ U.T",
    right="dh = du @ U.T + dv @ V.T",
    unseen="No test used a value twice.",
    lesson="Every fork forward is a sum backward. A graph that is a chain tests none.",
    faulty=two_heads(first_only=True),
    sound=two_heads(first_only=False),
    judge=by_gradients(two_heads_in_jax, HEADS, random(6, 5), random(6, 3), random(6, 2)),
    train=train_heads,
    check=without_reuse,
    checked="compares with differences, where no value is used twice",
)

# ------------------------------------------------------------------------------------- never-cleared


class Graph:
    """Values that keep their gradients from pass to pass, as those of a scalar engine do."""

    def __init__(self, *, cleared):
        self.cleared, self.dh = cleared, 0.0

    def __call__(self, parameters, x, y):
        h = np.tanh(x @ parameters["W"])
        if self.cleared:
            self.dh = 0.0
        self.dh = self.dh + (h - y) / len(x)  # accumulates, for the sake of values with several uses
        return np.mean((h - y) ** 2) / 2, {"W": x.T @ (self.dh * (1 - h**2))}


def tanh_regression(parameters, x, y):
    return jnp.mean((jnp.tanh(x @ parameters["W"]) - y) ** 2) / 2


regression_judged = by_gradients(tanh_regression, {"W": random(3)}, random(6, 3), random(6))


def one_pass(version):
    x, y, W = random(6, 3), random(6), random(3)
    right = differences(lambda W: version()({"W": W}, x, y)[0], W)
    return np.allclose(version()({"W": W}, x, y)[1]["W"], right, atol=1e-7)


NEVER_CLEARED = Exhibit(
    title="Parameters' gradients are cleared before a pass, those in between are not",
    op="bookkeeping",
    source="karpathy/micrograd, pull request 102",
    wrong="clear(parameters);  backward()      # twice on one graph",
    right="clear(every value);  backward()",
    unseen="Each training step builds a new graph, so backward is called once on each.",
    lesson="What accumulates must be cleared, all of it, or built anew.",
    faulty=lambda: Graph(cleared=False),
    sound=lambda: Graph(cleared=True),
    judge=lambda build, **asked: regression_judged(build(), **asked),
    train=lambda build: descend(
        build(), {"W": np.zeros(3)}, [(random(6, 3), np.tanh(random(6, 3) @ random(3, seed=4)))] * 60, 0.1
    ),
    check=one_pass,
    checked="compares with differences, after one pass",
)

# ---------------------------------------------------------------------------------- mean-of-means

SIZES = np.array([1, 2, 4])  # of the micro-batches, in examples


def by_micro_batches(weight):
    """The gradient of the mean loss from three micro-batches; `weight(n, m)` is what an example gets in one of n."""

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
    title="Gradient accumulation takes the mean of micro-batches' means",
    op="bookkeeping",
    source="huggingface/transformers #34191",
    wrong="g = mean over micro-batches of (sum of their gradients / their size)",
    right="g = sum of all gradients / number of all examples (there: tokens)",
    unseen="Micro-batches of one size hide it. Texts differ in length, and so micro-batches do in tokens.",
    lesson="A mean of means is no mean. Test accumulation with unequal parts.",
    faulty=by_micro_batches(lambda n, m: 1 / (3 * n)),
    sound=by_micro_batches(lambda n, m: 1 / m),
    judge=by_gradients(cross_entropy, *SITUATION),
    train=train_uneven,
    check=equal_sizes_match,
    checked="compares with the whole batch, for micro-batches of one size",
)

EXHIBITS = {
    "dropout-without-mask": DROPOUT,
    "gradient-cut": GRADIENT_CUT,
    "returns-input": RETURNS_INPUT,
    "first-use-only": FIRST_USE,
    "never-cleared": NEVER_CLEARED,
    "mean-of-means": MEAN_OF_MEANS,
}
