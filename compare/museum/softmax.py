"""Softmax, losses and activations: derivatives that are right only together with one particular other function."""

import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import tap
from compare.museum.exhibit import Exhibit, by_gradients, by_vjp
from compare.museum.workshop import (
    SITUATION,
    cross_entropy,
    descend,
    descended,
    digits,
    log_softmax,
    network,
    network_parameters,
    one_hot,
    passes,
    random,
    softmax,
    train_network,
    trainer,
)

Z = random(4, 3)


# ---------------------------------------------------------------------------------- softmax-diagonal


def forward(z):
    p = softmax(z)
    return p, p


def softmax_in_jax(z):
    e = jnp.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sound_softmax(dp, p):
    return p * (dp - np.sum(p * dp, axis=-1, keepdims=True))


def accuracy_rises_behind_its_cross_entropy(version):
    """Trains with the project's cross-entropy, which also has a term for the classes that are not the target."""
    (x, y), W, right = digits(), np.zeros((64, 10)), []
    for _ in range(80):
        p = softmax(x @ W)
        right.append(np.mean(p.argmax(axis=1) == y.argmax(axis=1)))
        W = W - 0.3 * x.T @ version((-y / p + (1 - y) / (1 - p)) / len(x), p)
    return right[-1] > right[0] + 0.5


judged = by_vjp(forward, softmax_in_jax, Z)
trained = trainer(forward, shape=(16,), rate=3.0)

DIAGONAL = Exhibit(
    title="Softmax's derivative is p (1 - p), as if each output depended on one input only",
    op="softmax",
    source="eriklindernoren/ML-From-Scratch #71, pull request 125",
    wrong="dz = dp * p * (1 - p)",
    right="dz = p * (dp - sum(p * dp))",
    unseen="The project's cross-entropy has the gradient -y/p + (1-y)/(1-p). Multiplied by p (1 - p), this is p - y: "
    "the two errors cancel exactly. With a squared loss they do not.",
    lesson="Check each backward pass by itself with a random output gradient, and not only in the combination that is "
    "used.",
    faulty=lambda dp, p: dp * p * (1 - p),
    sound=sound_softmax,
    judge=judged,
    train=trained,
    check=accuracy_rises_behind_its_cross_entropy,
    checked="trains with that cross-entropy, and tests that the accuracy rises",
    typical=True,
)

COPIED = Exhibit(
    title="Softmax's backward pass returns a copy of its output gradient",
    op="softmax",
    source="pjreddie/darknet, pull request 96",
    wrong="dz = dp",
    right="dz = p * (dp - sum(p * dp))",
    unseen="The copy is right after a loss whose backward pass already returns p - y, the gradient of softmax and "
    "cross-entropy together. With any other loss it is wrong.",
    lesson="If two operations are differentiated together, the result belongs to the pair. Do not use it for one of "
    "them.",
    faulty=lambda dp, p: dp.copy(),
    sound=sound_softmax,
    judge=judged,
    train=trained,
)

# ------------------------------------------------------------------------------------ log-softmax


def log_softmax_forward(z):
    y = log_softmax(z)
    return y, y


