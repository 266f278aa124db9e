"""Fast layers: fewer temporary arrays, and fewer passes over memory."""

import math

import numpy as np
from jaxtyping import Bool, Float, Num

from manual._rules import Rules
from manual.layers import (
    Array,
    DenseCache,
    DropoutCache,
    EmbeddingCache,
    _check_dense,
    _checked_mask,
    _checked_rate,
    dense_backward,
    embedding,
    flatten,
    flatten_backward,
)
from manual.layers import dropout_mask as dropout_mask


def dense(
    x: Float[np.ndarray, "*batch inputs"],
    weight: Float[np.ndarray, "inputs outputs"],
    bias: Float[np.ndarray, " outputs"] | None,
) -> tuple[Float[np.ndarray, "*batch outputs"], DenseCache]:
    """The bias is added in place to the product."""
    _check_dense(x, weight, bias)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = rows @ weight
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), DenseCache(rows, weight, bias)


def embedding_backward(
    output_gradient: Float[np.ndarray, "*ids features"], cache: EmbeddingCache
) -> Float[np.ndarray, "vocabulary features"]:
    """np.add.at on the flattened table, where it is many times faster than on rows."""
    ids, vocabulary = cache
    features = output_gradient.shape[-1]
    dweight = np.zeros(vocabulary * features, np.result_type(output_gradient, np.float32))
    entries = ids.astype(np.intp)[..., None] * features + np.arange(features)
    np.add.at(dweight, entries.ravel(), output_gradient.ravel())
    return dweight.reshape(vocabulary, features).astype(output_gradient.dtype, copy=False)


def dropout(
    x: Array, mask: Num[np.ndarray, "*shape"] | Bool[np.ndarray, "*shape"], *, rate: float
) -> tuple[Array, DropoutCache]:
    """The division is done in place in the product."""
    rate = _checked_rate(rate)
    kept = _checked_mask(x, mask)
    return _dropped(x, kept, rate), DropoutCache(kept, rate)


def dropout_backward(output_gradient: Array, cache: DropoutCache) -> Array:
    """The division is done in place in the product."""
    return _dropped(output_gradient, cache.mask, cache.rate)


def _dropped(x: np.ndarray, kept: np.ndarray, rate: float) -> np.ndarray:
    y = x * kept
    y /= 1 - rate
    return y


LAYERS: Rules = {
    "dense": (dense, dense_backward),
    "embedding": (embedding, embedding_backward),
    "dropout": (dropout, dropout_backward),
    "flatten": (flatten, flatten_backward),
}
