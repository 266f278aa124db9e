"""A JAX function as the list of elementary operations that it is, each to be done as a rule says."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

Jaxpr = Any
Rule = Callable[[Any, list[Any]], list[Any]]  # (equation, input values) -> output values


def interpreted(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """`function`, with every elementary operation done by `rule`."""

    def interpret(*args: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(args), rule)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return interpret


def evaluate(jaxpr: Jaxpr, constants: list[Any], arguments: list[Any], rule: Rule) -> list[Any]:
    """Run a traced program with every elementary operation done by `rule`. Calls are entered, loops are not."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = called_program(equation)
        outputs = rule(equation, inputs) if inner is None else evaluate(*inner, inputs, rule)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """The elementary operations in the order in which they are done. Calls are entered, loops are not."""
    for equation in jaxpr.eqns:
        inner = called_program(equation)
        if inner is None:
            yield equation
        else:
            yield from equations(inner[0])


_CALLS = {"jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "core_call"}


def called_program(equation: Any) -> tuple[Jaxpr, list[Any]] | None:
    """The program and its constants, if the operation is a plain call of one."""
    if equation.primitive.name not in _CALLS:
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, [])


def run(equation: Any, inputs: list[Any]) -> list[Any]:
    """The operation as it is."""
    parameters = equation.primitive.get_bind_params(equation.params)
    outputs = equation.primitive.bind(*inputs, **parameters)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def largest_value(jaxpr: Jaxpr) -> int:
    """The size of the largest value in a traced program and in the programs it calls."""
    sizes = [int(np.prod(variable.aval.shape)) for equation in jaxpr.eqns for variable in equation.outvars]
    inner = [inner for equation in jaxpr.eqns for inner in programs(equation)]
    return max([1, *sizes, *map(largest_value, inner)])


def programs(equation: Any) -> list[Jaxpr]:
    """Every program inside of an operation: what a call calls, a loop repeats, a branch chooses from."""
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: isinstance(p, core.ClosedJaxpr))
    return [
        leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
        for leaf in leaves
        if isinstance(leaf, core.ClosedJaxpr | core.Jaxpr)
    ]


def widened(tree: Any) -> Any:
    """Floating-point arrays in float64: references are computed in it, and a loss may demand one dtype throughout."""

    def wide(leaf: Any) -> Any:
        floating = isinstance(leaf, np.ndarray | jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return np.asarray(leaf, np.float64) if floating else leaf

    return jax.tree.map(wide, tree)
