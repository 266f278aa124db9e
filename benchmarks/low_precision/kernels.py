"""Forward and backward passes of 16-bit kernels that compute in float32, and their references in JAX.

A kernel is `kernel(work, *inputs) -> (value, backward)` with `backward(output_gradient) -> gradients`, all in float32.
`Work` loads the inputs, rounds the values that the kernel stores in 16 bits, and has the planted fault. A reference is
a function in JAX for any dtype; `upcast` makes it compute in float32.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

Array = np.ndarray
DTYPES: dict[str, Any] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
EPSILON = 1e-5  # of the normalizations


@dataclass(frozen=True)
class Work:
    """The arithmetic of a kernel, and its fault.

    Args:
        dtype: the dtype of inputs and outputs.
        intermediates: whether intermediate results are stored in this dtype as well.
        fault: the name of the planted fault; empty if there is none.
    """

    dtype: Any
    intermediates: bool = False
    fault: str = ""

    def load(self, value: Array) -> Array:
        if value.dtype != self.dtype:  # like a kernel that is compiled for one dtype
            raise TypeError(f"expected {self.dtype}, got {value.dtype}.")
        return value.astype(np.float32)

    def store(self, value: Array) -> Array:
        return value.astype(self.dtype).astype(np.float32) if self.intermediates else value

    def rows(self, value: Array) -> Array:
        """The rows that are summed. With the fault "dropped row", one of them is zero."""
        if self.fault != "dropped row":
            return value
        kept = value.copy()
        kept[len(kept) // 3] = 0
        return kept


Result = tuple[Array, Callable[[Array], tuple[Array, ...]]]


def dense(work: Work, x: Array, W: Array, b: Array) -> Result:
    x, W, b = map(work.load, (x, W, b))
    z = work.store(x @ W)

    def backward(dy: Array) -> tuple[Array, ...]:
        dx = dy @ W.T
        dW = x.T @ work.rows(dy)
        db = dy[0] if work.fault == "unsummed bias" else work.rows(dy).sum(0)
        return dx, dW, db

    return z + b, backward


def dense_reference(x: Any, W: Any, b: Any) -> Any:
    return x @ W + b


def attention(work: Work, q: Array, k: Array, v: Array) -> Result:
    """As in FlashAttention: the logarithm of the softmax's sum is kept, and P is recomputed from it."""
    q, k, v = map(work.load, (q, k, v))
    scale = np.float32(q.shape[-1] ** -0.5)
    S = scale * (q @ k.mT)
    largest = S.max(-1, keepdims=True)
    lse = largest + np.log(np.exp(S - largest).sum(-1, keepdims=True))
    o = work.store(np.exp(S - lse)) @ v

    def backward(do: Array) -> tuple[Array, ...]:
        D = np.float32(0) if work.fault == "without the D term" else (do * work.store(o)).sum(-1, keepdims=True)
        of_backward = np.float32((2 * q.shape[-1]) ** -0.5) if work.fault == "stale scale" else scale
        P = np.exp(S - lse)
        dP = do @ v.mT
        dS = work.store(P * (dP - D))
        dq = of_backward * (dS @ k)
        dk = of_backward * (dS.mT @ q)
        dv = work.store(P).mT @ do
        if work.fault == "heads swapped":
            dk = dk[[1, 0, *range(2, len(dk))]]
        if work.fault == "head without gradient":
            dq[1] = 0
        if work.fault == "dropped row":
            dv -= work.store(P)[:, 7, :, None] * do[:, 7, None, :]
        return dq, dk, dv

    return o, backward


def attention_reference(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return jax.nn.softmax(scores, axis=-1) @ v


def layer_norm(work: Work, x: Array, weight: Array, bias: Array) -> Result:
    x, weight, bias = map(work.load, (x, weight, bias))
    centered = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.square(centered).mean(-1, keepdims=True) + np.float32(EPSILON))
    x_hat = work.store(centered * rstd)

    def backward(dy: Array) -> tuple[Array, ...]:
        dx_hat = work.store(dy * weight)
        dx = dx_hat
        if work.fault != "without the mean term":
            dx = dx - dx_hat.mean(-1, keepdims=True)
        if work.fault != "without the variance term":
            dx = dx - x_hat * (dx_hat * x_hat).mean(-1, keepdims=True)
        dweight = work.rows(dy * x_hat).sum(0)
        dbias = dy[0] if work.fault == "unsummed bias" else dy.sum(0)
        return rstd * dx, dweight, dbias

    return x_hat * weight + bias, backward


