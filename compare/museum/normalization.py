"""Layer and batch normalization: x reaches the output three times, by itself, by the mean and by the deviation."""

import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import tap
from compare.museum.exhibit import Exhibit, by_gradients, by_vjp
from compare.museum.workshop import differences, passes, random, trainer

EPSILON = 1e-5


def norm_in_jax(axis):
    """y = (x - mean) / deviation * weight + bias, with mean and variance over `axis`."""

    def function(x, weight, bias):
        mean = tap("mean", x.mean(axis=axis, keepdims=True))
        centered = x - mean
        variance = tap("variance", jnp.mean(centered**2, axis=axis, keepdims=True))
        return centered / jnp.sqrt(variance + EPSILON) * weight + bias

    return function


def norm(axis):
    def forward(x, weight, bias):
        centered = x - x.mean(axis=axis, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centered**2, axis=axis, keepdims=True) + EPSILON)
        return centered * scale * weight + bias, (centered * scale, scale, weight)

    return forward


def norm_backward(dx, axis):
    """A backward whose dx is `dx(dnormalized, normalized, scale)`; weight and bias are never what is wrong."""

    def backward(dy, cache):
        normalized, scale, weight = cache
        rows = tuple(range(dy.ndim - 1))
        return dx(dy * weight, normalized, scale), np.sum(dy * normalized, axis=rows), dy.sum(axis=rows)

    return backward


def sound_dx(axis):
    def dx(g, n, scale):
        return scale * (g - g.mean(axis, keepdims=True) - n * (g * n).mean(axis, keepdims=True))

    return dx


layer_norm, batch_norm = norm(-1), norm(0)
LAYER_NORM, BATCH_NORM = norm_backward(sound_dx(-1), -1), norm_backward(sound_dx(0), 0)
layer_norm_judged = by_vjp(layer_norm, norm_in_jax(-1), random(5, 4), random(4), random(4, seed=1))
batch_norm_judged = by_vjp(batch_norm, norm_in_jax(0), random(5, 4), random(4), random(4, seed=1))
GAINS = (np.ones(16), np.zeros(16))
train_layer_norm = trainer(layer_norm, weights=GAINS, rate=0.2)
train_batch_norm = trainer(batch_norm, weights=GAINS, rate=0.2)


# ---------------------------------------------------------------------- batch-norm-constant-statistics

CONSTANTS = norm_backward(lambda g, n, scale: scale * g, 0)


def in_either_mode(in_training):
    """In inference mode the statistics are constants of the forward pass, and backward knows that it is in it."""

    def backward(dy, cache, training=True):
        return (in_training if training else CONSTANTS)(dy, cache)

    return backward


def in_inference_mode(version):
    """The check forgot to say that it is training."""
    x, dy, weight = random(5, 4), random(5, 4, seed=1), random(4)
    normalized, scale = x - 0.1, np.full((1, 4), 0.8)

    def value(moved):
        return np.sum(dy * (moved - 0.1) * scale * weight)

    return np.allclose(
        version(dy, (normalized * scale, scale, weight), training=False)[0], differences(value, x), atol=1e-6
    )


CONSTANT_STATISTICS = Exhibit(
    title="Batch norm's mean and variance are taken for constants",
    op="batch norm",
    source="facebookresearch/CrypTen, pull request 143",
    wrong="dx = scale * dn,  n = (x - mean) * scale,  dn = dy * weight",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="The test did not pass on that it was training, and in inference mode they are constants.",
    lesson="A test of a mode has to be in it. Ask what a test would have done had its flag been ignored.",
    faulty=in_either_mode(CONSTANTS),
    sound=in_either_mode(BATCH_NORM),
    judge=batch_norm_judged,
    train=train_batch_norm,
    check=in_inference_mode,
    checked="compares with differences, in inference mode",
)

# ------------------------------------------------------------------------------- batch-norm-mean-summed


def only_parameters_match(version):
    """With no layer before it, dx goes nowhere: the numerical check sees the gradients of weight and bias."""
    situation = (random(5, 4), random(4), random(4, seed=1))
    return passes(version, batch_norm, situation, cotangent=random(5, 4, seed=1), which=(1, 2))


