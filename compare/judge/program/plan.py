"""A traced program as a list of steps, and its evaluation step by step, in NumPy.

Nothing is compiled: each step is one operation of the trace, done by the rule that its row of the table gives
(`primitives`), or by JAX where the table has none. What is done besides, such as moving every result by its rounding,
is said by a `Rule`, which is called for each step in turn.

Results have the dtypes that the plan gives them, and not those of the trace: a plan may be wider than its trace, so
that a float32 function is evaluated in float64. See `Widening`.
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

# Operations that are plain calls of a program: their steps take the place of the call.
CALLS = {"jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "core_call", "call", "custom_lin"}
# Done for what they do, whether or not their result is used.
MARKERS = {"arrives", "marked"}
# Steps that make a new array, as those with a ufunc do, and keep no view of an old one.
REDUCING = {"dot_general", "reduce_sum"}
LARGE = 2**15  # entries from which on memory is used again: what is smaller, the C library has at hand


@dataclass(frozen=True)
class Widening:
    """Which dtype the results of a program have where its trace has another.

    References are computed in float64. Calling the function with float64 arrays would make another function of it:
    `jax.random` draws other numbers, a loop whose state starts as float32 is refused, a cast to float32 rounds. So it
    is traced in the dtypes of its caller, and every floating dtype of the trace whose machine epsilon is at most
    `coarsest` is evaluated as float64. Integers, keys and random bits stay what they are, and so does what is narrower
    on purpose, such as bfloat16 in a float32 loss. With `coarsest` 0, everything stays as it was traced.
    """

    coarsest: float = 0.0

    def dtype(self, dtype: Any) -> np.dtype:
        return _wider(self.coarsest, dtype)


@functools.lru_cache(maxsize=256)
def _wider(coarsest: float, dtype: Any) -> np.dtype:
    if jnp.issubdtype(dtype, np.inexact) and float(jnp.finfo(dtype).eps) <= coarsest:
        return np.dtype(np.complex128 if jnp.issubdtype(dtype, np.complexfloating) else np.float64)
    return dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else np.dtype(dtype)


class Step:
    """One operation: its row of the table, where its inputs lie among the values, and where its results go."""

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
        self.last: list[int] = []
        self.fixed = False  # whether all that goes into it is constant
        self.decided = False  # whether all that goes into it follows from discrete decisions alone
        self.raw: list[tuple[int, np.dtype]] = []  # which inputs are the plan's own, and their dtypes
        self.programs: dict[str, Plan] = {}
        self.spare: int | None = None  # which input is large, and memory that nothing needs after this step

    def inner(self, name: str, closed: Any = None) -> "Plan":
        """The plan of the program that is the parameter `name`."""
        if name not in self.programs:
            self.programs[name] = Plan(_closed(self.params[name] if closed is None else closed), self.widening)
        return self.programs[name]

    def run(self, inputs: list[Array], rule: Rule, *, overwrite: bool = False) -> list[Array]:
        """The operation as it is.

        Args:
            rule: is for the steps of programs inside.
            overwrite: whether the result may take the place of an input that no later step needs. Not for a rule that
                keeps what it sees.
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
        if self.narrow:  # done in float32, and rounded at the end, as XLA does on a CPU
            inputs = [value.astype(np.float32) if is_narrow(value.dtype) else value for value in inputs]
        try:
            result = self.row.evaluate(*inputs, **self.params)
        except NotImplementedError:  # an option that the rule does not have
            return self.by_jax(inputs)
        if not self.multiple:
            dtype = self.dtypes[0]
            return [result if result.dtype == dtype else settled(result, dtype)]
        return [settled(value, dtype) for value, dtype in zip(result, self.dtypes, strict=True)]

    def by_jax(self, inputs: list[Array]) -> list[Array]:
        """The operation as JAX does it, in the dtypes in which it was traced."""
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
    """The steps of a traced program in order: calls are entered, and what nothing uses is left out."""

    def __init__(self, closed: Any, widening: Widening = Widening()) -> None:
        self.widening = widening
        self.values: list[Array] = []  # constants and literals where they lie, None elsewhere
        self.steps: list[Step] = []
        self.in_dtypes = [widening.dtype(aval.dtype) for aval in closed.in_avals]
        places: dict[Any, int] = {}
        self.inputs = [self._place(places, variable) for variable in closed.jaxpr.invars]
        self.outputs = self._enter(closed.jaxpr, closed.consts, places)
        self._leave_out_what_nothing_uses()
        self._multiply_in_the_order_of_the_result()
        self._do_each_when_it_is_needed()
        self._find_spare_memory()
        own = dict(zip(self.inputs, self.in_dtypes, strict=True))
        self._note_what_is_decided()
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
        """Add the steps of a program whose inputs have places already. Returns the places of its results."""
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

    def _note_what_is_decided(self) -> None:
        """A floor's value moves by whole numbers or not at all, and so does what is computed from it alone."""
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

    def _leave_out_what_nothing_uses(self) -> None:
        used = set(self.outputs)
        kept = []
        for step in reversed(self.steps):
            if step.name in MARKERS or step.equation.effects or not used.isdisjoint(step.outputs):
                used.update(step.inputs)
                kept.append(step)
        self.steps = kept[::-1]

    def _multiply_in_the_order_of_the_result(self) -> None:
        """A product that is only transposed becomes the product of the transposed factors, the last first.

        JAX derives a layer's backward pass so. As a view, the transpose would lie across everything that it meets
        entry by entry from there on, and an operation on two layouts takes twenty times as long as on one.
        """
        users: dict[int, int] = {}
        for place in [*self.outputs, *(place for step in self.steps for place in step.inputs)]:
            users[place] = users.get(place, 0) + 1
        products = {step.outputs[0]: step for step in self.steps if step.name == "dot_general"}
        for i, step in enumerate(self.steps):
            product = products.get(step.inputs[0]) if step.name == "transpose" else None
            if product is not None and users[product.outputs[0]] == 1:
                turned = _product_turned(product.equation, step.equation)
                if turned is not None:
                    self.steps[i] = Step(turned, product.inputs[::-1], step.outputs, self.widening)
        self._leave_out_what_nothing_uses()

    def _do_each_when_it_is_needed(self) -> None:
        """Order the steps so that few values are alive at once, and note which values each of them uses last.

        JAX writes an optimizer's step as all first moments, then all second moments, then all updates: four copies of a
        large model would be in memory at once. So what leads to one result only stands as early as it can, and
        everything else directly before the first step that needs it.
        """
        producer = {place: i for i, step in enumerate(self.steps) for place in step.outputs}
        needs = [sorted({producer[place] for place in step.inputs if place in producer}) for step in self.steps]
        users: list[list[int]] = [[] for _ in self.steps]
        for i, needed in enumerate(needs):
            for j in needed:
                users[j].append(i)
        unit = list(range(len(self.steps)))  # the result that a step leads to, if it leads to one only; or itself
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
                if all(ends[other] for other in waiting[j]):  # these first, which is: directly after it
                    ready += [j, *waiting[j]]
        used = set(self.outputs)
        for i in backwards:
            step = self.steps[i]
            step.last = [place for place in dict.fromkeys([*step.inputs, *step.outputs]) if place not in used]
            used.update(step.inputs)
        self.steps = [self.steps[i] for i in reversed(backwards)]

    def _find_spare_memory(self) -> None:
        """Note which steps may write their result where one of their inputs is.

        It must be large, or it is not worth it; the result of a step that makes a new array, and not an input or a
        constant of the plan; used here for the last time; and seen before by steps only that keep no view of it.
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
        """The results, each step done by `rule`, from inputs in the plan's dtypes or `as_given`.

        A value is forgotten when nothing needs it any more, and an input is widened for the step that uses it and not
        for good, because a large model needs the memory.
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
        """How many numbers its steps make, those in the programs inside not counted."""
        return sum(math.prod(getattr(v.aval, "shape", ())) for step in self.steps for v in step.equation.outvars)

    def largest_value(self) -> int:
        """The size of the largest value, those in the programs inside included."""
        return _largest([step.equation for step in self.steps])


