"""numpy-ml: activations, losses and layers of a teaching library."""

# pyright: basic, reportMissingImports=false

import collections
from collections.abc import Hashable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase, elementwise, slope

# Python moved these names, and the library has had no release since.
MOVED = mock.patch.object(collections, "Hashable", Hashable, create=True)


def cases() -> Iterator[RealCase]:
    with MOVED:
        from numpy_ml.neural_nets import activations, layers, losses
    yield from functions(activations)
    yield from objectives(activations, losses)
    yield from modules(activations, layers)


def functions(of: Any) -> Iterator[RealCase]:
    z = 1.5 * np.random.default_rng(0).standard_normal(20)
    nn = jax.nn
    table = {
        "Sigmoid": (of.Sigmoid(), nn.sigmoid),
        "ReLU": (of.ReLU(), nn.relu),
        "LeakyReLU": (of.LeakyReLU(0.3), lambda z: jnp.where(z < 0, 0.3 * z, z)),
        "Tanh": (of.Tanh(), jnp.tanh),
        "Affine": (of.Affine(0.7, 0.2), lambda z: 0.7 * z + 0.2),
        "ELU": (of.ELU(0.8), lambda z: nn.elu(z, 0.8)),
        "Exponential": (of.Exponential(), jnp.exp),
        "SELU": (of.SELU(), nn.selu),
        "HardSigmoid": (of.HardSigmoid(), lambda z: jnp.clip(0.2 * z + 0.5, 0, 1)),
        "SoftPlus": (of.SoftPlus(), nn.softplus),
    }
    for name, (library, in_jax) in table.items():
        yield elementwise(f"{name}.grad", library.fn, library.grad, in_jax, z)
        if name not in ("ReLU", "LeakyReLU", "Affine", "HardSigmoid"):  # whose second derivative is 0
            yield elementwise(f"{name}.grad2", library.grad, library.grad2, slope(in_jax), z)


def objectives(activations: Any, of: Any) -> Iterator[RealCase]:
    random = np.random.default_rng(1)
    z, y = random.standard_normal((6, 4)), random.standard_normal((6, 4))
    labels = np.eye(4)[random.integers(0, 4, 6)]
    act = activations.Tanh()

    def softmax(z: Any) -> Any:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    yield RealCase(
        "SquaredError.grad",
        lambda z: (of.SquaredError.loss(y, act.fn(z)), of.SquaredError.grad(y, act.fn(z), z, act)),
        lambda z: jnp.sum((jnp.tanh(z) - y) ** 2) / 2,
        z,
    )
    yield RealCase(
        "CrossEntropy.grad",
        lambda z: (of.CrossEntropy.loss(labels, softmax(z)), of.CrossEntropy.grad(labels, softmax(z))),
        lambda z: -jnp.sum(labels * jax.nn.log_softmax(z)),
        z,
        at_least=1e-13,  # the loss adds 2e-16 to probabilities
    )
    images = random.integers(0, 2, (6, 4)).astype(float)
    p = {
        "y_pred": random.uniform(0.1, 0.9, (6, 4)),
        "t_mean": random.standard_normal((6, 3)),
        "t_log_var": random.standard_normal((6, 3)),
    }

    def by_hand(p: Any) -> Any:
        given = (images, p["y_pred"], p["t_mean"], p["t_log_var"])
        d_pred, d_log_var, d_mean = of.VAELoss.grad(*given)
        return of.VAELoss.loss(*given), {"y_pred": d_pred, "t_mean": d_mean, "t_log_var": d_log_var}

    def vae(p: Any) -> Any:
        q, mean, log_var = p["y_pred"], p["t_mean"], p["t_log_var"]
        reconstruction = -jnp.sum(images * jnp.log(q) + (1 - images) * jnp.log1p(-q), axis=1)
        divergence = -jnp.sum(1 + log_var - mean**2 - jnp.exp(log_var), axis=1) / 2
        return jnp.mean(reconstruction + divergence)

    yield RealCase("VAELoss.grad", by_hand, vae, p, domain={"y_pred": "unit interval"})


