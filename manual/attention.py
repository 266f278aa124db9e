"""Attention, with every derivative by hand.

Symbols: q, k, v are query, key and value; s are the scores, p is the softmax of each row of s, and o is the output.
dq is the gradient of the loss with respect to q. Arrays are (batch, tokens, heads, depth). In the formulas, each of
these is a matrix for every example and key head. The rows of k and v are the keys, and the rows of q, s, p and o are
the queries of all heads that share the key head. Shapes that do not fit raise ValueError.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from manual._attention_shapes import check_attention, check_rotary, check_weights
from manual._rules import Rules
from manual.activations import SoftmaxCache, softmax_backward
from manual.layers import DenseCache, dense, dense_backward

Query = Float[np.ndarray, "batch queries heads depth"]
Key = Float[np.ndarray, "batch keys key_heads depth"]
Value = Float[np.ndarray, "batch keys key_heads value_depth"]
Output = Float[np.ndarray, "batch queries heads value_depth"]
Mask = Bool[np.ndarray, "..."] | None
Tokens = Float[np.ndarray, "batch time heads depth"]
Positions = Int[np.ndarray, " time"] | Int[np.ndarray, "batch time"]


class AttentionCache(NamedTuple):
    """q, k and v, because each is a factor of another's gradient, and p, because it costs a matrix product."""

    query: Query
    key: Key
    value: Value
    p: Float[np.ndarray, "batch key_heads rows keys"]
    causal: bool  # with it, `manual.fast` skips the keys that are masked


def attention(
    query: Query, key: Key, value: Value, mask: Mask = None, *, causal: bool = False
) -> tuple[Output, AttentionCache]:
    """Scaled dot-product attention: each query receives an average of the values, weighted by its match with the keys.

        s = q k^T / sqrt(depth)      p = softmax(s)  over the keys that may be attended      o = p v

    A query that may attend to no key has an output of 0, and gradients of 0. (PyTorch gave NaN before version 2.5, and
    `nn.MultiheadAttention` still does if it returns its weights.)

    Args:
        query: the number of heads must be a multiple of key_heads; query head n uses key head n // (heads / key_heads).
        key: has the tokens and heads of value.
        value: may have another depth than query and key.
        mask: broadcastable to (batch, heads, queries, keys); True where a key may be attended.
        causal: query i may attend to the keys j <= i + (keys - queries), so that the last query attends to all keys.
            This is needed when earlier keys come from a cache. (FlashAttention since 2.1 does the same; `is_causal` of
            PyTorch and of JAX aligns the first query with the first key instead.)

    Returns:
        The outputs (batch, queries, heads, value_depth), and the cache.

    Raises:
        ValueError: if the shapes do not fit or the mask is not boolean.

    Source: Vaswani et al., "Attention is all you need" (2017), 3.2.1; grouped heads: Ainslie et al., "GQA" (2023).
    """
    check_attention(query, key, value, mask)
    key_heads, depth = key.shape[2:]
    q, k, v = _matrices(query, key_heads), _matrices(key, key_heads), _matrices(value, key_heads)
    s = q @ k.mT / math.sqrt(depth)
    p = _softmax_of_allowed(s, _allowed(query, key, mask, causal).reshape(s.shape))
    o = p @ v
    return _from_matrices(o, (*query.shape[:3], value.shape[3])), AttentionCache(query, key, value, p, causal)


def attention_backward(output_gradient: Output, cache: AttentionCache) -> tuple[Query, Key, Value]:
    """Two products are the adjoint of o = p v, two are that of s = q k^T / sqrt(depth), with softmax's in between:

        dv = p^T do      dp = do v^T      ds as in `softmax_backward`, over keys
        dq = ds k / sqrt(depth)           dk = ds^T q / sqrt(depth)

    Keys that may not be attended have p = 0, and therefore ds = 0: the mask is not needed again. The query heads that
    share a key head are rows of the same matrices, so that dk and dv are sums over these heads.
    """
    query, key, value, p, _ = cache
    key_heads, depth = key.shape[2:]
    q, k, v = _matrices(query, key_heads), _matrices(key, key_heads), _matrices(value, key_heads)
    do = _matrices(output_gradient, key_heads)
    dv = p.mT @ do
    dp = do @ v.mT
    ds = softmax_backward(dp, SoftmaxCache(p, axis=-1))
    dq = ds @ k / math.sqrt(depth)
    dk = ds.mT @ q / math.sqrt(depth)
    return _from_matrices(dq, query.shape), _from_matrices(dk, key.shape), _from_matrices(dv, value.shape)


