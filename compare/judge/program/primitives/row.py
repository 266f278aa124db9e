"""A row of the table of primitives: what the judge knows about one of JAX's operations."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np


class Kind(Enum):
    """The kind of function that an operation is of its floating-point inputs."""

    LINEAR = "linear"  # in each of its inputs; includes operations that only rearrange entries
    SMOOTH = "smooth"  # has derivatives wherever it is defined
    NONSMOOTH = "nonsmooth"  # has points with several one-sided derivatives: abs at 0, max where two are equal
    COMPARISON = "comparison"  # which of two numbers is larger; jumps where they are equal
    DISCRETE = "discrete"  # any other piecewise constant function: rounding to integers, bits
    PROGRAM = "program"  # evaluates the programs inside it: a loop, a branch, a custom derivative


class Rounds(Enum):
    """The size to which the rounding error of a result is in proportion."""

    EXACTLY = "exact"  # no rounding: entries are rearranged, selected or compared
    RESULT = "result"  # u |result|
    TERMS = "terms"  # u |terms|, times a factor that grows with their number: a sum
    PRODUCTS = "products"  # the same for products that are added: a matrix product
    SQUARES = "squares"  # the same, where the terms are found by the operation on squares
    BESIDE_ONE = "beside one"  # u (1 + |result|), because expm1(x) may be written exp(x) - 1, and log1p(x) log(1 + x)
    IF_NARROWER = "if narrower"  # u |result| if the result is narrower than the input: a conversion
    WITHIN = "within"  # only the programs inside round


class Moves(Enum):
    """The inputs that are perturbed before the operation, which stands for its backward error."""

    NOTHING = "nothing"
    SMALLER_FACTOR = "smaller factor"  # products may be formed in another order, and factors scaled first
    MATRICES = "matrices"  # linear algebra is exact for matrices that differ by u times their largest entry
    INPUTS = "inputs"  # each entry of each input, where nothing more is known about the operation


@dataclass(frozen=True)
class Primitive:
    """One row.

    Attributes:
        evaluate: `(*inputs, **params) -> result`, or a list of results, on NumPy arrays of any floating dtype; None if
            JAX evaluates the operation, in the dtypes of the trace.
        kind: the kind of function.
        rounds: the size to which its rounding error is in proportion.
        ulps: the error of an implementation, in half units in the last place.
        inexact: the relative error of JAX's implementation in float64, if that is larger.
        moves: the inputs that are perturbed before the operation.
        slope: `x -> f'(x)` for a smooth elementwise function of one argument. Near saturation, the error of its
            derivative is in proportion to the derivative away from saturation.
        control: `(step, inputs, rule) -> results` for an operation with programs inside, which `rule` evaluates.
        continued: its continuation to complex numbers, for complex steps; None if `analytic`, or if there is none.
        analytic: whether `evaluate` also holds for complex numbers.
        ufunc: NumPy's ufunc that does the same for floating-point numbers and can write into given memory.
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
