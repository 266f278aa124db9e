"""A GPT in the layout of GPT-2, every derivative by hand.

    x = token_embedding[ids] + position_embedding[:time]
    x = x + projection(attention(qkv(norm1(x))))            for each block, causal attention of several heads,
    x = x + down(gelu(up(norm2(x))))                        then a network of one hidden layer, 4 times as wide
    logits = norm(x) token_embedding^T

Layer norms stand before what they feed ("pre-norm"), so that an unbroken sum runs from the embedding to the last
norm; qkv, projection, up and down are dense layers with biases; the output layer is the token embedding again,
transposed and without a bias ("tied"). Source: Radford et al., "Language models are unsupervised multitask
learners" (2019), with GELU by tanh as in the code published with it.

Backward reads the same lines from the end. Where a value is used twice its gradient is a sum: the stream x goes on
and into a norm, and the token embedding is both the first layer and the last.

Parameters are {"token_embedding": (vocabulary, width), "position_embedding": (context, width), "blocks": [...],
"norm": {"weight", "bias"}}, each block {"norm1", "qkv", "projection", "norm2", "up", "down"} of {"weight", "bias"},
where qkv has the columns of query, key and value side by side, each with the heads side by side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import DTypeLike

from manual.activations import GeluCache, gelu, gelu_backward
from manual.attention import AttentionCache, attention, attention_backward
from manual.layers import DenseCache, EmbeddingCache, dense, dense_backward, embedding
from manual.losses import cross_entropy, cross_entropy_backward
from manual.normalization import CenteredCache, layer_norm, layer_norm_backward

Parameters = dict[str, Any]
Intermediates = dict[str, np.ndarray] | None
Ids = Integer[np.ndarray, "batch time"]
Targets = Integer[np.ndarray, "examples positions"]
Stream = Float[np.ndarray, "batch time width"]
Logits = Float[np.ndarray, "batch time vocabulary"]

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"vocabulary": 13, "context": 7, "layers": 2, "heads": 2, "width": 6},
    "gpt2-124m": {"vocabulary": 50257, "context": 1024, "layers": 12, "heads": 12, "width": 768},
    "gpt2-355m": {"vocabulary": 50257, "context": 1024, "layers": 24, "heads": 16, "width": 1024},
    "gpt2-774m": {"vocabulary": 50257, "context": 1024, "layers": 36, "heads": 20, "width": 1280},
    "gpt2-1558m": {"vocabulary": 50257, "context": 1024, "layers": 48, "heads": 25, "width": 1600},
}
IGNORED = -100  # a target that counts for nothing
BLOCK_BYTES = 1 << 20  # of logits whose loss is computed at a time: about what a core's own cache holds


class BlockCache(NamedTuple):
    """The caches of a block's ops, in the order of the forward pass, because backward undoes them from the last."""

    norm1: CenteredCache
    qkv: DenseCache
    attention: AttentionCache
    projection: DenseCache
    norm2: CenteredCache
    up: DenseCache
    gelu: GeluCache
    down: DenseCache


class TransformerCache(NamedTuple):
    """The caches from the first op to the last, and the context, because the table of positions has so many rows."""

    embedding: EmbeddingCache
    context: int
    blocks: list[BlockCache]
    norm: CenteredCache
    head: DenseCache


def initialize_parameters(
    *, vocabulary: int, context: int, layers: int, heads: int, width: int, seed: int = 0, dtype: DTypeLike = np.float64
) -> Parameters:
    """GPT-2's start: weights and embeddings normal with deviation 0.02, biases 0, norms the identity.

    What is added to the stream (projection and down) is drawn smaller by sqrt(2 layers), the number of such terms, so
    that their sum does not grow with depth: section 2.3 of the paper. (OpenAI's code has 0.01 for positions.) Drawn
    in float64, in the order of the dict, then cast: a seed is the same network in every dtype, and on both sides.
    Raises ValueError unless all sizes are positive and heads divides width.
    """
    sizes = {"vocabulary": vocabulary, "context": context, "layers": layers, "heads": heads, "width": width}
    if min(sizes.values()) < 1:
        raise ValueError(f"all sizes must be at least 1, got {sizes}.")
    _check_heads(width, heads)
    random = np.random.default_rng(seed)
    residual = 0.02 / (2 * layers) ** 0.5

    def normal(rows: int, columns: int, deviation: float = 0.02) -> np.ndarray:
        drawn = random.standard_normal((rows, columns))
        drawn *= deviation
        return drawn.astype(dtype, copy=False)

    def linear(inputs: int, outputs: int, deviation: float = 0.02) -> Parameters:
        return {"weight": normal(inputs, outputs, deviation), "bias": np.zeros(outputs, dtype)}

    def identity() -> Parameters:
        return {"weight": np.ones(width, dtype), "bias": np.zeros(width, dtype)}

    return {
        "token_embedding": normal(vocabulary, width),
        "position_embedding": normal(context, width),
        "blocks": [
            {
                "norm1": identity(),
                "qkv": linear(width, 3 * width),
                "projection": linear(width, width, residual),
                "norm2": identity(),
                "up": linear(width, 4 * width),
                "down": linear(4 * width, width, residual),
            }
            for _ in range(layers)
        ],
        "norm": identity(),
    }


