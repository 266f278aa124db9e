"""Turns the source of a function in `manual` into formulas, in the order of its lines.

Code that computes nothing is left out (a cast, a check, the unpacking of a cache) or described in words (a reshape, the
length of an axis). A helper function that consists of one formula is substituted where it is called. A helper of
several lines, such as the backward pass of another op, is written below the lines that call it.

With `known`, the arguments of a call, a branch that options and shapes decide is resolved: the formulas are then those
of one layer, and not those of all layers that the function can serve.

A statement that cannot be written as a formula raises ValueError, so that nothing is ever written in part.
"""

import ast
import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from compare.lesson.notation import LIBRARIES, give_up, is_everything, plain
from compare.lesson.source import Excerpt, is_guard, is_text, parsed
from compare.suite.ops import catalog

CASTS = {"astype", "copy", "asarray", "array", "ascontiguousarray", "float"}  # each returns its first argument
ARRANGED = {"reshape": "reshaped", "broadcast_to": "repeated along the axes that it lacks"}
ARRANGED |= {"moveaxis": "with its axes in another order"}
ZEROS = {"zeros", "zeros_like"}
SHAPES = {"shape", "ndim", "size"}
NUMBERS = {"int", "float", "bool", "str"}
RENAMED = {"maximum": "max", "minimum": "min"}
BOOKKEEPING = {"dtype", "optimize"}  # options of NumPy's functions that do not change what is computed
Known = Mapping[str, Any]
NOTHING: Known = MappingProxyType({})


@dataclass(frozen=True)
class Line:
    """A formula with a note beside it, or a note alone.

    Attributes:
        code: The formula as a Python statement, from which `notation` makes mathematics. Empty for a note alone.
        note: Text, in which code stands between backticks.
        depth: The number of loops and branches around the line.
        defines: The names that the note explains. A note whose names are not used is dropped.
    """

    code: str = ""
    note: str = ""
    depth: int = 0
    defines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Formulas:
    """The lines of a step; or those of a function that the step calls, whose call is then the `title`."""

    lines: tuple[Line, ...]
    scalars: frozenset[str]
    title: str = ""


def formulas(function: Callable[..., Any], inputs: Sequence[str] = (), known: Known = NOTHING) -> list[Formulas]:
    """The formulas of a whole function, followed by those of the functions that it calls.

    Args:
        function: A function of `manual`.
        inputs: If the function is the backward pass of an op, the inputs whose gradients it returns.
        known: Arguments of a call of the function, by name. Without them every branch is written.

    Returns:
        The function's formulas first; then one entry for each function that is called.

    Raises:
        ValueError: If a statement cannot be written as a formula.
    """
    reader = _Reader(function, inputs, known)
    return [reader.read(reader.definition.body), *_of_called(reader)]


def formulas_of_lines(
    function: Callable[..., Any], excerpts: Sequence[Excerpt], *, result: str = "result", known: Known = NOTHING
) -> list[Formulas]:
    """The formulas of some lines of a function, followed by those of the functions that they call.

    Args:
        function: The function that the lines belong to.
        excerpts: The lines.
        result: The name of what a `return` statement returns.
        known: Arguments of a call of the function, by name. Without them every branch is written.

    Raises:
        ValueError: If a statement cannot be written as a formula.
    """
    reader = _Reader(function, (), known)
    for target, value in reader.pairs():  # lines that are not shown may define names that the shown ones use
        reader.learn(target, value)
    for node in ast.walk(reader.definition):
        if isinstance(node, ast.For | ast.If):  # their names have several values
            reader.forget(_stored(node))
    statements = [node for excerpt in excerpts for node in ast.parse(excerpt.code).body]
    return [reader.read(statements, result=result), *_of_called(reader)]


def _of_called(reader: "_Reader") -> Iterator[Formulas]:
    """Each function once, in the order of the first calls.

    Two calls of a function may take different branches. Then all of its branches are written.
    """
    waiting, found = list(reader.called), dict[Callable[..., Any], list[Formulas]]()
    while waiting:
        function, known = waiting.pop(0)
        inner, part = _read_call(function, known)
        if part not in found.setdefault(function, []):
            found[function].append(part)
        waiting = [*inner.called, *waiting]
    for function, parts in found.items():
        yield parts[0] if len(parts) == 1 else _read_call(function, NOTHING)[1]


