"""Fast attention: blocks of queries, and matrix products that write directly into their results.

The query heads that share a key head are the axis `group` of (batch, key_heads, group, tokens, depth). This is a view
of the same memory, and BLAS multiplies it as fast as a contiguous copy. Causal attention processes the queries in
blocks, and skips most of the keys that a block does not attend to.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from manual._attention_shapes import check_attention, check_weights
from manual._rules import Rules
from manual.attention import (
    AttentionCache,
    Mask,
    MultiHeadAttentionCache,
    _joined,
    _split,
    rotary_embedding,
    rotary_embedding_backward,
)
from manual.fast.layers import dense, dense_backward

BLOCK = 64  # queries per block if attention is causal


def attention(
    query: Float[np.ndarray, "batch queries heads depth"],
    key: Float[np.ndarray, "batch keys key_heads depth"],
    value: Float[np.ndarray, "batch keys key_heads value_depth"],
    mask: Mask = None,
    *,
    causal: bool = False,
) -> tuple[Float[np.ndarray, "batch queries heads value_depth"], AttentionCache]:
    check_attention(query, key, value, mask)
    o = np.empty((*query.shape[:3], value.shape[3]), query.dtype)
    q, k, v, out = (_by_key_head(x, key.shape[2]) for x in (query, key, value, o))
    q = q * (1 / math.sqrt(q.shape[-1]))
    p = np.zeros((*q.shape[:4], k.shape[3]), q.dtype)
    hidden = _hidden(mask, causal, p.shape)
    for rows, seen in _blocks(q.shape[3], k.shape[3], causal):
        s = np.matmul(q[..., rows, :], k[..., seen, :].swapaxes(-1, -2), out=p[..., rows, seen])
        if hidden is not None:  # overwritten, because a hidden key may be infinite or NaN
            np.copyto(s, -np.inf, where=hidden[..., rows, seen])
        s -= np.max(s, axis=-1, keepdims=True, initial=np.finfo(s.dtype).min)
        np.exp(s, out=s)
        s /= np.maximum(np.sum(s, axis=-1, keepdims=True), 1)
        np.matmul(s, v[..., seen, :], out=out[..., rows, :])
    return o, AttentionCache(query, key, value, _stacked(p), causal)


def attention_backward(
    output_gradient: Float[np.ndarray, "batch queries heads value_depth"], cache: AttentionCache
) -> tuple[
    Float[np.ndarray, "batch queries heads depth"],
    Float[np.ndarray, "batch keys key_heads depth"],
    Float[np.ndarray, "batch keys key_heads value_depth"],
]:
    query, key, value, p, causal = cache
    d_query, d_key, d_value = (np.zeros(x.shape, x.dtype) for x in (query, key, value))
    q, k, v, do = (_by_key_head(x, key.shape[2]) for x in (query, key, value, output_gradient))
    dq, dk, dv = (_by_key_head(x, key.shape[2]) for x in (d_query, d_key, d_value))
    p = p.reshape(*q.shape[:4], k.shape[3])
    for rows, seen in _blocks(q.shape[3], k.shape[3], causal):
        here, g = p[..., rows, seen], do[..., rows, :]
        dv[..., 0, seen, :] += _stacked(here).swapaxes(-1, -2) @ _stacked(g)
        ds = g @ v[..., seen, :].swapaxes(-1, -2)
        ds -= np.vecdot(here, ds)[..., None]
        ds *= here
        np.matmul(ds, k[..., seen, :], out=dq[..., rows, :])
        dk[..., 0, seen, :] += _stacked(ds).swapaxes(-1, -2) @ _stacked(q[..., rows, :])
    dq *= 1 / math.sqrt(q.shape[-1])
    dk *= 1 / math.sqrt(q.shape[-1])
    return d_query, d_key, d_value


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
    do, dWo, dbo = dense_backward(output_gradient, cache.output)
    dq, dk, dv = attention_backward(_split(do, cache.attention.query.shape[2]), cache.attention)
    dx, dWq, dbq = dense_backward(_joined(dq), cache.query)
    dc, dWk, dbk = dense_backward(_joined(dk), cache.key)
    dc_by_values, dWv, dbv = dense_backward(_joined(dv), cache.value)
    dc += dc_by_values
    if cache.context_is_x:
        dx += dc
    return dx, None if cache.context_is_x else dc, dWq, dWk, dWv, dWo, dbq, dbk, dbv, dbo


def _blocks(queries: int, keys: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Slices of the queries, each with the keys that it attends to: a single one, or blocks if attention is causal."""
    size = BLOCK if causal else max(queries, 1)
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        yield slice(start, stop), slice(0, max(stop + keys - queries, 0) if causal else keys)


def _by_key_head(x: np.ndarray, key_heads: int) -> np.ndarray:
    """(batch, tokens, heads, depth) -> (batch, key_heads, heads / key_heads, tokens, depth), a view."""
    return x.reshape(*x.shape[:2], key_heads, x.shape[2] // key_heads, x.shape[3]).transpose(0, 2, 3, 1, 4)


def _stacked(x: np.ndarray) -> np.ndarray:
    """(batch, key_heads, group, rows, n) -> (batch, key_heads, group x rows, n): a product then sums over the group."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3], x.shape[4])


def _hidden(mask: np.ndarray | None, causal: bool, scores: tuple[int, ...]) -> np.ndarray | None:
    """Whether a query may not attend to a key. None if no key is excluded."""
    batch, key_heads, group, queries, keys = scores
    if causal:
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        mask = seen if mask is None else mask & seen
    if mask is None:
        return None
    return np.broadcast_to(~mask, (batch, key_heads * group, queries, keys)).reshape(scores)


ATTENTION: Rules = {
    "attention": (attention, attention_backward),
    "rotary_embedding": (rotary_embedding, rotary_embedding_backward),
    "multi_head_attention": (multi_head_attention, multi_head_attention_backward),
}
