"""Attention, with every derivative by hand.

Symbols, once: q, k, v are query, key and value, s the scores, p the softmax of each row of them, o the value of
the op; dq is the gradient of the loss with respect to q. Arrays are (batch, tokens, heads, depth). Inside, each key
head stands beside the group of query heads that use it: (batch, key_heads, group, tokens, depth), a view of the
same memory, which BLAS multiplies as fast as a contiguous copy.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from manual._affine import affine, affine_backward
from manual._attention_shapes import check_attention, check_rotary, check_weights

Matrix = Float[np.ndarray, "inputs outputs"]
Mask = Bool[np.ndarray, "..."] | None

BLOCK = 64  # queries at a time where attention is causal


class AttentionCache(NamedTuple):
    """The exponentials, the only arrays of size queries x keys, because to make them again costs a product of matrices.

    One entry of them and of `totals` for each block of queries: p = exponentials / totals, but it is never formed: a
    row of o is shorter than a row of scores, and cheaper to divide.
    """

    query: Float[np.ndarray, "batch queries heads depth"]
    key: Float[np.ndarray, "batch keys key_heads depth"]
    value: Float[np.ndarray, "batch keys key_heads value_depth"]
    exponentials: list[Float[np.ndarray, "batch key_heads group block seen"]]
    totals: list[Float[np.ndarray, "batch key_heads group block 1"]]
    causal: bool


def attention(
    query: Float[np.ndarray, "batch queries heads depth"],
    key: Float[np.ndarray, "batch keys key_heads depth"],
    value: Float[np.ndarray, "batch keys key_heads value_depth"],
    mask: Mask = None,
    *,
    causal: bool = False,
) -> tuple[Float[np.ndarray, "batch queries heads value_depth"], AttentionCache]:
    """Scaled dot-product attention: every query takes an average of the values, weighted by how keys match it.

        s = q k^T / sqrt(depth)      p = softmax(s)  over the keys that may be attended      o = p v

    `mask`, broadcastable to (batch, heads, queries, keys), is True where a key may be attended. `causal` lets query i
    see the keys j <= i + (keys - queries): the last query sees all, as it must when earlier keys come from a cache.
    (FlashAttention since 2.1 does the same; the `is_causal` of PyTorch and of JAX aligns the beginnings.) Heads
    must be a multiple of key_heads, and query head h uses key head h // (heads / key_heads). A query that may
    attend to nothing gets 0, and so do its gradients. (PyTorch's gave NaN before 2.5; `nn.MultiheadAttention` still
    does when it returns its weights.)

    Causal attention goes through the queries in blocks, so that most of the keys that are not seen cost neither time
    nor memory. Raises ValueError if the shapes do not fit or the mask is not boolean.
    Source: Vaswani et al., "Attention is all you need" (2017), 3.2.1; grouped heads: Ainslie et al., "GQA" (2023).
    """
    check_attention(query, key, value, mask)
    o = np.empty((*query.shape[:3], value.shape[3]), query.dtype)
    q, k, v, out = (_by_key_head(x, key.shape[2]) for x in (query, key, value, o))
    q = q * (1 / math.sqrt(q.shape[-1]))
    offsets = _offsets(mask, causal, (*q.shape[:4], k.shape[3]), q.dtype)
    cache = AttentionCache(query, key, value, [], [], causal)
    for rows, seen in _blocks(q.shape[3], k.shape[3], causal):
        s = q[..., rows, :] @ k[..., seen, :].swapaxes(-1, -2)
        if offsets is not None:
            s += offsets[..., rows, seen]
        # The largest exponential of a row is exp(0) = 1, so that its total is at least 1, unless nothing may be
        # attended: then `initial` takes the place of -infinity, and 1 that of the total 0.
        s -= np.max(s, axis=-1, keepdims=True, initial=np.finfo(s.dtype).min)
        e = np.exp(s, out=s)
        total = np.maximum(np.sum(e, axis=-1, keepdims=True), 1)
        np.matmul(e, v[..., seen, :], out=out[..., rows, :])
        out[..., rows, :] /= total
        cache.exponentials.append(e)
        cache.totals.append(total)
    return o, cache


def attention_backward(
    output_gradient: Float[np.ndarray, "batch queries heads value_depth"], cache: AttentionCache
) -> tuple[
    Float[np.ndarray, "batch queries heads depth"],
    Float[np.ndarray, "batch keys key_heads depth"],
    Float[np.ndarray, "batch keys key_heads value_depth"],
]:
    """Two products undo o = p v, two undo s = q k^T, and between them stands the derivative of softmax:

        dv = p^T do      dp = do v^T      ds = p (dp - sum over keys of p dp)
        dq = ds k / sqrt(depth)           dk = ds^T q / sqrt(depth)

    Softmax: dp_i/ds_j = p_i ((i = j) - p_j). Keys that may not be attended have p = 0 and need no second look. With
    p = e / total and g = do / total, these are dv = e^T g and ds = e (g v^T - sum of e (g v^T) / total).
    The sum is taken over the products themselves, and not as do o, so that it cancels exactly where p is 1.
    A key head is used by its whole group of query heads, so that their dk and dv are added up.
    """
    query, key, value, exponentials, totals, causal = cache
    d_query, d_key, d_value = (np.zeros(x.shape, x.dtype) for x in (query, key, value))
    q, k, v, do = (_by_key_head(x, key.shape[2]) for x in (query, key, value, output_gradient))
    dq, dk, dv = (_by_key_head(x, key.shape[2]) for x in (d_query, d_key, d_value))
    blocks = _blocks(q.shape[3], k.shape[3], causal)
    for (rows, seen), e, total in zip(blocks, exponentials, totals, strict=True):
        g = do[..., rows, :] / total
        dv[..., 0, seen, :] += _stacked(e).swapaxes(-1, -2) @ _stacked(g)
        ds = g @ v[..., seen, :].swapaxes(-1, -2)
        ds -= np.vecdot(e, ds)[..., None] / total
        ds *= e
        np.matmul(ds, k[..., seen, :], out=dq[..., rows, :])
        dk[..., 0, seen, :] += _stacked(ds).swapaxes(-1, -2) @ _stacked(q[..., rows, :])
    dq *= 1 / math.sqrt(q.shape[-1])
    dk *= 1 / math.sqrt(q.shape[-1])
    return d_query, d_key, d_value


class RotaryEmbeddingCache(NamedTuple):
    """The turn itself, because cosines cost more than the multiplication. It is linear, so x is not needed."""

    cosine: Float[np.ndarray, "*batch time 1 pairs"]
    sine: Float[np.ndarray, "*batch time 1 pairs"]
    interleaved: bool


def rotary_embedding(
    x: Float[np.ndarray, "batch time heads depth"],
    positions: Int[np.ndarray, " time"] | Int[np.ndarray, "batch time"],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
) -> tuple[Float[np.ndarray, "batch time heads depth"], RotaryEmbeddingCache]:
    """Turn pairs of features by angles that grow with the position, so that q k^T knows only their difference.

        (a, b) -> (a cos t - b sin t, b cos t + a sin t)    t_i = position base^(-2 i / depth),  i < depth / 2

    Pair i is (x_i, x_{i + depth / 2}), as in GPT-NeoX and LLaMA, or (x_{2 i}, x_{2 i + 1}) if `interleaved`, as in the
    paper and in GPT-J; weights trained with one are of no use with the other. The angles are taken in float64,
    whatever x is, because those near position 100 000 are off by almost 0.01 in float32. Raises ValueError if depth
    is odd or positions are not integers, (time,) or (batch, time). Source: Su et al., "RoFormer" (2021), 3.2.2.
    """
    check_rotary(x, positions)
    frequencies = float(base) ** (-np.arange(0, x.shape[3], 2) / x.shape[3])
    angles = positions[..., None, None] * frequencies
    cache = RotaryEmbeddingCache(np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype), interleaved)
    return _turned(x, cache.cosine, cache.sine, interleaved), cache


def rotary_embedding_backward(
    output_gradient: Float[np.ndarray, "batch time heads depth"], cache: RotaryEmbeddingCache
) -> Float[np.ndarray, "batch time heads depth"]:
    """A rotation's transpose is its inverse: dx is dy turned by minus the angle."""
    return _turned(output_gradient, cache.cosine, -cache.sine, cache.interleaved)


