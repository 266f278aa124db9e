"""Reported bugs of recurrent networks, attention, rotary embeddings and normalization."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reported.elementwise import normal
from benchmarks.reported.entry import ReportedFault, into
from benchmarks.reported.losses import softmax

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)


@fault(
    "the second direction gets the first's result",
    "apache/mxnet#18203",
    "vjp",
    "backwards",
    "The output gradient is overwritten by the input gradient before the other direction has used it.",
    "wrong-operand",
)
def bidirectional(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, cache: Any) -> Any:
        x, forwards, backwards = cache
        dx = dy @ forwards.T
        second = dx if broken else dy
        return dx + (dy @ backwards.T)[::-1], x.T @ dy, x[::-1].T @ second

    return (
        lambda x, forwards, backwards: (x @ forwards + x[::-1] @ backwards, (x, forwards, backwards)),
        backward,
        lambda x, forwards, backwards: x @ forwards + x[::-1] @ backwards,
        normal(6, 4),
        normal(4, 4, seed=1),
        normal(4, 4, seed=2),
    )


def zoneout_masks() -> np.ndarray:
    return (np.random.default_rng(3).random((5, 4)) < 0.4) * 1.0


@fault(
    "zoneout's mask of the first step",
    "lmnt-com/haste#43",
    "vjp",
    "x u",
    "The backward pass uses the mask of the first step at every step.",
)
def zoneout(broken: bool) -> tuple[Any, ...]:
    masks = zoneout_masks()

    def forward(x: Any, u: Any) -> Any:
        h, states = np.zeros(4), []
        for t in range(5):
            a = np.tanh(x[t] + h @ u)
            states.append((h, a))
            h = masks[t] * h + (1 - masks[t]) * a
        return h, (states, u)

    def backward(dh: Any, cache: Any) -> Any:
        states, u = cache
        dx, du = np.zeros((5, 4)), np.zeros_like(u)
        for t in reversed(range(5)):
            mask, (h, a) = masks[0 if broken else t], states[t]
            dx[t] = dh * (1 - mask) * (1 - a**2)
            du += np.outer(h, dx[t])
            dh = dh * mask + dx[t] @ u.T
        return dx, du

    def function(x: Any, u: Any) -> Any:
        h = jnp.zeros(4)
        for t in range(5):
            h = masks[t] * h + (1 - masks[t]) * jnp.tanh(x[t] + h @ u)
        return h

    return forward, backward, function, normal(5, 4), 0.5 * normal(4, 4, seed=1)


@fault(
    "no gradient flows back in time",
    "qixianbiao/RNN#2",
    "vjp",
    "x u",
    "The gradient of a later state is not handed to the state before.",
    "other-quantity missing-term missing-path",
)
def truncated(broken: bool) -> tuple[Any, ...]:
    def forward(x: Any, u: Any) -> Any:
        states = [np.zeros(3)]
        for row in x:
            states.append(np.tanh(row + states[-1] @ u))
        return np.array(states[1:]), (np.array(states), u)

    def backward(dy: Any, cache: Any) -> Any:
        states, u = cache
        dx, du, later = np.zeros_like(dy), np.zeros_like(u), np.zeros(3)
        for t in reversed(range(len(dy))):
            dx[t] = (dy[t] + later) * (1 - states[t + 1] ** 2)
            du += np.outer(states[t], dx[t])
            later = np.zeros(3) if broken else dx[t] @ u.T
        return dx, du

    def function(x: Any, u: Any) -> Any:
        states = [jnp.zeros(3)]
        for row in x:
            states.append(jnp.tanh(row + states[-1] @ u))
        return jnp.stack(states[1:])

    return forward, backward, function, normal(5, 3), 0.5 * normal(3, 3, seed=1)


@fault(
    "a forget gate without its derivative",
    "CaptainE/RNN-LSTM-in-numpy#2",
    "vjp",
    "f",
    "The gate's sigmoid stands where its derivative should.",
    "wrong-factor missing-factor",
)
def forget_gate(broken: bool) -> tuple[Any, ...]:
    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    def forward(f: Any, c: Any, i: Any) -> Any:
        return sigmoid(f) * c + np.tanh(i), (sigmoid(f), c, np.tanh(i))

    def backward(dy: Any, cache: Any) -> Any:
        gate, c, added = cache
        return dy * c * (gate if broken else gate * (1 - gate)), dy * gate, dy * (1 - added**2)

    return (
        forward,
        backward,
        lambda f, c, i: jax.nn.sigmoid(f) * c + jnp.tanh(i),
        normal(8),
        normal(8, seed=1),
        normal(8, seed=2),
    )


KEEP = 0.8
DROPPED = (np.random.default_rng(5).random((6, 6)) < KEEP) * 1.0


def attention(backward_of_dropout: Any, mask: Any = None) -> tuple[Any, ...]:
    """Attention with dropout. `backward_of_dropout(d(dropped p), p, dropped p)` returns (dp, p for softmax)."""

    def forward(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.T / 2.0
        p = softmax(scores if mask is None else np.where(mask, scores, -1e30))
        return (p * DROPPED / KEEP) @ v, (q, k, v, p)

    def backward(dy: Any, cache: Any) -> Any:
        q, k, v, p = cache
        dp, y = backward_of_dropout(dy @ v.T, p, p * DROPPED / KEEP)
        ds = y * (dp - np.sum(dp * y, axis=1, keepdims=True)) / 2.0
        return ds @ k, ds.T @ q, (p * DROPPED / KEEP).T @ dy

    def function(q: Any, k: Any, v: Any) -> Any:
        return (jax.nn.softmax(q @ k.T / 2.0) * DROPPED / KEEP) @ v

    return forward, backward, function, normal(6, 4), normal(6, 4, seed=1), normal(6, 4, seed=2)


@fault(
    "attention's dropout is not in its backward",
    "aws-neuron/nki-samples#81",
    "vjp",
    "q k",
    "Softmax's derivative is taken of the dropped probabilities, and with a gradient that is not dropped.",
)
def attention_dropout(broken: bool) -> tuple[Any, ...]:
    if broken:
        return attention(lambda dp, p, dropped: (dp, dropped))
    return attention(lambda dp, p, dropped: (dp * DROPPED / KEEP, p))


@fault(
    "attention's dropout scaled by p",
    "NVIDIA/apex#816",
    "vjp",
    "q k",
    "The backward pass scales by the dropout's probability instead of by 1/(1 - p).",
    "factor",
)
def attention_scale(broken: bool) -> tuple[Any, ...]:
    return attention(lambda dp, p, dropped: (dp * DROPPED * ((1 - KEEP) if broken else 1 / KEEP), p))


@fault(
    "the causal mask is dropped",
    "keras-team/keras#23038",
    "vjp",
    "output",
    "Where the fused kernel cannot be used, no mask is applied.",
    "misplaced missing-mask",
)
def causal(broken: bool) -> tuple[Any, ...]:
    mask = np.tri(5, dtype=bool)

    def probabilities(q: Any, k: Any) -> Any:
        return softmax(q @ k.T if broken else np.where(mask, q @ k.T, -np.inf))

    def backward(dy: Any, cache: Any) -> Any:
        q, k, v = cache
        p = probabilities(q, k)
        dp = dy @ v.T
        ds = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
        return ds @ k, ds.T @ q, p.T @ dy

    return (
        lambda q, k, v: (probabilities(q, k) @ v, (q, k, v)),
        backward,
        lambda q, k, v: jax.nn.softmax(jnp.where(mask, q @ k.T, -jnp.inf)) @ v,
        normal(5, 3),
        normal(5, 3, seed=1),
        normal(5, 3, seed=2),
    )


def rotated(x: Any, lib: Any) -> Any:
    """Adjacent pairs, rotated by 90 degrees: (x0, x1, x2, x3) -> (-x1, x0, -x3, x2)."""
    return lib.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)


@fault(
    "rotary embedding turns before it multiplies",
    "PaddlePaddle/Paddle#74716",
    "vjp",
    "x",
    "The sines are multiplied after the gradient is turned, which is the same only where both halves share them.",
)
def rotary(broken: bool) -> tuple[Any, ...]:
    cos, sin = np.cos(normal(5, 6, seed=1)), np.sin(normal(5, 6, seed=2))

    def backward(dy: Any, _: Any) -> Any:
        return dy * cos - (rotated(dy, np) * sin if broken else rotated(dy * sin, np))

    return (
        lambda x: (x * cos + rotated(x, np) * sin, None),
        backward,
        lambda x: x * cos + rotated(x, jnp) * sin,
        normal(5, 6),
    )


@fault(
    "rotary embedding by the cosine of a cosine",
    "NVIDIA/Megatron-LM#7465",
    "vjp",
    "output",
    "Cosines and sines that are handed over are taken for angles.",
)
def rotary_angles(broken: bool) -> tuple[Any, ...]:
    angles = np.repeat(normal(5, 3, seed=1), 2, axis=1)
    cos, sin = np.cos(angles), np.sin(angles)
    used = (np.cos(cos), np.sin(sin)) if broken else (cos, sin)
    return (
        lambda x: (x * used[0] + rotated(x, np) * used[1], None),
        lambda dy, _: dy * used[0] - rotated(dy * used[1], np),
        lambda x: x * cos + rotated(x, jnp) * sin,
        normal(5, 6),
    )


def group_norm(broken_dx: bool, broken_weight: bool) -> tuple[Any, ...]:
    """x (examples, channels, height, width), in groups of two channels."""

    def parts(x: Any) -> Any:
        return x.reshape(len(x), 2, -1)

    def forward(x: Any, weight: Any, bias: Any) -> Any:
        flat = parts(x)
        centered = flat - flat.mean(axis=2, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centered**2, axis=2, keepdims=True) + 1e-5)
        normalized = (centered * scale).reshape(x.shape)
        return normalized * weight[:, None, None] + bias[:, None, None], (normalized, scale, weight)

    def backward(dy: Any, cache: Any) -> Any:
        normalized, scale, weight = cache
        g, n = parts(dy * weight[:, None, None]), parts(normalized)
        count = g.shape[2] // (dy.shape[2] if broken_dx else 1)  # of channels and columns, without the rows
        dx = scale * (g - g.sum(axis=2, keepdims=True) / count - n * (g * n).sum(axis=2, keepdims=True) / count)
        dweight = np.sum(dy * normalized, axis=(0, 2, 3))
        return dx.reshape(dy.shape), 0 * dweight if broken_weight else dweight, dy.sum(axis=(0, 2, 3))

    def function(x: Any, weight: Any, bias: Any) -> Any:
        flat = parts(x)
        centered = flat - flat.mean(axis=2, keepdims=True)
        normalized = (centered / jnp.sqrt(jnp.mean(centered**2, axis=2, keepdims=True) + 1e-5)).reshape(x.shape)
        return normalized * weight[:, None, None] + bias[:, None, None]

    return forward, backward, function, normal(3, 4, 3, 2), normal(4, seed=1), normal(4, seed=2)


@fault(
    "group norm counts one axis of many",
    "linkedin/Liger-Kernel#1375",
    "vjp",
    "x",
    "With more than one spatial axis the means of the backward pass divide by the wrong count.",
    "wrong-number",
)
def group_norm_count(broken: bool) -> tuple[Any, ...]:
    return group_norm(broken, False)


@fault(
    "group norm's weight is cut off",
    "paiml/aprender#2200",
    "vjp",
    "weight",
    "The output is built outside of the graph, so that the weight never receives a gradient.",
    "zeros",
)
def group_norm_weight(broken: bool) -> tuple[Any, ...]:
    return group_norm(False, broken)


def batch_norm(dx: Any) -> tuple[Any, ...]:
    """Batch norm over the examples. `dx(dy, normalized, scale, weight)` returns the gradient of the input."""

    def forward(x: Any, weight: Any, bias: Any) -> Any:
        centered = x - x.mean(axis=0)
        scale = 1 / np.sqrt(np.mean(centered**2, axis=0) + 1e-5)
        return centered * scale * weight + bias, (centered * scale, scale, weight)

    def backward(dy: Any, cache: Any) -> Any:
        normalized, scale, weight = cache
        return dx(dy, normalized, scale, weight), np.sum(dy * normalized, axis=0), dy.sum(axis=0)

    def function(x: Any, weight: Any, bias: Any) -> Any:
        centered = x - x.mean(axis=0)
        return centered / jnp.sqrt(jnp.mean(centered**2, axis=0) + 1e-5) * weight + bias

    return forward, backward, function, normal(7, 4), normal(4, seed=1), normal(4, seed=2)


def sound_dx(dy: Any, normalized: Any, scale: Any, weight: Any) -> Any:
    g = dy * weight
    return scale * (g - g.mean(axis=0) - normalized * np.mean(g * normalized, axis=0))


@fault(
    "batch norm's input gradient without the weight",
    "denizyuret/Knet.jl#288",
    "vjp",
    "x",
    "The output gradient is multiplied by the weight after the product that is used has been taken.",
    "missing-factor wrong-factor",
)
def batch_norm_weight(broken: bool) -> tuple[Any, ...]:
    return batch_norm(lambda dy, n, scale, weight: sound_dx(dy, n, scale, 1.0 if broken else weight))


@fault(
    "a grouped norm by the whole width",
    "state-spaces/mamba#547",
    "vjp",
    "x",
    "The backward pass takes the whole width for one group, whatever the number of groups.",
)
def norm_groups(broken: bool) -> tuple[Any, ...]:
    """RMS norm of rows in two groups of three: x (rows, 6)."""

    def forward(x: Any) -> Any:
        scale = 1 / np.sqrt(np.mean(x.reshape(-1, 2, 3) ** 2, axis=2, keepdims=True) + 1e-5)
        return (x.reshape(-1, 2, 3) * scale).reshape(x.shape), (x, scale)

    def backward(dy: Any, cache: Any) -> Any:
        x, scale = cache
        n, g = x.reshape(-1, 2, 3) * scale, dy.reshape(-1, 2, 3)
        means = np.mean(g * n, axis=(1, 2) if broken else 2, keepdims=True)
        return (scale * (g - n * means)).reshape(x.shape)

    def function(x: Any) -> Any:
        groups = x.reshape(-1, 2, 3)
        return (groups / jnp.sqrt(jnp.mean(groups**2, axis=2, keepdims=True) + 1e-5)).reshape(x.shape)

    return forward, backward, function, normal(5, 6)


@fault(
    "keys are not summed over their queries' heads",
    "marin-community/levanter#449",
    "vjp",
    "k",
    "The gradient of a key that a group of query heads shares keeps the axis of the group.",
    "shape missing-sum",
)
def grouped_queries(broken: bool) -> tuple[Any, ...]:
    """q (2 heads, time, 3), k and v (time, 3), shared by both heads."""

    def forward(q: Any, k: Any, v: Any) -> Any:
        p = softmax(q @ k.T)
        return p @ v, (q, k, v, p)

    def backward(dy: Any, cache: Any) -> Any:
        q, k, v, p = cache
        dp = dy @ v.T
        ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True))
        dk = np.einsum("hts,htc->hsc", ds, q)
        return ds @ k, dk if broken else dk.sum(axis=0), np.einsum("hts,htc->sc", p, dy)

    return (
        forward,
        backward,
        lambda q, k, v: jax.nn.softmax(q @ k.T) @ v,
        normal(2, 5, 3),
        normal(5, 3, seed=1),
        normal(5, 3, seed=2),
    )
