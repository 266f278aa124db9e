"""Bugs in the update of parameters, which a check of gradients cannot detect."""

import jax
import jax.numpy as jnp
import numpy as np

from compare.museum.exhibit import Exhibit, by_steps
from compare.museum.workshop import (
    RATE,
    SITUATION,
    cross_entropy,
    descent_in_jax,
    differences,
    digits,
    network,
    network_parameters,
    train_steps,
)

PARAMETERS, X, Y = SITUATION
BATCHES = [(X, Y)] * 3
gradients_of = network()


def the_gradients_match(version):
    """A check of the gradients that the optimizer receives. It does not run the optimizer."""
    gradients = gradients_of(PARAMETERS, X, Y)[1]
    right = differences(lambda W1: gradients_of(PARAMETERS | {"W1": W1}, X, Y)[0], PARAMETERS["W1"])
    return np.allclose(gradients["W1"], right, atol=1e-7)


# --------------------------------------------------------------------------------------- stale-weights


def descent(*, last_layer_first):
    """One step of gradient descent, layer by layer."""

    def step(p, x, y):
        _, gradients, back = gradients_of(p, x, y)
        W2 = p["W2"] - RATE * gradients["W2"]
        A1 = np.tanh(x @ p["W1"] + p["b1"])
        dZ1 = back["Z2"] @ (W2 if last_layer_first else p["W2"]).T * (1 - A1**2)
        return {
            "W1": p["W1"] - RATE * x.T @ dZ1,
            "b1": p["b1"] - RATE * dZ1.sum(axis=0),
            "W2": W2,
            "b2": p["b2"] - RATE * gradients["b2"],
        }

    return step


STALE_WEIGHTS = Exhibit(
    title="The last layer is updated before the gradient passes back through it",
    op="optimizer",
    source="zero_to_gpt #12; data-science-from-scratch #31; Toy-Neural-Network-JS #72",
    wrong="W2 -= rate * dW2;   dA1 = dZ2 @ W2.T",
    right="dA1 = dZ2 @ W2.T;   W2 -= rate * dW2",
    unseen="Each formula by itself is right. Only a whole training step is wrong, by an error that is proportional to "
    "the learning rate.",
    lesson="Compute all gradients before updating any parameter. Check whole training steps as well as gradients.",
    faulty=descent(last_layer_first=True),
    sound=descent(last_layer_first=False),
    judge=by_steps(descent_in_jax, PARAMETERS, BATCHES),
    train=train_steps,
    check=the_gradients_match,
    checked="compares gradients with finite differences, and updates no parameter",
    typical=True,
)

# ----------------------------------------------------------------------------------------------- Adam

ADAM_RATE, FIRST, SECOND = 0.01, 0.9, 0.999
TINY = 1e-12  # One of the bugs makes the second moment a million times too small; 1e-8 would matter beside it.
ZEROS = {name: np.zeros_like(value) for name, value in PARAMETERS.items()}


def adam(correct):
    """Kingma and Ba, 2015, algorithm 1. `correct(moment, beta, t)` corrects the bias of a moment towards 0."""

    def step(p, state, x, y):
        gradients, t = gradients_of(p, x, y)[1], state["t"] + 1
        m = {name: FIRST * state["m"][name] + (1 - FIRST) * g for name, g in gradients.items()}
        v = {name: SECOND * state["v"][name] + (1 - SECOND) * g**2 for name, g in gradients.items()}
        move = {name: correct(m[name], FIRST, t) / (np.sqrt(correct(v[name], SECOND, t)) + TINY) for name in p}
        return {name: p[name] - ADAM_RATE * move[name] for name in p}, {"m": m, "v": v, "t": t}

    return step


