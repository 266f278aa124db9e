"""Why backward mode: JAX's program for the gradient beside the derivation, and the cost of both modes.

JAX's program for the gradient is evaluated equation by equation. An equation is matched with a step of the derivation
if it computes the numbers of that step, both before and after training.

A pass in forward mode computes the derivative along one direction of the parameters, which is one entry of the
gradient. A pass in backward mode computes all entries. Operations are counted in the programs that JAX traces, without
those that do not affect the result. The forward passes for all entries are traced as one program, so that they share
the values of the loss, and are counted like that.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.flatten_util import ravel_pytree
from jax.interpreters.partial_eval import dce_jaxpr

from compare.judge.program.plan import Step, Widening, as_it_is, inner_programs
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import Kind, Rounds
from compare.judge.program.trace import Program, bound, under_jax, widened
from compare.pytrees import leaves_by_path

# Operations that compute no new numbers: they name, copy, rearrange or select.
MOVES = {
    name
    for name, row in TABLE.items()
    if row.kind is Kind.LINEAR and row.rounds in (Rounds.EXACTLY, Rounds.IF_NARROWER)
} - {"neg"} | {"stop_gradient"}


@dataclass(frozen=True)
class Equation:
    """A line of a traced program, as JAX prints it but without the options of the operation.

    Attributes:
        text: The line.
        step: The label of the quantity that it computes; None if it matches none.
        used: Whether the program's results depend on it.
    """

    text: str
    step: str | None
    used: bool = True


@dataclass(frozen=True)
class BackwardMode:
    """The programs of the loss and of its gradient, and the number of operations that each mode takes.

    Attributes:
        inputs: The names of the inputs of both programs. The programs call them a, b, c and so on.
        loss: The program of the loss.
        gradient: The program of the loss and its gradient.
        parameters: The number of parameters.
        forward_passes: The number of passes that the whole gradient takes in forward mode.
        backward_passes: The same in backward mode.
        operations: The number of additions, multiplications and function calls on single numbers: of the loss, and of
            the loss together with one forward pass, with all forward passes, and with the backward pass.
        difference: The largest difference between the gradients of both modes.
    """

    inputs: Sequence[str]
    loss: Sequence[Equation]
    gradient: Sequence[Equation]
    parameters: int
    forward_passes: int
    backward_passes: int
    operations: dict[str, int]
    difference: float


def backward_mode(
    loss: Callable[..., Any], points: Sequence[tuple[Any, ...]], known: Sequence[Mapping[str, np.ndarray]]
) -> BackwardMode:
    """Trace the loss and its gradient, match their equations with the derivation, and count their operations.

    Args:
        loss: The loss, traceable by JAX.
        points: Tuples of arguments of the loss, the parameters first.
        known: The quantities of the derivation at each of the points, by label.

    Returns:
        Both programs, with the steps that their equations match, and the costs of both modes.
    """
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(widened(points[0][0]))
        rest = widened(points[0][1:])

        def along(parameters: Any, direction: Any) -> Any:
            return jax.jvp(lambda p: loss(p, *rest), (parameters,), (unravel(direction),))

        start = unravel(flat)
        both, directions = jax.value_and_grad(loss), jnp.eye(flat.size)
        all_at_once = jax.vmap(along, (None, 0), (None, 0))
        _, columns = Program(all_at_once, start, directions)(start, directions)
        whole, _ = ravel_pytree(Program(both, start, *rest)(start, *rest)[1])
        difference = float(jnp.max(jnp.abs(columns - whole)))
        counted = {
            "loss": jax.make_jaxpr(loss)(start, *rest),
            "forward": jax.make_jaxpr(along)(start, jnp.ones_like(flat)),
            "all forward": jax.make_jaxpr(all_at_once)(start, directions),
            "backward": jax.make_jaxpr(both)(start, *rest),
        }
        names = list(inspect.signature(loss).parameters)[1 : len(points[0])]
        return BackwardMode(
            inputs=[*leaves_by_path(points[0][0]), *names],
            loss=_matched(loss, points, known),
            gradient=_matched(both, points, known),
            parameters=flat.size,
            forward_passes=flat.size,
            backward_passes=1,
            operations={name: operations(_needed(closed.jaxpr)) for name, closed in counted.items()},
            difference=difference,
        )


def _matched(
    function: Callable[..., Any], points: Sequence[tuple[Any, ...]], known: Sequence[Mapping[str, np.ndarray]]
) -> list[Equation]:
    """The equations of a program. Each step belongs to the first equation that computes its numbers at all points."""
    whole = jax.make_jaxpr(function)(*widened(points[0]))
    closed = jax.make_jaxpr(lambda *leaves: under_jax(whole.jaxpr, whole.consts, leaves, bound))(
        *jax.tree.leaves(widened(points[0]))
    )
    used = _used(closed.jaxpr)
    results = [_computed(closed, jax.tree.leaves(widened(point))) for point in points]
    left, found = set(known[0]), []
    for text, needed, *values in zip(_texts(closed.jaxpr), used, *results, strict=True):
        step = next(
            (
                name
                for name in known[0]
                if needed and name in left and all(_same(v, k[name]) for v, k in zip(values, known, strict=True))
            ),
            None,
        )
        left.discard(step or "")
        found.append(Equation(text, step, needed))
    return found


def _needed(jaxpr: Any) -> Any:
    """The program without the equations that do not affect its results."""
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)[0]


def _used(jaxpr: Any) -> list[bool]:
    """For each equation, whether the program's results depend on it."""
    read = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    used: list[bool] = []
    for equation in reversed(jaxpr.eqns):
        used.append(not read.isdisjoint(equation.outvars))
        if used[-1]:
            read |= {atom for atom in equation.invars if not isinstance(atom, core.Literal)}
    return used[::-1]


