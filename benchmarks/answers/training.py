"""Answers to the exercises on a network of two layers, and on steps of momentum, Adam and AdamW."""

import numpy as np

from benchmarks.answers.entry import Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)

# ----------------------------------------------------------------------------------------- two layers


def two_layers(parameters, cache, *, loss_factor=None, slope=None, bias=np.sum):
    x, y, A1, A2 = cache
    dZ2 = (A2 - y) * (1 / x.shape[1] if loss_factor is None else loss_factor)
    dA1 = parameters["W2"].T @ dZ2
    dZ1 = dA1 * (1 - A1**2 if slope is None else slope)
    db1, db2 = bias(dZ1, axis=1, keepdims=True), bias(dZ2, axis=1, keepdims=True)
    return {"W1": dZ1 @ x.T, "b1": db1, "W2": dZ2 @ A1.T, "b2": db2}, {"Z2": dZ2, "A1": dA1, "Z1": dZ1}


@wrong("two_layer", "dennybritz/nn-from-scratch #13", "Z2", "factor")
def the_mean_is_not_differentiated(parameters, cache):
    return two_layers(parameters, cache, loss_factor=1.0)


@wrong("two_layer", "kvfrans/notes #5", "b2 b1", "factor")
def biases_are_means(parameters, cache):
    return two_layers(parameters, cache, bias=np.mean)


@wrong("two_layer", "Bot-Academy/NeuralNetworkFromScratch, pull request 3", "Z1", "missing-factor wrong-factor")
def without_the_slope_of_the_hidden_layer(parameters, cache):
    return two_layers(parameters, cache, slope=1.0)


@wrong("two_layer", "davidrmiller/neural2d #40", "Z1", "wrong-factor twice-applied")
def tanh_is_taken_twice(parameters, cache):
    return two_layers(parameters, cache, slope=1 - np.tanh(cache[2]) ** 2)


@right("two_layer")
def through_the_sigmoid_and_the_logarithm(parameters, cache):
    x, y, A1, A2 = cache
    dA2 = ((1 - y) / (1 - A2) - y / A2) / x.shape[1]
    dZ2 = dA2 * A2 * (1 - A2)
    dZ1 = np.einsum("oh,om->hm", parameters["W2"], dZ2) * (1 - A1) * (1 + A1)
    ones = np.ones((x.shape[1], 1))
    return {"W2": np.einsum("om,hm->oh", dZ2, A1), "b2": dZ2 @ ones, "b1": dZ1 @ ones, "W1": (x @ dZ1.T).T}


# ------------------------------------------------------------------------------------------- momentum


@wrong("momentum", "ml-explore/mlx #87", "p state.v.p", "momentum factor update-rule")
def the_gradient_is_dampened(p, g, v, t, rate=0.1, beta=0.9):
    v_new = beta * v + (1 - beta) * g
    return p - rate * v_new, v_new


@wrong("momentum", "BRML/climin #29", "p state.v.p", "momentum factor update-rule", "there Adadelta's")
def the_rate_multiplies_twice(p, g, v, t, rate=0.1, beta=0.9):
    v_new = beta * v + rate * g
    return p - rate * v_new, v_new


@wrong("momentum", "hiroyuki-kasai/SGDLibrary #8", "p", "wrong-operand", "there the other way round")
def it_looks_ahead(p, g, v, t, rate=0.1, beta=0.9):
    v_new = beta * v + g
    return p - rate * (g + beta * v_new), v_new


@wrong(
    "momentum", "zero_to_gpt #12; data-science-from-scratch #31", "p", "stale-read momentum frozen", "there of weights"
)
def the_old_velocity_moves_it(p, g, v, t, rate=0.1, beta=0.9):
    return p - rate * v, beta * v + g


@right("momentum")
def with_its_terms_one_by_one(p, g, v, t, rate=0.1, beta=0.9):
    moved = np.array(p)
    moved -= rate * beta * v
    moved -= rate * g
    return moved, g + v * beta


# ------------------------------------------------------------------------------------ Adam and AdamW


def moments(g, m, v, beta1, beta2):
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2


@wrong("adam", "karpathy/convnetjs, pull requests 70 and 107", "p", "bias-correction")
def multiplied_by_the_corrections(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = moments(g, m, v, beta1, beta2)
    return p - rate * m * (1 - beta1**t) / (np.sqrt(v * (1 - beta2**t)) + epsilon), m, v


@wrong("adam", "eriklindernoren/ML-From-Scratch #35", "p", "bias-correction")
def as_if_every_step_were_the_first(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = moments(g, m, v, beta1, beta2)
    return p - rate * m / (1 - beta1) / (np.sqrt(v / (1 - beta2)) + epsilon), m, v


@wrong("adam", "CS231n #179", "p", "bias-correction")
def the_count_is_one_ahead(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = moments(g, m, v, beta1, beta2)
    return p - rate * m / (1 - beta1 ** (t + 1)) / (np.sqrt(v / (1 - beta2 ** (t + 1))) + epsilon), m, v


@wrong("adam", "frgfm/holocron #1", "state.m.p state.v.p", "wrong-operand")
def the_corrected_moments_are_kept(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = moments(g, m, v, beta1, beta2)
    m, v = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v


@right("adam")
def in_the_faster_form_of_the_paper(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g * g - v)
    root = np.sqrt(1 - beta2**t)
    return p - rate * root / (1 - beta1**t) * m / (np.sqrt(v) + epsilon * root), m, v


def adam_step(g, m, v, t, beta1, beta2, epsilon):
    m, v = moments(g, m, v, beta1, beta2)
    return m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon), m, v


@wrong("adamw", "nntrainer/nntrainer #3565", "p state.m.p state.v.p", "weight-decay update-rule")
def the_decay_is_in_the_gradient(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g + decay * p, m, v, t, beta1, beta2, epsilon)
    return p - rate * step, m, v


@wrong("adamw", "tensorflow/addons #2282", "p", "wrong-order")
def the_decay_without_the_rate(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g, m, v, t, beta1, beta2, epsilon)
    return p - rate * step - decay * p, m, v


@wrong("adamw", "e-sensing/torchopt #14", "p", "missing-factor")
def the_decay_without_the_parameter(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g, m, v, t, beta1, beta2, epsilon)
    return p - rate * (step + decay), m, v


@wrong("adamw", "aiqm/torchani #261", "p", "weight-decay", not_yet=True)
def the_decay_after_the_step(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g, m, v, t, beta1, beta2, epsilon)
    return (p - rate * step) * (1 - rate * decay), m, v


@wrong("adamw", "ml-explore/mlx #440", "p", "missing-term", "there where momentum is 0")
def no_decay(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g, m, v, t, beta1, beta2, epsilon)
    return p - rate * step, m, v


@right("adamw")
def decayed_before_the_step(p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1):
    step, m, v = adam_step(g, m, v, t, beta1, beta2, epsilon)
    return p * (1 - rate * decay) - step * rate, m, v