def as_it_is(step: Step, inputs: list[Array]) -> list[Array]:
    return step.run(inputs, as_it_is, overwrite=True)


def quietly(plan: Plan, inputs: Sequence[Array], rule: Rule) -> list[Array]:
    """`plan(inputs, rule)` without NumPy's warnings: overflow and 0/0 are results here, and judged as such."""
    with np.errstate(all="ignore"):
        return plan(inputs, rule)


def called_program(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The program and its constants, if the operation is a plain call of one."""
    if equation.primitive.name not in CALLS:
        return None
    inner = _closed(equation.params.get("jaxpr", equation.params.get("call_jaxpr")))
    return inner.jaxpr, inner.consts


def inner_programs(equation: Any) -> list[Any]:
    """Every program inside of an operation: what a call calls, a loop repeats, a branch chooses from."""
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: isinstance(p, core.ClosedJaxpr))
    return [
        leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
        for leaf in leaves
        if isinstance(leaf, core.ClosedJaxpr | core.Jaxpr)
    ]


def equations(jaxpr: Any) -> Iterator[Any]:
    """The operations in the order in which they are done. Calls are entered, loops are not."""
    for equation in jaxpr.eqns:
        called = called_program(equation)
        if called is None:
            yield equation
        else:
            yield from equations(called[0])


def unknown_operations(equations: Sequence[Any]) -> set[str]:
    """The names of operations with results, those in the programs inside included, that the table has no row for."""
    names = {equation.primitive.name for equation in equations if equation.outvars}
    inner = [unknown_operations(inside.eqns) for equation in equations for inside in inner_programs(equation)]
    return (names - TABLE.keys() - CALLS).union(*inner)


def _product_turned(product: Any, transpose: Any) -> Any:
    """The two equations as one: b a for the transpose of a b, or None if it is not that."""
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
    """The value in a dtype: complex numbers lose their imaginary part, and integers stop at their limits, as in JAX.

    Random keys stay what they are.
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
        high, low = value >= float(limits.max), value <= float(limits.min)  # 2**63 - 1 is no float64
        whole = np.where(high | low, 0, inside).astype(dtype)
        return np.where(high, limits.max, np.where(low, limits.min, whole)).astype(dtype)
    return value.astype(dtype)


@functools.lru_cache(maxsize=256)
def is_narrow(dtype: Any) -> bool:
    """Whether it is a floating dtype of 16 bits or fewer."""
    return jnp.issubdtype(dtype, np.floating) and np.dtype(dtype).itemsize <= 2


@functools.lru_cache(maxsize=256)
def _is_plain(dtype: Any) -> bool:
    """Whether NumPy has it; random keys are JAX's own."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended)


def _closed(program: Any) -> Any:
    return program if isinstance(program, core.ClosedJaxpr) else core.ClosedJaxpr(program, ())


def _largest(equations: Sequence[Any]) -> int:
    shapes = [getattr(atom.aval, "shape", ()) for e in equations for atom in (*e.invars, *e.outvars)]
    inner = [inside.eqns for e in equations for inside in inner_programs(e)]
    return max([1, *(math.prod(shape) for shape in shapes), *map(_largest, inner)])