def _read_call(function: Callable[..., Any], known: Known) -> "tuple[_Reader, Formulas]":
    inner = _Reader(function, _inputs_of(function), known)
    title = f"{_known_as(function)}({', '.join(inner.parameters)})"
    return inner, inner.read(inner.definition.body, title=title, result=_known_as(function))


def _inputs_of(function: Callable[..., Any]) -> list[str]:
    """The names of an op's inputs if the function is its backward pass; else none."""
    for op in catalog().values():
        if inspect.unwrap(op.backward) is function:
            return inputs_of(op.forward)
    return []


def inputs_of(forward: Callable[..., Any]) -> list[str]:
    """The names of an op's inputs: its arguments without the keyword-only ones, which are options."""
    parameters = inspect.signature(forward).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def as_text(part: Formulas) -> list[str]:
    """The lines as text for a terminal."""
    lines = [f"with {plain(part.title, part.scalars)}:"] if part.title else []
    for line in part.lines:
        said = line_as_text(line, part.scalars)
        lines.append(f"{'  ' * (line.depth + bool(part.title))}{said}")
    return lines


def line_as_text(line: Line, scalars: frozenset[str]) -> str:
    """One line as text. Raises ValueError if its code cannot be written as a formula."""
    note = "".join(plain(piece, scalars) if i % 2 else piece for i, piece in enumerate(line.note.split("`")))
    if not line.code:
        return note
    return plain(line.code, scalars) + (f"   ({note})" if note else "")


def _known_as(function: Callable[..., Any]) -> str:
    return function.__name__.lstrip("_")


