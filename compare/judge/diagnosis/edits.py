"""Single edits of a traced program: an operation is left out, reversed, moved, or given another operand.

Each edit is a mistake that somebody may make in a derivation by hand. `hypotheses/edited.py` evaluates the program with
each edit, and keeps an edit that reproduces the hand-written values in every entry, at this point and at others.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np

from compare.judge.diagnosis.program_words import BETWEEN, CALLED, GRADIENT, NOUNS, SEEN_THROUGH, Words, operation_of
from compare.judge.program.evaluated import Change, Evaluated, plainly
from compare.judge.program.plan import Plan, Step

Array = Any

# The negation of each comparison.
COMPARISONS = {"gt": np.less_equal, "lt": np.greater_equal, "ge": np.less, "le": np.greater, "eq": np.not_equal} | {
    "ne": np.equal
}
UNARY = {"exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "tanh", "logistic", "sin", "cos", "abs", "square", "erf"} | {
    "integer_pow",
    "rev",
    "cumsum",
}
# The largest number of array entries in a program that is edited: each edit of a larger one would take too long.
MOST_ENTRIES = 1_000_000
# The factor by which rounding errors at another point may be larger than at the point of the check.
MORE_ROUNDING = 16.0
# The largest number of pairs of constants that are swapped, or of means that are replaced: each costs one evaluation.
MOST_PAIRS = 50
# Elementwise operations, of which two may be applied in the wrong order.
OF_ENTRIES = {"add", "sub", "mul", "div", *UNARY} - {"rev", "cumsum"}
# The consequence of a mask that is missing in the backward pass.
EVERYWHERE = f": {GRADIENT} passes everywhere"
# Operations that return their operand unchanged: they mark values in a trace.
IDENTITIES = {"nudged", "bent", "bend", "marked", "arrives", "name"}


@dataclass(frozen=True)
class Edit:
    """A mistake: the steps that it changes, and its description. A step is identified by its `id`.

    Attributes:
        kind: the kind of the diagnosis.
        words: the description of the mistake, to which `where` and `then` are appended.
        changes: the functions that replace the operations of steps, by step.
        seen_by: the only steps that read the changed results, while all others read the original ones; None if all
            steps read the changed results.
        rewired: other operands, by step and by the operand's position: the index of the value that is used instead.
        instead: the index of a value that replaces the quantity itself.
        controls: edits that must predict other values. If one of them predicts the same values, the description cannot
            be inferred from these values.
        like: a key that edits of several steps have in common if one mistake may cause all of them; None if none does.
        where: the line of code, as appended to the description.
        then: the consequence of the mistake, as appended after the line.
    """

    kind: str
    words: str
    changes: Mapping[int, Change]
    seen_by: set[int] | None = None
    rewired: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    instead: int | None = None
    controls: tuple["Edit", ...] = ()
    like: tuple[Any, ...] | None = None
    where: str = ""
    then: str = ""


@dataclass
class Effort:
    """The number of steps that may still be evaluated again. All quantities of one report share it."""

    left: int = 20_000


@dataclass
class Traced:
    """The reference's program, evaluated at a point, and which of its values is the quantity that is wrong.

    Values are identified by their index in `here.values`.

    Attributes:
        here: the program and its values.
        target: the index of the quantity.
        names: the names of the program's inputs, by index.
        effort: the number of steps that may still be evaluated again.
        backward: the `id`s of the steps of the backward pass.
        start: is subtracted from the value. For a training step, it is the parameter before the step.
        of_the_reference: whether the program is that of a reference, and not of the code under test.
        elsewhere: returns, for each other point, the program evaluated there, the hand-written value of the quantity,
            and `start`; an empty list if the code under test cannot be called at other points.
    """

    here: Evaluated
    target: int
    names: dict[int, str]
    effort: Effort
    backward: set[int] = field(default_factory=set)
    start: Any = 0.0
    of_the_reference: bool = True
    elsewhere: Callable[[], list[tuple[Evaluated, Array, Any]]] = list

    def words(self) -> Words:
        """The descriptions of the program's values."""
        return Words(self.here.plan, self.names, self.backward, self.here.values, self.of_the_reference)

    @functools.cached_property
    def cancelled(self) -> dict[int, Change]:
        """The sums of the backward pass whose terms cancel: they are 0, and stay 0 when the program is edited.

        The gradient of a maximum that is subtracted before a softmax is such a sum. A derivation by hand leaves it out,
        so that no mistake in another place brings it back.
        """
        found: dict[int, Change] = {}
        for number in self.here.leading_to(self.target):
            step = self.here.plan.steps[number]
            if step.name == "reduce_sum" and id(step) in self.backward and step.dtypes[0].kind == "f":
                total, terms = (np.abs(self.here.values[at]) for at in (step.outputs[0], step.inputs[0]))
                if terms.any() and total.max(initial=0) <= 1e-12 * terms.max():
                    found[id(step)] = _zeros
        return found

    def predicts(self, edit: Edit) -> Array:
        """The quantity as the edited program computes it.

        Args:
            edit: the edit.

        Raises:
            ValueError, TypeError, IndexError, NotImplementedError: if the edited program cannot be evaluated.
        """
        return self.value(self.here, edit) - self.start

    def value(self, there: Evaluated, edit: Edit) -> Array:
        """The target's value as the edited program computes it at a point, before `start` is subtracted.

        Args:
            there: the program, evaluated at that point.
            edit: the edit.
        """
        if edit.instead is not None:
            return np.asarray(there.values[edit.instead])
        before = there.done
        changes = edit.changes if edit.seen_by is not None else {**self.cancelled, **edit.changes}
        value = np.asarray(there.again(changes, self.target, edit.seen_by, edit.rewired))
        self.effort.left -= there.done - before
        return value

    def is_controlled(self, edit: Edit, prediction: Array) -> bool:
        """Whether all controls of an edit predict other values than the edit itself.

        Args:
            edit: the edit.
            prediction: its own prediction.
        """
        return not any(np.allclose(self.predicts(other), prediction, rtol=1e-9, atol=0) for other in edit.controls)

    def holds_elsewhere(self, edit: Edit, rounding: float) -> bool:
        """Whether an edit leaves only rounding errors at other points, too; True if there are no other points.

        Args:
            edit: the edit.
            rounding: the norm of the quantity's rounding tolerances.
        """
        for there, actual, start in self.elsewhere():
            expected = np.asarray(there.values[self.target]) - start
            error, left = (np.linalg.norm(actual - v) for v in (expected, self.value(there, edit) - start))
            if not left <= min(1e-2 * error, 1e-6 * error + MORE_ROUNDING * rounding):
                return False
        return True


