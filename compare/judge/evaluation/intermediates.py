"""Gradients of intermediate values, which locate an error.

`tap(name, value)` marks a value in a JAX function. The hand-written side may return its gradient of that value under
the same name. A check uses it in two ways:

- It compares the gradient with the reference's, like the gradients of parameters.
- It replaces the reference's gradient in the backward pass by the hand-written one, even if that is wrong. From it, the
  reference computes the gradients of all earlier values. If one of these still differs, the error is in the operations
  between the two values. So each error is reported once, for the operations that cause it.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jax.extend import core

from compare.judge.program.inputs import Inputs
from compare.judge.program.numpy_tracing import TracedArray
from compare.judge.program.plan import Step, as_it_is, called_program, equations, inner_programs
from compare.judge.program.trace import Program
from compare.pytrees import LOSS


def tap(name: str, value: Any) -> Any:
    """Mark an intermediate value of a JAX function, so that its gradient can be compared.

    Outside a check, this has no effect. It has no effect inside `lax.scan`, `while_loop` and `cond` either, because one
    mark would have many values: mark the loop's inputs or outputs. If the loss of a hand-written function is its own
    reference, the function can mark its NumPy arrays in the same way.

    Args:
        name: the name under which the hand-written side returns the gradient. A function may use each name once.
        value: an array.

    Returns:
        `value`, unchanged.
    """
    if isinstance(value, TracedArray):
        value.value = checkpoint_name(value.value, name)
        return value
    if isinstance(value, np.ndarray | np.generic) and not isinstance(jax.lax.neg(0.0), Tracer):
        return value  # nothing is traced, and JAX would convert NumPy's array
    return checkpoint_name(value, name)


def find_taps(loss: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """The marked values of a traced loss.

    Args:
        loss: the traced loss.

    Returns:
        Their shapes and dtypes by name, in the order of the forward pass.

    Raises:
        ValueError: if a name marks two values.
    """
    found: dict[str, jax.ShapeDtypeStruct] = {}
    for equation in equations(loss.closed.jaxpr):
        if equation.primitive.name == "name":
            name, value = equation.params["name"], equation.invars[0].aval
            if name in found:
                raise ValueError(f"the name {name!r} marks two values in the loss; give each tap its own name.")
            found[name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
    return found


def not_compared(loss: Program, taps: dict[str, jax.ShapeDtypeStruct], offered: set[str]) -> list[str]:
    """Notes on the gradients of intermediates that are not compared, because the loss has no tap of their name.

    Args:
        loss: the traced loss.
        taps: the taps of the loss.
        offered: the names of the gradients that the hand-written side returns.

    Returns:
        The notes; none if all gradients are compared.
    """
    lost = sorted(offered - taps.keys())
    if not lost:
        return []
    text = str(loss.closed)
    inside = [name for name in lost if f"name[name={name}]" in text]
    sentences = []
    if inside:
        sentences.append(
            f"{_listed('the tap', inside)} not compared: inside a loop, a branch or a custom derivative of the loss "
            "(lax.scan, while_loop, cond), one name marks many values. Mark the inputs or outputs instead."
        )
    if lost != inside:
        others = [name for name in lost if name not in inside]
        known = (
            f"the taps of the loss are {', '.join(taps)}" if taps else "the loss marks no value with tap(name, value)"
        )
        sentences.append(f"{_listed('the gradient', others)} not compared: {known}.")
    return sentences


def _listed(what: str, names: list[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))} {'are' if len(names) > 1 else 'is'}"


def backward_order(loss: Program, *, by_use: bool = True) -> list[str]:
    """The names of the loss, the taps and the parameters, in the order in which a backward pass reaches them.

    A parameter comes after the last tap that a part of its gradient passes through. Between two taps, a parameter that
    is first used late in the loss comes before one that is first used early, because the gradient of a parameter is
    complete only when the backward pass has undone its first use. A parameter is used where it meets data: a penalty on
    its size does not count. How late a use is, is the number of operations on the longest path from the data to it.
    Sums and changes of shape do not count, so that the weight and the bias of a layer are used at the same place.
    Parameters that are used at the same place keep their order, and so do all parameters of a loss without data.

    Args:
        loss: the traced loss.
        by_use: whether parameters are ordered by their first use. If not, those between two taps keep their order.
    """
    program = loss.closed.jaxpr
    names = loss.names
    position: dict[str, float] = {LOSS: float("inf")}
    nearest: dict[str, list[str]] = {path: [] for path in names}
    first_use: dict[str, int] = {}

    def walk(jaxpr: Any, sources: list[_Origin]) -> list[_Origin]:
        reach: dict[Any, _Origin] = dict(zip(jaxpr.invars, sources, strict=True))
        # An array that the loss holds itself is data, as an argument is. A number is not.
        reach |= {held: ARGUMENT for held in jaxpr.constvars if held.aval.shape}

        def of(atom: Any) -> _Origin:
            return CONSTANT if isinstance(atom, core.Literal) else reach.get(atom, CONSTANT)

        for equation in jaxpr.eqns:
            inputs = [of(atom) for atom in equation.invars]
            inner = called_program(equation)
            if inner is not None:
                reach.update(zip(equation.outvars, walk(inner[0], inputs), strict=True))
                continue
            passing = frozenset[str]().union(*(one.paths for one in inputs))
            roots = frozenset[str]().union(*(one.roots for one in inputs))
            depth = max((one.depth for one in inputs), default=0)
            if DATA in roots:
                depth += equation.primitive.name not in SAME_PLACE
                for path in roots - {DATA}:
                    first_use[path] = min(depth, first_use.get(path, depth))
                roots = frozenset({DATA})
            if equation.primitive.name == "name":
                name = equation.params["name"]
                position[name] = len(position)
                for path in passing:
                    nearest[path].append(name)
                passing = frozenset()
            reach.update(dict.fromkeys(equation.outvars, _Origin(passing, roots, depth)))
        return [of(atom) for atom in jaxpr.outvars]

    sources = [_Origin(frozenset({path}), frozenset({path})) for path in names]
    sources += [ARGUMENT] * (len(program.invars) - len(names))
    (result,) = walk(program, sources)
    for path in result.paths:
        nearest[path].append(LOSS)
    for path in names:
        position[path] = min((position[name] for name in nearest[path]), default=0.0) - 0.5
    use = {LOSS: float("inf")} | (first_use if by_use else {})
    return sorted(position, key=lambda name: (-position[name], -use.get(name, 0)))


class _Origin(NamedTuple):
    """What a value of a traced loss is computed from.

    Attributes:
        paths: the parameters of whose gradients a part passes through the value and through no later tap.
        roots: DATA alone, if it is computed from an argument; else the parameters from which it is computed.
        depth: the number of operations on the longest path from an argument to it.
    """

    paths: frozenset[str]
    roots: frozenset[str]
    depth: int = 0


CONSTANT = _Origin(frozenset(), frozenset())
DATA = "\0data"  # no leaf has this name
ARGUMENT = _Origin(frozenset(), frozenset({DATA}))
SAME_PLACE = {
    "add",
    "add_any",
    "sub",
    "neg",
    "reduce_sum",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "transpose",
    "convert_element_type",
    "name",
}


def tapped_values(loss: Program, inputs: Inputs) -> dict[str, np.ndarray]:
    """The values at the taps, sorted by name."""
    seen: dict[str, np.ndarray] = {}

    def keep(step: Step, inputs: list[Any]) -> list[Any]:
        if step.name == "name":
            seen.setdefault(step.params["name"], inputs[0])
        return step.run(inputs, as_it_is)

    loss(inputs.parameters, *inputs.args, rule=keep)
    return dict(sorted(seen.items()))


def rules_of_its_own(loss: Program) -> str:
    """Names the operations of a loss whose derivative may not be that of their values: custom rules, stop_gradient.

    The result is empty if there are none. Custom rules of JAX's own functions are left out, because they are correct.
    """
    found: list[str] = []

    def look(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name == "stop_gradient":
                found.append("a stop_gradient")
            elif name in ("custom_vjp_call", "custom_jvp_call"):
                written = equation.params["call_jaxpr"].jaxpr.debug_info.func_src_info or ""
                if "/jax/_src/" not in written.replace("\\", "/"):
                    found.append(f"the {name.removesuffix('_call')} of {written.partition(' at ')[0]}")
            for inside in inner_programs(equation):
                look(inside)

    look(loss.closed.jaxpr)
    return " and ".join(dict.fromkeys(found))
