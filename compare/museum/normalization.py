"""Layer and batch normalization: x affects the output in three ways: directly, by the mean and by the deviation."""

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
    """A backward pass with dx = `dx(dnormalized, normalized, scale)`. The gradients of weight and bias are right."""

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
    """A backward pass with a flag for its mode. In inference mode the statistics are constants."""

    def backward(dy, cache, training=True):
        return (in_training if training else CONSTANTS)(dy, cache)

    return backward


def in_inference_mode(version):
    """The project's check: it did not pass the flag for training mode."""
    x, dy, weight = random(5, 4), random(5, 4, seed=1), random(4)
    normalized, scale = x - 0.1, np.full((1, 4), 0.8)

    def value(moved):
        return np.sum(dy * (moved - 0.1) * scale * weight)

    return np.allclose(
        version(dy, (normalized * scale, scale, weight), training=False)[0], differences(value, x), atol=1e-6
    )


CONSTANT_STATISTICS = Exhibit(
    title="Batch norm's backward pass treats mean and variance as constants",
    op="batch norm",
    source="facebookresearch/CrypTen, pull request 143",
    wrong="dx = scale * dn,  n = (x - mean) * scale,  dn = dy * weight",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="The test did not pass on the flag for training mode. It ran in inference mode, where mean and variance are "
    "constants.",
    lesson="Make sure that a test of a mode really runs in that mode: it should fail if the flag is ignored.",
    faulty=in_either_mode(CONSTANTS),
    sound=in_either_mode(BATCH_NORM),
    judge=batch_norm_judged,
    train=train_batch_norm,
    check=in_inference_mode,
    checked="compares with finite differences, in inference mode",
)

# ------------------------------------------------------------------------------- batch-norm-mean-summed


def only_parameters_match(version):
    """Compares the gradients of weight and bias only. There is no layer before this one, so that dx is not used."""
    situation = (random(5, 4), random(4), random(4, seed=1))
    return passes(version, batch_norm, situation, cotangent=random(5, 4, seed=1), which=(1, 2))


MEAN_SUMMED = Exhibit(
    title="Batch norm's backward pass sums over the batch where it should average",
    op="batch norm",
    source="mlpack/mlpack #1923, pull request 1930; the formula as in pull request 1327",
    wrong="dx = scale * (dn - sum(dn) - n * mean(dn * n))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="In the network of the numerical check, this was the first layer. The check compares the gradients of "
    "parameters, and none of them depended on dx.",
    lesson="The gradient of a layer's input affects only the layers before it. Put a layer with parameters there.",
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
    """The project's check, with an absolute tolerance of 0.5 for gradients of size 1."""
    x, dy = random(8, 256), random(8, 256, seed=1)
    cache = layer_norm(x, np.ones(256), np.zeros(256))[1]
    return np.allclose(version(dy, cache)[0], LAYER_NORM(dy, cache)[0], rtol=0, atol=0.5)


MEAN_TWICE = Exhibit(
    title="Layer norm subtracts the mean of its gradient twice",
    op="layer norm",
    source="tenstorrent/tt-metal #53204, pull request 53215",
    wrong="dx = scale * (dn - 2 * mean(dn) - n * mean(dn * n))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="An accumulator was not cleared between two uses. The test allowed an error of 0.5 in gradients of size 1. "
    "Training does not show it either: both curves below coincide. The extra term is the same for all features of an "
    "example. It moves all outputs of the layer before by the same amount, and the norm subtracts that again.",
    lesson="A tolerance is a claim about the size of rounding errors. Measure it; a guess may be larger than the bug.",
    faulty=norm_backward(
        lambda g, n, scale: scale * (g - 2 * g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True)), -1
    ),
    sound=LAYER_NORM,
    judge=layer_norm_judged,
    train=train_layer_norm,
    check=within_a_half,
    checked="compares dx with a reference, with an absolute tolerance of 0.5",
)

# -------------------------------------------------------------------------- layer-norm-constant-deviation

