"""Why backward mode: the program that JAX derives from the loss, beside the derivation, and the cost of each mode.

The gradient's program is evaluated equation by equation. An equation is matched with a step of the derivation if it
computes the numbers of that step, both before and after training.

Forward mode pushes one direction of the parameters through the network: one pass gives one entry of the gradient.
Backward mode pulls the loss's one number back: one pass gives all entries. Operations are counted in the programs that
JAX traces, without what their results do not depend on. All passes forward are run side by side, as one program, so
that the values of the loss are computed once for all of them; it is counted as it is run.
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

# Operations that compute nothing: they name, copy, arrange, or choose among numbers.
MOVES = {
    name
    for name, row in TABLE.items()
    if row.kind is Kind.LINEAR and row.rounds in (Rounds.EXACTLY, Rounds.IF_NARROWER)
} - {"neg"} | {"stop_gradient"}


@dataclass(frozen=True)
class Equation:
    """A line of a traced program, as JAX writes it but for the options of the operation.

    `step` is what it computes; `used` says whether what the program returns depends on it.
    """

    text: str
    step: str | None
    used: bool = True


@dataclass(frozen=True)
class BackwardMode:
    """`operations` are counts of additions, multiplications and function calls on single numbers.

    `inputs` are the names of what goes into both programs, which call it a, b, c and so on.
    """

    inputs: Sequence[str]
    loss: Sequence[Equation]
    gradient: Sequence[Equation]
    parameters: int
    forward_passes: int
    backward_passes: int
    operations: dict[str, int]  # of the loss; and, each with the loss, of one pass forward, of all, of the one backward
    difference: float  # between what all passes forward give and what the one backward gives


def backward_mode(
    loss: Callable[..., Any], points: Sequence[tuple[Any, ...]], known: Sequence[Mapping[str, np.ndarray]]
) -> BackwardMode:
    """`points` are arguments of the loss, the parameters first; `known` the derivation's quantities at each."""
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
    """The equations of a program, each with the step whose numbers it is the first to compute at all points."""
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
    """The program without equations that its results do not depend on."""
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)[0]


def _used(jaxpr: Any) -> list[bool]:
    """For each equation whether what the program returns depends on it."""
    read = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    used: list[bool] = []
    for equation in reversed(jaxpr.eqns):
        used.append(not read.isdisjoint(equation.outvars))
        if used[-1]:
            read |= {atom for atom in equation.invars if not isinstance(atom, core.Literal)}
    return used[::-1]


def _computed(closed: Any, arguments: list[Any]) -> list[list[Any]]:
    """What every equation of a program computes."""
    values = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *arguments], strict=True))
    computed = []
    for equation in closed.jaxpr.eqns:
        inputs = [atom.val if isinstance(atom, core.Literal) else values[atom] for atom in equation.invars]
        outputs = Step(equation, [], [], Widening()).run(list(map(np.asarray, inputs)), as_it_is)
        values.update(zip(equation.outvars, outputs, strict=True))
        computed.append(list(outputs))
    return computed


def _same(computed: list[np.ndarray], expected: np.ndarray) -> bool:
    """Whether one of the results is the expected one: transposed, perhaps, or without axes of length 1."""
    right = np.squeeze(expected)
    scale = 1e-9 * float(np.max(np.abs(right), initial=0.0))
    if not scale:
        return False  # zeros tell nothing
    return any(
        candidate.shape == right.shape and np.allclose(candidate, right, rtol=1e-9, atol=scale)
        for value in map(np.squeeze, computed)
        if value.dtype.kind == "f"
        for candidate in (value, value.T)
    )


def _texts(jaxpr: Any) -> list[str]:
    """One line for each equation, variables being called a, b, c and so on in the order in which they appear."""
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
    """a to z, then aa, ab and so on."""
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else letters(number // 26 - 1) + letter


def operations(jaxpr: Any) -> int:
    """Operations on single numbers: for a product of matrices its multiplications and additions, for anything else
    that computes one for each number that comes out or, in a sum, goes in. A branch counts as its longest.
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
