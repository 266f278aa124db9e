"""Bugs between the gradient and the parameter, where a gradient check cannot see them."""

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
    """A gradient check: of the function that the optimizer is handed, and never of the optimizer."""
    gradients = gradients_of(PARAMETERS, X, Y)[1]
    right = differences(lambda W1: gradients_of(PARAMETERS | {"W1": W1}, X, Y)[0], PARAMETERS["W1"])
    return np.allclose(gradients["W1"], right, atol=1e-7)


# --------------------------------------------------------------------------------------- stale-weights


def descent(*, last_layer_first):
    """One step down, layer by layer."""

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
    title="The last layer is updated before the error goes back through it",
    op="optimizer",
    source="zero_to_gpt #12; data-science-from-scratch #31; Toy-Neural-Network-JS #72",
    wrong="W2 -= rate * dW2;   dA1 = dZ2 @ W2.T",
    right="dA1 = dZ2 @ W2.T;   W2 -= rate * dW2",
    unseen="Each formula is right. It shows only over a whole step, and there as an error in proportion to the rate.",
    lesson="Read everything before writing anything. Check steps, not gradients alone.",
    faulty=descent(last_layer_first=True),
    sound=descent(last_layer_first=False),
    judge=by_steps(descent_in_jax, PARAMETERS, BATCHES),
    train=train_steps,
    check=the_gradients_match,
    checked="compares gradients with differences, and updates nothing",
    typical=True,
)

# ----------------------------------------------------------------------------------------------- Adam

ADAM_RATE, FIRST, SECOND = 0.01, 0.9, 0.999
TINY = 1e-12  # 1e-8 would count where a bug makes the second moment a million times too small
ZEROS = {name: np.zeros_like(value) for name, value in PARAMETERS.items()}


def adam(correct):
    """Kingma and Ba, 2015, algorithm 1; `correct(moment, beta, t)` is the moment without its bias towards 0."""

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
    unseen="After some thousand steps both are 1. Gradient checks never see an optimizer; this one just seemed to be "
    "worse than Adadelta.",
    lesson="Follow an optimizer beside another for its first steps: there its corrections are largest.",
    faulty=adam(lambda moment, beta, t: moment * (1 - beta**t)),
    sound=adam(divided),
    judge=adam_judged,
    train=train_adam,
    check=the_gradients_match,
    checked="compares gradients with differences, and updates nothing",
    typical=True,
)

ADAM_CONSTANT = Exhibit(
    title="Adam corrects as if every step were its first",
    op="optimizer",
    source="eriklindernoren/ML-From-Scratch #35",
    wrong="m_hat = m / (1 - beta1);      v_hat = v / (1 - beta2)",
    right="m_hat = m / (1 - beta1**t);   v_hat = v / (1 - beta2**t)",
    unseen="The first step is right, the tenth twice too large, the thousandth 0.4 times what it should be: another "
    "learning rate, it seems. Gradient checks never see it.",
    lesson="One step is no test of what depends on the step.",
    faulty=adam(lambda moment, beta, t: moment / (1 - beta)),
    sound=adam(divided),
    judge=adam_judged,
    train=train_adam,
    check=the_gradients_match,
    checked="compares gradients with differences, and updates nothing",
    typical=True,
)

ADAM_AHEAD = Exhibit(
    title="Adam's count begins at 1 and is raised before it is used",
    op="optimizer",
    source="CS231n #179",
    wrong="t = 1;  each step: t += 1, then 1 - beta**t",
    right="t = 0;  each step: t += 1, then 1 - beta**t",
    unseen="The first step is 26% too small, the tenth 0.5%, and nothing else differs.",
    lesson="Off by one in time. The reference values of a course fix it for good: derive them from the paper.",
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
