"""A GPT with the architecture of GPT-2, every derivative by hand.

    x = token_embedding[ids] + position_embedding[:time]
    x = x + projection(attention(qkv(norm1(x))))            for each block, causal attention of several heads,
    x = x + down(gelu(up(norm2(x))))                        then a network of one hidden layer, 4 times as wide
    logits = norm(x) token_embedding^T

Each sublayer normalizes its input ("pre-norm"), so that a residual stream x runs from the embedding to the last norm.
qkv, projection, up and down are dense layers with biases. The output layer has no bias, and its weight is the
transposed token embedding ("tied"). Source: Radford et al., "Language models are unsupervised multitask learners"
(2019), with the tanh form of GELU, as in the published code.

The backward pass goes through the same lines in reverse. A value that is used twice has a gradient of two terms: the
stream x is the input of a norm and of a sum, and the token embedding is the weight of the first layer and of the last.
All ops are those of `ops`, which is `manual` or `manual.fast`.

Parameters are {"token_embedding": (vocabulary, width), "position_embedding": (context, width), "blocks": [...],
"norm": {"weight", "bias"}}, each block {"norm1", "qkv", "projection", "norm2", "up", "down"} of {"weight", "bias"},
where the columns of qkv are those of query, key and value, in this order, each with the heads side by side. Ids and
targets outside of the vocabulary, and shapes and sizes that do not fit, raise ValueError.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import DTypeLike

import manual
from manual.activations import GeluCache
from manual.attention import AttentionCache
from manual.layers import DenseCache, EmbeddingCache
from manual.normalization import CenteredCache

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
IGNORED = -100  # targets with this value are ignored by the loss


class BlockCache(NamedTuple):
    """The caches of the ops of a block, in the order of the forward pass."""

    norm1: CenteredCache
    qkv: DenseCache
    attention: AttentionCache
    projection: DenseCache
    norm2: CenteredCache
    up: DenseCache
    gelu: GeluCache
    down: DenseCache


class TransformerCache(NamedTuple):
    """The caches of the ops, in the order of the forward pass."""

    tokens: EmbeddingCache
    positions: EmbeddingCache
    blocks: list[BlockCache]
    norm: CenteredCache
    head: DenseCache


def initialize_parameters(
    *, vocabulary: int, context: int, layers: int, heads: int, width: int, seed: int = 0, dtype: DTypeLike = np.float64
) -> Parameters:
    """The initialization of GPT-2: normal with standard deviation 0.02, biases 0, norms the identity.

    The weights of projection and down, whose outputs are added to the stream, are smaller by sqrt(2 layers), the number
    of these sums, so that the stream does not grow with depth: section 2.3 of the paper. (OpenAI's code has 0.01 for
    positions.) Weights are drawn in float64, in the order of the dict, and then cast, so that a seed gives the same
    network in every dtype, in `manual` and in `autodiff`.

    Args:
        vocabulary, context, layers, heads, width: sizes, as in PRESETS.
        seed: of the random numbers.
        dtype: of the parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: unless all sizes are positive and heads divides width.
    """
    sizes = {"vocabulary": vocabulary, "context": context, "layers": layers, "heads": heads, "width": width}
    if min(sizes.values()) < 1:
        raise ValueError(f"all sizes must be at least 1, got {sizes}.")
    _check_heads(width, heads)
    random = np.random.default_rng(seed)
    residual = 0.02 / (2 * layers) ** 0.5

    def normal(rows: int, columns: int, deviation: float = 0.02) -> np.ndarray:
        return (deviation * random.standard_normal((rows, columns))).astype(dtype)

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


def apply(parameters: Parameters, ids: Ids, *, heads: int, ops: ModuleType = manual) -> tuple[Logits, TransformerCache]:
    """The logits of the next token at every position.

    Args:
        parameters: from `initialize_parameters`.
        ids: token ids (batch, time).
        heads: the number of heads.
        ops: `manual` or `manual.fast`.

    Returns:
        The logits (batch, time, vocabulary), and the cache.

    Raises:
        ValueError: if ids are not in the vocabulary, if sequences are longer than the context, or if heads does not
            divide the width.
    """
    _check_ids(ids, parameters["position_embedding"], heads)
    table = parameters["token_embedding"]
    x_tokens, tokens = ops.layers.embedding(table, ids)
    x_positions, positions = ops.layers.embedding(parameters["position_embedding"], np.arange(ids.shape[1]))
    x = x_tokens + x_positions
    blocks = []
    for p in parameters["blocks"]:
        x, cache = _block(x, p, heads, ops)
        blocks.append(cache)
    x, norm = ops.normalization.layer_norm(x, **parameters["norm"])
    logits, head = ops.layers.dense(x, table.T, None)
    return logits, TransformerCache(tokens, positions, blocks, norm, head)


def _block(x: Stream, p: Parameters, heads: int, ops: ModuleType) -> tuple[Stream, BlockCache]:
    middle, of_attention = _attention(x, p, heads, ops)
    y, of_hidden_layer = _hidden_layer(middle, p, ops)
    return y, BlockCache(*of_attention, *of_hidden_layer)


def _attention(x: Stream, p: Parameters, heads: int, ops: ModuleType) -> tuple[Stream, tuple[Any, ...]]:
    """y = x + projection(attention(qkv(norm1(x))))."""
    batch, time, width = x.shape
    normed, norm1 = ops.normalization.layer_norm(x, **p["norm1"])
    packed, qkv = ops.layers.dense(normed, **p["qkv"])
    q, k, v = np.moveaxis(packed.reshape(batch, time, 3, heads, width // heads), 2, 0)
    o, attention = ops.attention.attention(q, k, v, causal=True)
    projected, projection = ops.layers.dense(o.reshape(x.shape), **p["projection"])
    return x + projected, (norm1, qkv, attention, projection)


def _hidden_layer(x: Stream, p: Parameters, ops: ModuleType) -> tuple[Stream, tuple[Any, ...]]:
    """y = x + down(gelu(up(norm2(x))))."""
    normed, norm2 = ops.normalization.layer_norm(x, **p["norm2"])
    hidden, up = ops.layers.dense(normed, **p["up"])
    active, gelu = ops.activations.gelu(hidden, approximate=True)
    added, down = ops.layers.dense(active, **p["down"])
    return x + added, (norm2, up, gelu, down)


def apply_backward(
    output_gradient: Logits, cache: TransformerCache, *, intermediates: Intermediates = None, ops: ModuleType = manual
) -> Parameters:
    """The gradients of all parameters, op by op from the last. Ids have no gradient.

    logits = x E^T is a dense layer with the weight E^T. So E receives the transposed gradient of that weight, in
    addition to the gradient from its use as the embedding. The position embedding is shared by all examples, so its
    gradient is a sum over them.

    Args:
        output_gradient: the gradient of the loss with respect to the logits.
        cache: from `apply`.
        intermediates: a dict that receives `output_gradient` as "logits", and the gradient with respect to the input of
            each op by name, as in "blocks.0.gelu.input" or "head.input". The gradient of a norm's input is that of this
            use alone. The full gradients of the stream are "blocks.0.input", and "blocks.0.middle" between attention
            and the hidden layer.
        ops: `manual` or `manual.fast`.

    Returns:
        The gradients, with the structure of the parameters.
    """
    dx_head, dW_head, _ = ops.layers.dense_backward(output_gradient, cache.head)
    dx_norm, *dnorm = ops.normalization.layer_norm_backward(dx_head, cache.norm)
    seen = {"logits": output_gradient, "head.input": dx_head, "norm.input": dx_norm}
    dx, dblocks = dx_norm, []
    for index in reversed(range(len(cache.blocks))):
        dx, dblock, dinputs = _block_backward(dx, cache.blocks[index], ops)
        dblocks.insert(0, dblock)
        seen |= {f"blocks.{index}.{name}": value for name, value in dinputs.items()}
    dpositions = ops.layers.embedding_backward(np.sum(dx, axis=0), cache.positions)
    dtable = ops.layers.embedding_backward(dx, cache.tokens) + dW_head.T
    if intermediates is not None:
        intermediates |= seen
    return {"token_embedding": dtable, "position_embedding": dpositions, "blocks": dblocks, "norm": _by_name(*dnorm)}


def _by_name(weight: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    return {"weight": weight, "bias": bias}


def _block_backward(dy: Stream, cache: BlockCache, ops: ModuleType) -> tuple[Stream, Parameters, dict[str, Any]]:
    """Backward through the hidden layer, and then through attention.

    Returns the gradients of the block's input, of its parameters, and of the inputs of its ops by name.
    """
    dmiddle, of_hidden_layer, after = _hidden_layer_backward(dy, cache, ops)
    dx, of_attention, before = _attention_backward(dmiddle, cache, ops)
    dblock = {name: _by_name(*pair) for name, pair in (of_attention | of_hidden_layer).items()}
    return dx, dblock, after | {"middle": dmiddle} | before | {"input": dx}


def _hidden_layer_backward(dy: Stream, cache: BlockCache, ops: ModuleType) -> tuple[Stream, Parameters, dict[str, Any]]:
    """y = x + f(x) with f(x) = down(gelu(up(norm2(x)))), so dx is dy plus the gradient through f.

    dx_up is the gradient of the input of up, and so on.
    """
    dx_down, dW_down, db_down = ops.layers.dense_backward(dy, cache.down)
    dx_gelu = ops.activations.gelu_backward(dx_down, cache.gelu)
    dx_up, dW_up, db_up = ops.layers.dense_backward(dx_gelu, cache.up)
    dx_norm2, dweight_norm2, dbias_norm2 = ops.normalization.layer_norm_backward(dx_up, cache.norm2)
    dx = dy + dx_norm2
    dparameters = {"norm2": (dweight_norm2, dbias_norm2), "up": (dW_up, db_up), "down": (dW_down, db_down)}
    dinputs = {"down.input": dx_down, "gelu.input": dx_gelu, "up.input": dx_up, "norm2.input": dx_norm2}
    return dx, dparameters, dinputs


def _attention_backward(dy: Stream, cache: BlockCache, ops: ModuleType) -> tuple[Stream, Parameters, dict[str, Any]]:
    """y = x + f(x) with f(x) = projection(attention(qkv(norm1(x)))), so dx is dy plus the gradient through f.

    The input of attention is one array, with the columns of query, key and value.
    """
    dx_projection, dW_projection, db_projection = ops.layers.dense_backward(dy, cache.projection)
    do = dx_projection.reshape(cache.attention.query.shape)
    dq, dk, dv = ops.attention.attention_backward(do, cache.attention)
    dx_attention = np.stack([dq, dk, dv], axis=2).reshape(*dy.shape[:2], 3 * dy.shape[2])
    dx_qkv, dW_qkv, db_qkv = ops.layers.dense_backward(dx_attention, cache.qkv)
    dx_norm1, dweight_norm1, dbias_norm1 = ops.normalization.layer_norm_backward(dx_qkv, cache.norm1)
    dx = dy + dx_norm1
    dparameters = {"norm1": (dweight_norm1, dbias_norm1), "qkv": (dW_qkv, db_qkv)}
    dparameters["projection"] = (dW_projection, db_projection)
    dinputs = {"projection.input": dx_projection, "attention.input": dx_attention}
    dinputs |= {"qkv.input": dx_qkv, "norm1.input": dx_norm1}
    return dx, dparameters, dinputs


def compute_loss(
    parameters: Parameters, ids: Ids, targets: Targets, *, heads: int, ops: ModuleType = manual
) -> np.floating:
    """The cross-entropy of the targets, which are the next tokens, averaged over all targets but -100.

    If all targets are -100, it is 0.

    Raises:
        ValueError: for other targets outside of the vocabulary, and as `apply` does.
    """
    _check_targets(ids, targets)
    logits, _ = apply(parameters, ids, heads=heads, ops=ops)
    loss, _ = ops.losses.cross_entropy(logits, targets, ignore_index=IGNORED)
    return logits.dtype.type(loss)


def loss_and_gradients(
    parameters: Parameters,
    ids: Ids,
    targets: Targets,
    *,
    heads: int,
    intermediates: Intermediates = None,
    ops: ModuleType = manual,
) -> tuple[np.floating, Parameters]:
    """`compute_loss`, and its gradient with respect to every parameter. `intermediates` is as for `apply_backward`."""
    _check_targets(ids, targets)
    logits, cache = apply(parameters, ids, heads=heads, ops=ops)
    loss, of_loss = ops.losses.cross_entropy(logits, targets, ignore_index=IGNORED)
    dlogits = ops.losses.cross_entropy_backward(1.0, of_loss)
    return logits.dtype.type(loss), apply_backward(dlogits, cache, intermediates=intermediates, ops=ops)


def _check_ids(ids: Ids, position_embedding: np.ndarray, heads: int) -> None:
    context, width = position_embedding.shape
    if ids.ndim != 2 or ids.shape[1] > context:
        raise ValueError(
            f"ids must be (batch, time) with time at most the context of {context}, got shape {ids.shape}. "
            "Cut longer sequences into pieces."
        )
    _check_heads(width, heads)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"heads must divide the width, {width}, got {heads} heads.")


def _check_targets(ids: Ids, targets: Targets) -> None:
    if targets.shape != ids.shape:
        raise ValueError(f"targets must have the shape of ids, {ids.shape}, got {targets.shape}.")
