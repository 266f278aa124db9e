"""Layers without statistics: dense, embedding, dropout and flatten, with every derivative by hand.

dy is the output gradient, dx the gradient of the input x, and so on. There may be any number of leading (batch) axes.
All arrays of a call share a dtype, and the value has it too. Shapes that do not fit raise ValueError, and so do ids
outside of the table, a rate outside of [0, 1), and a mask that holds other numbers than 0 and 1.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from manual._precision import widened
from manual._rules import Rules

Array = Float[np.ndarray, "*shape"]
Inputs = Float[np.ndarray, "*batch inputs"]
Outputs = Float[np.ndarray, "*batch outputs"]
Weight = Float[np.ndarray, "inputs outputs"]
Bias = Float[np.ndarray, " outputs"] | None
Ids = Integer[np.ndarray, "*ids"]
Table = Float[np.ndarray, "vocabulary features"]
Rows = Float[np.ndarray, "*ids features"]


class DenseCache(NamedTuple):
    """x, which is a factor of dW, and W, which is a factor of dx. b tells the backward pass whether there is a bias.

    x has all leading axes merged into rows, so that each gradient is one matrix product.
    """

    x: Float[np.ndarray, "rows inputs"]
    weight: Weight
    bias: Bias


def dense(x: Inputs, weight: Weight, bias: Bias) -> tuple[Outputs, DenseCache]:
    """y = x W + b for every example; b is left out if it is None.

    PyTorch, and the literature that follows it, store W transposed.

    Args:
        x: (..., inputs).
        weight: W, (inputs, outputs).
        bias: b, (outputs,), or None.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986), equation 1.
    """
    _check_dense(x, weight, bias)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = rows @ weight
    if bias is not None:
        y = y + bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), DenseCache(rows, weight, bias)


def dense_backward(output_gradient: Outputs, cache: DenseCache) -> tuple[Inputs, Weight, Bias]:
    """y_kj = sum over i of x_ki W_ij, plus b_j, for example k. Each factor receives dy times the other factor:

    dx = dy W^T          x_ki affects every output j of its own example, with factor W_ij
    dW = x^T dy          W_ij affects every example k, with factor x_ki
    db = 1^T dy          b_j affects every example, with factor 1

    db is a matrix product too, because its rounding error is smaller than that of np.sum, which adds row after row.
    """
    x, W, b = cache
    dy = output_gradient.reshape(len(x), W.shape[1])
    dx = dy @ W.T
    dW = x.T @ dy
    db = None if b is None else np.ones(len(dy), dy.dtype) @ dy
    return dx.reshape(*output_gradient.shape[:-1], len(W)), dW, db


def _check_dense(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[:1]:
        raise ValueError(
            f"dense needs x (..., inputs) and weight (inputs, outputs), got {x.shape} and {weight.shape}. "
            "Transpose a weight that is stored as (outputs, inputs)."
        )
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(
            f"dense needs bias (outputs,) = {weight.shape[1:]} for weight {weight.shape}, got {bias.shape}."
        )


class EmbeddingCache(NamedTuple):
    """The ids, because dW is nonzero in these rows only, and the number of rows. W is not needed: y is linear in W."""

    ids: Ids
    vocabulary: int


def embedding(weight: Table, ids: Ids) -> tuple[Rows, EmbeddingCache]:
    """y = W[ids]: one row of the table for every id, which is a dense layer applied to one-hot rows.

    Args:
        weight: W, the table (vocabulary, features).
        ids: integers of any shape.

    Raises:
        ValueError: for ids that are negative or beyond the table, or not integers.

    Source: Bengio et al., "A neural probabilistic language model" (2003), section 2.
    """
    _check_embedding(weight, ids)
    return np.take(weight, ids, axis=0), EmbeddingCache(ids, len(weight))


def embedding_backward(output_gradient: Rows, cache: EmbeddingCache) -> Table:
    """dW_v = sum of dy over all positions whose id is v, so repeated ids add up. Ids have no gradient."""
    ids, vocabulary = cache
    dy = widened(output_gradient)
    dW = np.zeros((vocabulary, dy.shape[-1]), dy.dtype)
    np.add.at(dW, ids, dy)
    return dW.astype(output_gradient.dtype)


def _check_embedding(weight: np.ndarray, ids: np.ndarray) -> None:
    if weight.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"embedding needs weight (vocabulary, features) and integer ids, got {weight.shape} and {ids.dtype} ids."
        )
    vocabulary = len(weight)
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        outside = (ids < 0) | (ids >= vocabulary)
        raise ValueError(
            f"embedding: {np.count_nonzero(outside)} of {ids.size} ids are not rows of the table, the first is "
            f"{ids[outside][0]}; ids must be from 0 to {vocabulary - 1}."
        )


class DropoutCache(NamedTuple):
    """The mask and the rate, which are the factor of x. x is not needed, because y is linear in x."""

    mask: Bool[np.ndarray, "*shape"]
    rate: float


def dropout(
    x: Array, mask: Num[np.ndarray, "*shape"] | Bool[np.ndarray, "*shape"], *, rate: float
) -> tuple[Array, DropoutCache]:
    """y = x mask / (1 - rate): each entry is kept (mask 1 or True) or dropped, so that E[y] = x.

    As in PyTorch, a dropped entry that is not finite becomes NaN. This is inverted dropout, as in most frameworks:
    nothing changes at test time. The original paper instead leaves out the division, and multiplies the weights by
    1 - rate at test time.

    Args:
        x: any shape.
        mask: 0 and 1, or booleans, in the shape of x; `dropout_mask` draws one.
        rate: the probability that an entry is dropped.

    Raises:
        ValueError: unless rate is in [0, 1), and mask has the shape of x and holds only 0 and 1.

    Source: Srivastava et al., "Dropout" (2014).
    """
    rate = _checked_rate(rate)
    kept = _checked_mask(x, mask)
    return x * kept / (1 - rate), DropoutCache(kept, rate)


def dropout_backward(output_gradient: Array, cache: DropoutCache) -> Array:
    """dx = dy mask / (1 - rate), because y is x times a constant. The mask is data and has no gradient."""
    return output_gradient * cache.mask / (1 - cache.rate)


def dropout_mask(shape: tuple[int, ...], *, rate: float, seed: int) -> Bool[np.ndarray, "..."]:
    """A mask whose entries are independently True (kept) with probability 1 - rate. `autodiff` draws the same mask.

    Args:
        shape: of the mask.
        rate: the probability that an entry is dropped.
        seed: of the random numbers.

    Raises:
        ValueError: unless rate is in [0, 1).
    """
    return np.random.default_rng(seed).random(shape) >= _checked_rate(rate)


def _checked_rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise ValueError(f"rate is the probability of dropping an entry and must be in [0, 1), got {rate}.")
    return float(rate)  # a NumPy scalar would promote float32 to float64


def _checked_mask(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask as booleans."""
    if mask.shape != x.shape:
        raise ValueError(
            f"dropout needs a mask of x's shape {x.shape}, got {mask.shape}. np.broadcast_to makes one that is "
            "shared along an axis."
        )
    kept = mask.astype(bool, copy=False)
    if mask.dtype != bool and not np.array_equal(kept, mask):
        raise ValueError(
            "dropout needs a mask of 0 and 1 (or booleans), got other numbers. "
            "If the mask is already divided by 1 - rate, pass mask > 0."
        )
    return kept


