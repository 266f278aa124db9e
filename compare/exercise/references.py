"""The functions of the exercises in JAX, which a check differentiates.

`tap` marks intermediate values whose gradients an answer may return as well.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import autodiff
from compare import tap
from compare.suite.shallow import shallow_loss


def _normalized(x: Any, weight: Any, axis: int, *, centered: bool) -> Any:
    x = x - x.mean(axis=axis, keepdims=True) if centered else x
    return weight * tap("x_hat", x / jnp.sqrt((x**2).mean(axis=axis, keepdims=True) + 1e-5))


def attention(q: Any, k: Any, v: Any, hidden: Any = False) -> Any:
    s = tap("s", q @ k.transpose(0, 2, 1) / jnp.sqrt(q.shape[2]))
    return tap("p", jax.nn.softmax(jnp.where(hidden, -jnp.inf, s))) @ v


def causal_attention(q: Any, k: Any, v: Any) -> Any:
    return attention(q, k, v, hidden=~jnp.tri(q.shape[1], dtype=bool))


def lstm_step(x: Any, h: Any, c: Any, W: Any, U: Any, b: Any) -> Any:
    blocks = jnp.split(x @ W + h @ U + b, 4, axis=1)
    i, f, g, o = (tap(name, block) for name, block in zip(("a_i", "a_f", "a_g", "a_o"), blocks, strict=True))
    c = tap("cell", jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g))
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def tied_embedding(W: Any, ids: Any) -> Any:
    return jnp.tanh(W[ids]) @ W.T


def _step(optimizer: Any, *names: str) -> Callable[..., Any]:
    """A step of an optimizer whose state is a dict with the step count `t` and the arrays of these names."""

    def step(parameters: Any, state: dict[str, Any], gradients: Any) -> tuple[Any, dict[str, Any]]:
        kept = type(optimizer.initialize(parameters))(*(state[name] for name in ("t", *names)))
        parameters, kept = optimizer.update(parameters, gradients, kept)
        return parameters, dict(zip(("t", *names), kept, strict=True))

    return jax.jit(step)


REFERENCES: dict[str, Callable[..., Any]] = {
    "bias": jnp.add,
    "dense": autodiff.layers.dense,
    "broadcast": lambda x, scale, shift: x * scale + shift,
    "embedding": autodiff.layers.embedding,
    "tied_embedding": tied_embedding,
    "dropout": lambda x, mask: autodiff.layers.dropout(x, mask, rate=0.25),
    "relu": autodiff.activations.relu,
    "sigmoid": autodiff.activations.sigmoid,
    "tanh": autodiff.activations.tanh,
    "softmax": autodiff.activations.softmax,
    "mean_squared_error": autodiff.losses.mean_squared_error,
    "cross_entropy": autodiff.losses.cross_entropy,
    "layer_norm": lambda x, weight, bias: _normalized(x, weight, 1, centered=True) + bias,
    "rms_norm": lambda x, weight: _normalized(x, weight, 1, centered=False),
    "batch_norm": lambda x, weight, bias: _normalized(x, weight, 0, centered=True) + bias,
    "max_pool": lambda x: autodiff.pooling.max_pool2d(x, window=3, stride=2),
    "convolution": lambda x, W, b: autodiff.convolution.conv2d(x, W, b, stride=2),
    "attention": attention,
    "causal_attention": causal_attention,
    "rnn": autodiff.recurrent.rnn,
    "lstm_step": lstm_step,
    "two_layer": shallow_loss,
    "momentum": _step(autodiff.optimizers.momentum(0.1), "v"),
    "adam": _step(autodiff.optimizers.adam(0.1), "m", "v"),
    "adamw": _step(autodiff.optimizers.adamw(0.1, weight_decay=0.1), "m", "v"),
}
