"""A JAX function and its gradient, each traced once for the shapes and dtypes of the arguments.

Every value of the reference that a check needs is computed by evaluating one of these two traces (see `plan`):
unperturbed, with rounding errors, with another gradient at a tap, at other points, or with complex steps.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core, source_info_util

from compare.errors import CodeUnderTestFailed, Untraceable
from compare.judge.program.line import along
from compare.judge.program.plan import (
    CALLS,
    Plan,
    Rule,
    Step,
    Widening,
    as_it_is,
    called_program,
    inner_programs,
    quietly,
    unknown_operations,
)
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.control_flow import fixed_and_carried
from compare.judge.program.primitives.markers import bent_p, marked_p, nudged_p
from compare.judge.program.primitives.row import UNKNOWN, Kind
from compare.judge.program.primitives.special_functions import INEXACT_FUNCTIONS
from compare.pytrees import Leaves, Pytree, paths

# The prefix of the entry in the name stack that says which operation of the function JAX derived an operation of the
# gradient from. The operation's number follows.
DERIVED = "operation "


class Program:
    """A function and its trace for arguments like `args`, evaluated in float64.

    Args:
        function: a function that JAX can trace.
        args: trees of arrays and numbers, with the shapes and dtypes of the trace.
        narrow_stays: whether values keep their dtype if it is narrower than the widest floating dtype of the arguments.
            This is right if all parameters have one dtype: if a loss of float64 parameters divides float32 data by 3,
            any program rounds the result to float32. It is right for training steps as well: a bfloat16 momentum beside
            float32 parameters stays in bfloat16.
    """

    def __init__(self, function: Callable[..., Any], *args: Pytree, narrow_stays: bool = False) -> None:
        def anew(*args: Pytree) -> Pytree:  # a new object, because JAX caches traces by the identity of the function
            return function(*args)

        self.function, self.narrow_stays = function, narrow_stays
        self.x64 = jnp.result_type(float) == np.float64  # the gradient is traced later, under the same setting
        self.closed, self.output = jax.make_jaxpr(anew, return_shape=True)(*args)
        self.avals = self.closed.in_avals
        self.differentiated = jax.tree.structure(args[0])
        self.structure = jax.tree.structure(self.output)
        floating = [aval.dtype for aval in self.avals if jnp.issubdtype(aval.dtype, jnp.floating)]
        pick = min if narrow_stays else max
        self.widening = Widening(pick((float(jnp.finfo(dtype).eps) for dtype in floating), default=0.0))
        self._others: dict[Any, Program] = {}

    def at(self, *args: Pytree) -> "Program":
        """The program for arguments of other shapes, which some perturbed points have."""
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(args))
        if shapes == tuple(getattr(aval, "shape", ()) for aval in self.avals):
            return self
        if shapes not in self._others:
            try:
                self._others[shapes] = Program(self.function, *args, narrow_stays=self.narrow_stays)
            except Exception as error:  # the function may not accept other shapes
                raise CodeUnderTestFailed(error) from error
        return self._others[shapes]

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the leaves of the first argument, in order."""
        return paths(self.differentiated)

    @functools.cached_property
    def plan(self) -> Plan:
        return Plan(self.closed, self.widening)

    @functools.cached_property
    def plan_along(self) -> Plan:
        """The plan in which all parameters are float64: narrow ones would change in steps along a line."""
        dtypes = [aval.dtype for aval in self.avals[: len(self.names)] if jnp.issubdtype(aval.dtype, jnp.floating)]
        widening = Widening(max([self.widening.coarsest, *(float(jnp.finfo(dtype).eps) for dtype in dtypes)]))
        return self.plan if widening == self.widening else Plan(self.closed, widening)

    def __call__(self, *args: Pytree, rule: Rule = as_it_is) -> Pytree:
        """The function's value in float64, with each step evaluated by `rule`."""
        values = quietly(self.at(*args).plan, jax.tree.leaves(args), rule)
        return jax.tree.unflatten(self.structure, values)

    def along(self, parameters: Pytree, direction: Leaves, steps: Iterable[float], *args: Pytree) -> list[Pytree]:
        """The function's values along a line, in float64.

        Args:
            parameters: the function's first argument at step 0.
            direction: the change of each leaf of the parameters per unit step, by path.
            steps: the steps.
            *args: the function's other arguments.

        Returns:
            The values at `parameters + step * direction`, one for each step.
        """
        fixed = jax.tree.leaves(args)
        start = [*jax.tree.leaves(parameters), *fixed]
        changes = [*(direction[name] for name in self.names), *(None for _ in fixed)]
        values = along(self.at(parameters, *args).plan_along, start, changes, steps)
        return [jax.tree.unflatten(self.structure, value) for value in values]

    @functools.cached_property
    def inexact_functions(self) -> dict[str, float]:
        """The functions of JAX's library in the trace whose formulas are inexact, with their relative errors."""
        made = _made_by_jax(self.closed.jaxpr)
        return {name: error for name, error in INEXACT_FUNCTIONS.items() if name in made}

    @functools.cached_property
    def gradient_plan(self) -> Plan:
        """The plan of JAX's gradient with respect to the first argument, with markers."""
        with jax.enable_x64(self.x64):
            return Plan(_differentiated(self.closed, len(self.names)), self.widening)

    @functools.cached_property
    def plain_gradient_plan(self) -> Plan:
        """The plan of the gradient without custom rules and stop_gradient."""
        with jax.enable_x64(self.x64):
            return Plan(_differentiated(self.closed, len(self.names), plainly=True), self.widening)

    def plain_gradient(self, parameters: Pytree, *args: Pytree) -> Leaves | None:
        """The gradient of the forward pass, by path, without custom rules and stop_gradient.

        None if JAX cannot derive it, because a custom rule replaces the derivative of a while loop or of a callback.
        """
        try:
            plan = self.at(parameters, *args).plain_gradient_plan
        except (ValueError, TypeError, NotImplementedError):
            return None
        inputs = [*jax.tree.leaves(parameters), np.float64(0), *jax.tree.leaves(args)]
        values = quietly(plan, inputs, Taps().around(as_it_is))
        return dict(zip(self.names, values[1:], strict=True))

    def gradient(
        self, parameters: Pytree, *args: Pytree, rule: Rule = as_it_is, taps: "Taps | None" = None
    ) -> tuple[Any, Leaves]:
        """The loss and its gradient.

        Args:
            parameters: the loss's first argument.
            *args: its other arguments.
            rule: the rule that evaluates each step.
            taps: changes and records the gradients at marked values; None for no changes.

        Returns:
            (loss, gradients by path), in float64.
        """
        plan = self.at(parameters, *args).gradient_plan
        inputs = [*jax.tree.leaves(parameters), np.float64(0), *jax.tree.leaves(args)]
        values = quietly(plan, inputs, (taps or Taps()).around(rule))
        return values[0], dict(zip(self.names, values[1:], strict=True))

    @functools.cached_property
    def has_nonsmooth_points(self) -> bool:
        """Whether it has operations with nonsmooth points, including those in loops and branches."""
        return any(_is_nonsmooth(equation) for equation in self.closed.jaxpr.eqns)

    @property
    def unknown(self) -> list[str]:
        """The names of the operations that the table has no row for, including those in loops and branches."""
        return sorted(unknown_operations([step.equation for step in self.plan]))


