"""A JAX function as it was traced in its own dtypes, and the same list of operations in float64.

References are computed in float64. Calling the function with float64 arrays would make another function of it:
`jax.random` draws other numbers, a loop whose state starts as float32 is refused, and a cast to float32 rounds. So
the function is traced once in the dtypes of its caller, and every floating type in the trace that is at least as
fine as the coarsest argument's becomes float64. Integers, keys and random bits stay what they are, and so does what
is made narrower than the arguments on purpose: bfloat16 in a float32 loss. Where parameters have one dtype, that is
what is narrower than theirs: float32 data that a loss of float64 parameters divides by 3 are rounded to float32 by
anybody. So it is in a step of training: a bfloat16 momentum beside float32 parameters stays one.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from compare.judge.program.interpreter import evaluate, run

# Operations whose results depend on how many bits a number has, or that only their author's code can do: done in the
# dtypes in which they were traced, on inputs rounded to them. Random bits become numbers by a bitcast.
AS_TRACED = {"bitcast_convert_type", "random_gamma", "pure_callback", "io_callback", "debug_callback", "ffi_call"}


class Program:
    """A function, and its trace at `args`, which tells their dtypes and the precision of its caller's JAX.

    Called with arguments of those dtypes it is the function; with wider ones, the same operations in float64.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, narrow_stays: bool = False) -> None:
        def anew(*args: Any) -> Any:  # a new object: JAX keeps traces by identity, too
            return function(*args)

        self.function = function
        self.x64 = jnp.result_type(float) == np.float64
        self.closed, self.output = jax.make_jaxpr(anew, return_shape=True)(*args)
        self.avals = self.closed.in_avals
        floating = [aval.dtype for aval in self.avals if jnp.issubdtype(aval.dtype, jnp.floating)]
        pick = min if narrow_stays else max
        self.coarsest = pick((float(jnp.finfo(dtype).eps) for dtype in floating), default=0.0)
        self._wider = functools.lru_cache(maxsize=32)(self._traced_wider)

    @functools.cached_property
    def text(self) -> str:
        """What it does, to tell whether the function still does the same."""
        constants = [hash(np.asarray(constant).tobytes()) for constant in self.closed.consts if _is_array(constant)]
        return f"{self.closed.jaxpr} {constants}"

    def __call__(self, *args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        if all(_dtype(leaf) == aval.dtype for leaf, aval in zip(leaves, self.avals, strict=True)):
            return self.function(*args)
        closed, output = self._wider(tree, tuple(jnp.shape(leaf) for leaf in leaves))
        values = [_cast(leaf, aval.dtype) for leaf, aval in zip(leaves, closed.in_avals, strict=True)]
        return jax.tree.unflatten(output, evaluate(closed.jaxpr, closed.consts, values, run))

    def _traced_wider(self, tree: Any, shapes: tuple[Any, ...]) -> tuple[Any, Any]:
        """The operations in float64, at arguments of these shapes."""
        like = [
            jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=aval.weak_type)
            for shape, aval in zip(shapes, self.avals, strict=True)
        ]
        with jax.enable_x64(self.x64):
            closed, output = jax.make_jaxpr(lambda *args: self.function(*args), return_shape=True)(
                *jax.tree.unflatten(tree, like)
            )
        return _Widening(self.coarsest, self.x64).program(closed), jax.tree.structure(output)


