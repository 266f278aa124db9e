"""What rounding is in proportion to, operation by operation: the size of its result, of its terms, or of its inputs.

The table of primitives says for each operation which of these it is (`Rounds`, `Moves`); here they are computed.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compare.judge.program.blocks import blockwise
from compare.judge.program.plan import Step
from compare.judge.program.primitives.row import Moves, Rounds

Array = Any
Draw = Callable[[Array], Array]  # value -> noise of its shape, of standard deviation u


def is_inexact(value: Array) -> bool:
    """Whether it is an array of floating-point numbers that rounds: NumPy's own, complex ones, or narrow ones."""
    return _rounds(value.dtype)


@functools.lru_cache(maxsize=256)
def _rounds(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.inexact)


class Size(NamedTuple):
    """`relative` |result| plus the product of `absolute`, each a number or an array that is spread over the result.

    Where there is nothing absolute, `relative` is a number.
    """

    relative: Array = 1.0
    absolute: tuple[Array, ...] = ()

    def times(self, factor: float) -> "Size":
        return Size(factor * self.relative, (factor, *self.absolute) if self.absolute else ()) if factor != 1 else self

    def drawn(self, result: Array, noise: Array) -> Array:
        """Noise of this size. It has no sign, so that of the result does no harm."""
        if self.absolute:
            return (self.relative * np.abs(result) + functools.reduce(np.multiply, self.absolute)) * noise
        return result * noise if self.relative == 1 else self.relative * (result * noise)


def growth(terms: float) -> float:
    """How the rounding of a sum grows with the number of its terms, added one after the other.

    Like sqrt(n) if every addition errs by chance (Higham and Mary, "A new approach to probabilistic rounding error
    analysis", SIAM Journal on Scientific Computing 41, 2019). Terms of a few values only, such as the gradients
    of a network that begins at zero, do not: while the partial sum stays between two powers of two, each is rounded
    the same way, and errors grow like n. The tolerance then is the sum of u |partial sum|, which no order exceeds.
    """
    return max(terms**0.5, terms / STEADY)


# As many as the standard deviations of a tolerance: n in all, and the partial sums of n equal terms, or of n terms of
# random signs, add up to about n/2 times their sum, or their norm.
STEADY = 16


def _size(value: Array) -> float:
    """The largest |entry|, or 1 where that is no number to divide by, so that squares neither over- nor underflow."""
    largest = float(np.max(np.abs(value), initial=0.0))
    return largest if 0 < largest < np.inf else 1.0


def _norm(value: Array, axes: tuple[int, ...]) -> Array:
    """The Euclidean norm along axes, which stay with length 1."""
    if value.dtype.kind == "f":
        all_axes = list(range(value.ndim))
        squares = np.einsum(value, all_axes, value, all_axes, [axis for axis in all_axes if axis not in axes])
        least, largest = np.min(squares, initial=1.0), np.max(squares, initial=1.0)
        if least > 1e-200 and largest < 1e200:  # none over- or underflowed
            return np.sqrt(squares).reshape([1 if axis in axes else n for axis, n in enumerate(value.shape)])
    scale = _size(value)
    return scale * np.sqrt(np.square(np.abs(value / scale)).sum(axis=axes, keepdims=True))


def _products(step: Step, inputs: list[Array], output: Array) -> Size:
    """g (|a| |b| / sqrt(n) + |a.b|) for a product of arrays contracted over n terms; g is `growth(n)`."""
    contracted, batched = step.params["dimension_numbers"]
    norms = []
    for i, value in enumerate(inputs):
        # As the product's own axes are laid out: batch, then the free ones of a, then those of b.
        value = np.asarray(value, output.dtype)
        size = _norm(value, tuple(contracted[i]))
        free = [axis for axis in range(value.ndim) if axis not in (*contracted[i], *batched[i])]
        kept = [value.shape[axis] for axis in (*batched[i], *free)]
        size = size.transpose((*batched[i], *free, *contracted[i]))
        other = output.ndim - len(kept)
        place = len(batched[i]) if i else len(kept)
        norms.append(size.reshape((*kept[:place], *(1,) * other, *kept[place:])))
    terms = float(np.prod([inputs[0].shape[axis] for axis in contracted[0]]))
    grown = growth(terms)
    return Size(grown, (norms[0] * (grown / max(terms, 1) ** 0.5), norms[1]))