class FlattenCache(NamedTuple):
    """The shape of x, to reshape the gradient to."""

    shape: tuple[int, ...]


def flatten(x: Float[np.ndarray, "batch ..."]) -> tuple[Float[np.ndarray, "batch features"], FlattenCache]:
    """y = x with all axes but the first merged into one, in C order.

    y is a view of x where the memory layout allows it, as with `np.reshape`.

    Raises:
        ValueError: if x has no axes.

    Source: the vec operator of Magnus and Neudecker, "Matrix differential calculus" (1988), chapter 2, here by rows.
    """
    if x.ndim == 0:
        raise ValueError("flatten needs x (batch, ...), got a single number.")
    return x.reshape(len(x), math.prod(x.shape[1:])), FlattenCache(x.shape)


def flatten_backward(
    output_gradient: Float[np.ndarray, "batch features"], cache: FlattenCache
) -> Float[np.ndarray, "batch ..."]:
    """dx = dy in the shape of x: every entry of dy is the gradient of the entry that it was copied from."""
    return output_gradient.reshape(cache.shape)


LAYERS: Rules = {
    "dense": (dense, dense_backward),
    "embedding": (embedding, embedding_backward),
    "dropout": (dropout, dropout_backward),
    "flatten": (flatten, flatten_backward),
}
