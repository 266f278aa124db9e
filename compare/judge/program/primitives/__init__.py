"""The table of JAX's primitives: how each is evaluated, its rounding error, and what kind of function it is.

The interpreter uses a row's `evaluate` and `control`, the error model `rounds`, `ulps`, `moves` and `slope`, the search
for nonsmooth points and discrete decisions `kind`, and complex steps `continued` and `analytic`. An operation that is
not in the table has the row UNKNOWN: JAX evaluates it in the dtypes of the trace, its inputs and results are perturbed
by their rounding errors, complex steps cannot pass through it, and reports name it.
"""

from dataclasses import replace

import numpy as np

from compare.judge.program.primitives import (
    arrays,
    control_flow,
    elementwise,
    indexing,
    linear_algebra,
    markers,
    special_functions,
    windows,
)
from compare.judge.program.primitives.row import Kind, Moves, Primitive, Rounds

_MOVED = Primitive(kind=Kind.LINEAR, rounds=Rounds.EXACTLY, analytic=True)
_CHOSEN = Primitive(kind=Kind.NONSMOOTH, rounds=Rounds.EXACTLY)
_COMPARED = Primitive(kind=Kind.COMPARISON, rounds=Rounds.EXACTLY)
_SUMMED = Primitive(kind=Kind.LINEAR, rounds=Rounds.SQUARES, analytic=True)
_SOLVED = Primitive(moves=Moves.MATRICES)
_ELEMENTARY = Primitive(ulps=4.0)

# The default row of the operations in each module of rules, and the exceptions by name.
_DEFAULTS = {indexing: _MOVED, windows: _SUMMED, linear_algebra: _SOLVED, special_functions: _ELEMENTARY}
_EXCEPTIONS = {
    "scatter-add": _SUMMED,
    "scatter-sub": replace(_SUMMED, rounds=Rounds.RESULT),
    "scatter-mul": Primitive(),
    "scatter-max": _CHOSEN,
    "scatter-min": _CHOSEN,
    "sort": _CHOSEN,
    "top_k": _CHOSEN,
    "argmax": _COMPARED,
    "argmin": _COMPARED,
    "reduce_window_max": _CHOSEN,
    "reduce_window_min": _CHOSEN,
    "cummax": _CHOSEN,
    "cummin": _CHOSEN,
    "cumprod": Primitive(analytic=True),
    "cumlogsumexp": Primitive(ulps=4.0),
    "select_and_scatter_add": Primitive(kind=Kind.LINEAR),
    "select_and_gather_add": Primitive(kind=Kind.LINEAR, rounds=Rounds.EXACTLY),
    "lu_pivots_to_permutation": Primitive(kind=Kind.DISCRETE, rounds=Rounds.EXACTLY),
    "fft": Primitive(kind=Kind.LINEAR, moves=Moves.INPUTS, analytic=True),
    "erf": Primitive(ulps=4.0, slope=lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "erfc": Primitive(ulps=4.0, slope=lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
}

# Operations that JAX evaluates exactly: random bits and keys, and the choice of a platform.
_BY_JAX = Primitive(kind=Kind.DISCRETE, rounds=Rounds.EXACTLY)
_DONE_BY_JAX = (
    "random_seed",
    "random_wrap",
    "random_unwrap",
    "random_clone",
    "random_split",
    "random_fold_in",
    "random_bits",
    "threefry2x32",
    "bitcast_convert_type",
    "platform_index",
)

TABLE: dict[str, Primitive] = {
    **elementwise.ROWS,
    **arrays.ROWS,
    **control_flow.ROWS,
    **markers.ROWS,
    **dict.fromkeys(_DONE_BY_JAX, _BY_JAX),
    **{
        name: replace(
            _EXCEPTIONS.get(name, default), evaluate=rule, inexact=special_functions.RELATIVE_ERROR.get(name, 0.0)
        )
        for module, default in _DEFAULTS.items()
        for name, rule in module.RULES.items()
    },
}
