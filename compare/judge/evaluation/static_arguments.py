"""Arguments that are no arrays: flags, strings, functions, sparse matrices, data frames.

They stay what they are: at every point, and in every dtype. The hand-written side gets them as the caller gave them;
the loss gets sparse matrices and data frames as arrays, because JAX knows nothing else.
"""

import copy
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from compare.errors import BadInput


def is_fixed(argument: Any) -> bool:
    """Whether an argument is no array, and no tree of arrays, by what it is."""
    return isinstance(argument, bool | str | bytes) or callable(argument) or _is_table(argument)


def _is_table(argument: Any) -> bool:
    """A sparse matrix or a data frame, of whatever library."""
    if is_sparse(argument):
        return True
    return hasattr(argument, "to_numpy") and hasattr(argument, "shape") and not hasattr(argument, "__array_interface__")


def is_sparse(argument: Any) -> bool:
    """Whether it is a sparse matrix of SciPy's, which is not imported for that: its import changes the warnings."""
    return hasattr(argument, "tocoo") and hasattr(argument, "toarray")


def as_loss_has_it(argument: Any) -> Any:
    """A table as an array; anything else as it is."""
    if is_sparse(argument):
        return argument.toarray()
    return np.asarray(argument.to_numpy()) if _is_table(argument) else argument


def places(arguments: tuple[Any, ...], static: Collection[Any], names: list[str]) -> list[bool]:
    """Which arguments stay as they are. Raises BadInput, a ValueError, if `static` names none.

    Args:
        arguments: without the parameters.
        static: names, or places from 1 on.
        names: of all arguments, the parameters first.
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
    """The function of the other arguments alone, with the fixed ones as `convert` makes them, for each call anew."""
    kept = [argument for argument, is_fixed in zip(arguments, fixed, strict=True) if is_fixed]

    def bound(parameters: Any, *others: Any) -> Any:
        moving, still = iter(others), map(convert, kept)
        return function(parameters, *(next(still) if is_fixed else next(moving) for is_fixed in fixed))

    return bound


def as_hand_has_it(argument: Any) -> Any:
    """A copy of a table, so that nobody writes into the caller's; anything else as it is."""
    return copy.deepcopy(argument) if _is_table(argument) else argument
