"""Excerpts of the project's own source, found in its syntax tree whenever they are shown.

No line is copied into a lesson, so that a lesson cannot quote old code: if the line is gone, LookupError is raised.
"""

import ast
import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Source = Callable[..., Any] | ModuleType


@dataclass(frozen=True)
class Excerpt:
    """Whole lines of a file without their common indentation. `line` is the number of the first line."""

    file: str
    line: int
    code: str

    @property
    def place(self) -> str:
        """The file and the first line, as in "manual/shallow.py:163"."""
        return f"{self.file}:{self.line}"

    def numbered(self) -> list[tuple[int, str]]:
        """The lines with their numbers."""
        return list(enumerate(self.code.splitlines(), self.line))


def assignment(source: Source, target: str) -> Excerpt:
    """The only statement that assigns to the name `target`, in a function, or in a module outside its functions.

    Raises LookupError unless there is exactly one.
    """
    found = [node for node in _statements(source) if target in _targets(node)]
    return _only(found, source, f"assign to {target}")


def containing(source: Source, fragment: str) -> Excerpt:
    """The only simple statement of a function that contains a piece of text.

    Raises LookupError unless there is exactly one.
    """
    simple = [node for node in _statements(source) if not hasattr(node, "body")]
    found = [node for node in simple if fragment in _only([node], source, "").code]
    return _only(found, source, f"hold {fragment}")


def leading_to(source: Source, target: str, steps: Collection[str] = ()) -> list[Excerpt]:
    """The only statement that assigns to the name `target`, preceded by the statements that compute its operands.

    A statement without a call only renames something, and is left out. So is one that assigns to a name in `steps`,
    because it is shown in a step of its own.
    """
    _, _, (definition,) = parsed(source)
    last = assignment(source, target)
    simple = [_only([node], source, "") for node in definition.body if isinstance(node, ast.Assign)]
    found, wanted = [last], _read(last)
    for excerpt in reversed(simple[: simple.index(last)]):
        (node,) = ast.parse(excerpt.code).body
        shown_elsewhere = not _targets(node).isdisjoint(steps)
        if wanted & _targets(node) and not shown_elsewhere and any(isinstance(p, ast.Call) for p in ast.walk(node)):
            found.insert(0, excerpt)
            wanted |= _read(excerpt)
    return found


def _read(excerpt: Excerpt) -> set[str]:
    names = [node for node in ast.walk(ast.parse(excerpt.code)) if isinstance(node, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def returned(source: Source) -> Excerpt:
    """The only return statement of a function. Raises LookupError unless there is exactly one."""
    return _only([node for node in _statements(source) if isinstance(node, ast.Return)], source, "return something")


def body(function: Source) -> list[Excerpt]:
    """The statements of a function without its docstring and without checks of its arguments.

    Consecutive lines form one excerpt. If the function only calls another function of its package, that function's
    statements follow.
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
    """The function of the same package that the statement `return f(...)` calls; None for another statement."""
    call = last.value if isinstance(last, ast.Return) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    called = inspect.unwrap(function).__globals__.get(call.func.id)
    same = inspect.isfunction(called) and called.__module__.split(".")[0] == function.__module__.split(".")[0]
    return called if same else None


def _only(found: list[ast.stmt], source: Source, what: str) -> Excerpt:
    if len(found) != 1:
        raise LookupError(
            f"{_file(source)}: {len(found)} statements of {source.__name__} {what}, but the lesson shows exactly one. "
            "The source has changed; the step of the lesson must name the statement as it is now."
        )
    lines, start, _ = parsed(source)
    return _excerpt(source, lines, start, found[0].lineno, found[0].end_lineno or found[0].lineno)


def parsed(source: Source) -> tuple[list[str], int, list[Any]]:
    """The lines of the source, the number of the first of them in its file, and the parsed statements."""
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
    """The statements inside of another one, without those of functions that are defined there."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt):
            yield inner
        if not isinstance(inner, ast.FunctionDef | ast.Lambda):
            yield from _within(inner)


def _targets(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def is_text(node: ast.stmt) -> bool:
    """Whether the statement is a string, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_guard(node: ast.stmt) -> bool:
    """Whether the statement only checks arguments: an `if` that raises, or a call of a function named after a check."""
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