class MultiHeadAttentionCache(NamedTuple):
    """Both factors of each product with a weight, because each is in the other's gradient; `attention` has q, k, v."""

    x: Float[np.ndarray, "batch queries features"]
    context: Float[np.ndarray, "batch keys context_features"] | None  # None: x itself
    weights: tuple[Matrix, Matrix, Matrix, Matrix]  # of query, key, value and output
    biased: tuple[bool, ...]  # likewise
    attended: Float[np.ndarray, "batch queries heads value_depth"]
    attention: AttentionCache


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
    """Every token of x asks the tokens of the context in several subspaces at once.

        q = x Wq + bq      k = c Wk + bk      v = c Wv + bv      y = attention(q, k, v) Wo + bo

    The context c is x itself (self-attention) if None is given. The columns of Wq are `heads` blocks of depth columns,
    those of Wk and Wv `key_heads` blocks (None: as many as heads); Wo has a row for each head and feature of a value.
    `mask` and `causal` are those of `attention`. Raises ValueError if the weights do not divide into heads.
    Source: Vaswani et al. (2017), 3.2.2, without biases; GPT-2 and `torch.nn.MultiheadAttention` have them.
    """
    key_heads = heads if key_heads is None else key_heads
    c = x if context is None else context
    weights = (query_weight, key_weight, value_weight, output_weight)
    biases = (query_bias, key_bias, value_bias, output_bias)
    biased = tuple(bias is not None for bias in biases)
    check_weights(x, c, weights, biases, heads, key_heads)
    q = _split(affine(x, query_weight, query_bias), heads)
    k = _split(affine(c, key_weight, key_bias), key_heads)
    v = _split(affine(c, value_weight, value_bias), key_heads)
    o, cache = attention(q, k, v, mask, causal=causal)
    return affine(_joined(o), output_weight, output_bias), MultiHeadAttentionCache(
        x, context, weights, biased, o, cache
    )