def _is_nonsmooth(equation: Any) -> bool:
    name = equation.primitive.name
    row = TABLE.get(name, UNKNOWN)
    if row.kind in (Kind.NONSMOOTH, Kind.COMPARISON) or (row is UNKNOWN and name not in CALLS):
        return True
    return any(_is_nonsmooth(inner) for inside in inner_programs(equation) for inner in inside.eqns)


def _made_by_jax(jaxpr: Any) -> set[str]:
    """The names of the functions of JAX's library that created a program's operations, from the source information."""
    made: set[str] = set()
    for equation in jaxpr.eqns:
        frames = equation.source_info.traceback.frames if equation.source_info.traceback else ()
        made |= {frame.function_name for frame in frames if _OF_JAX in frame.file_name}
        for inside in inner_programs(equation):
            made |= _made_by_jax(inside)
    return made


_OF_JAX = os.path.dirname(jax.__file__)


def traced(loss: Callable[..., Any], parameters: Pytree, *args: Pytree) -> Program:
    """The program of a loss.

    Args:
        loss: a function that JAX can trace.
        parameters: its first argument, with respect to which it is differentiated.
        *args: its other arguments.

    Returns:
        The program. If all parameters have one dtype, values of narrower dtypes keep them (`narrow_stays`).

    Raises:
        TypeError: if the loss needs the values of its arguments, which a trace does not have.
    """
    dtypes = {np.asarray(leaf).dtype for leaf in jax.tree.leaves(parameters)}
    with in_words("the loss"):
        return Program(loss, parameters, *args, narrow_stays=len(dtypes) == 1)