def modules(activations: Any, of: Any) -> Iterator[RealCase]:
    """Layers: forward and backward with respect to the input and the parameters together."""
    random = np.random.default_rng(2)
    x = random.standard_normal((5, 6))
    image = random.standard_normal((2, 4, 4, 2))
    sequence = random.standard_normal((2, 6, 3))

    def layer_norm(x: Any, p: Any, axes: Any) -> Any:
        mean = x.mean(axis=axes, keepdims=True)
        var = x.var(axis=axes, keepdims=True)
        return p["scaler"] * (x - mean) / jnp.sqrt(var + 1e-5) + p["intercept"]

    def conv2d(x: Any, p: Any) -> Any:
        z = jax.lax.conv_general_dilated(
            x, p["W"], (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.tanh(z + p["b"])

    def conv1d(x: Any, p: Any) -> Any:
        z = jax.lax.conv_general_dilated(x, p["W"], (1,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC"))
        return jnp.tanh(z + p["b"])

    def pool(kind: Any) -> Any:
        if kind == "max":
            return lambda x, p: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        return lambda x, p: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4

    tanh = activations.Tanh
    table = [
        ("FullyConnected", lambda: of.FullyConnected(4, act_fn=tanh()), lambda x, p: jnp.tanh(x @ p["W"] + p["b"]), x),
        ("Softmax", lambda: of.Softmax(dim=-1), lambda x, p: jax.nn.softmax(x), x),
        (
            "BatchNorm1D",
            lambda: of.BatchNorm1D(),
            lambda x, p: layer_norm(x, p, 0),
            x,
        ),
        ("BatchNorm2D", lambda: of.BatchNorm2D(), lambda x, p: layer_norm(x, p, (0, 1, 2)), image),
        ("LayerNorm1D", lambda: of.LayerNorm1D(), lambda x, p: layer_norm(x, p, 1), x),
        ("LayerNorm2D", lambda: of.LayerNorm2D(), lambda x, p: layer_norm(x, p, (1, 2, 3)), image),
        ("Conv1D", lambda: of.Conv1D(2, 3, pad=1, act_fn=tanh()), conv1d, sequence),
        ("Conv2D", lambda: of.Conv2D(2, (3, 3), pad=1, act_fn=tanh()), conv2d, image),
        ("Pool2D(max)", lambda: of.Pool2D((2, 2), mode="max"), pool("max"), image),
        ("Pool2D(average)", lambda: of.Pool2D((2, 2), mode="average"), pool("average"), image),
    ]
    for name, make, in_jax, at in table:
        np.random.seed(0)  # noqa: NPY002  (the library draws from the global generator)
        layer = make()
        layer.forward(at)  # the first call draws the parameters
        names = [key for key in layer.parameters if not key.startswith("running")]
        start = {key: np.asarray(layer.parameters[key], float) for key in names}
        start = {key: value + 0.1 * random.standard_normal(value.shape) for key, value in start.items()}

        def by_hand(p: Any, make: Any = make, at: Any = at, names: Any = names, name: str = name) -> Any:
            layer = make()
            layer.forward(at)
            for key in names:
                layer.parameters[key] = p["layer"][key]
            layer.flush_gradients()
            Y = layer.forward(p["x"])
            cotangent = weights(Y.shape, len(name))
            dx = layer.backward(cotangent)
            return np.sum(cotangent * Y), {"x": dx, "layer": {key: layer.gradients[key] for key in names}}

        def reference(p: Any, in_jax: Any = in_jax, name: str = name) -> Any:
            Y = in_jax(p["x"], p["layer"])
            return jnp.sum(weights(Y.shape, len(name)) * Y)

        yield RealCase(f"{name}.backward", by_hand, reference, {"x": at, "layer": start})
    yield attention(of, random)


def weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def attention(of: Any, random: np.random.Generator) -> RealCase:
    q, k, v = random.standard_normal((4, 3)), random.standard_normal((5, 3)), random.standard_normal((5, 2))

    def forward(q: Any, k: Any, v: Any) -> Any:
        layer = of.DotProductAttention(scale=True, dropout_p=0)
        return layer.forward(q, k, v), layer

    def in_jax(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.softmax(q @ k.T / np.sqrt(3)) @ v

    return RealCase(
        "DotProductAttention.backward", (forward, lambda g, layer: layer.backward(g)), in_jax, (q, k, v), kind="vjp"
    )