def _terms(step: Step, inputs: list[Array], output: Array) -> Size:
    """g (|a| + |sum of a|), because the additions of a plain sum round and its terms do not."""
    value = np.asarray(inputs[0])
    terms = value.size / max(output.size, 1)
    norm = _norm(value, tuple(step.params["axes"])).reshape(output.shape)
    return Size(growth(terms), (growth(terms) * norm,))


def _squares(step: Step, inputs: list[Array], output: Array) -> Size:
    """The same for any other operation that adds its inputs, or their products: done again to squares, and to ones."""
    floating = [np.abs(value) for value in inputs if is_inexact(value)]
    if step.name == "conv_general_dilated":
        sizes = [_size(value) for value in floating]
        whole = sizes[0] * sizes[1]
    else:
        whole = _size(np.array([np.max(value, initial=0.0) for value in floating]))
        sizes = [whole] * len(floating)
    each = iter(sizes)
    scales = [next(each) if is_inexact(value) else None for value in inputs]
    pairs = list(zip(inputs, scales, strict=True))
    evaluate = step.row.evaluate
    assert evaluate is not None  # a row that rounds so is evaluated here
    squares = evaluate(*(v if s is None else np.square(np.abs(v) / s) for v, s in pairs), **step.params)
    terms = evaluate(*(v if s is None else np.ones(v.shape) for v, s in pairs), **step.params)
    grown = np.maximum(np.sqrt(terms), terms / STEADY)
    return Size(grown, (grown * (whole * np.sqrt(squares)),))


def _beside_one(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size(absolute=(1.0,))


def _result(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size()


# The size to which the rounding error of a result is in proportion.
SCALES: dict[Rounds, Callable[[Step, list[Array], Array], Size]] = {
    Rounds.RESULT: _result,
    Rounds.IF_NARROWER: _result,
    Rounds.TERMS: _terms,
    Rounds.PRODUCTS: _products,
    Rounds.SQUARES: _squares,
    Rounds.BESIDE_ONE: _beside_one,
}


def _smaller_factor(inputs: list[Array], draw: Draw) -> list[Array]:
    """A product's smaller factor, moved by its last place.

    Products may be multiplied in another order: (A B) c is rounded in proportion to |A B| |c|, and so it is
    when c is moved before B c is formed. The same holds for a factor that is scaled first.
    """
    floating = [i for i, value in enumerate(inputs) if is_inexact(value)]
    if not floating:
        return inputs
    least = min(floating, key=lambda i: inputs[i].size)
    return [_moved(value, draw) if i == least else value for i, value in enumerate(inputs)]


def _moved(value: Array, draw: Draw) -> Array:
    return blockwise(lambda entries, noise: entries + np.abs(entries) * noise, value, draw(value))


def _matrices(inputs: list[Array], draw: Draw) -> list[Array]:
    """Every matrix moved by the last place of its largest entry.

    What linear algebra computes is exact for a matrix that differs by a small multiple of u |A| (Higham, "Accuracy
    and Stability of Numerical Algorithms", 2nd edition, 2002, chapters 8 to 10 and 19): so its error is that times
    the condition of the problem, which nothing but moving the matrix tells.
    """

    def moved(value: Array) -> Array:
        if not is_inexact(value) or value.ndim == 0:
            return value
        largest = np.max(np.abs(value), axis=tuple(range(value.ndim))[-2:], keepdims=True, initial=0)
        return np.where(np.isfinite(value), value + largest * draw(value), value)

    return [moved(value) for value in inputs]


def _inputs(inputs: list[Array], draw: Draw) -> list[Array]:
    return [_moved(value, draw) if hasattr(value, "dtype") and is_inexact(value) else value for value in inputs]


# What an operation does to its inputs before it is done: a backward error.
MOVES: dict[Moves, Callable[[list[Array], Draw], list[Array]]] = {
    Moves.SMALLER_FACTOR: _smaller_factor,
    Moves.MATRICES: _matrices,
    Moves.INPUTS: _inputs,
}