@contextlib.contextmanager
def in_words(name: str) -> Iterator[None]:
    """Replaces the exceptions that JAX raises when it traces a function by a TypeError that says what to do.

    Args:
        name: the function's name for the message.

    Raises:
        TypeError: if the function needs the value of a traced array, or has unusable arguments or results.
    """
    try:
        yield
    except Untraceable:  # its message is specific already
        raise
    except (TypeError, IndexError) as error:
        first_line = str(error).partition("\n")[0]
        if "is not a valid JAX type" in first_line:
            raise TypeError(f"{name} must return arrays of numbers, but it returns something else.") from error
        if "Error interpreting argument" in first_line:
            raise TypeError(
                f"{name} gets an argument that is neither an array nor a number nor a tree of them; bind it with "
                "functools.partial."
            ) from error
        asks = isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError)
        of_an_index = ("concrete", "only integers", "must be static")  # parts of the messages of NumPy and JAX
        if not asks and not any(words in first_line for words in of_an_index):
            raise  # an error of the function itself
        raise TypeError(
            f"JAX cannot trace {name}, because it needs the value of a traced array: use jax.numpy instead of numpy, "
            "jnp.where instead of if, and neither float() nor .item(). If the value is an argument "
            "such as a length, name it in static=[...], or bind it with functools.partial. "
            f"({first_line})"
        ) from error


@dataclass
class Taps:
    """Changes and records the upstream gradients at marked values (taps) during an evaluation of a gradient.

    Attributes:
        upstream: the gradients, by tap, that replace those of the backward pass.
        weights: the numbers, by tap, by which the gradients of the backward pass are multiplied.
        values: the marked values, by tap, as recorded.
        gradients: the gradients of the backward pass, by tap, as recorded before they were replaced or multiplied.
    """

    upstream: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)

    def around(self, rule: Rule) -> Rule:
        """A rule that handles the markers, and evaluates all other steps by `rule`."""

        def at_marks(step: Step, inputs: list[Any]) -> list[Any]:
            if step.name in ("marked", "name"):  # JAX's own marker "name" remains on integers and in loops
                self.values[step.params["name"]] = inputs[0]
                return inputs[:1]
            if step.name == "arrives":
                name, arrived = step.params["name"], inputs[0]
                self.gradients[name] = arrived
                if name in self.upstream:
                    return [np.asarray(self.upstream[name], arrived.dtype)]
                return [self.weights[name] * arrived] if name in self.weights else [arrived]
            return rule(step, inputs)

        return at_marks


def _differentiated(closed: Any, count: int, plainly: bool = False) -> Any:
    """The trace of `jax.value_and_grad` of a traced loss with markers, with respect to its first `count` inputs.

    With `plainly`, stop_gradient is removed, and functions with custom rules are differentiated without them.
    """

    def loss(leaves: list[Any], origin: Any, *rest: Any) -> Any:
        return _Marking(origin, plainly).evaluated(closed.jaxpr, closed.consts, [*leaves, *rest])[0]

    def with_gradients(leaves: list[Any], origin: Any, *rest: Any) -> Any:
        value, (gradients, _) = jax.value_and_grad(loss, argnums=(0, 1))(leaves, origin, *rest)
        return value, *gradients

    like = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
        for aval in closed.in_avals
    ]
    origin = jax.ShapeDtypeStruct((), jnp.result_type(float))
    return jax.make_jaxpr(with_gradients)(like[:count], origin, *like[count:])