def apply(parameters: Parameters, ids: Ids, *, heads: int) -> tuple[Logits, TransformerCache]:
    """Logits for the token after each one.

    Raises ValueError for ids that are not in the vocabulary, sequences longer than the context, and heads that do
    not divide the width.
    """
    table, positions = parameters["token_embedding"], parameters["position_embedding"]
    context, width = positions.shape
    if ids.ndim != 2 or ids.shape[1] > context:
        raise ValueError(
            f"ids must be (batch, time) with time at most the context of {context}, got shape {ids.shape}. "
            "Cut longer sequences into pieces."
        )
    _check_heads(width, heads)
    x, tokens = embedding(table, ids)
    x += positions[: ids.shape[1]]
    blocks = []
    for p in parameters["blocks"]:
        x, cache = _block(x, p, heads)
        blocks.append(cache)
    x, norm = layer_norm(x, **parameters["norm"])
    logits, head = dense(x, table.T, None)
    return logits, TransformerCache(tokens, context, blocks, norm, head)


def _block(x: Stream, p: Parameters, heads: int) -> tuple[Stream, BlockCache]:
    batch, time, width = x.shape
    normed, norm1 = layer_norm(x, **p["norm1"])
    packed, qkv = dense(normed, **p["qkv"])
    q, k, v = np.moveaxis(packed.reshape(batch, time, 3, heads, width // heads), 2, 0)
    attended, of_attention = attention(q, k, v, causal=True)
    projected, projection = dense(attended.reshape(x.shape), **p["projection"])
    x = x + projected
    normed, norm2 = layer_norm(x, **p["norm2"])
    hidden, up = dense(normed, **p["up"])
    active, of_gelu = gelu(hidden, approximate=True)
    added, down = dense(active, **p["down"])
    return x + added, BlockCache(norm1, qkv, of_attention, projection, norm2, up, of_gelu, down)


def apply_backward(
    output_gradient: Logits, cache: TransformerCache, *, intermediates: Intermediates = None
) -> Parameters:
    """Gradients in the structure of the parameters. Ids have none.

    A dict given as `intermediates` also receives gradients with respect to the input of each op, by its name, as in
    "blocks.0.gelu.input" or "head.input": of the op's own use of it, which for a norm's input leaves out that the
    stream goes on. The stream's whole gradients are "blocks.0.input", and "blocks.0.middle" between attention and the
    hidden layer. "logits" is `output_gradient` itself.
    """
    if intermediates is not None:
        intermediates["logits"] = output_gradient
    dx, dtable = _head_backward(output_gradient, cache.head)
    return _body_backward(dx, dtable, cache._replace(blocks=list(cache.blocks)), intermediates)


def _head_backward(dlogits: Logits, cache: DenseCache) -> tuple[Stream, np.ndarray]:
    """logits = x E^T, so dx = dlogits E and dE = dlogits^T x: `dense_backward` would give that one transposed."""
    x, transposed, _ = cache
    dy = dlogits.reshape(len(x), transposed.shape[1])
    return (dy @ transposed.T).reshape(*dlogits.shape[:-1], x.shape[1]), dy.T @ x


def _body_backward(dx: Stream, dtable: np.ndarray, cache: TransformerCache, intermediates: Intermediates) -> Parameters:
    """From the gradients that the output layer leaves: of the last norm's value, and of the token embedding.

    `dtable` is written to, and a block's cache dropped, and its memory with it, as soon as it has been used.
    """
    seen = {"head.input": dx}
    dx, dnorm = _undo(layer_norm_backward, dx, cache.norm)
    seen["norm.input"] = dx
    dblocks: list[Parameters] = []
    while cache.blocks:
        inputs, dblock = _block_backward(dx, cache.blocks.pop())
        dx = inputs["input"]
        dblocks.append(dblock)
        if intermediates is not None:
            seen |= {f"blocks.{len(cache.blocks)}.{name}": value for name, value in inputs.items()}
    if intermediates is not None:
        intermediates |= seen
    dpositions = np.zeros((cache.context, dx.shape[-1]), dx.dtype)
    dpositions[: dx.shape[1]] = np.sum(dx, axis=0)
    _add_rows(dtable, cache.embedding.ids, dx)
    dblocks.reverse()
    return {"token_embedding": dtable, "position_embedding": dpositions, "blocks": dblocks, "norm": dnorm}


def _block_backward(dx: Stream, cache: BlockCache) -> tuple[dict[str, Any], Parameters]:
    """The gradients of what enters each op, and of its parameters, from the last op to the first.

    Of y = x + f(x), dx = dy + what f sends back.
    """
    inputs: dict[str, Any] = {}
    d: Parameters = {}
    inputs["down.input"], d["down"] = _undo(dense_backward, dx, cache.down)
    inputs["gelu.input"] = gelu_backward(inputs["down.input"], cache.gelu)
    inputs["up.input"], d["up"] = _undo(dense_backward, inputs["gelu.input"], cache.up)
    inputs["norm2.input"], d["norm2"] = _undo(layer_norm_backward, inputs["up.input"], cache.norm2)
    inputs["middle"] = dx + inputs["norm2.input"]
    inputs["projection.input"], d["projection"] = _undo(dense_backward, inputs["middle"], cache.projection)
    dattended = inputs["projection.input"].reshape(cache.attention.query.shape)
    dqkv = attention_backward(dattended, cache.attention)
    inputs["attention.input"] = np.stack(dqkv, axis=2).reshape(*dx.shape[:2], 3 * dx.shape[2])
    inputs["qkv.input"], d["qkv"] = _undo(dense_backward, inputs["attention.input"], cache.qkv)
    inputs["norm1.input"], d["norm1"] = _undo(layer_norm_backward, inputs["qkv.input"], cache.norm1)
    inputs["input"] = inputs["middle"] + inputs["norm1.input"]
    return inputs, dict(reversed(d.items()))


def _undo(backward: Callable[..., Any], dy: np.ndarray, cache: Any) -> tuple[np.ndarray, Parameters]:
    """Of an op with weight and bias: the gradient of its input, and those of its parameters by name."""
    dx, dweight, dbias = backward(dy, cache)
    return dx, {"weight": dweight, "bias": dbias}


def _add_rows(table: np.ndarray, ids: Ids, rows: Stream) -> None:
    """table[id] += row for every id, in place: the embedding's gradient, without another array of the table's size.

    Entries are numbered through the whole table, because np.add.at is many times faster in one dimension.
    """
    width = table.shape[1]
    entries = ids.astype(np.intp)[..., None] * width + np.arange(width)
    np.add.at(table.reshape(-1), entries.ravel(), rows.ravel())


def compute_loss(parameters: Parameters, ids: Ids, targets: Targets, *, heads: int) -> np.floating:
    """Cross-entropy of the targets, which are the next tokens, averaged over all that are not -100.

    If all are -100, it is 0. Raises ValueError for other targets outside of the vocabulary, and as `apply` does.
    """
    _check_targets(ids, targets)
    logits = apply(parameters, ids, heads=heads)[0]
    loss, _ = cross_entropy(logits, targets, ignore_index=IGNORED)
    return logits.dtype.type(loss)


def loss_and_gradients(
    parameters: Parameters, ids: Ids, targets: Targets, *, heads: int, intermediates: Intermediates = None
) -> tuple[np.floating, Parameters]:
    """`compute_loss` and its gradient with respect to every parameter; `intermediates` as for `apply_backward`.

    The same as `apply`, `cross_entropy` and their backward, in less memory: the gradient of the logits is written
    over them, and what a block has cached is dropped when backward has passed it.
    """
    _check_targets(ids, targets)
    logits, cache = apply(parameters, ids, heads=heads)
    loss = _to_gradient(logits, targets)
    dx, dtable = _head_backward(logits, cache.head)
    if intermediates is not None:
        intermediates["logits"] = logits
    del logits
    return loss, _body_backward(dx, dtable, cache, intermediates)


def _to_gradient(logits: Logits, targets: Targets) -> np.floating:
    """The loss. The logits become its gradient, a few rows at a time, while these are in a core's own cache."""
    vocabulary = logits.shape[2]
    z, t = logits.reshape(-1, vocabulary), targets.reshape(-1)
    share = 1 / max(np.count_nonzero(t != IGNORED), 1)
    rows = max(BLOCK_BYTES // (vocabulary * z.itemsize), 1)
    loss = 0.0
    for start in range(0, len(z), rows):
        block = slice(start, start + rows)
        part, cache = cross_entropy(z[block], t[block], reduction="sum", ignore_index=IGNORED)
        loss += float(part) * share
        z[block] = cross_entropy_backward(share, cache)
    return logits.dtype.type(loss)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"heads must divide the width, {width}, got {heads} heads.")


def _check_targets(ids: Ids, targets: Targets) -> None:
    if targets.shape != ids.shape:
        raise ValueError(f"targets must have the shape of ids, {ids.shape}, got {targets.shape}.")