def single_edits(traced: Traced) -> Iterator[Edit]:
    """All edits of a program.

    Edits of single operations come first, in the order from the quantity back to the inputs. Then come edits of several
    similar operations, edits of forward values that only the backward pass reads, and replacements of values.

    Args:
        traced: the program and its target.
    """
    words = traced.words()
    leading = [traced.here.plan.steps[number] for number in reversed(traced.here.leading_to(traced.target))]
    users = _users(traced.here.plan)
    alike: dict[tuple[Any, ...], list[Edit]] = {}

    def grouped(edits: Iterator[Edit]) -> Iterator[Edit]:
        for edit in edits:
            if edit.like is not None:
                alike.setdefault((edit.kind, *edit.like), []).append(edit)
            yield edit

    yield from _cut(leading, words)
    for step in leading:
        yield from grouped(_edits_of(step, words))
        if step.programs:
            yield from grouped(_inside(step, words))
        else:
            yield from grouped(_swapped(step, users, words))
    for edits in alike.values():
        if len(edits) > 1:
            merged = {at: change for edit in edits for at, change in edit.changes.items()}
            count = len(merged)
            if count == len(edits):
                first = edits[0]
                yield Edit(
                    first.kind,
                    f"{first.words}, in {count} places",
                    merged,
                    where=first.where,
                    then=first.then,
                )
    if traced.backward:
        for step in leading:
            if id(step) not in traced.backward and not step.programs:
                seen_by = {id(user) for place in step.outputs for user in users.get(place, ())} & traced.backward
                if seen_by and len(seen_by) < sum(len(users.get(place, ())) for place in step.outputs):
                    for edit in _edits_of(step, words):
                        message = f"{edit.words}, for the backward pass only"
                        yield Edit(edit.kind, message, edit.changes, seen_by, where=edit.where, then=edit.then)
    yield from _instead(traced, words)
    yield from _other_statistics(traced, words)
    yield from _two_numbers(traced, leading)
    yield from _exchanged(traced, leading, users, words)


