"""A traced program as a list of steps, which are evaluated one after the other in NumPy.

Nothing is compiled. Each step is one operation of the trace. It is evaluated by the function in its row of the table
(`primitives`), or by JAX if the table has no function for it. A `Rule` is called for each step, and can change the
evaluation, for example perturb the result by its rounding error.

A plan has its own dtypes, which may be wider than those of the trace: a float32 function is evaluated in float64. See
`Widening`.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Kind, Primitive

Array = Any
Rule = Callable[["Step", list[Array]], list[Array]]  # (step, inputs) -> outputs

# Operations that only call a program. The steps of the program replace the call.
CALLS = {"jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "core_call", "call", "custom_lin"}
# Operations that are evaluated even if their results are not used.
MARKERS = {"arrives", "marked"}
# Operations without a ufunc that return a new array and never a view of an input.
REDUCING = {"dot_general", "reduce_sum"}
LARGE = 2**15  # the number of entries from which on an array's memory is reused; smaller arrays are cheap to allocate


@dataclass(frozen=True)
class Widening:
    """The dtypes in which a traced program is evaluated.

    References are computed in float64. It would not be correct to call the function with float64 arrays, because it may
    then compute something else: `jax.random` draws other numbers, a loop whose state starts as float32 is rejected, a
    cast to float32 rounds. Instead, the function is traced in the caller's dtypes, and every floating dtype whose
    machine epsilon is at most `coarsest` is evaluated as float64. Integers, keys and random bits keep their dtypes, and
    so do dtypes that are narrower on purpose, such as bfloat16 in a float32 loss. With `coarsest` 0, all dtypes are
    kept.
    """

    coarsest: float = 0.0

    def dtype(self, dtype: Any) -> np.dtype:
        """The dtype in which values of a traced dtype are evaluated."""
        return _wider(self.coarsest, dtype)


@functools.lru_cache(maxsize=256)
def _wider(coarsest: float, dtype: Any) -> np.dtype:
    if jnp.issubdtype(dtype, np.inexact) and float(jnp.finfo(dtype).eps) <= coarsest:
        return np.dtype(np.complex128 if jnp.issubdtype(dtype, np.complexfloating) else np.float64)
    return dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else np.dtype(dtype)


class Step:
    """One operation: its row of the table, and the places of its inputs and results, which index the plan's values."""

    __slots__ = (
        "decided",
        "dtypes",
        "equation",
        "fixed",
        "inputs",
        "keys",
        "last",
        "multiple",
        "name",
        "narrow",
        "outputs",
        "params",
        "programs",
        "raw",
        "row",
        "spare",
        "widening",
    )  # fmt: skip

    def __init__(self, equation: Any, inputs: list[int], outputs: list[int], widening: Widening) -> None:
        self.equation, self.inputs, self.outputs, self.widening = equation, inputs, outputs, widening
        self.name: str = equation.primitive.name
        self.row: Primitive = TABLE.get(self.name, UNKNOWN)
        self.params: dict[str, Any] = equation.params
        self.multiple: bool = equation.primitive.multiple_results
        self.dtypes = [widening.dtype(variable.aval.dtype) for variable in equation.outvars]
        self.narrow = any(is_narrow(widening.dtype(atom.aval.dtype)) for atom in (*equation.invars, *equation.outvars))
        self.keys = not all(_is_plain(atom.aval.dtype) for atom in (*equation.invars, *equation.outvars))
        self.last: list[int] = []  # the places that no later step uses
        self.fixed = False  # whether all inputs are constant
        self.decided = False  # whether all inputs are constant or results of discrete decisions
        self.raw: list[tuple[int, np.dtype]] = []  # the number and dtype of each input that is an input of the plan
        self.programs: dict[str, Plan] = {}  # the plans of programs inside, by name
        self.spare: int | None = None  # the number of an input whose memory the result may overwrite

    def inner(self, name: str, closed: Any = None) -> "Plan":
        """The plan of a program inside the operation, which is built at its first use.

        Args:
            name: the parameter that contains the program, or any other name if `closed` is given.
            closed: the program; that of the parameter by default.
        """
        if name not in self.programs:
            self.programs[name] = Plan(_closed(self.params[name] if closed is None else closed), self.widening)
        return self.programs[name]

    def run(self, inputs: list[Array], rule: Rule, *, overwrite: bool = False) -> list[Array]:
        """Evaluate the operation.

        Args:
            inputs: the values of its inputs.
            rule: the rule for the steps of programs inside.
            overwrite: whether the result may overwrite an input that no later step needs. It must be False for a rule
                that keeps values.

        Returns:
            The results, in the dtypes of the plan.
        """
        if overwrite and self.spare is not None and self.row.ufunc is not None:
            return [self.row.ufunc(*inputs, out=inputs[self.spare])]
        if self.row.control is not None:
            return [
                settled(value, dtype)
                for value, dtype in zip(self.row.control(self, inputs, rule), self.dtypes, strict=True)
            ]
        if self.row.evaluate is None or self.keys:
            return self.by_jax(inputs)
        if self.narrow:  # 16-bit operations are evaluated in float32 and then rounded, as XLA does on a CPU
            inputs = [value.astype(np.float32) if is_narrow(value.dtype) else value for value in inputs]
        try:
            result = self.row.evaluate(*inputs, **self.params)
        except NotImplementedError:  # the function does not support an option of the operation
            return self.by_jax(inputs)
        if not self.multiple:
            dtype = self.dtypes[0]
            return [result if result.dtype == dtype else settled(result, dtype)]
        return [settled(value, dtype) for value, dtype in zip(result, self.dtypes, strict=True)]

    def by_jax(self, inputs: list[Array]) -> list[Array]:
        """Evaluate the operation by JAX, in the dtypes of the trace."""
        with jax.enable_x64(True):
            traced = [
                jnp.asarray(settled(value, atom.aval.dtype))
                for value, atom in zip(inputs, self.equation.invars, strict=True)
            ]
            params = self.equation.primitive.get_bind_params(self.params)
            result = self.equation.primitive.bind(*traced, **params)
            results = list(result) if self.multiple else [result]
        return [settled(value, dtype) for value, dtype in zip(results, self.dtypes, strict=True)]


