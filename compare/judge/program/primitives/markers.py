"""The judge's own primitives, which mark where in a trace it reads or changes values.

They are inserted before JAX differentiates the trace, and only the interpreter evaluates them. Each has a derivative
rule, so that differentiation also inserts a marker into the backward pass:

- `marked` is the identity on a value that the loss marks with `tap`. The gradient with respect to that value passes
  through `arrives`, which has the same name. There the judge reads the gradient, replaces it or multiplies it.
- `nudged` is the identity on the input of an operation with nonsmooth points. There the judge perturbs the input, so
  that the value and the derivative are both evaluated next to the nonsmooth point.
- `bent` is the identity on the result of a smooth elementwise function. Its derivative has an additional term, `bend`,
  which is 0 unless a rule changes it. There the judge perturbs the derivative and leaves the value unchanged.
"""

from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import Primitive as JaxPrimitive
from jax.interpreters import ad

from compare.judge.program.primitives.row import Kind, Primitive, Rounds

Array = Any

marked_p, arrives_p = JaxPrimitive("marked"), JaxPrimitive("arrives")
nudged_p, bent_p, bend_p = JaxPrimitive("nudged"), JaxPrimitive("bent"), JaxPrimitive("bend")

for primitive in (marked_p, arrives_p, nudged_p, bent_p, bend_p):
    primitive.def_abstract_eval(lambda value, *_, **__: value)


def _marked_jvp(primals: Any, tangents: Any, *, name: str) -> Any:
    """The tangent passes through `arrives`.

    If the value depends on no parameter, its tangent is that of `origin`, an additional input of the loss that is
    always differentiated. So the value has a gradient nevertheless.
    """
    (value, origin), (tangent, from_origin) = primals, tangents
    if isinstance(tangent, ad.Zero):
        tangent = ad.Zero(tangent.aval) if isinstance(from_origin, ad.Zero) else _spread(from_origin, value)
    if not isinstance(tangent, ad.Zero):
        tangent = arrives_p.bind(tangent, name=name)
    return marked_p.bind(value, origin, name=name), tangent


def _spread(number: Any, value: Any) -> Any:
    return lax.broadcast(lax.convert_element_type(number, value.dtype), value.shape)


def _bent_jvp(primals: Any, tangents: Any, *, equation: Any, places: tuple[int, ...]) -> Any:
    value, *inputs = primals
    change, *changes = tangents
    out = bent_p.bind(value, *inputs, equation=equation, places=places)
    for place in places:
        if not isinstance(changes[place], ad.Zero):
            more = bend_p.bind(changes[place], *inputs, equation=equation, place=place)
            change = more if isinstance(change, ad.Zero) else ad.add_jaxvals(change, more)
    return out, change


def _bend_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    change = tangents[0]
    moved = change if isinstance(change, ad.Zero) else bend_p.bind(change, *primals[1:], **params)
    return bend_p.bind(*primals, **params), moved


def _bend_transpose(cotangent: Any, change: Any, *inputs: Any, **params: Any) -> list[Any]:
    back = cotangent if isinstance(cotangent, ad.Zero) else bend_p.bind(cotangent, *inputs, **params)
    return [back] + [None] * len(inputs)


ad.primitive_jvps[marked_p] = _marked_jvp
ad.deflinear2(arrives_p, lambda cotangent, _, *, name: [arrives_p.bind(cotangent, name=name)])
ad.primitive_jvps[nudged_p] = lambda primals, tangents, *, number: (
    nudged_p.bind(*primals, number=number),
    tangents[0],
)
ad.primitive_jvps[bent_p] = _bent_jvp
ad.primitive_jvps[bend_p] = _bend_jvp
ad.primitive_transposes[bend_p] = _bend_transpose


def _identity(value: Array, *_: Array, **__: Any) -> Array:
    return value


def _nothing(value: Array, *_: Array, **__: Any) -> Array:
    return np.broadcast_to(np.zeros((), value.dtype), value.shape)


ROWS: dict[str, Primitive] = {
    "marked": Primitive(_identity, Kind.LINEAR, Rounds.EXACTLY, analytic=True),
    "arrives": Primitive(_identity, Kind.LINEAR, Rounds.EXACTLY, analytic=True),
    "nudged": Primitive(_identity, Kind.LINEAR, Rounds.EXACTLY, analytic=True),
    "bent": Primitive(_identity, Kind.LINEAR, Rounds.EXACTLY, analytic=True),
    "bend": Primitive(_nothing, Kind.LINEAR, Rounds.EXACTLY, analytic=True),
}