def _users(plan: Plan) -> dict[int, list[Step]]:
    users: dict[int, list[Step]] = {}
    for step in plan:
        for place in dict.fromkeys(step.inputs):
            users.setdefault(place, []).append(step)
    return users


def _inside(step: Step, words: Words) -> Iterator[Edit]:
    """Edits of one operation in the body of a loop or a branch; in a loop, every iteration has the edit."""
    for plan in step.programs.values():
        inner = words.of_a_loop(plan, step)
        for inside in reversed(plan.steps):
            yield from _edits_of(inside, inner)
            if inside.programs:
                yield from _inside(inside, inner)


def _edits_of(step: Step, words: Words) -> Iterator[Edit]:
    """The edits of one operation."""
    name = step.name
    if step.keys or len(step.outputs) != 1 or name in IDENTITIES:
        return
    if any(jnp.issubdtype(atom.aval.dtype, jnp.complexfloating) for atom in step.equation.invars):
        return
    shape, dtype = step.equation.outvars[0].aval.shape, step.dtypes[0]
    where = words.where(step)
    of = [words.value(place) for place in step.inputs]
    back = [value.startswith(GRADIENT) for value in of]

    def edit(kind: str, what: str, function: Callable[[list[Array]], Array], like: Any = None, then: str = "") -> Edit:
        def change(step: Step, inputs: list[Array]) -> list[Array]:
            return [np.broadcast_to(np.asarray(function(inputs), dtype), shape)]

        group = None if like is None else (name, id(step) in words.backward, like)
        return Edit(kind, what, {id(step): change}, like=group, where=where, then=then)

    def unedited(inputs: list[Array]) -> Array:
        return step.run(inputs, plainly)[0]

    if dtype.kind == "b":
        if name in COMPARISONS:
            inverse = COMPARISONS[name]
            mask = _named("mask", words.value(step.outputs[0]))
            yield edit("wrong-mask", f"{mask} is inverted", lambda v: inverse(*v))
        return
    if dtype.kind != "f":
        return
    if name in ("add", "add_any", "sub"):
        for i, j in ((1, 0), (0, 1)):
            sign = -1 if name == "sub" and i == 0 else 1
            term = words.term(step.inputs[i], step.inputs[j]) if back[i] else _named("term", of[i])
            key = _kind_of(words, step.inputs[i])
            yield edit("missing-term", f"{term} is left out", lambda v, j=j, sign=sign: sign * v[j], ("drop", key))
            source = words.source(step)
            made = words.producers.get(step.inputs[i])
            if source is not None and source.name == "abs" and made is not None and words.source(made) is source:
                # JAX computes the gradient of |x| as g where x >= 0, plus -g where x < 0: without the minus, it is g.
                if made.name == "neg":
                    what = f"the factor sign({words.value(source.inputs[0])}), the derivative of "
                    what += f"{words.value(source.outputs[0])}, is left out"
                    yield edit("missing-factor", what, lambda v, i=i, j=j: v[j] - v[i])
                continue
            turned = -1 if name == "sub" else 1
            yield edit(
                "wrong-sign",
                f"{term} has the wrong sign",
                lambda v, i=i, j=j, turned=turned: (turned * v[j] - v[i]) if i == 0 else (v[j] - turned * v[i]),
                ("sign", key),
            )
    elif name == "mul":
        for i, j in ((1, 0), (0, 1)):
            if back[i] and not back[j]:
                continue
            mask = words.is_mask(step.inputs[i])
            what = _named("mask" if mask else "factor", of[i]) + (words.of_source(step) if mask and back[j] else "")
            yield edit(
                "missing-mask" if mask else "missing-factor",
                f"{what} is left out",
                lambda v, j=j: v[j],
                ("drop", _kind_of(words, step.inputs[i])),
                EVERYWHERE if mask and back[j] else "",
            )
    elif name == "div":
        key = _kind_of(words, step.inputs[1])
        yield edit("missing-factor", f"the division by {of[1]} is left out", lambda v: v[0], ("drop", key))
        yield edit("wrong-factor", f"it is multiplied by {of[1]}, and should be divided by it", lambda v: v[0] * v[1])
        if not back[0]:
            yield edit("missing-factor", f"{of[0]} is left out of {of[0]} / {of[1]}", lambda v: 1 / v[1])
    elif name == "neg":
        yield edit("wrong-sign", f"the minus sign of {words.value(step.outputs[0])} is left out", lambda v: v[0])
    elif name == "select_n":
        for i in range(1, len(of)):
            words_of_it = f"{_named('mask', of[0])}{words.of_source(step)} is left out"
            passes = len(of) == 3 and back[i] and words.is_zero(step.inputs[3 - i])
            then = EVERYWHERE if passes else f": {of[i]} is used everywhere"
            yield edit("missing-mask", words_of_it, lambda v, i=i: v[i], then=then)
        if len(of) == 3 and step.equation.invars[0].aval.dtype == bool:
            yield edit("wrong-mask", f"{_named('mask', of[0])} is inverted", lambda v: unedited([~v[0], v[1], v[2]]))
    elif name == "dot_general":
        for i in (0, 1):
            if not back[i]:
                yield edit(
                    "missing-factor",
                    f"{_named('factor', of[i])} of a matrix product is left out, as if it were 1",
                    lambda v, i=i: unedited([np.ones_like(x) if k == i else x for k, x in enumerate(v)]),
                )
            operand = step.equation.invars[i].aval.shape
            if len(operand) == 2 and operand[0] == operand[1] > 1:
                turned = of[i]
                yield edit(
                    "transpose",
                    f"{turned} is transposed in a matrix product, and should not be",
                    lambda v, i=i: unedited([x.T if k == i else x for k, x in enumerate(v)]),
                )
    elif name == "reduce_sum":
        yield from _other_axes(step, words, edit)
    elif name in ("gather", "scatter-add"):
        yield from _other_indices(step, words, edit)
    if name in UNARY and step.equation.invars[0].aval.shape == shape:
        yield edit("missing-operation", f"{_done(step)} is left out of {words.value(step.outputs[0])}", lambda v: v[0])
        if name == "integer_pow":
            power = step.params["y"]
            for other in (power - 1, power + 1):
                if other not in (0, 1):
                    yield edit(
                        "wrong-power",
                        f"the power of {of[0]} is {other}, and should be {power}",
                        lambda v, k=other: v[0] ** k,
                    )
    if len(shape) == 2 and shape[0] == shape[1] > 1 and name not in ("broadcast_in_dim", "transpose"):
        yield edit("transpose", f"{_result(step, words)} is transposed, and should not be", lambda v: unedited(v).T)