@dataclass(frozen=True, eq=False)
class _Shape:
    """An array of which only the shape may be used. Any look at its entries raises TypeError."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("the entries of the array are not to be looked at")

    def __bool__(self) -> NoReturn:
        raise TypeError("the entries of the array are not to be looked at")

    __hash__ = None  # type: ignore[assignment]


@dataclass
class _Reader:
    """Reads the statements of one function.

    `known` are arguments of a call of the function. `values` maps names to their values at the statement that is being
    read, as far as these follow from the arguments.
    """

    function: Callable[..., Any]
    inputs: Sequence[str]
    known: Known = field(default_factory=dict)
    called: list[tuple[Callable[..., Any], Known]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = dict(self.known)
        self.function = inspect.unwrap(self.function)
        self.scope = self.function.__globals__
        _, _, (self.definition,) = parsed(self.function)
        signature = inspect.signature(self.function)
        self.parameters = list(signature.parameters)
        annotations = {name: p.annotation for name, p in signature.parameters.items()}
        self.cache: type[Any] | None = annotations.get("cache")
        annotations |= getattr(self.cache, "__annotations__", {})
        self.scalars = {name for name, kind in annotations.items() if getattr(kind, "__name__", "") in NUMBERS}
        self.options = set(self.scalars)
        self.local = set(self.parameters) | {
            node.id for node in ast.walk(self.definition) if isinstance(node, ast.Name) and not _is_read(node)
        }
        self.renamed: dict[str, str] = {}
        self.loops: set[str] = set()
        self.several = sum(isinstance(node, ast.Return) for node in ast.walk(self.definition)) > 1
        # The output gradient is called dy, unless the function uses that name for something else.
        to_dy = [(target, value) for target, value in self.pairs() if "dy" in _words_of(target)]
        free = all(
            _is_name(target) and ast.unparse(self.simplified(value)) == "output_gradient" for target, value in to_dy
        )
        if "output_gradient" in self.parameters and free:
            self.renamed = {"output_gradient": "dy"}

    def pairs(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        """The targets and values of all assignments."""
        for node in ast.walk(self.definition):
            if isinstance(node, ast.Assign):
                yield from _pairs(node.targets[0], node.value)

    # ------------------------------------------------------------------------------ known values

    def learn(self, target: ast.expr, value: ast.expr) -> None:
        """Keep the value of an assignment if it follows from known values. Else its targets are no longer known."""
        names = {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
        computed = self.evaluated(value) if isinstance(target, ast.Name | ast.Tuple) else ()
        self.forget(names)
        for actual in computed:
            self.bind(target, actual)

    def bind(self, target: ast.expr, value: Any) -> None:
        """Keep a value that is assigned to a name, or to a tuple of names."""
        if isinstance(target, ast.Name):
            self.values[target.id] = value
        elif isinstance(target, ast.Tuple) and not any(isinstance(one, ast.Starred) for one in target.elts):
            for one, its_value in zip(target.elts, value, strict=True):
                self.bind(one, its_value)

    def forget(self, names: Iterable[str]) -> None:
        """The values of these names are no longer known."""
        for name in names:
            self.values.pop(name, None)

    def evaluated(self, node: ast.expr, *, shapes_only: bool = False) -> tuple[Any, ...]:
        """The value of an expression as a tuple of length one; an empty tuple if it is not known."""
        while isinstance(node, ast.IfExp) and (holds := self.decided(node.test)) is not None:
            node = node.body if holds else node.orelse
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and _is_read(name)}
        if not self.values or not names & self.local <= self.values.keys():
            return ()
        values = {name: self.values[name] for name in names & self.values.keys()}
        if shapes_only:
            values = {name: _shape_of(value) for name, value in values.items()}
        code = compile(ast.Expression(ast.fix_missing_locations(copy.deepcopy(node))), "<page>", "eval")
        return (eval(code, self.scope | values),)

    def decided(self, test: ast.expr) -> bool | None:
        """Whether a test holds. None unless options and the shapes of arrays decide it."""
        try:
            for actual in self.evaluated(test, shapes_only=True):
                return bool(actual)
        except (TypeError, AttributeError):  # it looks at the entries of an array
            pass
        return None

    def is_neutral(self, name: str) -> bool:
        """Whether a name is an option that is known to be 0 or 1, so that terms with it can be simplified."""
        value = self.values.get(name)
        return name in self.options and type(value) in (int, float) and value in (0, 1)

    def excludes_nothing(self, node: ast.expr) -> bool:
        """Whether a mask, perhaps with more axes, is known to be True at every entry."""
        while isinstance(node, ast.Subscript):
            node = node.value
        value = self.values.get(node.id) if isinstance(node, ast.Name) else None
        return isinstance(value, np.ndarray) and value.dtype == bool and bool(value.all())

    def read(self, statements: Sequence[ast.stmt], *, title: str = "", result: str = "result") -> Formulas:
        """The formulas of some statements, without notes on names that no formula uses."""
        lines = list(self.lines(statements, 0, result))
        used = {name for line in lines for name in _names(line)}
        kept: list[Line] = []
        for line in lines:
            if line.defines and not used & set(line.defines):
                continue
            if line.defines and kept and kept[-1].defines and kept[-1].depth == line.depth:
                line = Line("", f"{kept[-1].note}; {line.note}", line.depth, kept.pop().defines)
            line_as_text(line, frozenset(self.scalars))  # raises ValueError if it cannot be written
            kept.append(line)
        masks = [name for name in sorted(used) if self.excludes_nothing(ast.Name(name))]
        notes = [Line(note=f"`{name}` is True at every entry") for name in masks]
        return Formulas((*notes, *kept), frozenset(self.scalars), title)

    # ------------------------------------------------------------------------------- statements

    def lines(self, statements: Sequence[ast.stmt], depth: int, result: str) -> Iterator[Line]:
        """The lines of some statements inside of `depth` loops and branches. `result` names the returned value."""
        rest = list(statements)
        while rest:
            node = rest.pop(0)
            if isinstance(node, ast.If) and not is_guard(node) and (chosen := self.decided(node.test)) is not None:
                branch = node.body if chosen else node.orelse
                rest = [*branch, *([] if branch and isinstance(branch[-1], ast.Return) else rest)]
                continue
            match node:
                case _ if is_text(node) or is_guard(node):
                    pass
                case ast.Assign(targets=[target], value=value):
                    for one, its_value in _pairs(target, value):
                        yield from self.assigned(one, its_value, depth)
                        self.learn(one, its_value)
                case ast.AugAssign(target=target, op=operator, value=value):
                    value = self.simplified(value)
                    yield Line(ast.unparse(ast.AugAssign(self.simplified(target), operator, value)), "", depth)
                    self.forget(_words_of(target))
                case ast.Expr(value=ast.Call(func=called, args=[target, index, value])):
                    if ast.unparse(called) != "np.add.at":
                        give_up(node)
                    indexed = ast.Subscript(target, self.simplified(index), ast.Store())
                    code = ast.unparse(ast.AugAssign(indexed, ast.Add(), self.simplified(value)))
                    yield Line(code, "added up where indices are equal", depth)
                    self.forget(_words_of(target))
                case ast.With(items=[ast.withitem(context_expr=ast.Call(func=guard))], body=body):
                    if ast.unparse(guard) != "np.errstate":  # errstate only silences warnings
                        give_up(node)
                    yield from self.lines(body, depth, result)
                case ast.For(target=target, iter=over, body=body):
                    self.loops |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
                    self.scalars |= self.loops
                    self.forget(_stored(node))
                    yield Line(note=self.loop(target, over), depth=depth)
                    yield from self.lines(body, depth + 1, result)
                case ast.If(test=test, body=body, orelse=other):
                    before = dict(self.values)
                    yield Line(note=f"{self.condition(test)}:", depth=depth)
                    yield from self.lines(body, depth + 1, result)
                    if isinstance(body[-1], ast.Return):
                        other = [*other, *rest]
                    if other:
                        self.values = dict(before)
                        yield Line(note="otherwise:", depth=depth)
                        yield from self.lines(other, depth + 1, result)
                    if isinstance(body[-1], ast.Return):
                        return
                    self.values = before
                    self.forget(_stored(node))
                case ast.Return(value=ast.expr() as value):
                    yield from self.returned(value, depth, result)
                case _:
                    give_up(node)

    def assigned(self, target: ast.expr, value: ast.expr, depth: int) -> Iterator[Line]:
        """The lines of one assignment."""
        names = [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
        left = ast.unparse(self.simplified(target))
        if _only_lengths(value):
            self.scalars |= set(names)
            own, are = left.strip("()").replace("*", ""), "are" if isinstance(target, ast.Tuple) else "is"
            yield Line(note=f"`{own}` {are} {ast.unparse(value)}", depth=depth, defines=tuple(names))
            return
        note = ""
        while isinstance(value, ast.IfExp) and (chosen := self.decided(value.test)) is not None:
            value = value.body if chosen else value.orelse
        if _is_none(value):
            return  # an input that is not given has no gradient
        if isinstance(value, ast.IfExp) and _is_none(value.orelse):
            note, value = self.condition(value.test), value.body
        elif isinstance(value, ast.IfExp) and _is_none(value.body):
            note, value = self.condition(value.test, other=True), value.orelse
        axes = self.axes(value)
        if axes:
            yield Line(note=f"`{left}` are {axes.replace('_', ' ')}", depth=depth, defines=tuple(names))
            return
        value, arranged = self.arranged(value)
        right = ast.unparse(value)
        if right == left and not note:
            return  # a cast or a reshape
        if isinstance(value, ast.Name | ast.Attribute) and not note:
            yield from self.renaming(target, value, arranged, depth)
            return
        if isinstance(value, ast.Name | ast.Attribute) or not isinstance(target, ast.Name):
            pass
        elif any(_is_einsum(node) for node in ast.walk(value)):
            left, value = _by_index(left, value)
            right = ast.unparse(value)
        yield Line(f"{left} = {right}", ", ".join(filter(None, (note, arranged))), depth)

    def condition(self, test: ast.expr, *, other: bool = False) -> str:
        """A test in words: "if x is given" for a comparison with None. With `other`, its negation."""
        match test:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as operator], comparators=[ast.Constant(None)]):
                given = isinstance(operator, ast.IsNot) != other
                return f"if `{ast.unparse(left)}` is {'' if given else 'not '}given"
        if other:
            give_up(test)
        return f"if `{ast.unparse(self.simplified(test))}`"

    def renaming(self, target: ast.expr, value: ast.expr, arranged: str, depth: int) -> Iterator[Line]:
        """A note on a new name for a known quantity. A field of the cache is noted if its name on the page differs."""
        names = [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
        if ast.unparse(value) == "cache" and self.cache is not None:
            for name, of_field in zip(_elements(target), self.cache._fields, strict=True):
                own = ast.unparse(name)
                if own not in (of_field, "_"):
                    yield Line(note=f"`{own}` is the `{of_field}` of the forward pass", depth=depth, defines=(own,))
                if of_field in self.scalars:
                    self.scalars.add(own)
                    self.options.add(own)
            return
        own, other = ast.unparse(target), value.attr if isinstance(value, ast.Attribute) else ast.unparse(value)
        if own == other:
            return
        if isinstance(target, ast.Name) and isinstance(value, ast.Name) and not arranged:  # such as a sum's first term
            yield Line(f"{own} = {other}", depth=depth)
            return
        said = f"`{own}` is `{other}`" if isinstance(target, ast.Name) else f"(`{own}`) = `{other}`"
        yield Line(note=", ".join(filter(None, (said, arranged))), depth=depth, defines=tuple(names))

    def returned(self, value: ast.expr, depth: int, result: str) -> Iterator[Line]:
        """Lines for a `return` statement. The backward pass of an op returns the gradients of the op's inputs."""
        parts = [self.arranged(part) for part in _elements(value)]
        if self.function in _forwards():  # it returns the value and the cache
            result, parts = "y", parts[:1]
            if _is_name(parts[0][0]):
                return
        elif self.inputs:
            yield from self.gradients(parts, depth)
            return
        if all(_is_name(part) for part, _ in parts) and not self.several:
            yield Line(note=f"returns {', '.join(f'`{ast.unparse(part)}`' for part, _ in parts)}", depth=depth)
        elif len(parts) == 1:
            yield Line(f"{result} = {ast.unparse(parts[0][0])}", parts[0][1], depth)
        else:
            give_up(value)

    def gradients(self, parts: Sequence[tuple[Any, str]], depth: int) -> Iterator[Line]:
        """Lines for the returned gradients: a formula for an expression, a note for a name."""
        others: list[tuple[str, str]] = []
        for name, (part, arranged) in zip(self.inputs, parts, strict=False):
            if _is_absent(part) or self.values.get(getattr(part, "id", ""), part) is None:
                continue
            if not isinstance(part, ast.Name) or (arranged and len(parts) == 1):
                yield Line(f"d{name} = {ast.unparse(part)}", arranged, depth)
            elif part.id != f"d{name}":
                others.append((f"`{part.id}`", f"`{name}`"))
        if others:
            found, of_inputs = (", ".join(names) for names in zip(*others, strict=True))
            are = "are the gradients" if len(others) > 1 else "is the gradient"
            yield Line(note=f"{found} {are} of {of_inputs}", depth=depth)

    def loop(self, target: ast.expr, over: ast.expr) -> str:
        """The head of a loop in words."""
        own = ast.unparse(target).strip("()")
        match over:
            case ast.Call(func=ast.Name(id="reversed"), args=[ast.Call(func=ast.Name(id="range"), args=[count])]):
                return f"for `{own}` = {ast.unparse(count)} − 1, …, 1, 0:"
            case ast.Call(func=ast.Name(id="range"), args=[count]):
                return f"for `{own}` = 0, 1, …, {ast.unparse(count)} − 1:"
            case ast.Call(func=ast.Attribute(attr="ndindex"), args=[shape]):
                return f"for all `{own}` in the `{ast.unparse(self.simplified(shape))}`:"
        give_up(over)

    # ------------------------------------------------------------------------------ expressions

    def simplified(self, node: ast.expr) -> Any:
        """The expression without what computes nothing, and with helper functions of one formula substituted."""
        return _Simplifier(self).visit(copy.deepcopy(node))

    def arranged(self, node: ast.expr) -> tuple[Any, str]:
        """The expression without reshapes and the like around it, and a note that names these."""
        value, notes = self.simplified(node), []
        while isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ARRANGED:
            notes.append(ARRANGED[value.func.id])
            value = value.args[0]
        return value, ", ".join(dict.fromkeys(notes))

    def resolved(self, function: ast.expr) -> Callable[..., Any] | None:
        """The function that an expression refers to, if `manual` or the package of this function defines it."""
        if isinstance(function, ast.Name) and function.id not in self.parameters:
            found = self.scope.get(function.id)
        elif isinstance(function, ast.Attribute):  # ops.layers.dense_backward
            found = {op.backward.__name__: op.backward for op in catalog().values()}.get(function.attr)
        else:
            return None
        found = inspect.unwrap(found) if inspect.isfunction(found) else None
        if found is None or found.__module__.split(".")[0] not in ("manual", self.function.__module__.split(".")[0]):
            return None
        return found

    def axes(self, node: ast.expr) -> str | None:
        """The name of a function that returns axes, such as `_all_axes_but_the_last`: it serves as their name."""
        function = self.resolved(node.func) if isinstance(node, ast.Call) else None
        if function is not None and inspect.signature(function).return_annotation == tuple[int, ...]:
            return _known_as(function)
        return None

    def chosen(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """The statements with the branch that is taken in the place of an `if` that the arguments decide."""
        for place, node in enumerate(statements):
            if isinstance(node, ast.If) and not is_guard(node) and (holds := self.decided(node.test)) is not None:
                branch = node.body if holds else node.orelse
                rest = [] if branch and isinstance(branch[-1], ast.Return) else statements[place + 1 :]
                return [*statements[:place], *self.chosen([*branch, *rest])]
        return list(statements)

    def inlined(self) -> ast.expr | None:
        """The function's one formula in terms of its parameters; None if the function is more than one formula."""
        known: dict[str, ast.expr] = {}
        lengths: set[str] = set()
        body = [node for node in self.chosen(self.definition.body) if not (is_text(node) or is_guard(node))]
        used = {name.id for node in body for name in ast.walk(node) if isinstance(name, ast.Name) and _is_read(name)}
        for node in body[:-1]:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name not in used:
                    pass  # only a check of the arguments uses it
                case ast.Assign(targets=[target], value=value) if _only_lengths(value):
                    lengths |= _words_of(target)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_name(self.arranged(value)[0]):
                    known[name] = _Substitution(known).visit(self.simplified(value))
                case _:
                    return None
        match body[-1]:
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Tuple):
                one = _Substitution(known).visit(self.simplified(value))
                return one if lengths.isdisjoint(_words_of(one)) else None
        return None


