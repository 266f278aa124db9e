"""Sums and averages over the batch, the most common source of wrong gradients with which a network still trains."""

import numpy as np

from compare.museum.exhibit import Exhibit, by_gradients, by_steps, by_vjp
from compare.museum.workshop import (
    RATE,
    SITUATION,
    SQUARED,
    cross_entropy,
    descent_in_jax,
    differences,
    loss_falls,
    network,
    passes,
    random,
    softmax,
    squared_error,
    train_network,
    train_steps,
    trainer,
)

PARAMETERS, X, Y = SITUATION
judged = by_gradients(cross_entropy, PARAMETERS, X, Y)
judged_squared = by_gradients(squared_error, PARAMETERS, X, Y)
SOUND = network()


# bias-mean


def first_weights_match(version):
    """Compares only the gradient of W1 with finite differences of the loss."""
    loss, gradients, _ = version(PARAMETERS, X, Y)
    right = differences(lambda W1: version(PARAMETERS | {"W1": W1}, X, Y)[0], PARAMETERS["W1"])
    return np.isfinite(loss) and np.allclose(gradients["W1"], right, atol=1e-7)


BIAS_MEAN = Exhibit(
    title="The bias's gradient is a mean over the batch",
    op="dense",
    source="kvfrans/notes #5",
    wrong="db1 = dZ1.mean(axis=0)",
    right="db1 = dZ1.sum(axis=0)    # 1/m is in dZ already",
    unseen="The comparison prints that the gradients match, but it compares the gradient of W1 only.",
    lesson="Compare the gradients of all parameters. A bias whose gradient is m times too small still learns.",
    faulty=network(db1=lambda v: v.dZ1.mean(axis=0)),
    sound=SOUND,
    judge=judged,
    train=train_network,
    check=first_weights_match,
    checked="compares the gradient of W1 with a reference, and no other gradient",
)

# ------------------------------------------------------------- averaged-loss-summed-gradient


def train_tuned(version):
    """Ten examples, with a learning rate that suits a gradient ten times too large."""
    return train_network(version, rate=0.1, examples=10)


LOSS_AVERAGED = Exhibit(
    title="The loss is averaged over the examples, its gradient is not",
    op="loss",
    source="dennybritz/nn-from-scratch #13",
    wrong="J = sum(losses) / m;  dZ2 = P - y",
    right="J = sum(losses) / m;  dZ2 = (P - y) / m",
    unseen="Gradients that are m times too large have the same effect as a learning rate that is m times too large, "
    "and the learning rate had been tuned.",
    lesson="A wrong constant factor looks like another learning rate, until the batch size changes.",
    faulty=network(dZ2=lambda v: softmax(v.Z2) - v.y),
    sound=SOUND,
    judge=judged,
    train=train_tuned,
    check=loss_falls(train_tuned),
    checked="trains, and tests that the loss falls",
)

# ----------------------------------------------------------------------------- mse-without-its-two

MSE_WITHOUT_TWO = Exhibit(
    title="The derivative of the squared error lacks its factor 2",
    op="loss",
    source="Deep-ML, DML-OpenProblem #54",
    wrong="J = mean(r**2);  dr = r / n",
    right="J = mean(r**2);  dr = 2 * r / n",
    unseen="Half of the gradient points in the same direction. Training is slower, and nothing else changes.",
    lesson="To avoid the factor 2, put 1/2 into the loss. Loss and gradient must fit together.",
    faulty=network(**SQUARED | {"dZ2": lambda v: (v.Z2 - v.y) / (v.m * v.k)}),
    sound=network(**SQUARED),
    judge=judged_squared,
    train=lambda version: train_network(version, rate=2.0),
)

# ----------------------------------------------------------------------------------- averaged-twice


def descent(*, divided_again):
    def step(p, x, y):
        gradients = SOUND(p, x, y)[1]
        return {name: p[name] - RATE * g / (len(x) if divided_again else 1) for name, g in gradients.items()}

    return step


def train_ten(step):
    """Training on ten examples, for which the bug is a factor of ten."""
    return train_steps(step, examples=10)


AVERAGED_TWICE = Exhibit(
    title="The gradient is divided by the batch size twice, by the mean loss and by the optimizer",
    op="loss",
    source="d2l-ai/d2l-en, pull request 1000",
    wrong="J = mean(losses);  W -= rate * dW / m",
    right="J = mean(losses);  W -= rate * dW",
    unseen="The loss still falls, but m times more slowly. Larger batches seem to learn worse.",
    lesson="Put the factor 1/m in one place only. Here that place is the loss.",
    faulty=descent(divided_again=True),
    sound=descent(divided_again=False),
    judge=by_steps(descent_in_jax, PARAMETERS, [(X, Y)] * 3),
    train=train_ten,
    check=loss_falls(train_ten),
    checked="trains, and tests that the loss falls",
)

# ------------------------------------------------------------------------------ one-bias-for-all

ONE_BIAS_FOR_ALL = Exhibit(
    title="All biases of a layer get the same gradient, one number",
    op="dense",
    source="rasbt/stat453 #5",
    wrong="db1 = np.sum(dZ1)    # a scalar, broadcast by the update",
    right="db1 = np.sum(dZ1, axis=0)",
    unseen="In the update b1 - rate * db1, NumPy broadcasts the number. The shape of b1 stays right, and all its "
    "entries move by the same amount.",
    lesson="Broadcasting hides a missing axis. Assert that every gradient has the shape of its parameter.",
    faulty=network(db1=lambda v: np.broadcast_to(np.sum(v.dZ1), v.b1.shape)),
    sound=SOUND,
    judge=judged,
    train=train_network,
)

