"""Arguments that are not arrays: flags, strings, functions, sparse matrices, data frames.

They are the same at every point and in every dtype. The hand-written side receives them as the caller passed them. The
loss receives sparse matrices and data frames as arrays, because JAX does not support them.
"""

import copy
import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from compare.errors import BadInput


def is_fixed(argument: Any) -> bool:
    """Whether the type of an argument shows that it is neither an array nor a tree of arrays."""
    return isinstance(argument, bool | str | bytes) or callable(argument) or _is_table(argument)


def _is_table(argument: Any) -> bool:
    """Whether it is a sparse matrix or a data frame, of any library."""
    if is_sparse(argument):
        return True
    return hasattr(argument, "to_numpy") and hasattr(argument, "shape") and not hasattr(argument, "__array_interface__")


def is_sparse(argument: Any) -> bool:
    """Whether it is a sparse matrix of SciPy. SciPy is not imported here, because that changes the warning filters."""
    return hasattr(argument, "tocoo") and hasattr(argument, "toarray")


def as_loss_has_it(argument: Any) -> Any:
    """The argument for the loss: a sparse matrix or data frame as an array, any other argument unchanged."""
    if is_sparse(argument):
        return argument.toarray()
    return np.asarray(argument.to_numpy()) if _is_table(argument) else argument


def places(arguments: tuple[Any, ...], static: Collection[Any], names: list[str]) -> list[bool]:
    """Which arguments are passed on unchanged and not traced.

    Args:
        arguments: the arguments after the parameters.
        static: the names or positions of the arguments that the caller declares static. The first argument after the
            parameters has position 1.
        names: the names of the parameters and the arguments.

    Returns:
        A boolean for each argument.

    Raises:
        BadInput: a ValueError, if `static` contains a name or position that no argument has.
    """
    chosen = {static} if isinstance(static, str | int) else set(static)
    known = {*names[1:], *range(1, len(arguments) + 1)}
    for one in chosen:
        if one not in known:
            raise BadInput(f"static names {one!r}, but the arguments are {', '.join(names[1:]) or '(none)'}.")
    return [
        is_fixed(argument) or i in chosen or name in chosen
        for i, (argument, name) in enumerate(zip(arguments, names[1:], strict=True), start=1)
    ]


def bind(
    function: Callable[..., Any], arguments: tuple[Any, ...], fixed: list[bool], convert: Callable[[Any], Any]
) -> Callable[..., Any]:
    """Binds the fixed arguments of a function.

    Args:
        function: a function of the parameters and the arguments.
        arguments: the arguments.
        fixed: whether each argument is bound.
        convert: a conversion that is applied to the bound arguments at each call.

    Returns:
        A function of the parameters and the other arguments.
    """
    kept = [argument for argument, is_fixed in zip(arguments, fixed, strict=True) if is_fixed]

    def bound(parameters: Any, *others: Any) -> Any:
        moving, still = iter(others), map(convert, kept)
        return function(parameters, *(next(still) if is_fixed else next(moving) for is_fixed in fixed))

    return bound


def as_hand_has_it(argument: Any) -> Any:
    """The argument for the hand-written side: a copy of a sparse matrix or data frame, any other argument unchanged.

    The copy protects the caller's object from changes in place.
    """
    return copy.deepcopy(argument) if _is_table(argument) else argument


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` positional arguments; fewer if the function's signature has fewer or none."""
    try:
        signature = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin function without a signature
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in signature if parameter.kind in positional][:count]
