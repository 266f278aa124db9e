"""Lines of the project's own source, found in the syntax tree when they are shown: never typed a second time.

A lesson that quotes a line which is no longer there is an error, and not an old quotation.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Source = Callable[..., Any] | ModuleType


@dataclass(frozen=True)
class Excerpt:
    """Whole lines of a file, without the indentation that they share. `line` is the number of the first."""

    file: str
    line: int
    code: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def numbered(self) -> list[tuple[int, str]]:
        return list(enumerate(self.code.splitlines(), self.line))


def assignment(source: Source, target: str) -> Excerpt:
    """The one statement of a function, or of a module outside its functions, that assigns to the name `target`.

    Raises LookupError if there is none, or more than one.
    """
    found = [node for node in _statements(source) if target in _targets(node)]
    return _only(found, source, f"assign to {target}")


def containing(source: Source, fragment: str, *, assigned: bool = False) -> Excerpt:
    """The one simple statement of a function with a piece of text in it, or, if that is `assigned` to, on its left.

    Raises LookupError if there is none, or more than one.
    """

    def text(node: ast.stmt) -> str:
        code = _only([node], source, "").code
        return code.partition(" = ")[0] if assigned else code

    simple = [node for node in _statements(source) if not hasattr(node, "body")]
    return _only([node for node in simple if fragment in text(node)], source, f"hold {fragment}")


def leading_to(source: Source, fragment: str) -> list[Excerpt]:
    """The one statement with a piece of text on its left, after those that compute the names which it is made of.

    A name that is given to something else, by a statement without a call, is not computed.
    """
    _, _, (definition,) = parsed(source)
    last = containing(source, fragment, assigned=True)
    simple = [_only([node], source, "") for node in definition.body if isinstance(node, ast.Assign)]
    found, wanted = [last], _read(last)
    for excerpt in reversed(simple[: simple.index(last)]):
        (node,) = ast.parse(excerpt.code).body
        assert isinstance(node, ast.Assign)
        names = not any(isinstance(part, ast.Subscript) for target in node.targets for part in ast.walk(target))
        if names and wanted & _targets(node) and any(isinstance(part, ast.Call) for part in ast.walk(node)):
            found.insert(0, excerpt)
            wanted |= _read(excerpt)
    return found


def _read(excerpt: Excerpt) -> set[str]:
    names = [node for node in ast.walk(ast.parse(excerpt.code)) if isinstance(node, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def returned(source: Source) -> Excerpt:
    """The one return statement of a function. Raises LookupError if there is none, or more than one."""
    return _only([node for node in _statements(source) if isinstance(node, ast.Return)], source, "return something")


def body(function: Source) -> list[Excerpt]:
    """A function's statements, but its docstring and the guards that only refuse what does not fit.

    Lines that follow each other in the file are one excerpt. If the function only calls another one of its package, the
    statements of that one follow.
    """
    lines, start, (definition,) = parsed(function)
    statements = [node for node in definition.body if not is_text(node) and not is_guard(node)]
    kept: list[tuple[int, int]] = []
    for node in statements:
        first, last = node.lineno, node.end_lineno or node.lineno
        if kept and not "".join(lines[kept[-1][1] : first - 1]).strip():
            kept[-1] = (kept[-1][0], last)
        else:
            kept.append((first, last))
    own = [_excerpt(function, lines, start, first, last) for first, last in kept]
    called = _delegate(function, statements[-1]) if len(statements) <= 2 else None
    return own if called is None else own + body(called)


def _delegate(function: Any, last: ast.stmt) -> Any:
    """The function of the same package that does the work, where all that is left to a function is to call it."""
    call = last.value if isinstance(last, ast.Return) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    called = inspect.unwrap(function).__globals__.get(call.func.id)
    same = inspect.isfunction(called) and called.__module__.split(".")[0] == function.__module__.split(".")[0]
    return called if same else None


def _only(found: list[ast.stmt], source: Source, what: str) -> Excerpt:
    if len(found) != 1:
        raise LookupError(
            f"{_file(source)}: {len(found)} statements of {source.__name__} {what}, and the lesson shows one. "
            "The source has changed: let the lesson's step name what stands there now."
        )
    lines, start, _ = parsed(source)
    return _excerpt(source, lines, start, found[0].lineno, found[0].end_lineno or found[0].lineno)


def parsed(source: Source) -> tuple[list[str], int, list[Any]]:
    """The source's lines, the number of the first in its file, and its statements, which count from 1."""
    lines, start = inspect.getsourcelines(source)
    return lines, max(start, 1), ast.parse(inspect.cleandoc("\n" + "".join(lines))).body


def _statements(source: Source) -> Iterator[ast.stmt]:
    _, _, nodes = parsed(source)
    if isinstance(source, ModuleType):
        yield from nodes
        return
    (definition,) = nodes
    yield from _within(definition)


def _within(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements inside of another one, but those of a function that is defined there."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt):
            yield inner
        if not isinstance(inner, ast.FunctionDef | ast.Lambda):
            yield from _within(inner)


def _targets(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_guard(node: ast.stmt) -> bool:
    """Whether the statement is a guard: one that raises, or a call of a check that may."""
    if isinstance(node, ast.If):
        return not node.orelse and all(isinstance(inner, ast.Raise) for inner in node.body)
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and "check" in ast.unparse(call.func)


def _excerpt(source: Source, lines: list[str], start: int, first: int, last: int) -> Excerpt:
    text = inspect.cleandoc("\n" + "".join(lines[first - 1 : last]))
    return Excerpt(_file(source), start + first - 1, text)


def _file(source: Source) -> str:
    module = source.__name__ if isinstance(source, ModuleType) else source.__module__
    return module.replace(".", "/") + ".py"