def layer_norm_reference(x: Any, weight: Any, bias: Any) -> Any:
    centered = x - x.mean(-1, keepdims=True)
    return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + EPSILON) * weight + bias


def rms_norm(work: Work, x: Array, weight: Array) -> Result:
    x, weight = map(work.load, (x, weight))
    rstd = 1 / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(EPSILON))
    x_hat = work.store(x * rstd)

    def backward(dy: Array) -> tuple[Array, ...]:
        dx_hat = work.store(dy * weight)
        dx = rstd * dx_hat
        if work.fault != "without the variance term":
            dx = dx - rstd * x_hat * (dx_hat * x_hat).mean(-1, keepdims=True)
        return dx, work.rows(dy * x_hat).sum(0)

    return x_hat * weight, backward


def rms_norm_reference(x: Any, weight: Any) -> Any:
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weight


def gelu(work: Work, x: Array) -> Result:
    """GELU in its tanh form. The value of the distribution function is kept for the backward pass."""
    x = work.load(x)
    slope = np.float32((2 / np.pi) ** 0.5)
    t = np.tanh(slope * (x + np.float32(0.044715) * x**3))
    cdf = work.store((1 + t) / 2)

    def backward(dy: Array) -> tuple[Array, ...]:
        density = 2 * cdf * (1 - cdf) * slope * (1 + np.float32(3 * 0.044715) * x**2)
        derivative = cdf if work.fault == "without the density" else cdf + x * density
        return (work.rows(dy) * derivative,)

    return x * cdf, backward


def gelu_reference(x: Any) -> Any:
    return 0.5 * x * (1 + jnp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def cross_entropy(work: Work, logits: Array, labels: Array) -> Result:
    """Cross-entropy from logits, with a loss for each row."""
    logits, each = work.load(logits), np.arange(len(labels))
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1, keepdims=True)
    probabilities = work.store(np.exp(shifted) / total)

    def backward(dy: Array) -> tuple[Array, ...]:
        difference = probabilities.copy()
        if work.fault != "without the label":
            labels_used = np.roll(labels, 1) if work.fault == "labels of the next row" else labels
            difference[each, labels_used] -= 1
        return (work.rows(dy)[:, None] * difference,)

    return np.log(total[:, 0]) - shifted[each, labels], backward