class _Simplifier(ast.NodeTransformer):
    """Removes what computes nothing, and substitutes helper functions that are one formula where they are called."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def visit_Name(self, node: ast.Name) -> Any:
        name = self.reader.renamed.get(node.id, node.id)
        own = name in self.reader.parameters or not isinstance(node.ctx, ast.Load)
        if isinstance(node.ctx, ast.Load) and self.reader.is_neutral(name):
            return ast.Constant(int(self.reader.values[name]))
        if not own and name.isupper() and isinstance(self.reader.scope.get(name), float):
            return _constant(self.reader.function, name)
        return ast.Name(name, node.ctx)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Name("none", ast.Load()) if node.value is None else node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if node.attr in SHAPES:
            return ast.Call(ast.Name(node.attr, ast.Load()), [node.value], [])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        """x[:, None] is x, with one more axis; and in a loop over t, x[:, t] is x[t]."""
        entries = _elements(node.slice)
        kept = [entry for entry in entries if not _is_none(entry)]
        if len(kept) < len(entries):
            node.slice = ast.Tuple(kept, ast.Load())
        if all(map(is_everything, kept)):
            return self.visit(node.value)
        self.generic_visit(node)
        kept = [entry for entry in kept if not is_everything(entry)]
        if len(kept) == 1 and isinstance(kept[0], ast.Name) and kept[0].id in self.reader.loops:
            return ast.Subscript(node.value, kept[0], node.ctx)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        chosen = self.reader.decided(node.test)
        if chosen is not None:
            return self.visit(node.body if chosen else node.orelse)
        self.generic_visit(node)
        return ast.Call(ast.Name("where", ast.Load()), [node.test, node.body, node.orelse], [])

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        if isinstance(node.op, ast.MatMult) and ast.unparse(node.left) == "ones":
            node.left = ast.Attribute(node.left, "T", ast.Load())
        return self.folded(node)

    def folded(self, node: ast.BinOp) -> ast.expr:
        """The operation without an operand that has no effect, as in x + 0, x * 1, x / 1, or x times a mask of True."""
        match node:
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                for one, other in ((left, right), (right, left)):
                    if _is_number(one, 1) or self.reader.excludes_nothing(one):
                        return other
                    if _is_number(one, 0):
                        return one
            case ast.BinOp(op=ast.Add(), left=left, right=right) if _is_number(left, 0) or _is_number(right, 0):
                return right if _is_number(left, 0) else left
            case ast.BinOp(
                op=ast.Sub(), left=ast.Constant(value=int() as first), right=ast.Constant(value=int() as last)
            ):
                return ast.Constant(first - last)
            case ast.BinOp(op=ast.Sub(), left=left, right=right) if _is_number(right, 0):
                return left
            case ast.BinOp(op=ast.Div(), left=left, right=right) if _is_number(right, 1) or _is_number(left, 0):
                return left
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        if ast.unparse(node.func) == "np.where" and self.reader.excludes_nothing(node.args[0]):
            return self.visit(node.args[1])
        axes = self.reader.axes(node)
        if axes is not None:
            return ast.Name(axes, ast.Load())
        function = self.reader.resolved(node.func)
        if function is not None:
            return self.of_page(function, node)
        func = node.func
        self.generic_visit(node)
        if not isinstance(func, ast.Name | ast.Attribute):
            give_up(node)
        name = func.id if isinstance(func, ast.Name) else func.attr
        arguments = list(node.args)
        if isinstance(func, ast.Attribute) and ast.unparse(func.value) not in LIBRARIES:  # a method
            arguments.insert(0, func.value)
        options = [keyword for keyword in node.keywords if keyword.arg not in BOOKKEEPING]
        if name in CASTS or (name == "int" and _is_sum(arguments[0])):
            return arguments[0]
        if name in ARRANGED:
            return ast.Call(ast.Name(name, ast.Load()), arguments[:1], [])
        if name in ZEROS:
            return ast.Constant(0)
        if name == "ones":
            return ast.Name("ones", ast.Load())
        if name == "expm1":
            return ast.BinOp(_called("exp", *arguments), ast.Sub(), ast.Constant(1))
        if name == "log1p":
            return _called("log", ast.BinOp(ast.Constant(1), ast.Add(), arguments[0]))
        if name == "pad":
            arguments, options = [*arguments, *(keyword.value for keyword in options)], []
        return ast.Call(ast.Name(RENAMED.get(name, name), ast.Load()), arguments, options)

    def of_page(self, function: Callable[..., Any], node: ast.Call) -> Any:
        """The function's formula, if it is only one; else its name, and its lines are written below."""
        names = list(inspect.signature(function).parameters)
        passed = dict(zip(names, node.args, strict=False))
        passed |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        known = {name: actual for name, value in passed.items() for actual in self.reader.evaluated(value)}
        arguments = dict(zip(names, map(self.visit, node.args), strict=False))
        arguments |= {keyword.arg: self.visit(keyword.value) for keyword in node.keywords if keyword.arg}
        inner = _Reader(function, (), known)
        inner.renamed = {}
        one = None if _inputs_of(function) else inner.inlined()
        if one is not None:
            self.reader.called += inner.called
            self.reader.scalars |= inner.scalars - set(names)
            return _Substitution(arguments).visit(one)
        self.reader.called.append((function, known))
        return _called(_known_as(function), *(arguments[name] for name in names if name in arguments))