class Plan:
    """The steps of a traced program in order. Calls are entered, and unused steps are removed."""

    def __init__(self, closed: Any, widening: Widening = Widening()) -> None:
        self.widening = widening
        self.values: list[Array] = []  # the value of each constant and literal at its place, and None elsewhere
        self.steps: list[Step] = []
        self.in_dtypes = [widening.dtype(aval.dtype) for aval in closed.in_avals]
        places: dict[Any, int] = {}
        self.inputs = [self._place(places, variable) for variable in closed.jaxpr.invars]
        self.outputs = self._enter(closed.jaxpr, closed.consts, places)
        self._remove_unused_steps()
        self._replace_transposed_products()
        self._order_steps()
        self._find_spare_memory()
        own = dict(zip(self.inputs, self.in_dtypes, strict=True))
        self._mark_constants_and_decisions()
        for step in self.steps:
            step.raw = [(i, own[place]) for i, place in enumerate(step.inputs) if place in own]

    def _place(self, places: dict[Any, int], variable: Any, value: Array = None) -> int:
        places[variable] = len(self.values)
        self.values.append(value)
        return places[variable]

    def _constant(self, value: Any) -> Array:
        dtype = value.dtype if hasattr(value, "dtype") else jnp.result_type(value)
        return settled(value, self.widening.dtype(dtype))

    def _enter(self, jaxpr: Any, constants: Sequence[Any], places: dict[Any, int]) -> list[int]:
        """Add the steps of a program whose inputs already have places. Returns the places of its results."""
        for variable, value in zip(jaxpr.constvars, constants, strict=True):
            self._place(places, variable, self._constant(value))

        def place(atom: Any) -> int:
            if not isinstance(atom, core.Literal):
                return places[atom]
            literal: Any = atom
            self.values.append(settled(np.asarray(literal.val), self.widening.dtype(literal.aval.dtype)))
            return len(self.values) - 1

        for equation in jaxpr.eqns:
            inputs = [place(atom) for atom in equation.invars]
            called = called_program(equation)
            if called is not None:
                inside = dict(zip(called[0].invars, inputs, strict=True))
                results = self._enter(*called, inside)
                places.update(zip(equation.outvars, results, strict=True))
                continue
            outputs = [self._place(places, variable) for variable in equation.outvars]
            self.steps.append(Step(equation, inputs, outputs, self.widening))
        return [place(atom) for atom in jaxpr.outvars]

    def _mark_constants_and_decisions(self) -> None:
        """Record which steps have only constant inputs, and which depend only on constants and discrete decisions."""
        decided: set[int] = set()
        constant = {place for place, value in enumerate(self.values) if value is not None}
        for step in self.steps:
            moving = [place for place in step.inputs if place not in constant]
            step.fixed = not moving and not step.equation.effects and step.row.kind is not Kind.PROGRAM
            if step.fixed:
                constant.update(step.outputs)
            step.decided = bool(moving) and decided.issuperset(moving)
            if step.decided or step.row.kind in (Kind.DISCRETE, Kind.COMPARISON):
                decided.update(step.outputs)

    def _remove_unused_steps(self) -> None:
        used = set(self.outputs)
        kept = []
        for step in reversed(self.steps):
            if step.name in MARKERS or step.equation.effects or not used.isdisjoint(step.outputs):
                used.update(step.inputs)
                kept.append(step)
        self.steps = kept[::-1]

    def _replace_transposed_products(self) -> None:
        """Replace the transpose of a product by the product of the transposed factors in reverse order.

        JAX derives transposed products for a layer's backward pass. The transpose would be a view with another memory
        layout, and an elementwise operation on arrays of different layouts takes twenty times as long as on arrays of
        one layout. Products that are also used without the transpose are not replaced.
        """
        users: dict[int, int] = {}
        for place in [*self.outputs, *(place for step in self.steps for place in step.inputs)]:
            users[place] = users.get(place, 0) + 1
        products = {step.outputs[0]: step for step in self.steps if step.name == "dot_general"}
        for i, step in enumerate(self.steps):
            product = products.get(step.inputs[0]) if step.name == "transpose" else None
            if product is not None and users[product.outputs[0]] == 1:
                turned = _transposed_product(product.equation, step.equation)
                if turned is not None:
                    self.steps[i] = Step(turned, product.inputs[::-1], step.outputs, self.widening)
        self._remove_unused_steps()

    def _order_steps(self) -> None:
        """Order the steps so that few values are in memory at once, and record which values each step uses last.

        JAX traces an optimizer's step as all first moments, then all second moments, then all updates, so that four
        copies of a large model would be in memory. The new order evaluates the steps that lead to only one result as
        early as possible, and each other step directly before the first step that needs it.
        """
        producer = {place: i for i, step in enumerate(self.steps) for place in step.outputs}
        needs = [sorted({producer[place] for place in step.inputs if place in producer}) for step in self.steps]
        users: list[list[int]] = [[] for _ in self.steps]
        for i, needed in enumerate(needs):
            for j in needed:
                users[j].append(i)
        unit = list(range(len(self.steps)))  # the only result that a step leads to, or the step itself
        ends = [not used for used in users]
        for i in reversed(range(len(self.steps))):
            if len(users[i]) == 1 and ends[unit[users[i][0]]]:
                unit[i] = unit[users[i][0]]
        members: dict[int, list[int]] = {}
        for i, of in enumerate(unit):
            members.setdefault(of, []).append(i)
        waiting = [{unit[i] for i in used} for used in users]
        backwards: list[int] = []
        ready = [of for of in members if ends[of]]
        done: set[int] = set()
        while ready:
            of = ready.pop()
            if of in done:
                continue
            done.add(of)
            backwards += reversed(members[of])
            for j in sorted({j for i in members[of] for j in needs[i] if unit[j] != of}):
                waiting[j].discard(of)
                # `ready` is a stack: the other users of j are added before j, and so are evaluated directly after it.
                if all(ends[other] for other in waiting[j]):
                    ready += [j, *waiting[j]]
        used = set(self.outputs)
        for i in backwards:
            step = self.steps[i]
            step.last = [place for place in dict.fromkeys([*step.inputs, *step.outputs]) if place not in used]
            used.update(step.inputs)
        self.steps = [self.steps[i] for i in reversed(backwards)]

    def _find_spare_memory(self) -> None:
        """Record which steps may write their result into the memory of one of their inputs.

        The input must be large, and this step must be its last use. It must be the result of a step that returns a new
        array, not an input or a constant of the plan. No earlier step may have returned a view of it.
        """
        makers = [step for step in self.steps if step.row.ufunc is not None or step.name in REDUCING]
        new = {step.outputs[0] for step in makers if step.dtypes[0] == np.float64 and not step.narrow}
        seen = {id(step) for step in makers}
        new -= {place for step in self.steps if id(step) not in seen for place in step.inputs}
        for step in self.steps:
            if step.row.ufunc is None or step.outputs[0] not in new:
                continue
            shape = step.equation.outvars[0].aval.shape
            if math.prod(shape) < LARGE:
                continue
            for i, place in enumerate(step.inputs):
                once = place in step.last and step.inputs.count(place) == 1
                if place in new and once and step.equation.invars[i].aval.shape == shape:
                    step.spare = i

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __call__(self, inputs: Sequence[Array], rule: Rule, *, as_given: bool = False) -> list[Array]:
        """Evaluate the plan.

        To save memory for large models, a value is dropped after its last use, and an input is widened separately for
        each step that uses it.

        Args:
            inputs: arrays of any dtype.
            rule: the rule that evaluates each step.
            as_given: whether the inputs keep their dtypes and are not converted to those of the plan.

        Returns:
            The values of the plan's results.
        """
        values = self.values.copy()
        for place, value in zip(self.inputs, inputs, strict=True):
            values[place] = value
        for step in self.steps:
            given = [values[place] for place in step.inputs]
            if not as_given:
                for i, dtype in step.raw:
                    given[i] = settled(given[i], dtype)
            outputs = rule(step, given)
            for place, value in zip(step.outputs, outputs, strict=True):
                values[place] = value
            for place in step.last:
                values[place] = None
        results = [values[place] for place in self.outputs]
        own = {} if as_given else dict(zip(self.inputs, self.in_dtypes, strict=True))
        return [
            settled(value, own[place]) if place in own else value
            for place, value in zip(self.outputs, results, strict=True)
        ]

    def entries(self) -> int:
        """The number of entries of all results of its steps, without those of programs inside."""
        return sum(math.prod(getattr(v.aval, "shape", ())) for step in self.steps for v in step.equation.outvars)

    def largest_value(self) -> int:
        """The number of entries of its largest value, including those of programs inside."""
        return _largest([step.equation for step in self.steps])