MEAN_SUMMED = Exhibit(
    title="Batch norm sums over the batch where it should average",
    op="batch norm",
    source="mlpack/mlpack #1923, pull request 1930; the formula as in pull request 1327",
    wrong="dx = scale * (dn - sum(dn) - n * mean(dn * n))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="The numerical check had the layer first in its network. It compares the gradients of parameters, and there "
    "was none before the layer whose gradient needed dx.",
    lesson="A layer's input gradient is seen by what comes before it only. Put something there.",
    faulty=norm_backward(
        lambda g, n, scale: scale * (g - g.sum(0, keepdims=True) - n * (g * n).mean(0, keepdims=True)), 0
    ),
    sound=BATCH_NORM,
    judge=batch_norm_judged,
    train=trainer(batch_norm, weights=GAINS, rate=0.02),
    check=only_parameters_match,
    checked="compares the gradients of all parameters, with no layer before this one",
)

# ------------------------------------------------------------------------------- layer-norm-mean-twice


def within_a_half(version):
    """Absolute tolerance 0.5, for gradients of size 1."""
    x, dy = random(8, 256), random(8, 256, seed=1)
    cache = layer_norm(x, np.ones(256), np.zeros(256))[1]
    return np.allclose(version(dy, cache)[0], LAYER_NORM(dy, cache)[0], rtol=0, atol=0.5)


MEAN_TWICE = Exhibit(
    title="Layer norm subtracts the mean of its gradient twice",
    op="layer norm",
    source="tenstorrent/tt-metal #53204, pull request 53215",
    wrong="dx = scale * (dn - 2 * mean(dn) - n * mean(dn * n))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="An accumulator was not cleared between two uses. The test allowed an error of 0.5 in gradients of size 1, "
    "and the loss still decreases: here both curves are one. The extra term is the same for all features of an "
    "example; by it the layer before moves them all alike, and that is what a norm takes out.",
    lesson="A tolerance is a claim about rounding. Measure it, or it will hold the bug as well.",
    faulty=norm_backward(
        lambda g, n, scale: scale * (g - 2 * g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True)), -1
    ),
    sound=LAYER_NORM,
    judge=layer_norm_judged,
    train=train_layer_norm,
    check=within_a_half,
    checked="compares dx with a reference, to an absolute 0.5",
)

# -------------------------------------------------------------------------- layer-norm-constant-deviation

CONSTANT_DEVIATION = Exhibit(
    title="Layer norm's deviation is taken for a constant",
    op="layer norm",
    source="MLSysBook/TinyTorch, commit 02364f8",
    wrong="dx = scale * (dn - mean(dn))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="The tests asserted that a gradient exists, and it does.",
    lesson="That a gradient is there says nothing about its value.",
    faulty=norm_backward(lambda g, n, scale: scale * (g - g.mean(-1, keepdims=True)), -1),
    sound=LAYER_NORM,
    judge=layer_norm_judged,
    train=train_layer_norm,
    check=lambda version: all(
        gradient is not None for gradient in version(random(5, 4), layer_norm(random(5, 4), np.ones(4), np.zeros(4))[1])
    ),
    checked="asserts that the gradients are not None",
)

# ------------------------------------------------------------------------------ layer-norm-rows-of-a-batch


def by_rows(axes):
    """A backward that averages over `axes(dy)` and says what it makes of the mean on its way."""

    def backward(dy, cache):
        n, scale, weight = cache
        axis, rows = axes(dy), tuple(range(dy.ndim - 1))
        g = scale * dy * weight
        mean = np.broadcast_to(g.mean(axis, keepdims=True), (*dy.shape[:-1], 1))
        slope = (g * n).mean(axis, keepdims=True)
        return g - mean - n * slope, np.sum(dy * n, axis=rows), dy.sum(axis=rows), {"mean": -dy.shape[-1] * mean}

    return backward


