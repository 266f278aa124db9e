"""Attention in JAX, forward only, with the names, arguments and conventions of `manual.attention`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from autodiff._attention_shapes import check_attention, check_rotary, check_weights

Mask = Bool[Array, "..."] | Bool[np.ndarray, "..."] | None
Positions = Int[Array, "*batch time"] | Int[np.ndarray, "*batch time"]


def attention(
    query: Float[Array, "batch queries heads depth"],
    key: Float[Array, "batch keys key_heads depth"],
    value: Float[Array, "batch keys key_heads value_depth"],
    mask: Mask = None,
    *,
    causal: bool = False,
) -> Float[Array, "batch queries heads value_depth"]:
    """softmax(q k^T / sqrt(depth)) v, over the keys that may be attended.

    In sums, b counts the batch, q queries, k keys, h key heads, g the query heads of a key head, and d features. A
    query that may attend to no key has an output of 0 and gradients of 0. `jax.nn.dot_product_attention` differs in
    both conventions: its output for such a query is the average of all values, and its `is_causal` aligns the first
    key with the first query instead of the last with the last.

    Raises:
        ValueError: if the shapes do not fit, or the mask is not boolean.
    """
    check_attention(query, key, value, mask)
    batch, queries, heads, depth = query.shape
    keys, key_heads = key.shape[1:3]
    grouped = query.reshape(batch, queries, key_heads, heads // key_heads, depth)
    scores = jnp.einsum("bqhgd,bkhd->bhgqk", grouped, key) / depth**0.5
    allowed = jnp.broadcast_to(True if mask is None else mask, (batch, heads, queries, keys))
    if causal:
        allowed &= jnp.arange(keys) - keys <= jnp.arange(queries)[:, None] - queries
    allowed = allowed.reshape(scores.shape)
    probabilities = jax.nn.softmax(scores, axis=-1, where=allowed)
    return jnp.einsum("bhgqk,bkhd->bqhgd", probabilities, value).reshape(batch, queries, heads, value.shape[3])


def rotary_embedding(
    x: Float[Array, "batch time heads depth"], positions: Positions, *, base: float = 10000.0, interleaved: bool = False
) -> Float[Array, "batch time heads depth"]:
    """x cos t + J x sin t with t_i = position base^(-2 i / depth), where J maps each pair (a, b) to (-b, a).

    The angles are computed in the dtype of x, but at least in float32. Near position 100 000, float32 angles are off by
    almost 0.01; `manual` computes them in float64. Raises ValueError as the op in `manual` does.
    """
    check_rotary(x, positions)
    depth = x.shape[3]
    precision = jnp.promote_types(x.dtype, jnp.float32)
    frequencies = jnp.asarray(float(base) ** -np.linspace(0, 1, depth // 2, endpoint=False), precision)
    angles = positions[..., None, None] * frequencies
    if interleaved:
        angles = jnp.repeat(angles, 2, axis=-1)
        quarter = jnp.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)
    else:
        angles = jnp.concatenate([angles, angles], axis=-1)
        first, second = jnp.split(x, 2, axis=-1)
        quarter = jnp.concatenate([-second, first], axis=-1)
    return x * jnp.cos(angles).astype(x.dtype) + quarter * jnp.sin(angles).astype(x.dtype)


def multi_head_attention(
    x: Float[Array, "batch queries features"],
    context: Float[Array, "batch keys context_features"] | None,
    query_weight: Float[Array, "features query_columns"],
    key_weight: Float[Array, "context_features key_columns"],
    value_weight: Float[Array, "context_features value_columns"],
    output_weight: Float[Array, "attended outputs"],
    query_bias: Float[Array, " query_columns"] | None = None,
    key_bias: Float[Array, " key_columns"] | None = None,
    value_bias: Float[Array, " value_columns"] | None = None,
    output_bias: Float[Array, " outputs"] | None = None,
    mask: Mask = None,
    *,
    heads: int,
    key_heads: int | None = None,
    causal: bool = False,
) -> Float[Array, "batch queries outputs"]:
    """Dense layers to query, key and value, `attention` in several heads, and a dense layer of the joined heads.

    The context is x itself if it is None. Raises ValueError if the weights do not divide into heads.
    """
    key_heads = heads if key_heads is None else key_heads
    context = x if context is None else context
    weights = (query_weight, key_weight, value_weight, output_weight)
    check_weights(x, context, weights, (query_bias, key_bias, value_bias, output_bias), heads, key_heads)

    def projected(tokens: Array, weight: Array, bias: Array | None, heads: int) -> Array:
        by_head = jnp.einsum("btf,fhd->bthd", tokens, weight.reshape(len(weight), heads, weight.shape[1] // heads))
        return by_head if bias is None else by_head + bias.reshape(by_head.shape[2:])

    query = projected(x, query_weight, query_bias, heads)
    key = projected(context, key_weight, key_bias, key_heads)
    value = projected(context, value_weight, value_bias, key_heads)
    attended = attention(query, key, value, mask, causal=causal)
    mixed = jnp.einsum("bthd,hdo->bto", attended, output_weight.reshape(*attended.shape[2:], output_weight.shape[1]))
    return mixed if output_bias is None else mixed + output_bias


ATTENTION: dict[str, Callable[..., Array]] = {
    "attention": attention,
    "rotary_embedding": rotary_embedding,
    "multi_head_attention": multi_head_attention,
}
