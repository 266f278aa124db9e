"""The transformer in less memory.

The gradient of the logits overwrites them. The cache of a block is released as soon as its backward pass is done. The
token embedding, which is used twice, has a single gradient array.
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

BLOCK_BYTES = 1 << 20  # bytes of logits in a block of the loss: about the size of a core's own cache


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
    """logits = x E^T, so dx = dlogits E and dE = dlogits^T x. `dense_backward` would return the transpose of dE."""
    x, transposed, _ = cache.head
    dy = dlogits.reshape(len(x), transposed.shape[1])
    return (dy @ transposed.T).reshape(*dlogits.shape[:-1], x.shape[1]), dy.T @ x


def _body_backward(dx: Stream, dtable: np.ndarray, cache: TransformerCache, intermediates: Intermediates) -> Parameters:
    """Backward from the output of the last norm, with gradient dx. `dtable` is dE of the output layer.

    The embedding's gradient is added to `dtable` in place. A block's cache is removed, and its memory released, as soon
    as it has been used.
    """
    seen = {"head.input": dx}
    dx, *dnorm = ops.normalization.layer_norm_backward(dx, cache.norm)
    seen["norm.input"] = dx
    dblocks: list[Parameters] = []
    while cache.blocks:
        dx, dblock, dinputs = _block_backward(dx, cache.blocks.pop(), ops)
        dblocks.append(dblock)
        if intermediates is not None:
            seen |= {f"blocks.{len(cache.blocks)}.{name}": value for name, value in dinputs.items()}
    if intermediates is not None:
        intermediates |= seen
    dpositions = ops.layers.embedding_backward(np.sum(dx, axis=0), cache.positions)
    _add_rows(dtable, cache.tokens.ids, dx)
    dblocks.reverse()
    return {"token_embedding": dtable, "position_embedding": dpositions, "blocks": dblocks, "norm": _by_name(*dnorm)}


def _add_rows(table: np.ndarray, ids: Ids, rows: Stream) -> None:
    """table[id] += row for every id, in place, which needs no second array of the size of the table.

    np.add.at is called on the flattened table, where it is many times faster than on rows.
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
    """Returns the loss, and overwrites the logits by its gradient, in blocks of rows that fit into a core's cache."""
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