def under_jax(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    rule: Callable[[Any, list[Any]], list[Any]],
) -> list[Any]:
    """Evaluates a traced program in JAX, with each operation evaluated by a rule.

    Args:
        jaxpr: the program.
        constants: the values of its constants.
        arguments: the values of its arguments, which may be traced.
        rule: (equation, inputs) -> outputs. It is also called for the operations in called programs, and once for a
            whole loop.

    Returns:
        The program's results.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(_as_jax_has_it, constants), *arguments], strict=True))

    def read(atom: Any) -> Any:
        return _as_jax_has_it(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        called = called_program(equation)
        outputs = rule(equation, inputs) if called is None else under_jax(*called, inputs, rule)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _as_jax_has_it(constant: Any) -> Any:
    """A constant of the trace as a JAX array, because a custom rule may index it by a traced value.

    A 64-bit constant is converted to 32 bits if JAX is set to 32 bits. Python numbers are returned unchanged, because
    they are weakly typed.
    """
    dtype = getattr(constant, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return constant
    return jnp.asarray(constant, jax.dtypes.canonicalize_dtype(dtype))


def bound(equation: Any, inputs: list[Any]) -> list[Any]:
    """The results of the operation, evaluated by JAX."""
    results = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return list(results) if equation.primitive.multiple_results else [results]


class _Marking:
    """Evaluates a trace in JAX and inserts the markers of `primitives.markers`. Calls are entered.

    Args:
        origin: an additional input of the loss, from which marked values get a tangent if they depend on no parameter;
            None in loops and branches, where values are not marked, because one name would mark many values.
        plainly: whether stop_gradient is removed, and functions with custom rules are differentiated without them.
        numbers: the counter that numbers the operations. The operations that JAX derives from an operation have its
            source line, and its number in the name stack.
    """

    def __init__(self, origin: Any, plainly: bool = False, numbers: Iterator[int] | None = None) -> None:
        self.origin, self.plainly = origin, plainly
        self.numbers = itertools.count() if numbers is None else numbers
        self.nudges = 0

    def evaluated(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The results of the program, with markers."""
        return under_jax(jaxpr, constants, arguments, self.numbered)

    def numbered(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """The results of an operation with markers, traced under its source line and its number."""
        stack = source_info_util.current_name_stack().extend(f"{DERIVED}{next(self.numbers)}")
        with source_info_util.user_context(equation.source_info.traceback, name_stack=stack):
            return self.done(equation, inputs)

    def done(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """The results of an operation, with markers on its inputs, on its results, and inside its programs."""
        name = equation.primitive.name
        if self.plainly and name == "stop_gradient":
            return inputs
        if self.plainly and name in ("custom_jvp_call", "custom_vjp_call"):
            called = equation.params["call_jaxpr"]
            return self.evaluated(called.jaxpr, called.consts, inputs)
        if name == "name" and self.origin is not None and _is_floating(equation.invars[0]):
            return [marked_p.bind(inputs[0], self.origin, name=equation.params["name"])]
        if name == "scan":
            return self.scanned(equation, inputs)
        if name == "cond":
            index, *operands = inputs
            branches = [
                functools.partial(_Marking(None, self.plainly, self.numbers).branch, branch)
                for branch in equation.params["branches"]
            ]
            return list(lax.switch(index, branches, *operands))
        row = TABLE.get(name, UNKNOWN)
        floating = [i for i, atom in enumerate(equation.invars) if _is_floating(atom)]
        if floating and (row.kind in (Kind.NONSMOOTH, Kind.COMPARISON) or name == "custom_jvp_call"):
            largest = max(floating, key=lambda i: equation.invars[i].aval.size)
            inputs[largest] = nudged_p.bind(jnp.asarray(inputs[largest]), number=self.nudges)
            self.nudges += 1
        outputs = bound(equation, inputs)
        if len(outputs) == 1 and (row.slope is not None or name == "custom_jvp_call"):
            shape = equation.outvars[0].aval.shape
            places = tuple(i for i in floating if equation.invars[i].aval.shape == shape)
            if places and _is_floating(equation.outvars[0]):
                outputs = [bent_p.bind(outputs[0], *inputs, equation=equation, places=places)]
        return outputs

    def scanned(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """The results of a `scan` with markers in its body."""
        params, body = equation.params, equation.params["jaxpr"]
        fixed, carried = fixed_and_carried(params)
        constants, start, items = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
        inside = _Marking(None, self.plainly, self.numbers)

        def turn(carry: list[Any], item: list[Any]) -> Any:
            results = inside.evaluated(body.jaxpr, body.consts, [*constants, *carry, *item])
            return results[:carried], results[carried:]

        last, stacked = lax.scan(turn, start, items, length=params["length"], reverse=params["reverse"])
        return [*last, *stacked]

    def branch(self, closed: Any, *operands: Any) -> list[Any]:
        """The results of a branch of a `cond` with markers."""
        return self.evaluated(closed.jaxpr, closed.consts, operands)


def _is_floating(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, np.floating)


def widened(tree: Pytree) -> Pytree:
    """The tree with its floating-point arrays converted to float64, and all other leaves unchanged."""

    def wide(leaf: Any) -> Any:
        floating = isinstance(leaf, np.ndarray | jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return np.asarray(leaf, np.float64) if floating else leaf

    return jax.tree.map(wide, tree)