ROWS_OF_A_BATCH = Exhibit(
    title="Layer norm takes everything after the first axis for one row",
    op="layer norm",
    source="flagos-ai/FlagGems #5392",
    wrong="rows = x.shape[0];  columns = x.size // rows",
    right="columns = weight.size;  rows = x.size // columns",
    unseen="For x of rank 2 both are the same, and the tests were of rank 2. Transformers are of rank 3. (The "
    "project's kernel also wrote beyond its buffers; ours has the sums only.)",
    lesson="Derive sizes from what defines them, in backward as in forward; test every rank that is accepted.",
    faulty=by_rows(lambda dy: tuple(range(1, dy.ndim))),
    sound=by_rows(lambda dy: (dy.ndim - 1,)),
    judge=by_vjp(layer_norm, norm_in_jax(-1), random(2, 3, 4), random(4), random(4, seed=1)),
    train=trainer(layer_norm, shape=(4, 8), weights=(np.ones(8), np.zeros(8)), rate=0.2),
    check=lambda version: passes(
        version, layer_norm, (random(5, 4), random(4), random(4, seed=1)), cotangent=random(5, 4, seed=1)
    ),
    checked="compares with differences, for x of rank 2",
)

# --------------------------------------------------------------------------------- layer-norm-overwrites

MICRO_BATCHES = np.stack([random(5, 4), random(5, 4, seed=1)])


def two_micro_batches(accumulate):
    """Gradients of weight and bias over two micro-batches, into one buffer each."""

    def loss_and_gradients(parameters, x, dy):
        weight, bias = parameters["weight"], parameters["bias"]
        buffer, loss = {"weight": np.zeros_like(weight), "bias": np.zeros_like(bias)}, 0.0
        for part, part_dy in zip(x, dy, strict=True):
            y, cache = layer_norm(part, weight, bias)
            loss += np.sum(y * part_dy)
            _, dweight, dbias = LAYER_NORM(part_dy, cache)
            accumulate(buffer["weight"], dweight)
            accumulate(buffer["bias"], dbias)
        return loss, buffer, {"y": dy}

    return loss_and_gradients


def add(buffer, gradient):
    buffer += gradient


def overwrite(buffer, gradient):
    buffer[...] = gradient


def normed_loss(parameters, x, dy):
    return jnp.sum(tap("y", norm_in_jax(-1)(x, parameters["weight"], parameters["bias"])) * dy)


def train_accumulated(version, steps=60):
    """The gain and bias of a norm are fitted to those of another, from two micro-batches at a time."""
    target = layer_norm(MICRO_BATCHES, 1 + random(4), random(4, seed=1))[0]
    parameters, losses = {"weight": np.ones(4), "bias": np.zeros(4)}, []
    for _ in range(steps):
        error = layer_norm(MICRO_BATCHES, *parameters.values())[0] - target
        _, gradients, _ = version(parameters, MICRO_BATCHES, error / 10)
        parameters = {name: value - 0.2 * gradients[name] for name, value in parameters.items()}
        losses.append(np.mean(error**2))
    return losses


def within_two_hundredths(version):
    """One micro-batch, into cleared buffers."""
    x, dy, parameters = MICRO_BATCHES[:1], random(1, 5, 4, seed=2), {"weight": random(4), "bias": random(4, seed=1)}
    _, found, _ = version(parameters, x, dy)
    _, *right = LAYER_NORM(dy[0], layer_norm(x[0], *parameters.values())[1])
    return all(np.allclose(g, r, rtol=0, atol=2e-2) for g, r in zip(found.values(), right, strict=True))


OVERWRITES = Exhibit(
    title="Layer norm's backward overwrites what micro-batches should accumulate",
    op="layer norm",
    source="karpathy/llm.c, pull request 408",
    wrong="dweight[...] = sum(dy * n)",
    right="dweight[...] += sum(dy * n)",
    unseen="One backward pass into cleared buffers gives the same either way; only the next one differs.",
    lesson="Where gradients accumulate, test with two passes.",
    faulty=two_micro_batches(overwrite),
    sound=two_micro_batches(add),
    judge=by_gradients(
        normed_loss, {"weight": random(4), "bias": random(4, seed=1)}, MICRO_BATCHES, random(2, 5, 4, seed=2)
    ),
    train=train_accumulated,
    check=within_two_hundredths,
    checked="compares gradients after one backward pass with a reference, to an absolute 2e-2",
)

EXHIBITS = {
    "batch-norm-constants": CONSTANT_STATISTICS,
    "batch-norm-summed": MEAN_SUMMED,
    "layer-norm-mean-twice": MEAN_TWICE,
    "layer-norm-constant-deviation": CONSTANT_DEVIATION,
    "layer-norm-rows": ROWS_OF_A_BATCH,
    "layer-norm-overwrites": OVERWRITES,
}
