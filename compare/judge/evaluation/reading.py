"""Reads what the caller of a check passes: both functions and their inputs, in the one form that all later steps use.

Here the inputs become NumPy arrays, arguments that cannot be traced are bound, and complex parameters are split into
their parts. After this, both functions are functions of `Inputs.parameters` and `Inputs.args`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from compare.errors import BadInput, Untraceable
from compare.judge.evaluation.complex_parts import CONVENTIONS, by_hand_of_parts, has_complex, loss_of_parts, split
from compare.judge.evaluation.point import swapped
from compare.judge.evaluation.static_arguments import as_hand_has_it, as_loss_has_it, bind, places, positional_names
from compare.judge.program.inputs import Inputs
from compare.judge.program.numpy_names import traceable
from compare.pytrees import GradientFunction, Loss, Pytree, as_input, is_key


class Sides(NamedTuple):
    """Both sides of a check: the hand-written function, the reference's loss, and the inputs of both."""

    by_hand: GradientFunction
    loss: Loss
    inputs: Inputs


def read(
    loss_and_gradients: GradientFunction,
    loss: Loss | None,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    *,
    convention: str,
    static: Collection[str | int],
    labels: Mapping[str, str],
) -> Sides:
    """Reads both functions and their inputs.

    Args:
        loss_and_gradients: as for `check_gradients`, and so are `loss`, `parameters`, `convention` and `static`.
        args: the further arguments of both functions.
        labels: replacements for names of arguments in messages.

    Returns:
        Both functions, and their inputs.

    Raises:
        TypeError, BadInput: for inputs and options that cannot be used.
    """
    parameters = jax.tree.map(as_input, parameters)
    names = argument_names(loss_and_gradients, len(args))
    fixed = places(args, static, names)
    reference = of_its_own(loss_and_gradients) if loss is None else loss
    if any(fixed):
        reference = bind(reference, args, fixed, as_loss_has_it)
        loss_and_gradients = bind(loss_and_gradients, args, fixed, as_hand_has_it)
    moving = [not still for still in fixed]
    others = tuple(jax.tree.map(argument, arg) for arg, moves in zip(args, moving, strict=True) if moves)
    kept = (names[0], *(name for name, moves in zip(names[1:], moving, strict=True) if moves))
    inputs = Inputs(parameters, others, kept, labels)
    _refuse_what_is_no_parameter(inputs)
    if convention not in CONVENTIONS:
        raise BadInput(f"convention must be {' or '.join(map(repr, CONVENTIONS))}, got {convention!r}.")
    if not has_complex(parameters):
        return Sides(loss_and_gradients, reference, inputs)
    parts = Inputs(split(parameters), others, kept, labels)
    return Sides(by_hand_of_parts(loss_and_gradients, convention), loss_of_parts(reference), parts)


def of_its_own(loss_and_gradients: GradientFunction) -> Loss:
    """The hand-written function's own loss, as a function for JAX to trace.

    Args:
        loss_and_gradients: the hand-written side.

    Returns:
        `(parameters, *args) -> loss`, which raises Untraceable when it is traced if JAX cannot trace it.
    """
    function = traceable(loss_and_gradients)

    def loss(parameters: Pytree, *args: Pytree) -> Any:
        try:
            result = function(parameters, *args)
        except Untraceable:
            raise
        except Exception as error:  # raised by the code under test, perhaps because a traced array is no NumPy array
            raise Untraceable(
                f"JAX cannot trace it ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            ) from error
        value = result[0] if isinstance(result, tuple | list) and len(result) in (2, 3) else None
        if value is None or isinstance(value, str | Mapping | tuple | list) or swapped(result, parameters):
            raise Untraceable("it returns no loss")
        return jax.numpy.asarray(value)

    return loss


def argument(leaf: Any) -> Any:
    """Converts one leaf of the arguments.

    Args:
        leaf: the leaf.

    Returns:
        An array as a NumPy array; a number or one of JAX's random keys unchanged.

    Raises:
        TypeError: if it is none of these.
    """
    if is_key(leaf) or type(leaf) in (bool, int, float, complex):
        return leaf
    if not hasattr(leaf, "__array__") and not hasattr(leaf, "__dlpack__"):
        raise TypeError(
            f"args must be arrays, numbers or trees of them, got {leaf!r:.60}; name it in static=[...], or bind it "
            "with functools.partial."
        )
    return as_input(leaf)


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first argument and of `count` further ones, for messages."""
    found = positional_names(function, count + 1)
    return found + ["parameters", *(f"argument {i}" for i in range(1, count + 1))][len(found) :]


def _refuse_what_is_no_parameter(inputs: Inputs) -> None:
    if not inputs.leaves:
        raise BadInput("parameters holds no arrays: there is nothing to differentiate.")
    for path, leaf in inputs.leaves.items():
        if not jax.numpy.issubdtype(leaf.dtype, np.inexact):
            raise BadInput(
                f"parameters must be floating-point numbers, got {leaf.dtype} at {path}. Make it an argument."
            )