def _other_axes(step: Step, words: Words, edit: Callable[..., Edit]) -> Iterator[Edit]:
    """A sum that is also summed or averaged over one more axis."""
    axes = tuple(step.params["axes"])
    kept = [axis for axis in range(step.equation.invars[0].aval.ndim) if axis not in axes]
    value, over = words.value(step.outputs[0]), ", ".join(map(str, axes))
    total = f"{'a sum' if value.startswith(GRADIENT) else value} over {'axis' if len(axes) == 1 else 'axes'} {over}"
    for at, axis in enumerate(kept):
        if step.equation.invars[0].aval.shape[axis] < 2:
            continue
        for word, function in (("averaged", np.mean), ("taken", np.sum)):
            yield edit(
                "wrong-axis",
                f"{total} is also {word} over axis {axis}, and should not be",
                lambda v, at=at, function=function: np.broadcast_to(
                    function(v[0].sum(axes), axis=at, keepdims=True), v[0].sum(axes).shape
                ),
            )


def _other_indices(step: Step, words: Words, edit: Callable[..., Edit]) -> Iterator[Edit]:
    """Windows that are read or written with a stride of 1, or with the strides of the other axis."""
    indices = words.values[step.inputs[1]]
    if indices is None or indices.ndim < 2 or indices.shape[-1] != 1:
        return
    steps = regular(indices[..., 0])
    if steps is None:
        return
    verb = "written" if step.name == "scatter-add" else "read"
    others = {1: [1 if n > 1 else n for n in steps]}
    others |= {2: list(reversed(steps))} if len(steps) > 1 else {}
    for way, strides in others.items():
        if strides == steps:
            continue
        said = [", ".join(map(str, some)) for some in (strides, steps)]

        def moved(v: list[Array], strides: list[int] = strides) -> Array:
            first = v[1][(0,) * (v[1].ndim - 1)]
            places = [np.arange(n) for n in v[1].shape[:-1]]
            grid = np.array(sum(n * p for n, p in zip(strides, np.meshgrid(*places, indexing="ij"), strict=True)))
            return step.run([v[0], (first + grid[..., None]).astype(v[1].dtype), *v[2:]], plainly)[0]

        many = "strides" if len(steps) > 1 else "stride"
        message = f"an array is {verb} with {many} {said[0]}, and should be {verb} with {many} {said[1]}"
        yield edit("wrong-stride", message, moved, (way, *steps))


