"""Answers to the exercises on relu, sigmoid, tanh and softmax."""

import numpy as np

from benchmarks.answers.entry import Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)

# ----------------------------------------------------------------------------------------------- relu


@wrong("relu", "haifengl/smile #528", "x", "missing-factor wrong-factor")
def without_the_output_gradient(dy, x):
    return (x > 0).astype(float)


@wrong(
    "relu",
    "Zeiler and Fergus, 'Visualizing and understanding convolutional networks' (2014), 2.1",
    "x",
    "common-mistake zeros",
)
def by_the_sign_of_the_output_gradient(dy, x):
    return dy * (dy > 0)


@wrong("relu", "pjreddie/darknet, pull request 96", "x", "missing-mask missing-factor", "there softmax")
def the_output_gradient_itself(dy, x):
    return dy


@wrong(
    "relu", "explosion/thinc, pull request 492; torch/nn, pull request 344", "x", "other-quantity", "there other layers"
)
def the_input(dy, x):
    return np.maximum(x, 0)


@right("relu")
def with_where_on_the_other_side(dy, x):
    return np.where(np.less_equal(x, 0), 0.0, dy)


# -------------------------------------------------------------------------------------------- sigmoid


@wrong("sigmoid", "rasmusbergpalm/DeepLearnToolbox #165, as a reader proposed", "x", "wrong-factor twice-applied")
def the_sigmoid_of_the_sigmoid(dy, y):
    s = 1 / (1 + np.exp(-y))
    return dy * s * (1 - s)


@wrong("sigmoid", "CaptainE/RNN-LSTM-in-numpy #1", "x", "missing-factor wrong-factor")
def the_sigmoid_for_its_derivative(dy, y):
    return dy * y


@wrong("sigmoid", "Bot-Academy/NeuralNetworkFromScratch, pull request 3", "x", "missing-factor wrong-factor")
def no_derivative(dy, y):
    return dy


@wrong("sigmoid", "haifengl/smile #528", "x", "missing-factor wrong-factor", "there relu")
def without_dy(dy, y):
    return y * (1 - y)


@right("sigmoid")
def from_the_input_again(dy, y):
    x = np.log(y / (1 - y))
    return dy / (np.exp(x / 2) + np.exp(-x / 2)) ** 2


# ----------------------------------------------------------------------------------------------- tanh


@wrong("tanh", "davidrmiller/neural2d #40", "x", "wrong-factor twice-applied")
def tanh_of_tanh(dy, y):
    return dy * (1 - np.tanh(y) ** 2)


@wrong("tanh", "gy910210/neural-network-from-scratch #2; nicodjimenez/lstm #41", "x", "wrong-factor")
def the_derivative_of_the_tangent(dy, y):
    return dy * (1 + y**2)


@wrong("tanh", "scutan90/DeepLearning-500-questions #544", "x", "common-mistake")
def without_the_one(dy, y):
    return -dy * y**2


@wrong("tanh", "Bot-Academy/NeuralNetworkFromScratch, pull request 3", "x", "missing-factor", "there a sigmoid")
def without_its_derivative(dy, y):
    return dy


@right("tanh")
def as_a_product(dy, y):
    return (1 - y) * dy * (1 + y)


# -------------------------------------------------------------------------------------------- softmax


@wrong("softmax", "eriklindernoren/ML-From-Scratch #71, pull request 125", "x", "other-quantity")
def as_if_each_output_had_an_input_of_its_own(dy, y):
    return dy * y * (1 - y)


@wrong("softmax", "pjreddie/darknet, pull request 96", "x", "other-quantity")
def dy_itself(dy, y):
    return dy


@wrong("softmax", "HomericIntelligence/Odyssey #2134", "x", "missing-term missing-path")
def without_the_sum(dy, y):
    return dy * y


@wrong("softmax", "uTensor/uTensor, pull request 171", "x", "common-mistake", "there the forward's sum")
def summed_over_all_rows(dy, y):
    return y * (dy - np.sum(dy * y))


@right("softmax")
def by_the_whole_jacobian(dy, y):
    rows = []
    for p, g in zip(y, dy, strict=True):
        rows.append((np.diag(p) - np.outer(p, p)) @ g)
    return np.array(rows)