@dataclass
class _Substitution(ast.NodeTransformer):
    """Replaces names by expressions, all at once."""

    known: dict[str, Any]

    def visit_Name(self, node: ast.Name) -> Any:
        return copy.deepcopy(self.known[node.id]) if node.id in self.known else node


def _by_index(target: str, value: ast.expr) -> tuple[str, ast.expr]:
    """An einsum written by entries: `dv = einsum("qk,qv->kv", p, do)` is dv[k, v] = sum over q of p[q, k] do[q, v]."""
    found = [node for node in ast.walk(value) if _is_einsum(node)]
    if len(found) != 1 or not isinstance(found[0], ast.Call):
        give_up(value)
    subscripts, *operands = found[0].args
    assert isinstance(subscripts, ast.Constant)
    ins, out = str(subscripts.value).split("->")
    parts = ins.split(",")
    entries = [_entry(_unarranged(operand), part) for operand, part in zip(operands, parts, strict=True)]
    product = entries[0]
    for entry in entries[1:]:
        product = _called("times", product, entry)
    over = "".join(letter for letter in dict.fromkeys(ins) if letter not in f"{out},")
    total = _called("total", ast.Name(over, ast.Load()), product) if over else product

    class Replaced(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> Any:
            return total if node is found[0] else node  # its other operands are numbers

    return ast.unparse(_entry(ast.Name(target, ast.Load()), out)), Replaced().visit(value)


def _entry(array: ast.expr, letters: str) -> ast.expr:
    index = ast.Tuple([ast.Name(letter, ast.Load()) for letter in letters], ast.Load())
    return ast.Subscript(array, index, ast.Load())


def _unarranged(node: ast.expr) -> ast.expr:
    """The array inside of reshapes: the letters of its indices say which entry is meant, in any shape."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ARRANGED:
        node = node.args[0]
    return node


def _constant(function: Callable[..., Any], name: str) -> ast.expr:
    """The expression that defines a constant in the function's module."""
    module = inspect.getmodule(function)
    assert module is not None
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if isinstance(target, ast.Name) and target.id == name:
                    return value
    raise ValueError(f"there is no constant {name} in {module.__name__}")


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """`a, (b, c) = d, e` is two assignments."""
    several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)
    if several and not any(isinstance(one, ast.Starred) for one in _elements(target)):
        for one, its_value in zip(_elements(target), _elements(value), strict=True):
            yield from _pairs(one, its_value)
    else:
        yield target, value


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _only_lengths(node: ast.expr) -> bool:
    """Whether an expression is a shape or the length of an axis."""
    match node:
        case ast.Attribute(attr=name) if name in SHAPES:
            return True
        case ast.Call(func=ast.Name(id="len")):
            return True
        case ast.Subscript(value=value):
            return _only_lengths(value)
    return False