def regular(indices: Array) -> list[int] | None:
    """The increment of the indices along each axis; None if it is not the same everywhere along one of them."""
    steps = []
    for axis, n in enumerate(indices.shape):
        if n < 2:
            steps.append(0)
            continue
        apart = np.diff(indices, axis=axis)
        if (apart != apart.flat[0]).any():
            return None
        steps.append(int(apart.flat[0]))
    return steps


def other_numbers(traced: Traced) -> Iterator[tuple[float, Edit, Callable[[float], Edit]]]:
    """The constants that the program multiplies or divides by, with edits that replace them.

    Args:
        traced: the program and its target.

    Yields:
        The constant, an edit that sets the product or quotient to 0, and a function that returns, for any factor, the
        edit that multiplies the product or quotient by it.
    """
    words = traced.words()
    found: dict[tuple[Any, ...], list[Step]] = {}
    for at in traced.here.leading_to(traced.target):
        step = traced.here.plan.steps[at]
        operands = {"mul": (0, 1), "div": (1,)}.get(step.name, ())
        for place in [step.inputs[i] for i in operands if step.dtypes[0].kind == "f"]:
            value = traced.here.plan.values[place]
            if value is not None and np.ndim(value) == 0:
                found.setdefault((step.name, float(value), id(step) in traced.backward), []).append(step)

    def times(steps: list[Step], number: float, name: str, share: float) -> Edit:
        def change(step: Step, inputs: list[Array]) -> list[Array]:
            return [share * step.run(inputs, plainly)[0]]

        other = number * share if name == "mul" else number / share if share else np.inf
        places = f", in {len(steps)} places" if len(steps) > 1 else ""
        message = f"{other:.6g} is used instead of {number:.6g}{places}"
        return Edit("wrong-number", message, {id(step): change for step in steps}, where=words.where(steps[0]))

    for (name, number, _), steps in found.items():
        for some in ([steps] if len(steps) > 1 else []) + [[step] for step in steps]:
            yield number, times(some, number, name, 0.0), functools.partial(times, some, number, name)


def flipped(traced: Traced, wrong: Array) -> Iterator[Edit]:
    """Masks that have the opposite value in the entries that are wrong, each in one of the steps that use it.

    Args:
        traced: the program and its target.
        wrong: whether an entry of the quantity is wrong. Only masks of this shape are tried.
    """
    words = traced.words()
    for number in reversed(traced.here.leading_to(traced.target)):
        step = traced.here.plan.steps[number]
        if step.name not in ("mul", "select_n", "div") or (traced.backward and id(step) not in traced.backward):
            continue
        for i, place in enumerate(step.inputs):
            if np.shape(traced.here.values[place]) != wrong.shape or not words.is_mask(place):
                continue

            def change(step: Step, inputs: list[Array], i: int = i) -> list[Array]:
                turned = np.where(wrong, 1 - inputs[i].astype(int), inputs[i]).astype(inputs[i].dtype)
                return step.run([turned if k == i else x for k, x in enumerate(inputs)], plainly)

            mask = np.asarray(traced.here.values[place])[wrong].astype(bool)
            what = "is 1 {}, where it should be 0"
            if mask.any():
                what = "is 0 {}, where it should be 1" if mask.all() else "is inverted {}"
            yield Edit(
                "wrong-mask",
                f"{_named('mask', words.value(place))} {what}",
                {id(step): change},
                where=words.where(step),
            )


def _named(noun: str, formula: str) -> str:
    """A mask, factor or term with its formula: `the mask z > 0`, or `a constant mask of shape (3,)`."""
    unnamed = formula.startswith("a constant ")
    return f"a constant {noun} {formula.removeprefix('a constant ')}" if unnamed else f"the {noun} {formula}"


def _result(step: Step, words: Words) -> str:
    value = words.value(step.outputs[0])
    return f"the result of a {NOUNS.get(step.name, CALLED.get(step.name, step.name))}" if value == GRADIENT else value


def _done(step: Step) -> str:
    some = {"integer_pow": f"the power {step.params.get('y')}", "square": "the square", "rev": "the reversal"}
    return some.get(step.name, CALLED.get(step.name, step.name))


