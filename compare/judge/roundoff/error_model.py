"""What rounding is in proportion to, operation by operation: the size of its result, of its terms, or of its inputs."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from compare.judge.program.interpreter import run

Draw = Callable[[Any], Any]  # value -> noise of its shape, of standard deviation u


def is_floating(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def growth(terms: float) -> float:
    """How the rounding of a sum grows with the number of its terms, added one after the other.

    Like sqrt(n) if every addition errs by chance (Higham and Mary, "A new approach to probabilistic rounding error
    analysis", SIAM Journal on Scientific Computing 41, 2019). Terms of a few values only, such as the gradients
    of a network that begins at zero, do not: while the partial sum stays between two powers of two, each is rounded
    the same way, and errors grow like n. What is allowed then is the sum of u |partial sum|, which no order exceeds.
    """
    return max(terms**0.5, terms / STEADY)


# As many as the deviations that are allowed: n in all, and the partial sums of n equal terms, or of n terms of random
# signs, add up to about n/2 times their sum, or their norm.
STEADY = 16


def _size(*values: Any) -> Any:
    """The largest |entry|, or 1 where that is no number to divide by: squares of what is left neither over- nor
    underflow."""
    largest = functools.reduce(jnp.maximum, [jnp.max(lax.abs(value), initial=0) for value in values])
    return jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)


def _products(equation: Any, inputs: list[Any], output: Any) -> Any:
    """g (|a| |b| / sqrt(n) + |a.b|) for a product of arrays contracted over n terms; g is `growth(n)`."""
    (contracted, batched) = equation.params["dimension_numbers"]
    norms = []
    for i, value in enumerate(inputs):
        # As the product's own axes are laid out: batch, then the free ones of a, then those of b.
        scale = _size(value)
        size = scale * lax.sqrt(jnp.sum(lax.square(value / scale), axis=contracted[i], keepdims=True))
        free = [axis for axis in range(value.ndim) if axis not in (*contracted[i], *batched[i])]
        size = lax.transpose(size, (*batched[i], *free, *contracted[i]))
        kept = [value.shape[axis] for axis in (*batched[i], *free)]
        other = output.ndim - len(kept)
        place = len(batched[i]) if i else len(kept)
        norms.append(lax.reshape(size, (*kept[:place], *(1,) * other, *kept[place:])))
    terms = float(np.prod([inputs[0].shape[axis] for axis in contracted[0]]))
    grown = growth(terms)
    return grown / max(terms, 1) ** 0.5 * norms[0] * norms[1] + grown * lax.abs(output)


def _sums(equation: Any, inputs: list[Any], output: Any) -> Any:
    """g (|a| + |sum of a|), because the additions of a plain sum round and its terms do not."""
    terms = inputs[0].size / max(output.size, 1)
    scale = _size(inputs[0])
    norm = scale * jnp.sqrt(jnp.sum((inputs[0] / scale) ** 2, axis=equation.params["axes"]))
    return growth(terms) * (norm + jnp.abs(output))


def _by_squares(equation: Any, inputs: list[Any], output: Any) -> Any:
    """The same for any other operation that adds its inputs, or their products: done again to squares, and to ones."""
    floating = [value for value in inputs if is_floating(value)]
    if equation.primitive.name == "conv_general_dilated":
        sizes = [_size(value) for value in floating]
        whole = sizes[0] * sizes[1]
    else:
        whole = _size(*floating)
        sizes = [whole] * len(floating)
    each = iter(sizes)
    scales = [next(each) if is_floating(value) else None for value in inputs]
    pairs = list(zip(inputs, scales, strict=True))
    squares = run(equation, [value if scale is None else (value / scale) ** 2 for value, scale in pairs])[0]
    terms = run(equation, [value if scale is None else jnp.ones_like(value) for value, scale in pairs])[0]
    grown = jnp.maximum(jnp.sqrt(terms), terms / STEADY)
    return grown * (whole * jnp.sqrt(squares) + jnp.abs(output))


def _smaller_factor(inputs: list[Any], draw: Draw) -> list[Any]:
    """A product's smaller factor, moved by its last place.

    Products may be multiplied in another order: (A B) c is rounded in proportion to |A B| |c|, and so it is
    when c is moved before B c is formed. The same holds for a factor that is scaled first.
    """
    least = min(range(len(inputs)), key=lambda i: inputs[i].size)
    moved = list(inputs)
    moved[least] = lax.add(inputs[least], lax.mul(lax.abs(inputs[least]), draw(inputs[least])))
    return moved


def _matrices(inputs: list[Any], draw: Draw) -> list[Any]:
    """Every matrix moved by the last place of its largest entry.

    What linear algebra computes is exact for a matrix that differs by a small multiple of u |A| (Higham, "Accuracy
    and Stability of Numerical Algorithms", 2nd edition, 2002, chapters 8 to 10 and 19): so its error is that times
    the condition of the problem, which nothing but moving the matrix tells.
    """

    def moved(value: Any) -> Any:
        if not is_floating(value) or value.ndim == 0:
            return value
        largest = jnp.max(jnp.abs(value), axis=tuple(range(value.ndim))[-2:], keepdims=True, initial=0)
        return jnp.where(jnp.isfinite(value), value + largest * draw(value), value)

    return [moved(value) for value in inputs]


def _beside_one(equation: Any, inputs: list[Any], output: Any) -> Any:
    """Textbooks write expm1(x) as exp(x) - 1 and log1p(x) as log(1 + x), which round where 1 does."""
    return lax.add(lax.abs(output), lax.full_like(output, 1))


# What an operation does to its inputs before it is done: a backward error.
INPUTS: dict[str, Callable[[list[Any], Draw], list[Any]]] = {"dot_general": _smaller_factor}
INPUTS |= dict.fromkeys(
    ("cholesky", "cholesky_update", "custom_linear_solve", "eig", "eigh", "hessenberg", "householder_product",
     "lu", "qr", "schur", "svd", "triangular_solve", "tridiagonal", "tridiagonal_solve"),
    _matrices,
)  # fmt: skip
# What rounding is in proportion to, where that is not the result.
SCALES: dict[str, Callable[..., Any]] = {"dot_general": _products, "reduce_sum": _sums}
SCALES |= dict.fromkeys(("conv_general_dilated", "cumsum", "reduce_window_sum", "scatter-add"), _by_squares)
SCALES |= dict.fromkeys(("expm1", "log1p"), _beside_one)
# Elementary functions are good to a few units in the last place; the rest to half of one.
ULPS = dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erf_inv", "pow"), 4)
ULPS |= dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "erfc"), 4)
# Operations that move numbers or choose among them, and never round.
EXACT = {
    "abs", "broadcast_in_dim", "concatenate", "copy", "copy_p", "dynamic_slice", "dynamic_update_slice",
    "expand_dims", "gather", "iota", "max", "min", "name", "neg", "pad", "reduce_max", "reduce_min", "reshape",
    "rev", "select_n", "sign", "slice", "sort", "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
