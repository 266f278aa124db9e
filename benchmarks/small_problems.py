"""Five small functions with hand-written gradients, each in a correct version and with one fault.

`PROBLEMS[name](serial, faulty)` creates one. Each serial number gives new shapes, new data and new function objects, so
that no cached trace, compiled program or plan of another can be reused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import manual
from benchmarks.backward import by_hand
from benchmarks.networks import network
from benchmarks.peers import HandWritten
from compare.suite.shallow import shallow_loss
from manual.convolution import conv2d, conv2d_backward
from manual.losses import cross_entropy, cross_entropy_backward
from manual.pooling import max_pool2d, max_pool2d_backward
from manual.recurrent import lstm, lstm_backward

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class SmallProblem:
    """A loss in JAX, and the same by hand: `forward(parameters) -> (loss, cache)`, `backward(parameters, cache)`."""

    parameters: Parameters
    loss: Callable[[Any], jax.Array]
    forward: Callable[[Any], tuple[Any, Any]]
    backward: Callable[[Any, Any], dict[str, Any]]

    def loss_and_gradients(self, parameters: Any) -> tuple[Any, dict[str, Any]]:
        value, cache = self.forward(parameters)
        return value, self.backward(parameters, cache)

    @property
    def hand_written(self) -> HandWritten:
        return HandWritten(lambda p: self.forward(p)[0], lambda p: self.loss_and_gradients(p)[1])


def drawn(random: np.random.Generator, **shapes: tuple[int, ...]) -> Parameters:
    """Random weights, scaled so that products keep the size of their inputs, and biases of size 0.1."""
    return {
        name: random.standard_normal(shape) * (np.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.1)
        for name, shape in shapes.items()
    }


def shallow(serial: int, faulty: bool) -> SmallProblem:
    """The notebook's network. In the fault, the derivative of tanh is 1 - A1."""
    p, x, y = network(np.random.default_rng(serial), (4 + serial % 3, 5 + serial % 7, 1, 12 + serial))
    whole = by_hand(dZ1=lambda v: v.dA1 * (1 - v.A1)) if faulty else by_hand()

    def forward(p: Any) -> tuple[Any, Any]:
        _, cache = manual.forward_propagation(x, p)
        return manual.compute_loss(cache.Z2, y), None

    return SmallProblem(p, lambda p: shallow_loss(p, x, y), forward, lambda p, _: whole(p, x, y)[1])


def mlp(serial: int, faulty: bool) -> SmallProblem:
    """Three dense layers with tanh between them, and cross-entropy. In the fault, the gradient of the second bias is a
    mean instead of a sum.
    """
    random = np.random.default_rng(serial)
    n, features, hidden, classes = 12 + serial, 5, 6 + serial % 7, 3
    x, y = random.standard_normal((n, features)), random.integers(0, classes, n)
    p = drawn(random, W1=(features, hidden), b1=(hidden,), W2=(hidden, hidden), b2=(hidden,), W3=(hidden, classes))

    def loss(p: Any) -> jax.Array:
        a = jnp.tanh(x @ p["W1"] + p["b1"])
        a = jnp.tanh(a @ p["W2"] + p["b2"])
        return -jnp.mean(jax.nn.log_softmax(a @ p["W3"])[jnp.arange(n), y])

    def forward(p: Any) -> tuple[Any, Any]:
        A1 = np.tanh(x @ p["W1"] + p["b1"])
        A2 = np.tanh(A1 @ p["W2"] + p["b2"])
        Z3 = A2 @ p["W3"]
        Z3 = Z3 - Z3.max(axis=1, keepdims=True)
        total = np.exp(Z3).sum(axis=1, keepdims=True)
        return -np.mean((Z3 - np.log(total))[np.arange(n), y]), (A1, A2, np.exp(Z3) / total)

    def backward(p: Any, cache: Any) -> dict[str, Any]:
        A1, A2, probabilities = cache
        dZ3 = (probabilities - np.eye(classes)[y]) / n
        dZ2 = dZ3 @ p["W3"].T * (1 - A2**2)
        dZ1 = dZ2 @ p["W2"].T * (1 - A1**2)
        db2 = dZ2.mean(axis=0) if faulty else dZ2.sum(axis=0)
        return {"W1": x.T @ dZ1, "b1": dZ1.sum(axis=0), "W2": A1.T @ dZ2, "b2": db2, "W3": A2.T @ dZ3}

    return SmallProblem(p, loss, forward, backward)


