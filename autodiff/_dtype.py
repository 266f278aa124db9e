"""Functions that keep the dtype of their arrays, for any configuration of JAX.

JAX silently converts float64 input to float32 unless 64-bit types are enabled. The decorator below enables them for the
duration of a call with float64 arrays, and leaves the configuration of the process unchanged. NumPy has no such
setting, so `manual` has no such module.
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
    """Decorates `function` to run with 64-bit types enabled if any array among its arguments is float64."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        arrays = (leaf for leaf in jax.tree.leaves((args, kwargs)) if isinstance(leaf, np.ndarray | jax.Array))
        wide = any(array.dtype == np.float64 for array in arrays)
        with jax.enable_x64(True) if wide else nullcontext():
            return function(*args, **kwargs)

    return wrapper
