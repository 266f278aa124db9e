"""What the judge knows about one of JAX's primitives: one row of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np


class Kind(Enum):
    """What an operation is as a function of its floating-point inputs."""

    LINEAR = "linear"  # in each of its inputs, those that only move numbers included
    SMOOTH = "smooth"  # has derivatives wherever it is defined
    NONSMOOTH = "nonsmooth"  # has points with several one-sided derivatives: abs at 0, max where two are equal
    COMPARISON = "comparison"  # decides which is larger, and jumps where two are equal
    DISCRETE = "discrete"  # any other decision, constant between its jumps: rounding to integers, bits
    PROGRAM = "program"  # does what the programs inside of it do: a loop, a branch, a custom derivative


class Rounds(Enum):
    """What the rounding error of a result is in proportion to."""

    EXACTLY = "exact"  # no rounding: numbers are moved, chosen among, or compared
    RESULT = "result"  # u |result|
    TERMS = "terms"  # u |terms|, grown with their number: a sum
    PRODUCTS = "products"  # the same, of the products that are added: a matrix product
    SQUARES = "squares"  # the same, where only doing the operation again to squares tells which terms were added
    BESIDE_ONE = "beside one"  # u (1 + |result|): textbooks write expm1(x) as exp(x) - 1, log1p(x) as log(1 + x)
    IF_NARROWER = "if narrower"  # u of a narrower result only: a conversion
    WITHIN = "within"  # the programs inside round, and it does not


class Moves(Enum):
    """What is moved by its own roundoff before the operation is done: a backward error."""

    NOTHING = "nothing"
    SMALLER_FACTOR = "smaller factor"  # products may be multiplied in another order, and factors scaled before
    MATRICES = "matrices"  # linear algebra is exact for matrices that differ by u times their largest entry
    INPUTS = "inputs"  # each entry of each input: nothing more is known about the operation


@dataclass(frozen=True)
class Primitive:
    """One row.

    Args:
        evaluate: `(*inputs, **params) -> result`, or a list of them, on NumPy arrays of any floating dtype; None if
            JAX evaluates it, in the dtypes in which it was traced.
        kind: what the operation is as a function.
        rounds: what its rounding error is in proportion to.
        ulps: by how many half units in the last place an implementation errs.
        inexact: the relative error of JAX's own implementation in float64, where it is more than that.
        moves: what is moved before the operation is done.
        slope: of a smooth elementwise function of one argument, `x -> f'(x)`: where the function is evaluated near
            saturation, its derivative errs in proportion to its size away from there.
        control: `(step, inputs, rule) -> results` of an operation with programs inside, which `rule` evaluates.
        continued: its continuation to complex numbers, for complex steps; None if `evaluate` is that, or if there
            is none (`kind` tells: nonsmooth and discrete operations have none unless it is given).
        analytic: whether `evaluate` is right for complex numbers too.
        ufunc: NumPy's function that does the same for floating-point numbers, and writes into memory that it is given.
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


# An operation that nobody has described: JAX evaluates it as it was traced; its result is moved by its own rounding,
# its inputs too, so that whatever condition it has is seen, and no complex step goes through it.
UNKNOWN = Primitive(moves=Moves.INPUTS)