class _Widening:
    """Turns programs into ones in which every floating type whose eps is at most `coarsest` is float64."""

    def __init__(self, coarsest: float, x64: bool) -> None:
        self.coarsest, self.x64 = coarsest, x64

    def dtype(self, dtype: Any) -> Any:
        if jnp.issubdtype(dtype, jnp.inexact) and float(jnp.finfo(dtype).eps) <= self.coarsest:
            return np.dtype(np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64)
        return dtype

    def program(self, closed: Any) -> Any:
        """Traced again under 64-bit types, because the operations infer the types of their results."""
        with jax.enable_x64(True):
            like = [jax.ShapeDtypeStruct(aval.shape, self.dtype(aval.dtype)) for aval in closed.in_avals]
            return jax.make_jaxpr(self.evaluated(closed))(*like)

    def evaluated(self, closed: Any) -> Callable[..., list[Any]]:
        """A function that does the operations one by one."""

        def outputs(*args: Any) -> list[Any]:
            constants = map(self.wide, closed.consts)  # in here: a value made while JAX traces belongs to that trace
            return [self.wide(value) for value in evaluate(closed.jaxpr, list(constants), list(args), self.rule)]

        return outputs

    def wide(self, value: Any) -> Any:
        return _cast(value, self.dtype(_dtype(value))) if _is_array(value) else value

    def rule(self, equation: Any, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        inputs = [self.wide(value) for value in inputs]  # literals are not wide yet
        if name in AS_TRACED:
            narrow = [_cast(value, atom.aval.dtype) for value, atom in zip(inputs, equation.invars, strict=True)]
            return [self.wide(value) for value in run(equation, narrow)]
        if name == "custom_jvp_call":
            return self.with_own_tangents(equation, inputs)
        if name == "custom_vjp_call":
            return self.with_own_cotangents(equation, inputs)
        if name == "reduce_precision" and 2.0 ** -equation.params["mantissa_bits"] <= self.coarsest:
            return inputs
        parameters = jax.tree.map(self.parameter, equation.params, is_leaf=_is_program)
        outputs = run(equation.replace(params=parameters), inputs)
        return [
            _cast(value, self.dtype(atom.aval.dtype)) for value, atom in zip(outputs, equation.outvars, strict=True)
        ]

    def parameter(self, value: Any) -> Any:
        if isinstance(value, core.ClosedJaxpr):
            return self.program(value)
        if isinstance(value, core.Jaxpr):
            return self.program(core.ClosedJaxpr(value, ())).jaxpr
        return self.dtype(value) if isinstance(value, np.dtype) else value

    def with_own_tangents(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """A function with a derivative rule of its own: the rule is traced in its own dtypes, and widened too."""
        function = jax.custom_jvp(self.evaluated(equation.params["call_jaxpr"]))
        floating, alone = _of_floating(equation)

        def pushed(values: list[Any], tangents: list[Any]) -> Any:
            return jax.jvp(functools.partial(alone, values), [values[i] for i in floating], tangents)

        @function.defjvp
        def rule(primals: Any, tangents: Any) -> Any:
            own = [tangents[i] for i in floating]
            outputs = self.traced(pushed, equation.invars, [equation.invars[i] for i in floating])(*primals, *own)
            return outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]

        return function(*inputs)

    def with_own_cotangents(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """The same for a rule that goes backward."""
        function = jax.custom_vjp(self.evaluated(equation.params["call_jaxpr"]))
        floating, alone = _of_floating(equation)

        def pulled(values: list[Any], cotangents: list[Any]) -> Any:
            return jax.vjp(functools.partial(alone, values), *(values[i] for i in floating))[1](cotangents)

        def backward(values: Any, cotangents: Any) -> Any:
            own = self.traced(pulled, equation.invars, equation.outvars)(*values, *cotangents)
            gradients = dict(zip(floating, own, strict=True))
            return tuple(gradients.get(i) for i in range(len(values)))

        function.defvjp(lambda *values: (function(*values), values), backward)
        return function(*inputs)

    def traced(self, function: Callable[..., Any], *atoms: Any) -> Callable[..., list[Any]]:
        """`function`, of lists that are like `atoms`, in the dtypes of these, and then widened."""
        like = jax.tree.map(lambda atom: jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype), list(map(list, atoms)))
        with jax.enable_x64(self.x64):
            return self.evaluated(jax.make_jaxpr(function)(*like))


def _of_floating(equation: Any) -> tuple[list[int], Callable[..., list[Any]]]:
    """Which inputs have derivatives; and the operation as a function of all its inputs, and again of these."""
    floating = [i for i, atom in enumerate(equation.invars) if jnp.issubdtype(atom.aval.dtype, jnp.inexact)]

    def alone(values: list[Any], *own: Any) -> list[Any]:
        given = dict(zip(floating, own, strict=True))
        return run(equation, [given.get(i, value) for i, value in enumerate(values)])

    return floating, alone


def _is_program(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def _is_array(value: Any) -> bool:
    return not jnp.issubdtype(_dtype(value), jax.dtypes.extended)


def _dtype(value: Any) -> Any:
    """As it is: what JAX promotes a weak float32 to is float64 where 64-bit types are on."""
    return value.dtype if hasattr(value, "dtype") else jnp.result_type(value)


def _cast(value: Any, dtype: Any) -> Any:
    return value if _dtype(value) == dtype else lax.convert_element_type(value, dtype)


_seen: weakref.WeakKeyDictionary[Any, Program] = weakref.WeakKeyDictionary()


def as_it_is_now(function: Callable[..., Any], parameters: Any, *args: Any) -> Program:
    """`function` at its arguments, under an identity that is the same as before if it still traces to the same.

    What is compiled is kept by identity. A function that reads a global that has changed since is another function.
    Raises TypeError if it asks for the values of its arguments, which there are none of yet.
    """
    dtypes = {_dtype(leaf) for leaf in jax.tree.leaves(parameters)}
    try:
        program = Program(function, parameters, *args, narrow_stays=len(dtypes) == 1)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            "JAX cannot trace the loss, because it asks for the value of an array that has none yet: use jax.numpy "
            f"in place of numpy, jnp.where in place of if, and neither float() nor .item(). ({_first_line(error)})"
        ) from error
    try:
        known = _seen.get(function)
        if known is None or known.text != program.text:
            known = _seen[function] = program
    except TypeError:  # not hashable, or without weak references: compiled anew each time
        return program
    return known


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