def _names(line: Line) -> set[str]:
    """The names in a formula, and those in a note that does not define them."""
    codes = [line.code] if line.code else []
    codes += [] if line.defines else line.note.split("`")[1::2]
    return {node.id for code in codes for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _called(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _words_of(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


@functools.cache
def _forwards() -> set[Callable[..., Any]]:
    return {inspect.unwrap(op.forward) for op in catalog().values()}


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name)


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_number(node: ast.expr, number: int) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, bool) and node.value == number


def _is_absent(node: Any) -> bool:
    """Whether an expression is None, also after simplification, which writes None as a name."""
    return _is_none(node) or (isinstance(node, ast.Name) and node.id == "none")


def _shape_of(value: Any) -> Any:
    """The value without the entries of arrays: a `_Shape` for an array, also within tuples such as a cache."""
    if isinstance(value, np.ndarray):
        return _Shape(value.shape, value.dtype)
    if isinstance(value, tuple):
        parts = map(_shape_of, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _stored(node: ast.AST) -> set[str]:
    """The names that a statement assigns to, in whole or in part."""
    stored: set[str] = set()
    for inner in ast.walk(node):
        targets = inner.targets if isinstance(inner, ast.Assign) else []
        targets = [*targets, *([inner.target] if isinstance(inner, ast.AugAssign | ast.For) else [])]
        stored |= {name for target in targets for name in _words_of(target)}
    return stored


def _is_sum(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "sum"


def _is_einsum(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "einsum"
