"""Work keeps its dtype, in JAX too.

JAX demotes float64 input to float32 unless 64-bit types are switched on, and says nothing. The decorator
below switches them on for the duration of a call that was given 64-bit arrays, and leaves the process's
configuration as it was. NumPy needs nothing of the kind, so `manual` has no such module.
"""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def keeps_dtype(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit types enabled if any array that it is given is float64."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        arrays = (leaf for leaf in jax.tree.leaves((args, kwargs)) if isinstance(leaf, np.ndarray | jax.Array))
        wide = any(array.dtype == np.float64 for array in arrays)
        with jax.enable_x64(True) if wide else nullcontext():
            return function(*args, **kwargs)

    return wrapper