@jax.jit
def adam_in_jax(p, state, x, y):
    gradients, t = jax.grad(cross_entropy)(p, x, y), state["t"] + 1
    m = jax.tree.map(lambda m, g: FIRST * m + (1 - FIRST) * g, state["m"], gradients)
    v = jax.tree.map(lambda v, g: SECOND * v + (1 - SECOND) * g**2, state["v"], gradients)

    def moved(value, m, v):
        return value - ADAM_RATE * m / (1 - FIRST**t) / (jnp.sqrt(v / (1 - SECOND**t)) + TINY)

    return jax.tree.map(moved, p, m, v), {"m": m, "v": v, "t": t}


def divided(moment, beta, t):
    return moment / (1 - beta**t)


adam_judged = by_steps(adam_in_jax, PARAMETERS, BATCHES, state={"m": ZEROS, "v": ZEROS, "t": np.zeros(())})


def train_adam(step, steps=80):
    (x, y), p, losses = digits(), network_parameters(64, 16, 10, scale=0.15), []
    zeros = {name: np.zeros_like(value) for name, value in p.items()}
    state = {"m": zeros, "v": zeros, "t": 0.0}
    for _ in range(steps):
        losses.append(gradients_of(p, x, y)[0])
        p, state = step(p, state, x, y)
    return losses


ADAM_MULTIPLIES = Exhibit(
    title="Adam multiplies by its bias correction",
    op="optimizer",
    source="karpathy/convnetjs, pull requests 70 and 107",
    wrong="m_hat = m * (1 - beta1**t);   v_hat = v * (1 - beta2**t)",
    right="m_hat = m / (1 - beta1**t);   v_hat = v / (1 - beta2**t)",
    unseen="After some thousand steps the correction is a factor of 1 in both versions. A gradient check does not run "
    "the optimizer. Adam only seemed to train worse than Adadelta.",
    lesson="Compare the first steps of an optimizer with those of another implementation. The bias correction is "
    "largest there.",
    faulty=adam(lambda moment, beta, t: moment * (1 - beta**t)),
    sound=adam(divided),
    judge=adam_judged,
    train=train_adam,
    check=the_gradients_match,
    checked="compares gradients with finite differences, and updates no parameter",
    typical=True,
)

ADAM_CONSTANT = Exhibit(
    title="Adam applies the bias correction of the first step at every step",
    op="optimizer",
    source="eriklindernoren/ML-From-Scratch #35",
    wrong="m_hat = m / (1 - beta1);      v_hat = v / (1 - beta2)",
    right="m_hat = m / (1 - beta1**t);   v_hat = v / (1 - beta2**t)",
    unseen="The first step is right. The tenth is twice too large, and the thousandth is 0.4 times as large as it "
    "should be. This looks like another learning rate. A gradient check does not run the optimizer.",
    lesson="A formula that depends on the step number must be tested at several steps.",
    faulty=adam(lambda moment, beta, t: moment / (1 - beta)),
    sound=adam(divided),
    judge=adam_judged,
    train=train_adam,
    check=the_gradients_match,
    checked="compares gradients with finite differences, and updates no parameter",
    typical=True,
)

ADAM_AHEAD = Exhibit(
    title="Adam's step count begins at 1 and is increased before its first use",
    op="optimizer",
    source="CS231n #179",
    wrong="t = 1;  each step: t += 1, then 1 - beta**t",
    right="t = 0;  each step: t += 1, then 1 - beta**t",
    unseen="The first step is 26% too small, the tenth only 0.5%. Nothing else differs.",
    lesson="This is an off-by-one error. The course's expected values contain it, so that a right solution fails. "
    "Compute expected values independently of the code that they are to test.",
    faulty=adam(lambda moment, beta, t: divided(moment, beta, t + 1)),
    sound=adam(divided),
    judge=adam_judged,
    train=train_adam,
)

EXHIBITS = {
    "stale-weights": STALE_WEIGHTS,
    "adam-multiplies": ADAM_MULTIPLIES,
    "adam-always-first": ADAM_CONSTANT,
    "adam-one-ahead": ADAM_AHEAD,
}