CONSTANT_DEVIATION = Exhibit(
    title="Layer norm's backward pass treats the deviation as a constant",
    op="layer norm",
    source="MLSysBook/TinyTorch, commit 02364f8",
    wrong="dx = scale * (dn - mean(dn))",
    right="dx = scale * (dn - mean(dn) - n * mean(dn * n))",
    unseen="The tests only asserted that a gradient exists.",
    lesson="A test that a gradient exists does not test its value.",
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
    """A backward pass that averages over `axes(dy)` and also returns the gradient of the mean."""

    def backward(dy, cache):
        n, scale, weight = cache
        axis, rows = axes(dy), tuple(range(dy.ndim - 1))
        g = scale * dy * weight
        mean = np.broadcast_to(g.mean(axis, keepdims=True), (*dy.shape[:-1], 1))
        slope = (g * n).mean(axis, keepdims=True)
        return g - mean - n * slope, np.sum(dy * n, axis=rows), dy.sum(axis=rows), {"mean": -dy.shape[-1] * mean}

    return backward


ROWS_OF_A_BATCH = Exhibit(
    title="Layer norm treats all axes after the first as one row",
    op="layer norm",
    source="flagos-ai/FlagGems #5392",
    wrong="rows = x.shape[0];  columns = x.size // rows",
    right="columns = weight.size;  rows = x.size // columns",
    unseen="For x with two axes, both versions are the same, and all tests had two axes. In a transformer x has three. "
    "(The project's kernel also wrote beyond its buffers. The version here only computes the wrong means.)",
    lesson="Compute the sizes in the backward pass from the same arrays as in the forward pass. Test every number of "
    "axes that the function accepts.",
    faulty=by_rows(lambda dy: tuple(range(1, dy.ndim))),
    sound=by_rows(lambda dy: (dy.ndim - 1,)),
    judge=by_vjp(layer_norm, norm_in_jax(-1), random(2, 3, 4), random(4), random(4, seed=1)),
    train=trainer(layer_norm, shape=(4, 8), weights=(np.ones(8), np.zeros(8)), rate=0.2),
    check=lambda version: passes(
        version, layer_norm, (random(5, 4), random(4), random(4, seed=1)), cotangent=random(5, 4, seed=1)
    ),
    checked="compares with finite differences, for x with two axes",
)

# --------------------------------------------------------------------------------- layer-norm-overwrites

MICRO_BATCHES = np.stack([random(5, 4), random(5, 4, seed=1)])


def two_micro_batches(accumulate):
    """The gradients of weight and bias, each accumulated in a buffer over two micro-batches."""

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
    """Fit the weight and bias of a norm to those of another norm, with two micro-batches in each step."""
    target = layer_norm(MICRO_BATCHES, 1 + random(4), random(4, seed=1))[0]
    parameters, losses = {"weight": np.ones(4), "bias": np.zeros(4)}, []
    for _ in range(steps):
        error = layer_norm(MICRO_BATCHES, *parameters.values())[0] - target
        _, gradients, _ = version(parameters, MICRO_BATCHES, error / 10)
        parameters = {name: value - 0.2 * gradients[name] for name, value in parameters.items()}
        losses.append(np.mean(error**2))
    return losses


def within_two_hundredths(version):
    """The project's check: one micro-batch, into cleared buffers."""
    x, dy, parameters = MICRO_BATCHES[:1], random(1, 5, 4, seed=2), {"weight": random(4), "bias": random(4, seed=1)}
    _, found, _ = version(parameters, x, dy)
    _, *right = LAYER_NORM(dy[0], layer_norm(x[0], *parameters.values())[1])
    return all(np.allclose(g, r, rtol=0, atol=2e-2) for g, r in zip(found.values(), right, strict=True))


OVERWRITES = Exhibit(
    title="Layer norm's backward pass overwrites gradients that it should accumulate",
    op="layer norm",
    source="karpathy/llm.c, pull request 408",
    wrong="dweight[...] = sum(dy * n)",
    right="dweight[...] += sum(dy * n)",
    unseen="After one backward pass into cleared buffers, both versions have the same result. They differ only after "
    "the next pass.",
    lesson="Test the accumulation of gradients with two backward passes.",
    faulty=two_micro_batches(overwrite),
    sound=two_micro_batches(add),
    judge=by_gradients(
        normed_loss, {"weight": random(4), "bias": random(4, seed=1)}, MICRO_BATCHES, random(2, 5, 4, seed=2)
    ),
    train=train_accumulated,
    check=within_two_hundredths,
    checked="compares gradients after one backward pass with a reference, with an absolute tolerance of 2e-2",
)

EXHIBITS = {
    "batch-norm-constants": CONSTANT_STATISTICS,
    "batch-norm-summed": MEAN_SUMMED,
    "layer-norm-mean-twice": MEAN_TWICE,
    "layer-norm-constant-deviation": CONSTANT_DEVIATION,
    "layer-norm-rows": ROWS_OF_A_BATCH,
    "layer-norm-overwrites": OVERWRITES,
}