# ------------------------------------------------------------------------------ bias-from-weights

BIAS_FROM_WEIGHTS = Exhibit(
    title="The bias's gradient is a sum over the weight's gradient",
    op="dense",
    source="Natural Language Processing Specialization, course 2, week 4 (rust0258 #62 and #64)",
    wrong="db1 = (x.T @ dZ1).sum(axis=0)",
    right="db1 = dZ1.sum(axis=0)",
    unseen="The shape is right. The values are right as well if every row of x sums to 1, as averages of one-hot "
    "vectors do.",
    lesson="A right shape is no evidence for right values. Do not test with inputs that sum to 1, because they hide a "
    "factor.",
    faulty=network(db1=lambda v: (v.x.T @ v.dZ1).sum(axis=0)),
    sound=SOUND,
    judge=judged,
    train=train_network,
)

# ------------------------------------------------------------------------------ bias-of-one-example


def dense(x, weight, bias):
    return x @ weight + bias, (x, weight)


def sound_dense(dy, cache):
    x, weight = cache
    return dy @ weight.T, x.T @ dy, dy.sum(axis=0, keepdims=True)


def unsummed_bias(dy, cache):
    x, weight = cache
    return dy @ weight.T, x.T @ dy, dy


BIAS_UNSUMMED = Exhibit(
    title="The bias's gradient is not summed over the batch",
    op="dense",
    source="mlpack/mlpack, pull request 3679",
    wrong="dbias = dy",
    right="dbias = dy.sum(axis=0, keepdims=True)    # bias: (1, outputs)",
    unseen="All tests used a batch of one example, for which dy equals its sum. In NumPy the update does not even "
    "fail: it broadcasts, and every example gets a bias of its own.",
    lesson="Check with at least two examples. Choose a batch size that is different from all other sizes.",
    faulty=unsummed_bias,
    sound=sound_dense,
    judge=by_vjp(dense, lambda x, weight, bias: x @ weight + bias, random(7, 5), random(5, 4), random(1, 4)),
    train=trainer(dense, weights=(0.3 * random(16, 12), np.zeros((1, 12)))),
    check=lambda version: passes(version, dense, (random(1, 5), random(5, 4), random(1, 4))),
    checked="compares with finite differences, for a batch of one example",
)

# ---------------------------------------------------------------------------------- k-outputs


def perceptron(delta):
    """Two classifiers and a regressor that share the line `delta(output, v, averaged)` for the error of the output.

    The last argument is the number of outputs that the loss averages over: all of them for the regressor, 1 for a
    classifier.
    """

    def sigmoid(v):
        return 1 / (1 + np.exp(-v.Z2))

    return {
        "two labels": network(
            J=lambda v: -np.sum(v.y * np.log(sigmoid(v)) + (1 - v.y) * np.log(1 - sigmoid(v))) / v.m,
            dZ2=lambda v: delta(sigmoid(v), v, 1),
        ),
        "three labels": network(dZ2=lambda v: delta(softmax(v.Z2), v, 1)),
        "regressor": network(J=lambda v: np.mean((v.Z2 - v.y) ** 2) / 2, dZ2=lambda v: delta(v.Z2, v, v.k)),
    }


def half_squared_error(parameters, x, y):
    return squared_error(parameters, x, y) / 2


regressor_judged = by_gradients(half_squared_error, PARAMETERS, X, Y)


def classifiers_match(version):
    """Compares all gradients of classifiers with finite differences, for two labels (one output) and for three."""

    def matches(kind, outputs):
        p = PARAMETERS | {"W2": PARAMETERS["W2"][:, :outputs], "b2": PARAMETERS["b2"][:outputs]}
        y = Y[:, :outputs]

        def right(name):
            return differences(lambda moved: version[kind](p | {name: moved}, X, y)[0], p[name])

        return all(np.allclose(g, right(name), atol=1e-7) for name, g in version[kind](p, X, y)[1].items())

    return matches("two labels", 1) and matches("three labels", 3)


K_OUTPUTS = Exhibit(
    title="With k outputs, the gradient is k times too large",
    op="loss",
    source="scikit-learn/scikit-learn, issue 8349: MLPRegressor",
    wrong="dZ2 = (A2 - y) / m         # for every loss",
    right="dZ2 = (A2 - y) / (m * k)   # for a squared error averaged over k outputs",
    unseen="One line computes the error for every loss. The gradient test has classifiers with two and with three "
    "labels, whose loss is a sum over the outputs, but no regressor. The direction of the gradient is right, and a "
    "line search makes up for its length.",
    lesson="np.mean averages over all axes. State which axes a loss averages over, and check every loss that shares a "
    "line.",
    faulty=perceptron(lambda output, v, averaged: (output - v.y) / v.m),
    sound=perceptron(lambda output, v, averaged: (output - v.y) / (v.m * averaged)),
    judge=lambda version, **extra: regressor_judged(version["regressor"], **extra),
    train=lambda version: train_network(version["regressor"], rate=0.4),
    check=classifiers_match,
    checked="compares all gradients of classifiers with finite differences, for two and for three labels",
)


EXHIBITS = {
    "bias-mean": BIAS_MEAN,
    "loss-averaged-alone": LOSS_AVERAGED,
    "mse-without-its-two": MSE_WITHOUT_TWO,
    "averaged-twice": AVERAGED_TWICE,
    "one-bias-for-all": ONE_BIAS_FOR_ALL,
    "bias-from-weights": BIAS_FROM_WEIGHTS,
    "bias-unsummed": BIAS_UNSUMMED,
    "k-outputs": K_OUTPUTS,
}