def as_it_is(step: Step, inputs: list[Array]) -> list[Array]:
    """The rule that evaluates each operation unchanged. It may overwrite an input that is not needed any more."""
    return step.run(inputs, as_it_is, overwrite=True)


def quietly(plan: Plan, inputs: Sequence[Array], rule: Rule) -> list[Array]:
    """`plan(inputs, rule)` without NumPy's warnings, because infinity and NaN are ordinary results here."""
    with np.errstate(all="ignore"):
        return plan(inputs, rule)


def called_program(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The called program and its constants if the operation only calls a program; None for all other operations."""
    if equation.primitive.name not in CALLS:
        return None
    inner = _closed(equation.params.get("jaxpr", equation.params.get("call_jaxpr")))
    return inner.jaxpr, inner.consts


def inner_programs(equation: Any) -> list[Any]:
    """The programs inside an operation, such as the body of a loop or the branches of a condition."""
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: isinstance(p, core.ClosedJaxpr))
    return [
        leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
        for leaf in leaves
        if isinstance(leaf, core.ClosedJaxpr | core.Jaxpr)
    ]


def equations(jaxpr: Any) -> Iterator[Any]:
    """The operations of a program in order. Calls are entered, and loops are not."""
    for equation in jaxpr.eqns:
        called = called_program(equation)
        if called is None:
            yield equation
        else:
            yield from equations(called[0])


def unknown_operations(equations: Sequence[Any]) -> set[str]:
    """The names of the operations that the table has no row for, including those of programs inside."""
    names = {equation.primitive.name for equation in equations if equation.outvars}
    inner = [unknown_operations(inside.eqns) for equation in equations for inside in inner_programs(equation)]
    return (names - TABLE.keys() - CALLS).union(*inner)


def _transposed_product(product: Any, transpose: Any) -> Any:
    """The equation of the product of the transposed factors, which equals the transpose; None if there is none."""
    if product.params.get("out_sharding") is not None:
        return None
    contracted, batched = product.params["dimension_numbers"]
    left, right = (atom.aval.ndim - len(axes) for atom, axes in zip(product.invars, contracted, strict=True))
    swapped = (*range(left, left + right), *range(left))
    if batched[0] or tuple(transpose.params["permutation"]) != swapped:
        return None
    params = {**product.params, "dimension_numbers": (contracted[::-1], batched)}
    return product.replace(invars=product.invars[::-1], outvars=transpose.outvars, params=params)


def settled(value: Array, dtype: Any) -> Array:
    """The value converted to a dtype. As in JAX, imaginary parts are dropped, and conversions to integers saturate.

    If the dtype is that of random keys, the value is returned unchanged.
    """
    if not _is_plain(dtype):
        return value
    value = np.asarray(value)
    if value.dtype == dtype:
        return value
    dtype = np.dtype(dtype)
    if value.dtype.kind == "c" and dtype.kind != "c":
        value = value.real
    if dtype.kind in "iu" and jnp.issubdtype(value.dtype, np.floating):
        limits = np.iinfo(dtype)
        if is_narrow(value.dtype):
            value = value.astype(np.float32)
        inside = np.clip(np.nan_to_num(value), limits.min, limits.max)
        high, low = value >= float(limits.max), value <= float(limits.min)  # float64 rounds 2**63 - 1 to 2**63
        whole = np.where(high | low, 0, inside).astype(dtype)
        return np.where(high, limits.max, np.where(low, limits.min, whole)).astype(dtype)
    return value.astype(dtype)


@functools.lru_cache(maxsize=256)
def is_narrow(dtype: Any) -> bool:
    """Whether it is a floating dtype of 16 bits or fewer."""
    return jnp.issubdtype(dtype, np.floating) and np.dtype(dtype).itemsize <= 2


@functools.lru_cache(maxsize=256)
def _is_plain(dtype: Any) -> bool:
    """Whether it is a dtype of NumPy and not the dtype of JAX's random keys."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended)


def _closed(program: Any) -> Any:
    return program if isinstance(program, core.ClosedJaxpr) else core.ClosedJaxpr(program, ())


def _largest(equations: Sequence[Any]) -> int:
    shapes = [getattr(atom.aval, "shape", ()) for e in equations for atom in (*e.invars, *e.outvars)]
    inner = [inside.eqns for e in equations for inside in inner_programs(e)]
    return max([1, *(math.prod(shape) for shape in shapes), *map(_largest, inner)])