def _kind_of(words: Words, place: int) -> str:
    """The operation that computed an operand, and those that computed its inputs, without names.

    One mistake that is repeated in several places concerns operands with the same description.
    """
    step = words.producers.get(place)
    while step is not None and step.name in SEEN_THROUGH:
        place = step.inputs[0]
        step = words.producers.get(place)
    if step is None:
        return _number(words, place)
    inner = [(words.producers.get(at), at) for at in step.inputs]
    return f"{step.name}({', '.join(_number(words, at) if made is None else made.name for made, at in inner)})"


def _number(words: Words, place: int) -> str:
    value = words.plan.values[place]
    return "#" if value is None or np.ndim(value) else str(value)


def _swapped(first: Step, users: dict[int, list[Step]], words: Words) -> Iterator[Edit]:
    """Two elementwise operations in the wrong order: sqrt(v) + eps instead of sqrt(v + eps)."""
    if len(first.outputs) != 1:
        return
    shape, after = first.equation.outvars[0].aval.shape, users.get(first.outputs[0], ())
    if len(after) != 1 or first.name not in OF_ENTRIES or after[0].name not in OF_ENTRIES:
        return
    second = after[0]
    if second.equation.outvars[0].aval.shape != shape or first.inputs == second.inputs:
        return
    if first.name in ("add", "sub") and second.name in ("add", "sub"):
        return
    if first.name in ("mul", "div") and second.name in ("mul", "div"):
        return
    at = second.inputs.index(first.outputs[0])
    if second.inputs.count(first.outputs[0]) > 1:
        return
    for main in range(len(first.inputs)):
        if first.equation.invars[main].aval.shape not in (shape, ()):
            continue
        kept: dict[str, list[Array]] = {}

        def before(
            step: Step, inputs: list[Array], main: int = main, kept: dict[str, list[Array]] = kept
        ) -> list[Array]:
            kept["inputs"] = inputs
            return [np.broadcast_to(np.asarray(inputs[main], step.dtypes[0]), shape)]

        def after_it(
            step: Step, inputs: list[Array], main: int = main, kept: dict[str, list[Array]] = kept
        ) -> list[Array]:
            value = step.run(inputs, plainly)[0]
            mixed = [value if i == main else other for i, other in enumerate(kept["inputs"])]
            return [np.broadcast_to(np.asarray(x, step.dtypes[0]), shape) for x in first.run(mixed, plainly)]

        other = [words.value(place) for i, place in enumerate(first.inputs) if i != main]
        inner = f"{BETWEEN[first.name]} {other[0]}" if other else _done(first)
        rest = [words.value(place) for i, place in enumerate(second.inputs) if i != at]
        outer = f"{BETWEEN[second.name]} {rest[0]}" if rest else _done(second)
        yield Edit(
            "wrong-order",
            f"'{outer}' is applied before '{inner}', and should be applied after it, in "
            f"{words.value(second.outputs[0])}",
            {id(first): before, id(second): after_it},
            where=words.where(second),
        )


def _cut(leading: list[Step], words: Words) -> Iterator[Edit]:
    """No gradient flows back through one operation of the function, as if its result were a constant."""
    derived: dict[str, list[Step]] = {}
    sources: dict[str, tuple[Step, Words]] = {}

    def collect(steps: list[Step], words: Words, back: bool) -> None:
        for step in steps:
            number = operation_of(step)
            inside = list(step.programs.values())
            for plan in inside:
                collect(plan.steps, words.of_a_loop(plan, step), id(step) in words.backward or back)
            if number is None or inside:
                continue
            if (back or id(step) in words.backward) and step.name not in ("add_any", "bend", *IDENTITIES):
                if all(dtype.kind == "f" for dtype in step.dtypes):
                    derived.setdefault(number, []).append(step)
            elif not back and id(step) not in words.backward and number not in sources:
                sources[number] = (step, words)

    collect(leading, words, False)

    for number, steps in derived.items():
        if len(steps) > 1 and number in sources:
            step, inner = sources[number]
            yield Edit(
                "missing-path",
                f"no gradient flows back through {inner.value(step.outputs[0])}",
                dict.fromkeys(map(id, steps), _zeros),
                where=inner.where(step),
                then=": the backward pass treats it as a constant",
            )


