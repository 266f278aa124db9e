"""`manual.transformer` in less memory.

The gradient of the logits is written over them, what a block has cached is dropped when backward has passed it, and the
token embedding, which is used twice, has one gradient in memory.
"""

import numpy as np

import manual.fast as ops
from manual import transformer as page
from manual.transformer import (
    IGNORED,
    Ids,
    Intermediates,
    Logits,
    Parameters,
    Stream,
    Targets,
    TransformerCache,
    _block_backward,
    _by_name,
    _check_targets,
)
from manual.transformer import PRESETS as PRESETS
from manual.transformer import initialize_parameters as initialize_parameters

BLOCK_BYTES = 1 << 20  # of logits whose loss is computed at a time: about what a core's own cache holds


def apply(parameters: Parameters, ids: Ids, *, heads: int) -> tuple[Logits, TransformerCache]:
    return page.apply(parameters, ids, heads=heads, ops=ops)


def apply_backward(
    output_gradient: Logits, cache: TransformerCache, *, intermediates: Intermediates = None
) -> Parameters:
    dx, dtable = _head_backward(output_gradient, cache)
    if intermediates is not None:
        intermediates["logits"] = output_gradient
    return _body_backward(dx, dtable, cache._replace(blocks=list(cache.blocks)), intermediates)


def _head_backward(dlogits: Logits, cache: TransformerCache) -> tuple[Stream, np.ndarray]:
    """logits = x E^T, so dx = dlogits E and dE = dlogits^T x: `dense_backward` would give that one transposed."""
    x, transposed, _ = cache.head
    dy = dlogits.reshape(len(x), transposed.shape[1])
    return (dy @ transposed.T).reshape(*dlogits.shape[:-1], x.shape[1]), dy.T @ x


def _body_backward(dx: Stream, dtable: np.ndarray, cache: TransformerCache, intermediates: Intermediates) -> Parameters:
    """From the gradients that the output layer leaves: of the last norm's value, and of the token embedding.

    `dtable` is written to, and a block's cache dropped, and its memory with it, as soon as it has been used.
    """
    seen = {"head.input": dx}
    dx, *dnorm = ops.normalization.layer_norm_backward(dx, cache.norm)
    seen["norm.input"] = dx
    dblocks: list[Parameters] = []
    while cache.blocks:
        inputs, dblock = _block_backward(dx, cache.blocks.pop(), ops)
        dx = inputs["input"]
        dblocks.append(dblock)
        if intermediates is not None:
            seen |= {f"blocks.{len(cache.blocks)}.{name}": value for name, value in inputs.items()}
    if intermediates is not None:
        intermediates |= seen
    dpositions = ops.layers.embedding_backward(np.sum(dx, axis=0), cache.positions)
    _add_rows(dtable, cache.tokens.ids, dx)
    dblocks.reverse()
    return {"token_embedding": dtable, "position_embedding": dpositions, "blocks": dblocks, "norm": _by_name(*dnorm)}


def _add_rows(table: np.ndarray, ids: Ids, rows: Stream) -> None:
    """table[id] += row for every id, in place: the embedding's gradient, without another array of the table's size.

    Entries are numbered through the whole table, because np.add.at is many times faster in one dimension.
    """
    width = table.shape[1]
    entries = ids.astype(np.intp)[..., None] * width + np.arange(width)
    np.add.at(table.reshape(-1), entries.ravel(), rows.ravel())


def compute_loss(parameters: Parameters, ids: Ids, targets: Targets, *, heads: int) -> np.floating:
    return page.compute_loss(parameters, ids, targets, heads=heads, ops=ops)


def loss_and_gradients(
    parameters: Parameters, ids: Ids, targets: Targets, *, heads: int, intermediates: Intermediates = None
) -> tuple[np.floating, Parameters]:
    _check_targets(ids, targets)
    logits, cache = apply(parameters, ids, heads=heads)
    loss = _to_gradient(logits, targets)
    dx, dtable = _head_backward(logits, cache)
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
        part, cache = ops.losses.cross_entropy(z[block], t[block], reduction="sum", ignore_index=IGNORED)
        loss += float(part) * share
        z[block] = ops.losses.cross_entropy_backward(share, cache)
    return logits.dtype.type(loss)