def cross_entropy_reference(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def angles(positions: Any, size: int) -> Any:
    return positions[:, None] * np.float32(10000) ** (-np.arange(size, dtype=np.float32) / size)


def rotary(work: Work, x: Array, positions: Array) -> Result:
    """Rotary embedding of queries (heads, positions, features): the two halves of the features are rotated."""
    x, half = work.load(x), x.shape[-1] // 2

    def turned(x: Array, positions: Array, sign: int) -> Array:
        theta = angles(positions.astype(np.float32), half)
        cos, sin = work.store(np.cos(theta)), sign * work.store(np.sin(theta))
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def backward(dy: Array) -> tuple[Array, ...]:
        off = 1 if work.fault == "position off by one" else 0
        dx = turned(dy, positions + off, -1)
        if work.fault == "heads swapped":
            dx = dx[[1, 0, *range(2, len(dx))]]
        if work.fault == "dropped row":
            dx[:, 7] = 0
        return (dx,)

    return turned(x, positions, 1), backward


def rotary_reference(x: Any, positions: Any) -> Any:
    half = x.shape[-1] // 2
    theta = angles(positions.astype(np.float32), half)
    cos, sin = jnp.cos(theta).astype(x.dtype), jnp.sin(theta).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def embedding(work: Work, table: Array, ids: Array) -> Result:
    """Rows of a table, scaled by the square root of their length as in transformers."""
    table, scale = work.load(table), np.float32(table.shape[-1] ** 0.5)

    def backward(dy: Array) -> tuple[Array, ...]:
        each = work.store(scale * work.rows(dy))
        dtable = np.zeros_like(table)
        if work.fault == "lost repeats":
            dtable[ids] = each
        else:
            np.add.at(dtable, ids, each)
        return (dtable,)

    return scale * table[ids], backward


def embedding_reference(table: Any, ids: Any) -> Any:
    return table[ids] * table.shape[-1] ** 0.5


def upcast(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference computed in float32: the inputs are cast to it, and the result is cast back."""

    @functools.wraps(reference)
    def inside(*inputs: Any) -> Any:
        wide = [x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in inputs]
        return reference(*wide).astype(inputs[0].dtype)

    return inside


# ------------------------------------------------------------------------------------------ inputs


@dataclass(frozen=True)
class Kernel:
    """A kernel with its reference, its inputs and its possible faults.

    Args:
        leaves: the names of the inputs that have a gradient, in order.
        draw: `draw(random) -> inputs`, in float32 where they are floating-point.
        faults: the names of the faults that `Work` can have.
    """

    run: Callable[..., Result]
    reference: Callable[..., Any]
    leaves: tuple[str, ...]
    draw: Callable[[np.random.Generator], Sequence[Array]]
    faults: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return list(inspect.signature(self.run).parameters)[1:]

    def inputs(self, seed: int, dtype: Any) -> list[Array]:
        drawn = self.draw(np.random.default_rng(seed))
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]

    def pair(self, work: Work, leaf: str = "", factor: float = 1.0) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(forward, backward) in the form that `check_vjp` takes, with a factor on the gradient of one leaf."""

        def forward(*inputs: Array) -> tuple[Array, Any]:
            value, backward = self.run(work, *inputs)
            return value.astype(work.dtype), backward

        def backward(output_gradient: Array, cache: Any) -> tuple[Array, ...]:
            gradients = cache(work.load(output_gradient))
            factors = [np.float32(factor if name == leaf else 1) for name in self.leaves]
            return tuple((f * g).astype(work.dtype) for f, g in zip(factors, gradients, strict=True))

        return forward, backward


def _normal(*shapes: tuple[int, ...], scale: float = 1.0) -> Callable[[np.random.Generator], list[Array]]:
    return lambda random: [scale * random.standard_normal(shape).astype(np.float32) for shape in shapes]


def _dense(examples: int, features: int, outputs: int) -> Callable[[np.random.Generator], list[Array]]:
    def draw(random: np.random.Generator) -> list[Array]:
        x, W, b = _normal((examples, features), (features, outputs), (outputs,))(random)
        return [x, W * np.float32(features**-0.5), b]

    return draw


def _norm(examples: int, features: int, bias: bool) -> Callable[[np.random.Generator], list[Array]]:
    def draw(random: np.random.Generator) -> list[Array]:
        x, weight, b = _normal((examples, features), (features,), (features,))(random)
        x = np.float32(0.5) + np.float32(1.5) * x
        weight = np.float32(1) + np.float32(0.2) * weight
        return [x, weight, b] if bias else [x, weight]

    return draw


def _logits(random: np.random.Generator) -> list[Array]:
    return [2 * random.standard_normal((128, 50)).astype(np.float32), random.integers(0, 50, 128)]


def _rotary(random: np.random.Generator) -> list[Array]:
    return [*_normal((4, 64, 32))(random), np.arange(64)]


def _embedding(random: np.random.Generator) -> list[Array]:
    return [*_normal((100, 32), scale=0.2)(random), random.integers(0, 100, 256)]


NORM_FAULTS = ("dropped row", "without the variance term")
KERNELS: dict[str, Kernel] = {
    "dense": Kernel(dense, dense_reference, ("x", "W", "b"), _dense(128, 64, 32), ("dropped row", "unsummed bias")),
    "wide dense": Kernel(dense, dense_reference, ("x", "W", "b"), _dense(160, 96, 48), ("dropped row",)),
    "attention": Kernel(
        attention,
        attention_reference,
        ("q", "k", "v"),
        _normal((4, 64, 32), (4, 64, 32), (4, 64, 32)),
        ("dropped row", "heads swapped", "head without gradient", "stale scale", "without the D term"),
    ),
    "layer norm": Kernel(
        layer_norm,
        layer_norm_reference,
        ("x", "weight", "bias"),
        _norm(128, 64, bias=True),
        (*NORM_FAULTS, "without the mean term", "unsummed bias"),
    ),
    "RMS norm": Kernel(rms_norm, rms_norm_reference, ("x", "weight"), _norm(128, 64, bias=False), NORM_FAULTS),
    "GELU": Kernel(gelu, gelu_reference, ("x",), _normal((128, 64)), ("dropped row", "without the density")),
    "cross-entropy": Kernel(
        cross_entropy,
        cross_entropy_reference,
        ("logits",),
        _logits,
        ("dropped row", "without the label", "labels of the next row"),
    ),
    "rotary": Kernel(
        rotary, rotary_reference, ("x",), _rotary, ("dropped row", "heads swapped", "position off by one")
    ),
    "embedding": Kernel(embedding, embedding_reference, ("table",), _embedding, ("dropped row", "lost repeats")),
}
