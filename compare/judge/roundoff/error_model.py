"""The size of each operation's rounding error, which is in proportion to its result, its terms or its inputs.

The table of primitives says which of these applies to an operation (`Rounds`, `Moves`). They are computed here.
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
Draw = Callable[[Array], Array]  # value -> noise of the same shape, with standard deviation u


def is_inexact(value: Array) -> bool:
    """Whether it is an array of floating-point or complex numbers, those of 16 bits included."""
    return _rounds(value.dtype)


@functools.lru_cache(maxsize=256)
def _rounds(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.inexact)


class Size(NamedTuple):
    """The size of a rounding error: `relative` |result| plus the product of all `absolute`.

    Each is a number or an array that is broadcast to the result. If `absolute` is empty, `relative` is a number.
    """

    relative: Array = 1.0
    absolute: tuple[Array, ...] = ()

    def times(self, factor: float) -> "Size":
        return Size(factor * self.relative, (factor, *self.absolute) if self.absolute else ()) if factor != 1 else self

    def drawn(self, result: Array, noise: Array) -> Array:
        """Noise of this size. Its distribution is symmetric, so the sign of the result does not matter."""
        if self.absolute:
            return (self.relative * np.abs(result) + functools.reduce(np.multiply, self.absolute)) * noise
        return result * noise if self.relative == 1 else self.relative * (result * noise)


def growth(terms: float) -> float:
    """The growth of a sum's rounding error with the number n of its terms, which are added one after the other.

    It is sqrt(n) if the rounding errors of the additions are random (Higham and Mary, "A new approach to probabilistic
    rounding error analysis", SIAM Journal on Scientific Computing 41, 2019). If the terms have few
    different values, such as the gradients of a network that is initialized by zeros, they are not: while the partial
    sum stays between two powers of two, each addition rounds the same way, and errors grow like n. The tolerance then
    is the sum of u |partial sum|, which no order exceeds.
    """
    return max(terms**0.5, terms / STEADY)


# The number of standard deviations in a tolerance, so that the tolerance grows like n. The partial sums of n equal
# terms add up to about n/2 times their sum, and those of n terms of random signs to about n/2 times their norm.
STEADY = 16


def _size(value: Array) -> float:
    """The largest |entry|, or 1 if that is 0 or not finite: a divisor with which squares do not over- or underflow."""
    largest = float(np.max(np.abs(value), initial=0.0))
    return largest if 0 < largest < np.inf else 1.0


def _norm(value: Array, axes: tuple[int, ...]) -> Array:
    """The Euclidean norm along axes, which are kept with length 1."""
    if value.dtype.kind == "f":
        all_axes = list(range(value.ndim))
        squares = np.einsum(value, all_axes, value, all_axes, [axis for axis in all_axes if axis not in axes])
        least, largest = np.min(squares, initial=1.0), np.max(squares, initial=1.0)
        if least > 1e-200 and largest < 1e200:  # no square over- or underflowed
            return np.sqrt(squares).reshape([1 if axis in axes else n for axis, n in enumerate(value.shape)])
    scale = _size(value)
    return scale * np.sqrt(np.square(np.abs(value / scale)).sum(axis=axes, keepdims=True))


def _products(step: Step, inputs: list[Array], output: Array) -> Size:
    """g (|a| |b| / sqrt(n) + |a.b|) for a product of arrays contracted over n terms; g is `growth(n)`."""
    contracted, batched = step.params["dimension_numbers"]
    norms = []
    for i, value in enumerate(inputs):
        # In the order of the product's axes: batch axes, then the free ones of a, then those of b.
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
    """g (|a| + |sum of a|), because the additions of a sum round, and its terms do not."""
    value = np.asarray(inputs[0])
    terms = value.size / max(output.size, 1)
    norm = _norm(value, tuple(step.params["axes"])).reshape(output.shape)
    return Size(growth(terms), (growth(terms) * norm,))


def _squares(step: Step, inputs: list[Array], output: Array) -> Size:
    """The same for any other operation that adds its inputs or their products.

    The norm of the terms and their number are found by the operation on squares and on ones.
    """
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
    assert evaluate is not None  # every row with Rounds.SQUARES has a rule
    squares = evaluate(*(v if s is None else np.square(np.abs(v) / s) for v, s in pairs), **step.params)
    terms = evaluate(*(v if s is None else np.ones(v.shape) for v, s in pairs), **step.params)
    grown = np.maximum(np.sqrt(terms), terms / STEADY)
    return Size(grown, (grown * (whole * np.sqrt(squares)),))


def _beside_one(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size(absolute=(1.0,))


def _result(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size()


# The size of a result's rounding error.
SCALES: dict[Rounds, Callable[[Step, list[Array], Array], Size]] = {
    Rounds.RESULT: _result,
    Rounds.IF_NARROWER: _result,
    Rounds.TERMS: _terms,
    Rounds.PRODUCTS: _products,
    Rounds.SQUARES: _squares,
    Rounds.BESIDE_ONE: _beside_one,
}


def _smaller_factor(inputs: list[Array], draw: Draw) -> list[Array]:
    """The inputs of a product, the smaller factor perturbed by one unit roundoff.

    Products may be formed in another order: the rounding error of (A B) c is in proportion to |A B| |c|, and so is the
    effect of perturbing c before B c is formed. The same holds for a factor that is scaled first.
    """
    floating = [i for i, value in enumerate(inputs) if is_inexact(value)]
    if not floating:
        return inputs
    least = min(floating, key=lambda i: inputs[i].size)
    return [_moved(value, draw) if i == least else value for i, value in enumerate(inputs)]


def _moved(value: Array, draw: Draw) -> Array:
    return blockwise(lambda entries, noise: entries + np.abs(entries) * noise, value, draw(value))


def _matrices(inputs: list[Array], draw: Draw) -> list[Array]:
    """Every matrix perturbed by u times its largest entry.

    The results of linear algebra are exact for a matrix that differs by a small multiple of u |A| (Higham, "Accuracy
    and Stability of Numerical Algorithms", 2nd edition, 2002, chapters 8 to 10 and 19). So their error is that times
    the condition number of the problem, which is measured by perturbing the matrix.
    """

    def moved(value: Array) -> Array:
        if not is_inexact(value) or value.ndim == 0:
            return value
        largest = np.max(np.abs(value), axis=tuple(range(value.ndim))[-2:], keepdims=True, initial=0)
        return np.where(np.isfinite(value), value + largest * draw(value), value)

    return [moved(value) for value in inputs]


def _inputs(inputs: list[Array], draw: Draw) -> list[Array]:
    return [_moved(value, draw) if hasattr(value, "dtype") and is_inexact(value) else value for value in inputs]


# Perturbations of an operation's inputs, which stand for its backward error.
MOVES: dict[Moves, Callable[[list[Array], Draw], list[Array]]] = {
    Moves.SMALLER_FACTOR: _smaller_factor,
    Moves.MATRICES: _matrices,
    Moves.INPUTS: _inputs,
}