def _computed(closed: Any, arguments: list[Any]) -> list[list[Any]]:
    """The results of every equation of a program."""
    values = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *arguments], strict=True))
    computed = []
    for equation in closed.jaxpr.eqns:
        inputs = [atom.val if isinstance(atom, core.Literal) else values[atom] for atom in equation.invars]
        outputs = Step(equation, [], [], Widening()).run(list(map(np.asarray, inputs)), as_it_is)
        values.update(zip(equation.outvars, outputs, strict=True))
        computed.append(list(outputs))
    return computed


def _same(computed: list[np.ndarray], expected: np.ndarray) -> bool:
    """Whether one of the results equals the expected one, up to a transposition and axes of length 1."""
    right = np.squeeze(expected)
    scale = 1e-9 * float(np.max(np.abs(right), initial=0.0))
    if not scale:
        return False  # many equations compute zeros, so that they identify none
    return any(
        candidate.shape == right.shape and np.allclose(candidate, right, rtol=1e-9, atol=scale)
        for value in map(np.squeeze, computed)
        if value.dtype.kind == "f"
        for candidate in (value, value.T)
    )


def _texts(jaxpr: Any) -> list[str]:
    """One line for each equation. Variables are called a, b, c and so on, in the order in which they appear."""
    names: dict[Any, str] = {}

    def named(variable: Any) -> str:
        if isinstance(variable, core.Literal):
            return f"{np.asarray(variable.val).item():g}"
        return names.setdefault(variable, letters(len(names)))

    for variable in [*jaxpr.constvars, *jaxpr.invars]:
        named(variable)
    lines = []
    for equation in jaxpr.eqns:
        inputs = " ".join(named(variable) for variable in equation.invars)
        outputs = " ".join(
            f"{named(variable)}:{variable.aval.str_short(short_dtypes=True)}" for variable in equation.outvars
        )
        words = equation.primitive.name
        if equation.primitive.name == "name":
            words = f"name[{equation.params['name']}]"
        lines.append(f"{outputs} = {words} {inputs}")
    return lines


def letters(number: int) -> str:
    """The name of the variable with this number: a to z, then aa, ab and so on."""
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else letters(number // 26 - 1) + letter


def operations(jaxpr: Any) -> int:
    """The number of operations on single numbers in a program.

    A product of matrices counts its multiplications and additions, a reduction one operation for each entry of its
    input, and any other operation that computes something one for each entry of its output. A conditional counts as its
    longest branch.
    """
    return sum(map(_operations, jaxpr.eqns))


def _operations(equation: Any) -> int:
    name, (first, *_) = equation.primitive.name, [*equation.invars, None]
    inner = [operations(program) for program in inner_programs(equation)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if inner:
        return max(inner)
    size = sum(int(np.prod(variable.aval.shape)) for variable in equation.outvars)
    if name in MOVES:
        return 0
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * size * int(np.prod([first.aval.shape[axis] for axis in contracted]))
    if name == "conv_general_dilated":
        weight, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
        return 2 * size * int(np.prod(weight)) // weight[numbers.rhs_spec[0]]
    if name.startswith(("reduce", "cum", "arg", "scatter")):
        return int(np.prod(first.aval.shape))
    return size