def log_softmax_in_jax(z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - tap("normalizer", jnp.log(jnp.exp(shifted).sum(axis=-1, keepdims=True)))


def one_for_every_row(dy, y):
    dnormalizer = np.ones((len(y), 1))
    return dy + np.exp(y) * dnormalizer, {"normalizer": dnormalizer}


def sound_log_softmax(dy, y):
    dnormalizer = -dy.sum(axis=-1, keepdims=True)
    return dy + np.exp(y) * dnormalizer, {"normalizer": dnormalizer}


def right_where_the_input_is_the_output(version):
    """The project's check. It passes scores z where the log-softmax is expected, and an output gradient of sum -1."""
    z, dy = np.array([[0.5, 0.5]]), np.array([[0.0, -1.0]])
    return np.allclose(version(dy, z)[0], [[1.6487, 0.6487]], atol=1e-3)


def train_likelihood(version, steps=80):
    """Classify digits by the negative log-likelihood. Even digits have half the weight of odd ones."""
    weights = np.where(np.arange(10) % 2, 1.0, 0.5)

    def loss_and_gradients(p, x, y):
        value, cache = log_softmax_forward(x @ p["W"])
        return -np.sum(weights * y * value) / len(x), {"W": x.T @ version(-weights * y, cache)[0]}

    return descend(loss_and_gradients, {"W": np.zeros((64, 10))}, [digits()] * steps, 0.005)


LOG_SOFTMAX = Exhibit(
    title="Log-softmax's derivative is right only if the output gradient sums to -1",
    op="softmax",
    source="mlpack/mlpack #2360, #3468 and #3470",
    wrong="dz = dy + exp(y)",
    right="dz = dy - exp(y) * sum(dy)",
    unseen="The gradient of the negative log-likelihood does sum to -1, and no other loss was tested. The test also "
    "passed the input to the backward pass where the output is expected. The numbers that it expects are copied from "
    "the code's own result. The Jacobian test made the same mistake, and would have rejected right code.",
    lesson="A test must call the code in the same way as its users do. Expected values must not come from the code "
    "that is tested.",
    faulty=one_for_every_row,
    sound=sound_log_softmax,
    judge=by_vjp(log_softmax_forward, log_softmax_in_jax, Z),
    train=train_likelihood,
    check=right_where_the_input_is_the_output,
    checked="passes the input where the output is expected, and an output gradient that sums to -1",
)

# ----------------------------------------------------------------------------------- one-weight-for-all


def token_losses(z, targets):
    y = log_softmax(z)
    return -y[np.arange(len(z)), targets], (np.exp(y), targets)


def token_losses_in_jax(z, targets):
    y = log_softmax_in_jax(z)
    return -y[jnp.arange(len(z)), targets]


def first_for_all(dlosses, cache):
    p, targets = cache
    return dlosses[0] * (p - one_hot(targets, p.shape[1]))


def sound_token_losses(dlosses, cache):
    p, targets = cache
    return dlosses[:, None] * (p - one_hot(targets, p.shape[1]))


def train_weighted(version, steps=80):
    """Classify digits. Even digits have half the weight of odd ones, and an odd one comes first."""
    weights = np.where(np.arange(10) % 2, 1.0, 0.5)

    def loss_and_gradients(p, x, y):
        order = np.argsort(-(y @ weights), kind="stable")
        x, y = x[order], y[order]
        targets, weight = y.argmax(axis=1), y @ weights
        losses, cache = token_losses(x @ p["W"], targets)
        dz = version(weight / weight.sum(), cache)
        return np.sum(weight * losses) / weight.sum(), {"W": x.T @ dz}

    return descend(loss_and_gradients, {"W": np.zeros((64, 10))}, [digits()] * steps, 1.0)


FIRST_WEIGHT = Exhibit(
    title="Every token's gradient is multiplied by the weight of the first token",
    op="loss",
    source="linkedin/Liger-Kernel #968, pull request 1298",
    wrong="dz = dlosses[0] * (p - y)",
    right="dz = dlosses[:, None] * (p - y)",
    unseen="If all tokens have the same weight, as in a mean or a sum, the result is right.",
    lesson="An output gradient whose entries are all equal, such as ones, hides mistakes in indices. Use random "
    "entries.",
    faulty=first_for_all,
    sound=sound_token_losses,
    judge=by_vjp(token_losses, token_losses_in_jax, random(5, 3), np.array([0, 2, 1, 1, 0])),
    train=train_weighted,
    check=lambda version: passes(version, token_losses, (random(5, 3), np.array([0, 2, 1, 1, 0]))),
    checked="compares with finite differences, for an output gradient of ones",
)

# --------------------------------------------------------------------------------------- gelu-mixed


def gelu(x):
    """x sigmoid(1.702 x), an approximation of x times the distribution function of the standard normal."""
    return x / (1 + np.exp(-1.702 * x)), x


def gelu_in_jax(x):
    u = tap("u", x)
    return u / (1 + jnp.exp(-1.702 * u))


def of_the_other_form(dy, x):
    root = np.sqrt(2 / np.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))
    return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * root * (1 + 3 * 0.044715 * x**2))


def sound_gelu(dy, x):
    s = 1 / (1 + np.exp(-1.702 * x))
    return dy * (s + 1.702 * x * s * (1 - s))


GELU_MIXED = Exhibit(
    title="GELU's forward pass uses one approximation, and its backward pass another",
    op="activation",
    source="MLSysBook/TinyTorch, commit 02364f8",
    wrong="y = x * sigmoid(1.702 * x);  dx = dy * (derivative of the tanh form)",
    right="y = x * sigmoid(1.702 * x);  dx = dy * (s + 1.702 * x * s * (1 - s)),  s = sigmoid(1.702 * x)",
    unseen="Both approximate the same function, to within a few percent. The tests only asserted that a gradient "
    "exists.",
    lesson="The gradient must be that of the function that the forward pass computes, and not that of a similar "
    "function.",
    faulty=of_the_other_form,
    sound=sound_gelu,
    judge=by_vjp(gelu, gelu_in_jax, 2 * random(4, 5)),
    train=trainer(gelu),
    check=lambda version: version(np.ones((4, 5)), random(4, 5)) is not None,
    checked="asserts that the gradient is not None",
)

# --------------------------------------------------------------------------------------- lost-minus


def accuracy_rises(version):
    (x, y), start = digits(), network_parameters(64, 16, 10, scale=0.15)

    def accuracy(p):
        scores = np.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        return np.mean(scores.argmax(axis=1) == y.argmax(axis=1))

    return accuracy(descended(version, start, [(x, y)] * 80, 0.5)[0]) > accuracy(start) + 0.3


LOST_MINUS = Exhibit(
    title="The loss lacks its minus sign, but the gradients do not",
    op="loss",
    source="the notebook that this project began with: docs/notebook.md, row minus-sign",
    wrong="J = sum(y * log(P)) / m;   dZ2 = (P - y) / m",
    right="J = -sum(y * log(P)) / m;  dZ2 = (P - y) / m",
    unseen="The gradients are those of the right loss, so that the network learns. Only the printed loss rises.",
    lesson="Gradient descent does not use the value of the loss. Look at it yourself, or have it checked.",
    faulty=network(J=lambda v: np.sum(v.y * log_softmax(v.Z2)) / v.m),
    sound=network(),
    judge=by_gradients(cross_entropy, *SITUATION),
    train=train_network,
    check=accuracy_rises,
    checked="trains, and tests that the accuracy rises",
    typical=True,
)

EXHIBITS = {
    "softmax-diagonal": DIAGONAL,
    "softmax-copied": COPIED,
    "log-softmax": LOG_SOFTMAX,
    "first-weight-for-all": FIRST_WEIGHT,
    "gelu-mixed": GELU_MIXED,
    "lost-minus": LOST_MINUS,
}
