"""Parts that several exhibits share: a two-layer network as a table of lines, small training runs, and simple checks.

Batch-first: rows are examples. `dQ` is the gradient of the loss with respect to Q.
"""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import tap
from compare.suite import datasets

Line = Callable[[Any], Any]
Gradients = Callable[..., tuple[Any, ...]]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Normally distributed numbers that depend only on the shape and the seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(z: np.ndarray) -> np.ndarray:
    """log(softmax(z)), which is finite even if a probability underflows."""
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# -------------------------------------------------------------------------- the network and its loss

LINES: dict[str, Line] = {
    "Z1": lambda v: v.x @ v.W1 + v.b1,
    "A1": lambda v: np.tanh(v.Z1),
    "Z2": lambda v: v.A1 @ v.W2 + v.b2,
    "J": lambda v: -np.sum(v.y * log_softmax(v.Z2)) / v.m,
    "dZ2": lambda v: (softmax(v.Z2) - v.y) / v.m,
    "dW2": lambda v: v.A1.T @ v.dZ2,
    "db2": lambda v: v.dZ2.sum(axis=0),
    "dA1": lambda v: v.dZ2 @ v.W2.T,
    "dZ1": lambda v: v.dA1 * (1 - v.A1**2),
    "dW1": lambda v: v.x.T @ v.dZ1,
    "db1": lambda v: v.dZ1.sum(axis=0),
}
SQUARED: dict[str, Line] = {
    "J": lambda v: np.sum((v.Z2 - v.y) ** 2) / (v.m * v.k),
    "dZ2": lambda v: 2 * (v.Z2 - v.y) / (v.m * v.k),
}


def network(**replaced: Line) -> Gradients:
    """A function (parameters, x, y) -> (loss, gradients, gradients of intermediate values). y is one-hot.

    `replaced` are lines that replace those of the same name in LINES.
    """
    lines = LINES | replaced

    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> tuple[Any, ...]:
        v = SimpleNamespace(**parameters, x=x, y=y, m=len(x), k=y.shape[1])
        for name, line in lines.items():
            setattr(v, name, line(v))
        return v.J, {name: getattr(v, f"d{name}") for name in parameters}, {"Z2": v.dZ2, "A1": v.dA1, "Z1": v.dZ1}

    return loss_and_gradients


def cross_entropy(parameters: Any, x: Any, y: Any) -> Any:
    return -jnp.sum(y * jax.nn.log_softmax(_logits(parameters, x))) / len(x)


def squared_error(parameters: Any, x: Any, y: Any) -> Any:
    return jnp.mean((_logits(parameters, x) - y) ** 2)


def _logits(parameters: Any, x: Any) -> Any:
    Z1 = tap("Z1", x @ parameters["W1"] + parameters["b1"])
    A1 = tap("A1", jnp.tanh(Z1))
    return tap("Z2", A1 @ parameters["W2"] + parameters["b2"])


def network_parameters(inputs: int, hidden: int, outputs: int, scale: float = 0.5) -> dict[str, np.ndarray]:
    """Random weights and biases. Biases of zero would hide mistakes."""
    shapes = {"W1": (inputs, hidden), "b1": (hidden,), "W2": (hidden, outputs), "b2": (outputs,)}
    return {name: scale * random(*shape) for name, shape in shapes.items()}


# Parameters and data that are small enough to read, in which every axis has a different size.
SITUATION = (network_parameters(5, 6, 3), random(7, 5), one_hot(np.array([0, 2, 1, 1, 0, 2, 2]), 3))


# ------------------------------------------------------------------------------------------ training

RATE = 0.5


@jax.jit
def descent_in_jax(p: Any, x: Any, y: Any) -> Any:
    """One step of plain gradient descent."""
    return jax.tree.map(lambda value, g: value - RATE * g, p, jax.grad(cross_entropy)(p, x, y))