def _instead(traced: Traced, words: Words) -> Iterator[Edit]:
    """The quantity is another value of the program.

    A quantity that can only be described as "the gradient" is skipped: that it is another value would explain little.
    """
    target = words.value(traced.target)
    if target == GRADIENT:
        return
    back = {place for step in traced.here.plan if id(step) in traced.backward for place in step.outputs}
    expected = np.asarray(traced.here.values[traced.target])
    for step in reversed(traced.here.plan.steps):
        for place in step.outputs if step.name not in {"bend", *SEEN_THROUGH} else ():
            value = traced.here.values[place]
            if isinstance(value, np.ndarray) and value.size > 1 and value.shape == expected.shape and value.any():
                # "It should be the gradient of x" is said of the gradient of x anyway.
                own = target.startswith(GRADIENT) and place not in back
                if words.value(place) in (GRADIENT, target):
                    continue
                yield Edit(
                    "wrong-operand",
                    f"it is {words.value(place)}" + ("" if own else f", and should be {target}"),
                    {},
                    instead=place,
                    where=words.where(step),
                )


def _other_statistics(traced: Traced, words: Words) -> Iterator[Edit]:
    """One or two arguments, such as running statistics, are used instead of means that the program computes.

    Each is tried twice: without the gradient through the mean, and with it, as if only the mean's value were wrong.
    """
    plan, values = traced.here.plan, traced.here.values
    means = [step for step in plan if id(step) not in traced.backward and _is_mean(step, words)]
    used = {at for step in plan for at in step.inputs}  # arguments that the reference does not use come first
    given = [at for at in sorted(traced.names, key=used.__contains__) if np.size(values[at]) > 1]
    given = [at for at in given if np.asarray(values[at]).dtype.kind == "f"]
    derived: dict[str | None, list[Step]] = {}
    for step in plan:
        if id(step) in traced.backward and step.name not in {"add_any", *IDENTITIES}:
            derived.setdefault(operation_of(step), []).append(step)

    def last(step: Step, inputs: list[Array]) -> list[Array]:
        return [np.asarray(inputs[-1], step.dtypes[0]).reshape(step.equation.outvars[0].aval.shape)]

    singles = [
        (step, place) for step in means for place in given if np.size(values[place]) == np.size(values[step.outputs[0]])
    ]
    pairs = [(one, other) for one, other in combinations(singles, 2) if one[0] is not other[0] and one[1] != other[1]]
    for some in [*((single,) for single in singles), *pairs[:MOST_PAIRS]]:
        message = " and ".join(
            f"{words.value(place)} is used instead of {words.value(s.outputs[0])}" for s, place in some
        )
        for constant in (True, False) if traced.backward else (False,):
            changes: dict[int, Change] = {id(step): last for step, _ in some}
            for step, _ in some if constant else ():
                changes |= {id(back): _zeros for back in derived.get(operation_of(step), ())}
            rewired = {id(step): {len(step.inputs) - 1: place} for step, place in some}
            controls = tuple(
                Edit("", "", {**changes, id(step): functools.partial(_moved, last)}, rewired=rewired)
                for step, _ in some
            )
            yield Edit(
                "running-statistics",
                message,
                changes,
                rewired=rewired,
                controls=controls,
                where=words.where(some[0][0]),
                then=": perhaps running statistics instead of those of the batch",
            )


def _moved(change: Change, step: Step, inputs: list[Array]) -> list[Array]:
    """The results of a change, moved by about 10%."""
    return [1.1 * value + 0.1 for value in change(step, inputs)]


def _is_mean(step: Step, words: Words) -> bool:
    """Whether a step divides a sum by a constant, or multiplies it by one."""
    if step.name not in ("div", "mul") or len(step.outputs) != 1 or step.dtypes[0].kind != "f":
        return False
    place = step.inputs[0]
    number = words.plan.values[step.inputs[1]]
    made = words.producers.get(place)
    while made is not None and made.name in SEEN_THROUGH:
        made = words.producers.get(made.inputs[0])
    return made is not None and made.name == "reduce_sum" and number is not None and np.ndim(number) == 0


def _zeros(step: Step, inputs: list[Array]) -> list[Array]:
    return [
        np.zeros(variable.aval.shape, dtype) for variable, dtype in zip(step.equation.outvars, step.dtypes, strict=True)
    ]