def unrolled_lstm(serial: int, faulty: bool) -> SmallProblem:
    """Five unrolled steps of an LSTM, and squared errors. In the fault, the bias has the gradient of one step only."""
    random = np.random.default_rng(serial)
    n, steps, inputs, hidden = 4 + serial, 5, 3, 4 + serial % 7
    x, target = random.standard_normal((n, steps, inputs)), random.standard_normal((n, hidden))
    p = drawn(random, W=(inputs, 4 * hidden), U=(hidden, 4 * hidden), b=(4 * hidden,))
    zeros = np.zeros((n, hidden))

    def loss(p: Any) -> jax.Array:
        h = c = zeros
        for t in range(steps):
            i, f, g, o = jnp.split(x[:, t] @ p["W"] + h @ p["U"] + p["b"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return jnp.mean((h - target) ** 2)

    def forward(p: Any) -> tuple[Any, Any]:
        (outputs, _), cache = lstm(x, zeros, zeros, p["W"], p["U"], p["b"])
        return np.mean((outputs[:, -1] - target) ** 2), cache

    def backward(p: Any, cache: Any) -> dict[str, Any]:
        d_outputs = np.zeros_like(cache.outputs)
        d_outputs[:, -1] = 2 * (cache.outputs[:, -1] - target) / target.size
        _, _, _, dW, dU, db = lstm_backward((d_outputs, zeros), cache)
        return {"W": dW, "U": dU, "b": db / steps if faulty else db}

    return SmallProblem(p, loss, forward, backward)


def gaussian_process(serial: int, faulty: bool) -> SmallProblem:
    """The negative log marginal likelihood of a Gaussian process with a squared exponential kernel.

    Its parameters are the logarithms of the lengths, the amplitude and the noise.

        J = (y^T K^-1 y + log det K + n log 2 pi) / 2      dJ = tr((K^-1 - a a^T) dK) / 2, a = K^-1 y

    Source: Rasmussen and Williams, "Gaussian processes for machine learning" (2006), equations 5.8 and 5.9. In the
    fault, the derivative of exp(2 log noise) lacks its factor of 2.
    """
    random = np.random.default_rng(serial)
    n, features = 10 + serial, 2
    x = random.standard_normal((n, features))
    y = np.sin(x).sum(axis=1) + 0.3 * random.standard_normal(n)
    p = {
        "log_lengths": 0.3 * random.standard_normal(features),
        "log_amplitude": np.array(0.2 * random.standard_normal()),
        "log_noise": np.array(-1 + 0.2 * random.standard_normal()),
    }

    def loss(p: Any) -> jax.Array:
        scaled = x / jnp.exp(p["log_lengths"])
        squares = jnp.sum((scaled[:, None] - scaled[None]) ** 2, axis=-1)
        K = jnp.exp(2 * p["log_amplitude"] - squares / 2) + jnp.exp(2 * p["log_noise"]) * jnp.eye(n)
        return (y @ jnp.linalg.solve(K, y) + jnp.linalg.slogdet(K)[1] + n * np.log(2 * np.pi)) / 2

    def forward(p: Any) -> tuple[Any, Any]:
        squares = ((x[:, None] - x[None]) / np.exp(p["log_lengths"])) ** 2
        signal = np.exp(2 * p["log_amplitude"] - squares.sum(axis=-1) / 2)
        K = signal + np.exp(2 * p["log_noise"]) * np.eye(n)
        a = np.linalg.solve(K, y)
        return (y @ a + np.linalg.slogdet(K)[1] + n * np.log(2 * np.pi)) / 2, (squares, signal, K, a)

    def backward(p: Any, cache: Any) -> dict[str, Any]:
        squares, signal, K, a = cache
        half = (np.linalg.inv(K) - np.outer(a, a)) / 2
        noise = np.exp(2 * p["log_noise"])
        return {
            "log_lengths": np.einsum("ij,ij,ijk->k", half, signal, squares),
            "log_amplitude": np.sum(half * 2 * signal),
            "log_noise": np.trace(half) * (noise if faulty else 2 * noise),
        }

    return SmallProblem(p, loss, forward, backward)


def convnet(serial: int, faulty: bool) -> SmallProblem:
    """Convolution, relu, max pooling, a dense layer and cross-entropy. In the fault, relu passes all gradients on."""
    random = np.random.default_rng(serial)
    n, size, channels, features, classes = 2 + serial, 6, 2, 3 + serial % 5, 4
    x, y = random.standard_normal((n, size, size, channels)), random.integers(0, classes, n)
    pooled = features * (size // 2) ** 2
    p = drawn(random, W1=(3, 3, channels, features), b1=(features,), W2=(pooled, classes), b2=(classes,))

    def loss(p: Any) -> jax.Array:
        z = lax.conv_general_dilated(
            jnp.asarray(x), p["W1"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        a = jax.nn.relu(z + p["b1"])
        a = lax.reduce_window(a, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return -jnp.mean(jax.nn.log_softmax(a.reshape(n, -1) @ p["W2"] + p["b2"])[jnp.arange(n), y])

    def forward(p: Any) -> tuple[Any, Any]:
        z, conv_cache = conv2d(x, p["W1"], p["b1"], padding="same")
        a, pool_cache = max_pool2d(np.maximum(z, 0), window=2)
        flat = a.reshape(n, -1)
        value, loss_cache = cross_entropy(flat @ p["W2"] + p["b2"], y)
        return value, (z, conv_cache, a, pool_cache, flat, loss_cache)

    def backward(p: Any, cache: Any) -> dict[str, Any]:
        z, conv_cache, a, pool_cache, flat, loss_cache = cache
        dlogits = cross_entropy_backward(1.0, loss_cache)
        da = max_pool2d_backward((dlogits @ p["W2"].T).reshape(a.shape), pool_cache)
        _, dW1, db1 = conv2d_backward(da if faulty else da * (z > 0), conv_cache)
        return {"W1": dW1, "b1": db1, "W2": flat.T @ dlogits, "b2": dlogits.sum(axis=0)}

    return SmallProblem(p, loss, forward, backward)


def logistic_regression(serial: int, faulty: bool) -> SmallProblem:
    """Logistic regression, which is not one of the five and serves as a warm-up. In the fault, the mean is a sum."""
    random = np.random.default_rng(serial)
    n, features = 9 + serial, 3
    x, y = random.standard_normal((n, features)), random.standard_normal(n) > 0
    p = drawn(random, w=(features,))

    def forward(p: Any) -> tuple[Any, Any]:
        z = x @ p["w"]
        return np.mean(np.logaddexp(0, z) - y * z), z

    def backward(p: Any, z: Any) -> dict[str, Any]:
        return {"w": x.T @ (1 / (1 + np.exp(-z)) - y) / (1 if faulty else n)}

    def loss(p: Any) -> jax.Array:
        z = x @ p["w"]
        return jnp.mean(jnp.logaddexp(0, z) - y * z)

    return SmallProblem(p, loss, forward, backward)


PROBLEMS: dict[str, Callable[[int, bool], SmallProblem]] = {
    "shallow network": shallow,
    "MLP, 3 layers": mlp,
    "LSTM, 5 steps": unrolled_lstm,
    "GP's likelihood": gaussian_process,
    "convnet": convnet,
}