@functools.cache
def digits(examples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Images of digits from scikit-learn, 8 by 8 pixels around 0, and one-hot labels."""
    x, labels = datasets.digits()
    return x[:examples] / 16 - 0.3, one_hot(labels[:examples], 10)


def descend(version: Gradients, parameters: Any, batches: Any, rate: float) -> list[float]:
    """The losses of plain gradient descent, one for each batch.

    Args:
        version: `(parameters, *batch) -> (loss, gradients, ...)`.
        parameters: The initial parameters, a dict of arrays.
        batches: The other arguments of `version` at each step.
        rate: The learning rate.
    """
    return descended(version, parameters, batches, rate)[1]


def descended(version: Gradients, parameters: Any, batches: Any, rate: float) -> tuple[Any, list[float]]:
    """The parameters after plain gradient descent, and the loss of each batch. Arguments are those of `descend`."""
    losses = []
    for batch in batches:
        loss, gradients = version(parameters, *batch)[:2]
        parameters = {name: value - rate * gradients[name] for name, value in parameters.items()}
        losses.append(float(loss))
    return parameters, losses


def train_steps(step: Callable[..., Any], steps: int = 80, examples: int = 200) -> list[float]:
    """The losses of the two-layer network on digits, trained by `step(parameters, x, y) -> parameters`."""
    (x, y), p, losses = digits(examples), network_parameters(64, 16, 10, scale=0.15), []
    for _ in range(steps):
        losses.append(network()(p, x, y)[0])
        p = step(p, x, y)
    return losses


def train_network(version: Gradients, steps: int = 80, rate: float = 0.5, examples: int = 200) -> list[float]:
    """The losses of the two-layer network on digits, with all examples in every step."""
    x, y = digits(examples)
    return descend(version, network_parameters(64, 16, 10, scale=0.15), [(x, y)] * steps, rate)


def trainer(
    forward: Callable[..., Any],
    *,
    shape: tuple[int, ...] = (16,),
    weights: tuple[np.ndarray, ...] = (),
    examples: int = 200,
    steps: int = 80,
    rate: float = 0.3,
) -> Callable[[Any], list[float]]:
    """A function `version -> losses` that trains a network of a dense layer, this layer, and another dense layer on
    digits.

    Args:
        forward: The forward pass of the layer, `(x, *weights) -> (value, cache)`. A version is its backward pass, which
            returns the gradients of x and of each weight.
        shape: The shape of an example of x.
        weights: The initial weights of the layer.
        examples: The number of digits.
        steps: The number of training steps.
        rate: The learning rate.
    """

    def train(version: Callable[..., Any]) -> list[float]:
        x, y = digits(examples)
        width = int(np.prod(shape))
        probe, _ = forward(np.zeros((1, *shape)), *weights)
        start = {"W1": 0.15 * random(64, width), "b1": np.zeros(width), "W2": 0.15 * random(probe.size, 10)}
        start |= {"b2": np.zeros(10)} | {f"w{i}": weight for i, weight in enumerate(weights)}

        def loss_and_gradients(p: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
            own = [p[f"w{i}"] for i in range(len(weights))]
            value, cache = forward((x @ p["W1"] + p["b1"]).reshape(len(x), *shape), *own)
            flat = value.reshape(len(x), -1)
            probabilities = softmax(flat @ p["W2"] + p["b2"])
            dZ2 = (probabilities - y) / len(x)
            found = version((dZ2 @ p["W2"].T).reshape(value.shape), cache)
            dx, *dweights = found if isinstance(found, tuple) else (found,)
            dZ1 = dx.reshape(len(x), width)
            gradients = {"W1": x.T @ dZ1, "b1": dZ1.sum(axis=0), "W2": flat.T @ dZ2, "b2": dZ2.sum(axis=0)}
            gradients |= {f"w{i}": gradient for i, gradient in enumerate(dweights[: len(weights)])}
            return -np.sum(y * np.log(probabilities + 1e-300)) / len(x), gradients

        return descend(loss_and_gradients, start, [(x, y)] * steps, rate)

    return train


# ------------------------------------------------------------------------------- checks that people rely on


def loss_falls(train: Callable[[Any], list[float]]) -> Callable[[Any], bool]:
    """A check that many tutorials use: training ends with a lower loss than it began."""

    def check(version: Any) -> bool:
        losses = train(version)
        return losses[-1] < losses[0]

    return check


def differences(function: Callable[[np.ndarray], Any], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of a function whose value is a number, by central differences, entry by entry."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        gradient[index] = (function(at + moved) - function(at - moved)) / (2 * step)
    return gradient


def passes(
    backward: Callable[..., Any],
    forward: Callable[..., Any],
    inputs: tuple[Any, ...],
    *,
    cotangent: Any = None,
    which: tuple[int, ...] | None = None,
    tolerance: float = 1e-5,
) -> bool:
    """A usual gradient check of a layer, by central differences with an absolute and a relative tolerance.

    Args:
        backward: The backward pass.
        forward: The forward pass.
        inputs: The arguments of the forward pass.
        cotangent: The output gradient; ones if it is None.
        which: The indices of the inputs whose gradients are compared; all floating-point inputs if it is None.
        tolerance: Both tolerances.
    """
    value, cache = forward(*inputs)
    cotangent = np.ones_like(value) if cotangent is None else cotangent
    found = backward(cotangent, cache)
    found = found if isinstance(found, tuple) else (found,)
    places = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]

    def agrees(i: int) -> bool:
        def number(moved: np.ndarray) -> Any:
            return np.sum(forward(*(moved if j == i else x for j, x in enumerate(inputs)))[0] * cotangent)

        right = differences(number, inputs[i])
        ours = found[places.index(i)]
        return np.shape(ours) == right.shape and np.allclose(ours, right, rtol=tolerance, atol=tolerance)

    return all(agrees(i) for i in (places if which is None else which))
