"""The size of each operation's rounding error, which is proportional to its result, its terms or its inputs.

The table of primitives says which of these applies to an operation (`Rounds`, `Moves`). This module computes the sizes.
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
    """Whether it is an array of floating-point or complex numbers, including 16-bit ones."""
    return _rounds(value.dtype)


@functools.lru_cache(maxsize=256)
def _rounds(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.inexact)


class Size(NamedTuple):
    """The size of a rounding error in units of u: `relative` |result| plus the product of all `absolute`.

    Attributes:
        relative: a number; if `absolute` is not empty, a number or an array that broadcasts to the result.
        absolute: numbers or arrays that broadcast to the result.
    """

    relative: Array = 1.0
    absolute: tuple[Array, ...] = ()

    def times(self, factor: float) -> "Size":
        """The size multiplied by a factor."""
        return Size(factor * self.relative, (factor, *self.absolute) if self.absolute else ()) if factor != 1 else self

    def drawn(self, result: Array, noise: Array) -> Array:
        """The noise scaled to this size. It has a symmetric distribution, so that the result's sign has no effect."""
        if self.absolute:
            return (self.relative * np.abs(result) + functools.reduce(np.multiply, self.absolute)) * noise
        return result * noise if self.relative == 1 else self.relative * (result * noise)


def growth(terms: float) -> float:
    """The factor by which the rounding error of a sum grows with the number n of its terms.

    It is sqrt(n) if the rounding errors of the additions are random (Higham and Mary, "A new approach to probabilistic
    rounding error analysis", SIAM Journal on Scientific Computing 41, 2019). They are not random if the terms have few
    different values, like the gradients of a network whose parameters are 0. While the partial sum is between two
    powers of two, each addition then rounds in the same direction, so that the error grows like n. For large n, the
    tolerance is therefore the sum of u |partial sum|, which bounds the error of every order of summation.
    """
    return max(terms**0.5, terms / STEADY)


# The number of standard deviations in a tolerance. Dividing by it makes the tolerance, and not the standard deviation,
# as large as the sum of the partial sums. For n equal terms, the partial sums add up to about n/2 times the sum. For n
# terms of random signs, they add up to about n/2 times the terms' norm.
STEADY = 16


def _size(value: Array) -> float:
    """The largest |entry|, or 1 if it is 0 or not finite. Divided by it, the entries' squares do not overflow."""
    largest = float(np.max(np.abs(value), initial=0.0))
    return largest if 0 < largest < np.inf else 1.0


def _norm(value: Array, axes: tuple[int, ...]) -> Array:
    """The Euclidean norm over some axes, which the result has with length 1."""
    if value.dtype.kind == "f":
        all_axes = list(range(value.ndim))
        squares = np.einsum(value, all_axes, value, all_axes, [axis for axis in all_axes if axis not in axes])
        least, largest = np.min(squares, initial=1.0), np.max(squares, initial=1.0)
        if least > 1e-200 and largest < 1e200:  # no square has overflowed or underflowed
            return np.sqrt(squares).reshape([1 if axis in axes else n for axis, n in enumerate(value.shape)])
    scale = _size(value)
    return scale * np.sqrt(np.square(np.abs(value / scale)).sum(axis=axes, keepdims=True))


def _products(step: Step, inputs: list[Array], output: Array) -> Size:
    """g (|a| |b| / sqrt(n) + |a.b|) for a product of arrays contracted over n terms; g is `growth(n)`."""
    contracted, batched = step.params["dimension_numbers"]
    norms = []
    for i, value in enumerate(inputs):
        # The product's axes are the batch axes, then the free axes of a, then those of b.
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
    """g (|a| + |sum of a|) for a sum of n terms a, whose additions round; g is `growth(n)`."""
    value = np.asarray(inputs[0])
    terms = value.size / max(output.size, 1)
    norm = _norm(value, tuple(step.params["axes"])).reshape(output.shape)
    return Size(growth(terms), (growth(terms) * norm,))


def _squares(step: Step, inputs: list[Array], output: Array) -> Size:
    """g (|terms| + |result|) for any other operation that adds its inputs or their products.

    The operation is applied to the squares of its inputs, which gives the squared norm of the terms, and to ones, which
    gives their number n. g is `growth(n)`.
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
    assert evaluate is not None  # every row with Rounds.SQUARES has one
    squares = evaluate(*(v if s is None else np.square(np.abs(v) / s) for v, s in pairs), **step.params)
    terms = evaluate(*(v if s is None else np.ones(v.shape) for v, s in pairs), **step.params)
    grown = np.maximum(np.sqrt(terms), terms / STEADY)
    return Size(grown, (grown * (whole * np.sqrt(squares)),))


def _beside_one(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size(absolute=(1.0,))


def _result(step: Step, inputs: list[Array], output: Array) -> Size:
    return Size()


# (step, inputs, result) -> the size of the result's rounding error.
SCALES: dict[Rounds, Callable[[Step, list[Array], Array], Size]] = {
    Rounds.RESULT: _result,
    Rounds.IF_NARROWER: _result,
    Rounds.TERMS: _terms,
    Rounds.PRODUCTS: _products,
    Rounds.SQUARES: _squares,
    Rounds.BESIDE_ONE: _beside_one,
}


def _smaller_factor(inputs: list[Array], draw: Draw) -> list[Array]:
    """The inputs of a product, with the smaller factor perturbed by one unit roundoff.

    Code may form products in another order. The rounding error of (A B) c is proportional to |A B| |c|, and so is the
    effect of perturbing c before A (B c) is computed. The same holds for a factor that the code scales first.
    """
    floating = [i for i, value in enumerate(inputs) if is_inexact(value)]
    if not floating:
        return inputs
    least = min(floating, key=lambda i: inputs[i].size)
    return [_moved(value, draw) if i == least else value for i, value in enumerate(inputs)]


def _moved(value: Array, draw: Draw) -> Array:
    return blockwise(lambda entries, noise: entries + np.abs(entries) * noise, value, draw(value))


def _matrices(inputs: list[Array], draw: Draw) -> list[Array]:
    """The inputs, with each matrix perturbed by u times its largest entry.

    The computed factors or solution are exact for a matrix that differs from A by a small multiple of u |A| (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, chapters 8 to 10 and 19). Their error is this
    difference times the condition number of the problem. Perturbing the matrix measures it.
    """

    def moved(value: Array) -> Array:
        if not is_inexact(value) or value.ndim == 0:
            return value
        largest = np.max(np.abs(value), axis=tuple(range(value.ndim))[-2:], keepdims=True, initial=0)
        return np.where(np.isfinite(value), value + largest * draw(value), value)

    return [moved(value) for value in inputs]


def _inputs(inputs: list[Array], draw: Draw) -> list[Array]:
    return [_moved(value, draw) if hasattr(value, "dtype") and is_inexact(value) else value for value in inputs]


# (inputs, draw) -> inputs perturbed by the operation's backward error.
MOVES: dict[Moves, Callable[[list[Array], Draw], list[Array]]] = {
    Moves.SMALLER_FACTOR: _smaller_factor,
    Moves.MATRICES: _matrices,
    Moves.INPUTS: _inputs,
}
