"""The loss of a GPT in JAX, for recordings of `gpt.c` and `gpt_torch.py`, with PyTorch's shapes of parameters."""

import jax
import jax.numpy as jnp

from compare import tap

HEADS = 2


def loss(parameters, ids, targets):
    p = parameters
    x = p["token.weight"][ids] + p["position.weight"][: ids.shape[1]]
    layers = sum(name.endswith(".qkv.weight") for name in p)
    for i in range(layers):
        x = x + attention(p, f"blocks.{i}", norm(p, f"blocks.{i}.norm1", x))
        h = linear(p, f"blocks.{i}.up", norm(p, f"blocks.{i}.norm2", x))
        x = tap(f"blocks.{i}", x + linear(p, f"blocks.{i}.down", jax.nn.gelu(h, approximate=True)))
    logits = norm(p, "norm", x) @ p["token.weight"].T
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1))


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p, name, x):
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centered**2, axis=-1, keepdims=True)
    return centered / jnp.sqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x):
    batch, time, width = x.shape
    qkv = linear(p, f"{name}.qkv", x).reshape(batch, time, 3, HEADS, width // HEADS)
    scores = jnp.einsum("bqhd,bkhd->bhqk", qkv[:, :, 0], qkv[:, :, 1]) / (width // HEADS) ** 0.5
    weights = jax.nn.softmax(jnp.where(jnp.tri(time, dtype=bool), scores, -jnp.inf))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, qkv[:, :, 2])
    return linear(p, f"{name}.projection", mixed.reshape(x.shape))
