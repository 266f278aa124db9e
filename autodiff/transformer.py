"""A GPT with the architecture of GPT-2, no derivative by hand.

Names and arguments are those of `manual.transformer`, which describes parameters and conventions. Arrays keep their
dtype, for any configuration of JAX. Shapes and sizes are checked as in `manual`. The values of ids and targets are not
known when a program is compiled: those outside of the vocabulary make the loss NaN.

`checkpoint_name` is the identity. It leaves names in the traced program, where the judge finds intermediates to compute
their gradients. "blocks.0.gelu.input" is the input of that op, in this use alone. "blocks.0.input" and
"blocks.0.middle" are the stream, which is the input of a norm and of a residual sum.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name as mark
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from autodiff._dtype import keeps_dtype
from autodiff.activations import gelu
from autodiff.attention import attention
from autodiff.layers import dense, embedding
from autodiff.losses import cross_entropy
from autodiff.normalization import layer_norm

Parameters = dict[str, Any]
Ids = Integer[Array | np.ndarray, "batch time"]
Targets = Integer[Array | np.ndarray, "examples positions"]

# Table 2 of the paper, after a small size for tests.
_SIZES = {
    "tiny": (13, 7, 2, 2, 6),
    "gpt2-124m": (50257, 1024, 12, 12, 768),
    "gpt2-355m": (50257, 1024, 24, 16, 1024),
    "gpt2-774m": (50257, 1024, 36, 20, 1280),
    "gpt2-1558m": (50257, 1024, 48, 25, 1600),
}
PRESETS: dict[str, dict[str, Any]] = {
    name: dict(zip(("vocabulary", "context", "layers", "heads", "width"), sizes, strict=True))
    for name, sizes in _SIZES.items()
}


def initialize_parameters(
    *, vocabulary: int, context: int, layers: int, heads: int, width: int, seed: int = 0, dtype: DTypeLike = np.float64
) -> Parameters:
    """Normal with deviation 0.02, divided by sqrt(2 layers) for projection and down; biases 0, norms the identity.

    NumPy's generator draws the weights instead of JAX's, so that they are equal to those of `manual` to the last bit.
    Raises ValueError unless all sizes are positive and heads divides width.
    """
    sizes = {"vocabulary": vocabulary, "context": context, "layers": layers, "heads": heads, "width": width}
    if any(size < 1 for size in sizes.values()):
        raise ValueError(f"all sizes must be at least 1, got {sizes}.")
    _check_heads(width, heads)
    random = np.random.default_rng(seed)

    def weight(rows: int, columns: int, scale: float = 0.02) -> Array:
        return _on_device((random.standard_normal((rows, columns)) * scale).astype(dtype))

    def constant(value: int, size: int = width) -> Array:
        return _on_device(np.full(size, value, dtype))

    def block() -> Parameters:
        small = 0.02 / (2 * layers) ** 0.5
        return {
            "norm1": {"weight": constant(1), "bias": constant(0)},
            "qkv": {"weight": weight(width, 3 * width), "bias": constant(0, 3 * width)},
            "projection": {"weight": weight(width, width, small), "bias": constant(0)},
            "norm2": {"weight": constant(1), "bias": constant(0)},
            "up": {"weight": weight(width, 4 * width), "bias": constant(0, 4 * width)},
            "down": {"weight": weight(4 * width, width, small), "bias": constant(0)},
        }

    return {
        "token_embedding": weight(vocabulary, width),
        "position_embedding": weight(context, width),
        "blocks": [block() for _ in range(layers)],
        "norm": {"weight": constant(1), "bias": constant(0)},
    }


@keeps_dtype
def _on_device(value: np.ndarray) -> Array:
    return jnp.asarray(value)


@keeps_dtype
@partial(jax.jit, static_argnames="heads")
def apply(parameters: Parameters, ids: Ids, *, heads: int) -> Float[Array, "batch time vocabulary"]:
    """The logits of the next token at every position.

    Raises ValueError for sequences longer than the context, and if heads does not divide the width.
    """
    table, positions = parameters["token_embedding"], parameters["position_embedding"]
    context, width = positions.shape
    if ids.ndim != 2 or ids.shape[1] > context:
        raise ValueError(
            f"ids must be (batch, time) with time at most the context of {context}, got shape {ids.shape}. "
            "Cut longer sequences into pieces."
        )
    _check_heads(width, heads)
    x = embedding(table, jnp.asarray(ids)) + positions[: ids.shape[1]]
    for i, p in enumerate(parameters["blocks"]):
        x = _hidden_layer(_attention(x, p, heads, f"blocks.{i}"), p, f"blocks.{i}")
    x = layer_norm(mark(x, "norm.input"), **parameters["norm"])
    return mark(jnp.einsum("btc,vc->btv", mark(x, "head.input"), table), "logits")


def _attention(x: Float[Array, "batch time width"], p: Parameters, heads: int, name: str) -> Array:
    """x + projection(attention(qkv(norm1(x))))."""
    batch, time, width = x.shape
    x = mark(x, f"{name}.input")
    h = layer_norm(mark(x, f"{name}.norm1.input"), **p["norm1"])
    h = dense(mark(h, f"{name}.qkv.input"), **p["qkv"])
    h = mark(h, f"{name}.attention.input").reshape(batch, time, 3, heads, width // heads)
    h = attention(h[:, :, 0], h[:, :, 1], h[:, :, 2], causal=True).reshape(x.shape)
    return x + dense(mark(h, f"{name}.projection.input"), **p["projection"])


def _hidden_layer(x: Float[Array, "batch time width"], p: Parameters, name: str) -> Array:
    """x + down(gelu(up(norm2(x))))."""
    x = mark(x, f"{name}.middle")
    h = layer_norm(mark(x, f"{name}.norm2.input"), **p["norm2"])
    h = dense(mark(h, f"{name}.up.input"), **p["up"])
    h = gelu(mark(h, f"{name}.gelu.input"), approximate=True)
    return x + dense(mark(h, f"{name}.down.input"), **p["down"])


@keeps_dtype
@partial(jax.jit, static_argnames="heads")
def compute_loss(parameters: Parameters, ids: Ids, targets: Targets, *, heads: int) -> Float[Array, ""]:
    """The cross-entropy of the targets, which are the next tokens, averaged over all targets but -100.

    If all targets are -100, it is 0. Raises ValueError as `apply` does.
    """
    if targets.shape != ids.shape:
        raise ValueError(f"targets must have the shape of ids, {ids.shape}, got {targets.shape}.")
    return cross_entropy(apply(parameters, ids, heads=heads), targets, ignore_index=-100)


@keeps_dtype
@partial(jax.jit, static_argnames="heads")
def loss_and_gradients(
    parameters: Parameters, ids: Ids, targets: Targets, *, heads: int
) -> tuple[Float[Array, ""], Parameters]:
    """`compute_loss`, and its gradient with respect to every parameter, in one compiled program."""
    return jax.value_and_grad(compute_loss)(parameters, ids, targets, heads=heads)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"heads must divide the width, {width}, got {heads} heads.")
