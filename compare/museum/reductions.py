"""Sums and averages over the batch: the commonest place for a gradient to go wrong, and to train on regardless."""

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
    """Compares the gradient of W1 with differences of the loss, and no other."""
    loss, gradients, _ = version(PARAMETERS, X, Y)
    right = differences(lambda W1: version(PARAMETERS | {"W1": W1}, X, Y)[0], PARAMETERS["W1"])
    return np.isfinite(loss) and np.allclose(gradients["W1"], right, atol=1e-7)


BIAS_MEAN = Exhibit(
    title="The bias's gradient is a mean over the batch",
    op="dense",
    source="kvfrans/notes #5",
    wrong="db1 = dZ1.mean(axis=0)",
    right="db1 = dZ1.sum(axis=0)    # 1/m is in dZ already",
    unseen="The comparison prints that the gradients match, after it has compared those of W1 alone.",
    lesson="Compare every parameter. A bias m times too slow still learns.",
    faulty=network(db1=lambda v: v.dZ1.mean(axis=0)),
    sound=SOUND,
    judge=judged,
    train=train_network,
    check=first_weights_match,
    checked="compares the gradient of W1 with a reference, and no other",
)

# ------------------------------------------------------------- averaged-loss-summed-gradient


def train_tuned(version):
    """Ten examples, and a rate that suits a gradient ten times too large."""
    return train_network(version, rate=0.1, examples=10)


LOSS_AVERAGED = Exhibit(
    title="The loss is averaged over the examples, its gradient is not",
    op="loss",
    source="dennybritz/nn-from-scratch #13",
    wrong="J = sum(losses) / m;  dZ2 = P - y",
    right="J = sum(losses) / m;  dZ2 = (P - y) / m",
    unseen="Gradients m times too large are a learning rate m times too large, which somebody had tuned.",
    lesson="A wrong constant factor looks like a learning rate until the batch changes its size.",
    faulty=network(dZ2=lambda v: softmax(v.Z2) - v.y),
    sound=SOUND,
    judge=judged,
    train=train_tuned,
    check=loss_falls(train_tuned),
    checked="trains, and sees the loss fall",
)

# ----------------------------------------------------------------------------- mse-without-its-two

MSE_WITHOUT_TWO = Exhibit(
    title="The squared error's derivative has lost its 2",
    op="loss",
    source="Deep-ML, DML-OpenProblem #54",
    wrong="J = mean(r**2);  dr = r / n",
    right="J = mean(r**2);  dr = 2 * r / n",
    unseen="Half a gradient points where the whole one does: training is slower and nothing else.",
    lesson="If you want no 2, put 1/2 in the loss. Only the pair can be right.",
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
    """Of ten examples: the bug is a factor of ten."""
    return train_steps(step, examples=10)


AVERAGED_TWICE = Exhibit(
    title="Divided by the batch twice: by the mean loss, then by the optimizer",
    op="loss",
    source="d2l-ai/d2l-en, pull request 1000",
    wrong="J = mean(losses);  W -= rate * dW / m",
    right="J = mean(losses);  W -= rate * dW",
    unseen="The loss still falls, m times as slowly, and larger batches seem to learn worse.",
    lesson="1/m belongs in one place. Here it is the loss's.",
    faulty=descent(divided_again=True),
    sound=descent(divided_again=False),
    judge=by_steps(descent_in_jax, PARAMETERS, [(X, Y)] * 3),
    train=train_ten,
    check=loss_falls(train_ten),
    checked="trains, and sees the loss fall",
)

# ------------------------------------------------------------------------------ one-bias-for-all

ONE_BIAS_FOR_ALL = Exhibit(
    title="One number for every bias",
    op="dense",
    source="rasbt/stat453 #5",
    wrong="db1 = np.sum(dZ1)    # a scalar, broadcast by the update",
    right="db1 = np.sum(dZ1, axis=0)",
    unseen="b1 - rate * db1 broadcasts: the shape of b1 stays right, and all its entries move together.",
    lesson="Broadcasting hides missing axes. A gradient has its parameter's shape before it is used.",
    faulty=network(db1=lambda v: np.broadcast_to(np.sum(v.dZ1), v.b1.shape)),
    sound=SOUND,
    judge=judged,
    train=train_network,
)

# ------------------------------------------------------------------------------ bias-from-weights

BIAS_FROM_WEIGHTS = Exhibit(
    title="The bias's gradient is a sum of the weight's",
    op="dense",
    source="Natural Language Processing Specialization, course 2, week 4 (rust0258 #62 and #64)",
    wrong="db1 = (x.T @ dZ1).sum(axis=0)",
    right="db1 = dZ1.sum(axis=0)",
    unseen="The shape is right. Where every row of x sums to 1, as averages of one-hot rows do, so are the numbers.",
    lesson="A right shape is no evidence, and inputs that sum to 1 hide a factor.",
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
    unseen="For one example dy is the sum, and one example was the only size of batch in the tests. In NumPy the "
    "update even broadcasts: every example gets a bias of its own.",
    lesson="Check with at least two examples, and a batch whose size is nothing else's.",
    faulty=unsummed_bias,
    sound=sound_dense,
    judge=by_vjp(dense, lambda x, weight, bias: x @ weight + bias, random(7, 5), random(5, 4), random(1, 4)),
    train=trainer(dense, weights=(0.3 * random(16, 12), np.zeros((1, 12)))),
    check=lambda version: passes(version, dense, (random(1, 5), random(5, 4), random(1, 4))),
    checked="compares with differences, for a batch of one example",
)

# ---------------------------------------------------------------------------------- k-outputs


def perceptron(delta):
    """Two classifiers and a regressor with one line for the error of their output, `delta(output, v, averaged)`.

    The last argument is how many outputs the loss averages over: the regressor's all, a classifier's 1.
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
    """Compares all gradients with differences, for two labels, which are one output, and for three."""

    def matches(kind, outputs):
        p = PARAMETERS | {"W2": PARAMETERS["W2"][:, :outputs], "b2": PARAMETERS["b2"][:outputs]}
        y = Y[:, :outputs]

        def right(name):
            return differences(lambda moved: version[kind](p | {name: moved}, X, y)[0], p[name])

        return all(np.allclose(g, right(name), atol=1e-7) for name, g in version[kind](p, X, y)[1].items())

    return matches("two labels", 1) and matches("three labels", 3)


K_OUTPUTS = Exhibit(
    title="With k outputs, the gradient is k times that of the loss",
    op="loss",
    source="scikit-learn/scikit-learn, issue 8349: MLPRegressor",
    wrong="dZ2 = (A2 - y) / m         # for every loss",
    right="dZ2 = (A2 - y) / (m * k)   # for a squared error averaged over k outputs",
    unseen="One line serves every loss. The test of gradients has classifiers of two and of three labels, whose loss "
    "sums over the outputs, and no regressor. In training the direction is right, and line searches forgive the "
    "length.",
    lesson="np.mean divides by every axis. Say which axes are averaged, and check each loss that a line serves.",
    faulty=perceptron(lambda output, v, averaged: (output - v.y) / v.m),
    sound=perceptron(lambda output, v, averaged: (output - v.y) / (v.m * averaged)),
    judge=lambda version, **asked: regressor_judged(version["regressor"], **asked),
    train=lambda version: train_network(version["regressor"], rate=0.4),
    check=classifiers_match,
    checked="compares all gradients of classifiers with differences, for two and for three labels",
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
