"""Checks of the shapes and dtypes of the arguments of attention. Each raises ValueError."""

import numpy as np


def check_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray | None) -> None:
    shapes = f"query {query.shape}, key {key.shape} and value {value.shape}"
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ValueError(f"query, key and value must be (batch, tokens, heads, depth); got {shapes}.")
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query, key and value do not fit together: {shapes}. All must have the same batch; key and value the "
            "same tokens and heads; query and key the same depth."
        )
    if query.shape[3] == 0 or key.shape[2] == 0 or query.shape[2] % key.shape[2]:
        raise ValueError(
            f"the heads of query must be a multiple of those of key, and depth at least 1; got {shapes}. "
            "Heads are axis 2 of (batch, tokens, heads, depth)."
        )
    scores = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    if mask is None:
        return
    if mask.dtype != bool:
        raise ValueError(f"mask must be boolean, True where a key may be attended; got {mask.dtype}.")
    if mask.ndim > 4 or any(m not in (1, n) for m, n in zip(mask.shape[::-1], scores[::-1], strict=False)):
        raise ValueError(
            f"mask {mask.shape} does not broadcast to (batch, heads, queries, keys) = {scores}. "
            "A mask of keys for each example is mask[:, None, None, :]."
        )


def check_rotary(x: np.ndarray, positions: np.ndarray) -> None:
    if x.ndim != 4 or x.shape[3] % 2:
        raise ValueError(
            f"x must be (batch, time, heads, depth), with an even depth because features form pairs; got {x.shape}."
        )
    if positions.shape not in (x.shape[1:2], x.shape[:2]) or not np.issubdtype(positions.dtype, np.integer):
        raise ValueError(
            f"positions must be integers of shape (time,) = {x.shape[1:2]} or (batch, time) = {x.shape[:2]}; "
            f"got {positions.dtype} {positions.shape}. Positions 0, 1, 2, ... are np.arange({x.shape[1]})."
        )


def check_weights(
    x: np.ndarray,
    context: np.ndarray,
    weights: tuple[np.ndarray, ...],
    biases: tuple[np.ndarray | None, ...],
    heads: int,
    key_heads: int,
) -> None:
    query, _, value, output = weights
    if x.ndim != 3 or context.ndim != 3:
        raise ValueError(f"x and context must be (batch, tokens, features); got {x.shape} and {context.shape}.")
    if heads < 1 or key_heads < 1 or heads % key_heads:
        raise ValueError(f"heads must be a positive multiple of key_heads; got {heads} and {key_heads}.")
    depth, value_depth = query.shape[1] // heads, value.shape[1] // key_heads
    expected = {
        "query_weight": (x.shape[2], heads * depth),
        "key_weight": (context.shape[2], key_heads * depth),
        "value_weight": (context.shape[2], key_heads * value_depth),
        "output_weight": (heads * value_depth, output.shape[1]),
    }
    for (name, shape), weight, bias in zip(expected.items(), weights, biases, strict=True):
        if weight.shape != shape or (bias is not None and bias.shape != shape[1:]):
            actual = f"{weight.shape}" if bias is None else f"{weight.shape} with a bias {bias.shape}"
            raise ValueError(
                f"{name} must be (inputs, outputs) = {shape} for {heads} heads and {key_heads} key heads, "
                f"and its bias (outputs,); got {actual}. "
                "Key and value have key_heads blocks of columns, and query has heads blocks."
            )
