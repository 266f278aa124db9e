"""A row of the table of primitives: the properties of one of JAX's operations that the judge uses."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np


class Kind(Enum):
    """What kind of function of its floating-point inputs an operation is."""

    LINEAR = "linear"  # linear in each of its inputs; includes operations that only rearrange entries
    SMOOTH = "smooth"  # differentiable wherever it is defined
    NONSMOOTH = "nonsmooth"  # has different one-sided derivatives at some points: abs at 0, max of equal numbers
    COMPARISON = "comparison"  # compares two numbers, and jumps where they are equal
    DISCRETE = "discrete"  # any other piecewise constant function, such as rounding to integers
    PROGRAM = "program"  # evaluates the programs inside it: a loop, a branch, a custom derivative


class Rounds(Enum):
    """The size that the rounding error of a result is proportional to. u is the unit roundoff."""

    EXACTLY = "exact"  # no rounding error: entries are rearranged, selected or compared
    RESULT = "result"  # u |result|
    TERMS = "terms"  # u |terms|, times a factor that grows with the number of terms: a sum
    PRODUCTS = "products"  # the same with products as terms: a matrix product
    SQUARES = "squares"  # the same; the size of the terms is found by applying the operation to squares
    BESIDE_ONE = "beside one"  # u (1 + |result|): code may compute expm1(x) as exp(x) - 1, and log1p(x) as log(1 + x)
    IF_NARROWER = "if narrower"  # u |result| if the result's dtype is narrower than the input's: a conversion
    WITHIN = "within"  # only the operations in the programs inside have rounding errors


class Moves(Enum):
    """The inputs that are perturbed before the operation, to model its backward error."""

    NOTHING = "nothing"
    SMALLER_FACTOR = "smaller factor"  # code may form products in another order, or scale a factor first
    MATRICES = "matrices"  # a factorization or solve is exact for a matrix perturbed by u times its largest entry
    INPUTS = "inputs"  # each entry of each input: nothing more is known about the operation


@dataclass(frozen=True)
class Primitive:
    """The row of one operation.

    Attributes:
        evaluate: `(*inputs, **params) -> result`, or a list of results, on NumPy arrays of any floating dtype; None if
            JAX evaluates the operation in the dtypes of the trace.
        kind: the kind of function.
        rounds: the size that its rounding error is proportional to.
        ulps: the error of a typical implementation, in half ULPs.
        inexact: the relative error of JAX's implementation in float64, if it is larger than that.
        moves: the inputs that are perturbed before the operation.
        slope: `x -> f'(x)` for a smooth elementwise function of one argument. The rounding error of a computed
            derivative is proportional to its largest value (see `largest_slope` in `roundoff/perturbation.py`).
        control: `(step, inputs, rule) -> results` for an operation that contains programs; it evaluates their steps by
            `rule`.
        continued: the operation's continuation to complex numbers, for complex steps; None if `evaluate` is analytic or
            if no continuation exists.
        analytic: whether `evaluate` is also correct for complex numbers.
        ufunc: a NumPy ufunc that computes the same for floating-point numbers and can write into given memory.
    """

    evaluate: Callable[..., Any] | None = None
    kind: Kind = Kind.SMOOTH
    rounds: Rounds = Rounds.RESULT
    ulps: float = 1.0
    inexact: float = 0.0
    moves: Moves = Moves.NOTHING
    slope: Callable[[Any], Any] | None = None
    control: Callable[..., list[Any]] | None = None
    continued: Callable[..., Any] | None = None
    analytic: bool = False
    ufunc: np.ufunc | None = None


# The row of operations without one. JAX evaluates them in the dtypes of the trace. Their inputs and results are
# perturbed, so that their condition number is included in the tolerance. Complex steps cannot pass through them.
UNKNOWN = Primitive(moves=Moves.INPUTS)