def multi_head_attention_backward(
    output_gradient: Float[np.ndarray, "batch queries outputs"], cache: MultiHeadAttentionCache
) -> tuple[np.ndarray | None, ...]:
    """Through the output weight, through the attention, and through the three projections:

        dWo = o^T dy     do = dy Wo^T     dq, dk, dv by attention_backward
        dWq = x^T dq     dbq = sum of dq over batch and tokens     the same for k and v with c
        dx = dq Wq^T     dc = dk Wk^T + dv Wv^T     dx + dc for x if the context is x

    Returns the gradients of x, the context, four weights and four biases; None where None was given.
    """
    x, context, (Wq, Wk, Wv, Wo), biased, o, attention_cache = cache
    c = x if context is None else context
    do, dWo, dbo = affine_backward(output_gradient, _joined(o), Wo)
    dq, dk, dv = attention_backward(do.reshape(o.shape), attention_cache)
    dx, dWq, dbq = affine_backward(_joined(dq), x, Wq)
    dc, dWk, dbk = affine_backward(_joined(dk), c, Wk)
    dc_of_v, dWv, dbv = affine_backward(_joined(dv), c, Wv)
    dc += dc_of_v
    if context is None:
        dx += dc
    biases = (db if given else None for db, given in zip((dbq, dbk, dbv, dbo), biased, strict=True))
    return dx, None if context is None else dc, dWq, dWk, dWv, dWo, *biases


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """(batch, tokens, heads x depth) -> (batch, tokens, heads, depth)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads)


def _joined(x: np.ndarray) -> np.ndarray:
    """The inverse of `_split`."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def _turned(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray, interleaved: bool) -> np.ndarray:
    """Each pair (a, b) of features of x turned by its angle."""
    half = x.shape[-1] // 2
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(half), slice(half, None))
    a, b, y = x[..., first], x[..., second], np.empty(x.shape, x.dtype)
    np.subtract(a * cosine, b * sine, out=y[..., first])
    np.add(b * cosine, a * sine, out=y[..., second])
    return y


def _blocks(queries: int, keys: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Queries, and the keys that any of them can see: all at once, or in blocks if the last keys are hidden."""
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


def _offsets(mask: np.ndarray | None, causal: bool, scores: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    """0 where a key may be attended and -infinity elsewhere, computed in the mask's own shape: adding is one pass."""
    batch, key_heads, group, queries, keys = scores
    if causal:
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        mask = seen if mask is None else mask & seen
    if mask is None:
        return None
    offsets = np.where(mask, dtype.type(0), dtype.type(-np.inf))
    return np.broadcast_to(offsets, (batch, key_heads * group, queries, keys)).reshape(scores)


Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]

ATTENTION: dict[str, Rule] = {
    "attention": (attention, attention_backward),
    "rotary_embedding": (rotary_embedding, rotary_embedding_backward),
    "multi_head_attention": (multi_head_attention, multi_head_attention_backward),
}
