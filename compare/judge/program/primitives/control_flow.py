"""Operations that contain programs: loops, branches, custom derivatives, linear solves.

The interpreter evaluates these programs step by step, so that a rule also applies to the operations inside them.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from compare.judge.program.primitives.row import Kind, Primitive, Rounds

Array = Any


def fixed_and_carried(params: dict[str, Any]) -> tuple[int, int]:
    """The number of a `scan`'s inputs that are the same in every iteration, and the number that are carried over."""
    if "ft_in" in params:  # from JAX 0.11 on
        fixed, carried, _ = map(len, params["ft_in"].unpack())
        return fixed, carried
    return params["num_consts"], params["num_carry"]


def scan(step: Any, inputs: list[Array], rule: Any) -> list[Array]:
    fixed, carried = fixed_and_carried(step.params)
    constants, carry, items = inputs[:fixed], list(inputs[fixed : fixed + carried]), inputs[fixed + carried :]
    body, length = step.inner("jaxpr"), step.params["length"]
    turns = range(length - 1, -1, -1) if step.params["reverse"] else range(length)
    stacked: list[Any] = [
        np.empty(variable.aval.shape, dtype) if isinstance(dtype, np.dtype) else [None] * length  # random keys
        for variable, dtype in zip(step.equation.outvars[carried:], step.dtypes[carried:], strict=True)
    ]
    for turn in turns:
        results = body([*constants, *carry, *(item[turn] for item in items)], rule)
        carry = results[:carried]
        for whole, part in zip(stacked, results[carried:], strict=True):
            whole[turn] = part
    return [*carry, *(jnp.stack(whole) if isinstance(whole, list) else whole for whole in stacked)]


def while_loop(step: Any, inputs: list[Array], rule: Any) -> list[Array]:
    for_condition, for_body = step.params["cond_nconsts"], step.params["body_nconsts"]
    condition, body = step.inner("cond_jaxpr"), step.inner("body_jaxpr")
    tested, fixed = inputs[:for_condition], inputs[for_condition : for_condition + for_body]
    values = inputs[for_condition + for_body :]
    going = condition([*tested, *values], rule)[0]
    while going.any():
        turned = body([*fixed, *values], rule)
        values = [_where(going, new, old) for new, old in zip(turned, values, strict=True)]
        going = condition([*tested, *values], rule)[0]
    return list(values)


def _where(going: Array, new: Array, old: Array) -> Array:
    """The loop's values after an iteration. In a batch of loops, those that have ended keep their old values."""
    if going.ndim == 0:
        return new
    spread = going.reshape(going.shape + (1,) * (new.ndim - going.ndim))
    return np.where(spread, new, old) if isinstance(new, np.ndarray) else jnp.where(spread, new, old)  # random keys


def cond(step: Any, inputs: list[Array], rule: Any) -> list[Array]:
    branches = step.params["branches"]
    chosen = min(max(int(inputs[0]), 0), len(branches) - 1)
    return step.inner(f"branch {chosen}", branches[chosen])(inputs[1:], rule)


def custom_linear_solve(step: Any, inputs: list[Array], rule: Any) -> list[Array]:
    """Evaluates the solver. The other programs, the product and its transpose, are needed only for derivatives."""
    lengths, programs = step.params["const_lengths"], step.params["jaxprs"]
    counts = [lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve]
    start = counts[0] + counts[1]
    constants, right = inputs[start : start + counts[2]], inputs[sum(counts) :]
    return step.inner("solve", programs.solve)([*constants, *right], rule)


def custom_derivative(step: Any, inputs: list[Array], rule: Any) -> list[Array]:
    """Evaluates the function without its derivative rule, which JAX has applied when it traced the gradient."""
    return step.inner("call_jaxpr")(inputs, rule)


def _program(control: Callable[..., list[Array]], kind: Kind = Kind.PROGRAM) -> Primitive:
    return Primitive(None, kind, Rounds.WITHIN, control=control)


ROWS: dict[str, Primitive] = {
    "scan": _program(scan),
    "while": _program(while_loop),
    "cond": _program(cond),
    "custom_linear_solve": _program(custom_linear_solve),
    "custom_jvp_call": _program(custom_derivative),
    "custom_vjp_call": _program(custom_derivative),
}