def _matrices(x: np.ndarray, key_heads: int) -> np.ndarray:
    """(batch, tokens, heads, depth) -> (batch, key_heads, heads / key_heads x tokens, depth)."""
    batch, tokens, heads, depth = x.shape
    by_head = np.moveaxis(x.reshape(batch, tokens, key_heads, heads // key_heads, depth), 1, 3)
    return by_head.reshape(batch, key_heads, heads // key_heads * tokens, depth)


def _from_matrices(m: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_matrices`, for an array of this shape."""
    by_head = m.reshape(shape[0], m.shape[1], shape[2] // m.shape[1], shape[1], shape[3])
    return np.moveaxis(by_head, 3, 1).reshape(shape)


def _allowed(query: Query, key: Key, mask: Mask, causal: bool) -> np.ndarray:
    """True where a key may be attended, as (batch, heads, queries, keys)."""
    (batch, queries, heads, _), keys = query.shape, key.shape[1]
    seen = np.tri(queries, keys, keys - queries, dtype=bool) if causal else np.bool_(True)
    return np.broadcast_to(seen if mask is None else seen & mask, (batch, heads, queries, keys))


def _softmax_of_allowed(s: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The softmax of each row over the keys that are allowed, and 0 in a row where none is.

    The largest score is subtracted, so that the sum of a row is at least 1. In a row without an allowed key, `initial`
    replaces a maximum of -inf, and the sum, which is 0, is replaced by 1.
    """
    s = np.where(allowed, s, -np.inf)
    e = np.exp(s - np.max(s, axis=-1, keepdims=True, initial=np.finfo(s.dtype).min))
    return e / np.maximum(np.sum(e, axis=-1, keepdims=True), 1)


class RotaryEmbeddingCache(NamedTuple):
    """The cosines and sines, because recomputing them costs more than the rotation. The rotation is linear in x."""

    cosine: Float[np.ndarray, "*batch time 1 pairs"]
    sine: Float[np.ndarray, "*batch time 1 pairs"]
    interleaved: bool


def rotary_embedding(
    x: Tokens, positions: Positions, *, base: float = 10000.0, interleaved: bool = False
) -> tuple[Tokens, RotaryEmbeddingCache]:
    """Rotates pairs of features by angles proportional to the position, so that q k^T depends on relative positions.

        (a, b) -> (a cos t - b sin t, b cos t + a sin t)    t_i = position base^(-2 i / depth),  i < depth / 2

    Pair i is (x_i, x_{i + depth / 2}), as in GPT-NeoX and Hugging Face's LLaMA, or (x_{2 i}, x_{2 i + 1}) if
    `interleaved`, as in the paper, in GPT-J and in Meta's LLaMA. Weights that were trained with one layout do not work
    with the other. The angles are computed in float64 for every dtype of x, because float32 angles are off by about
    0.01 near position 100 000.

    Args:
        x: (batch, time, heads, depth).
        positions: integers of shape (time,), or (batch, time) if examples differ.
        base: the ratio between the largest and the smallest angle is about this number.
        interleaved: which features form a pair.

    Raises:
        ValueError: if depth is odd, or positions are not integers of shape (time,) or (batch, time).

    Source: Su et al., "RoFormer" (2021), 3.2.2.
    """
    check_rotary(x, positions)
    frequencies = float(base) ** (-np.arange(0, x.shape[3], 2) / x.shape[3])
    angles = positions[..., None, None] * frequencies
    cache = RotaryEmbeddingCache(np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype), interleaved)
    return _turned(x, cache.cosine, cache.sine, interleaved), cache


def rotary_embedding_backward(output_gradient: Tokens, cache: RotaryEmbeddingCache) -> Tokens:
    """The transpose of a rotation is its inverse: dx is dy rotated by minus the angle."""
    return _turned(output_gradient, cache.cosine, -cache.sine, cache.interleaved)


def _turned(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray, interleaved: bool) -> np.ndarray:
    """Each pair (a, b) of features of x, rotated by its angle."""
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)
    turned = (a * cosine - b * sine, b * cosine + a * sine)
    return np.stack(turned, axis=-1).reshape(x.shape) if interleaved else np.concatenate(turned, axis=-1)


class MultiHeadAttentionCache(NamedTuple):
    """The caches of the four dense layers and of the attention between them, because backward goes through all."""

    query: DenseCache
    key: DenseCache
    value: DenseCache
    attention: AttentionCache
    output: DenseCache
    context_is_x: bool


def multi_head_attention(
    x: Float[np.ndarray, "batch queries features"],
    context: Float[np.ndarray, "batch keys context_features"] | None,
    query_weight: Float[np.ndarray, "features query_columns"],
    key_weight: Float[np.ndarray, "context_features key_columns"],
    value_weight: Float[np.ndarray, "context_features value_columns"],
    output_weight: Float[np.ndarray, "attended outputs"],
    query_bias: Float[np.ndarray, " query_columns"] | None = None,
    key_bias: Float[np.ndarray, " key_columns"] | None = None,
    value_bias: Float[np.ndarray, " value_columns"] | None = None,
    output_bias: Float[np.ndarray, " outputs"] | None = None,
    mask: Mask = None,
    *,
    heads: int,
    key_heads: int | None = None,
    causal: bool = False,
) -> tuple[Float[np.ndarray, "batch queries outputs"], MultiHeadAttentionCache]:
    """The tokens of x attend to the tokens of the context in several heads, between dense layers.

        q = x Wq + bq      k = c Wk + bk      v = c Wv + bv      y = attention(q, k, v) Wo + bo

    Args:
        x: the tokens that the queries are computed from.
        context: c, the tokens that keys and values are computed from; None for x itself (self-attention).
        query_weight: its columns are `heads` blocks of depth columns.
        key_weight: its columns are `key_heads` blocks of depth columns.
        value_weight: its columns are `key_heads` blocks; their width may differ from depth.
        output_weight: has a row for each feature of each head.
        query_bias, key_bias, value_bias, output_bias: vectors, or None for no bias.
        mask: as for `attention`.
        heads: the number of query heads.
        key_heads: the number of heads of key and value, each shared by a group of query heads; None for `heads`.
        causal: as for `attention`.

    Returns:
        The outputs (batch, queries, outputs), and the cache.

    Raises:
        ValueError: if the weights do not divide into heads.

    Source: Vaswani et al. (2017), 3.2.2, without biases; GPT-2 and `torch.nn.MultiheadAttention` add them.
    """
    key_heads = heads if key_heads is None else key_heads
    c = x if context is None else context
    weights = (query_weight, key_weight, value_weight, output_weight)
    check_weights(x, c, weights, (query_bias, key_bias, value_bias, output_bias), heads, key_heads)
    q, of_query = dense(x, query_weight, query_bias)
    k, of_key = dense(c, key_weight, key_bias)
    v, of_value = dense(c, value_weight, value_bias)
    o, of_attention = attention(_split(q, heads), _split(k, key_heads), _split(v, key_heads), mask, causal=causal)
    y, of_output = dense(_joined(o), output_weight, output_bias)
    return y, MultiHeadAttentionCache(of_query, of_key, of_value, of_attention, of_output, context is None)


def multi_head_attention_backward(
    output_gradient: Float[np.ndarray, "batch queries outputs"], cache: MultiHeadAttentionCache
) -> tuple[np.ndarray | None, ...]:
    """Backward through the output's dense layer, the attention, and the dense layers of query, key and value.

    The context is an input of two dense layers, so dc is the sum of the gradients from both. In self-attention, dx is
    the sum of all three.

    Returns:
        The gradients of x, the context, the four weights and the four biases; None for an argument that was None.
    """
    heads = cache.attention.query.shape[2]
    do, dWo, dbo = dense_backward(output_gradient, cache.output)
    dq, dk, dv = attention_backward(_split(do, heads), cache.attention)
    dx, dWq, dbq = dense_backward(_joined(dq), cache.query)
    dc_by_keys, dWk, dbk = dense_backward(_joined(dk), cache.key)
    dc_by_values, dWv, dbv = dense_backward(_joined(dv), cache.value)
    dc = dc_by_keys + dc_by_values
    dx, dcontext = (dx + dc, None) if cache.context_is_x else (dx, dc)
    return dx, dcontext, dWq, dWk, dWv, dWo, dbq, dbk, dbv, dbo


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """(batch, tokens, heads x depth) -> (batch, tokens, heads, depth)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads)


def _joined(x: np.ndarray) -> np.ndarray:
    """The inverse of `_split`."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


ATTENTION: Rules = {
    "attention": (attention, attention_backward),
    "rotary_embedding": (rotary_embedding, rotary_embedding_backward),
    "multi_head_attention": (multi_head_attention, multi_head_attention_backward),
}