def _two_numbers(traced: Traced, leading: list[Step]) -> Iterator[Edit]:
    """One constant of the program is used instead of another one, or the two are swapped.

    For a quantity that is computed from one of the two only, nothing shows that the other one is wrong as well.
    """
    literals, own = traced.here.plan.values, {id(step) for step in leading}
    uses: dict[float, list[tuple[Step, int]]] = {}
    for step in traced.here.plan:
        for i, place in enumerate(step.inputs if step.name in {"add", "sub", "mul", "div", "pow"} else ()):
            value = literals[place]
            if value is not None and np.ndim(value) == 0 and value.dtype.kind == "f":
                uses.setdefault(float(value), []).append((step, i))
    # 0.9 and 0.1 usually are b and 1 - b for one constant b: they are no pair, and 1 - b changes whenever b does.
    pairs = [(a, b) for a, b in combinations(uses, 2) if not np.isclose(a + b, 1) and not {a, b} & {0.0, 1.0}]
    for one, other in pairs[:MOST_PAIRS]:
        values = {one: other, other: one, **{1 - a: 1 - b for a, b in ((one, other), (other, one))}}
        swapped: dict[int, dict[int, float]] = {}
        for number, where in uses.items():
            near = [values[at] for at in values if np.isclose(number, at, rtol=1e-6, atol=0)]
            for step, i in where if near else ():
                swapped.setdefault(id(step), {})[i] = near[0]

        def change(step: Step, inputs: list[Array], swapped: Any = swapped) -> list[Array]:
            others = swapped[id(step)]
            return step.run(
                [np.asarray(others[i], x.dtype) if i in others else x for i, x in enumerate(inputs)], plainly
            )

        if not own.isdisjoint(swapped):
            read = {number for number, where in uses.items() if any(id(step) in own for step, _ in where)}
            mine = [a for a in (one, other) if any(np.isclose(a, n) or np.isclose(1 - a, n) for n in read)]
            message = f"{one:.6g} and {other:.6g} are swapped"
            if len(mine) == 1:
                message = f"{other if mine[0] == one else one:.6g} is used instead of {mine[0]:.6g}"
            yield Edit("wrong-number", message, dict.fromkeys(swapped, change))


def _exchanged(traced: Traced, leading: list[Step], users: dict[int, list[Step]], words: Words) -> Iterator[Edit]:
    """Another value of the program in the place of an operand."""
    values = traced.here.values
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place in [*traced.names, *(at for step in traced.here.plan for at in step.outputs if step.name != "bend")]:
        value = values[place]
        producer = words.producers.get(place)
        if producer is not None and producer.name in SEEN_THROUGH - {"broadcast_in_dim", "reshape"}:
            continue
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind == "f" and value.size > 1:
            by_shape.setdefault(value.shape, []).append(place)
    for step in leading:
        back = id(step) in traced.backward
        if step.programs or step.name not in {"mul", "div", "dot_general", "sub", *COMPARISONS}:
            continue
        if not back and traced.backward and step.name not in COMPARISONS:
            continue
        source = words.sources.get(operation_of(step) or "")
        if back and source is not None and source.name in UNARY:
            continue  # JAX's derivative of a function such as tanh has intermediates that no hand-written code has
        seen_by = None
        if not back and traced.backward:
            seen_by = {id(user) for place in step.outputs for user in users.get(place, ())} & traced.backward
            if not seen_by:
                continue
        for i, place in enumerate(step.inputs):
            expected = values[place]
            for other in by_shape.get(np.shape(expected), ()):
                if other == place or other in step.outputs or np.array_equal(values[other], expected):
                    continue

                said = _operand(traced, other, place, words)
                if said is None:
                    continue
                inside = "" if back else f" in {words.value(step.outputs[0])}"
                yield Edit(
                    said[0],
                    f"{said[1]}{inside}",
                    {},
                    seen_by,
                    rewired={id(step): {i: other}},
                    where=words.where(step),
                )


def _operand(traced: Traced, other: int, place: int, words: Words) -> tuple[str, str] | None:
    """The kind and the description of a mistake: one value is used instead of another.

    Returns:
        None if the two cannot be told apart in words, such as two values that are only known as gradients.
    """
    used, right = words.value(other), words.value(place)
    gradients = used.startswith(GRADIENT) and right.startswith(GRADIENT)
    if not gradients:
        return None if used == right else ("wrong-operand", f"{used} is used instead of {right}")
    between, kind = words.derivatives_between(traced.here.leading_to(place), other)
    if between:
        return kind, f"{between} is left out"
    return (
        None if GRADIENT in (used, right) or used == right else ("wrong-operand", f"{used} is used instead of {right}")
    )
