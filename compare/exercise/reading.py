"""What a learner wrote, made ready for the judge; and one sentence, with the line, about whatever cannot be run."""

import ast
import inspect
import json
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import BadInput
from compare.exercise import EXERCISES
from compare.exercise.entry import Exercise
from compare.exercise.sheet import function_name

SUFFIXES = (".py", ".ipynb")


class Unfinished(BadInput):
    """A blank is left: the answer has not been given yet."""


@dataclass(frozen=True)
class Answer:
    """A learner's functions and values by their names; and the file and text that they come from, if there are any."""

    namespace: Mapping[str, Any]
    file: Path | None = None
    text: str = ""

    @property
    def where(self) -> str:
        return self.file.name if self.file else "the notebook"

    def source_of(self, function: str) -> str | None:
        """The definition of a function, as it is written; None if it cannot be had."""
        with suppress(OSError, TypeError, SyntaxError):
            if not self.text:
                return textwrap.dedent(inspect.getsource(self.namespace[function]))
            defined = [node for node in ast.parse(self.text).body if isinstance(node, ast.FunctionDef)]
            own = [node for node in defined if node.name == function]
            return ast.get_source_segment(self.text, own[-1]) if own else None
        return None


def known(name: str) -> str:
    """The exercise's name, also if it is written with hyphens. Raises BadInput, a ValueError, if there is none."""
    plain = name.replace("-", "_").lower()
    if plain in EXERCISES:
        return plain
    near = get_close_matches(plain, EXERCISES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BadInput(f"no exercise is called {name!r}.{hint} `backproof exercise` lists them.")


def answer_in(folder: Path, name: str) -> Path | None:
    """The file that answers an exercise, Python before a notebook; None if there is none."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def read(file: Path) -> Answer:
    """Run a learner's file, and return what it defines.

    Raises:
        BadInput: a ValueError, if it cannot be read or run, in one sentence with the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not text in UTF-8: {error.reason} at byte {error.start}.") from None
    if file.suffix == ".ipynb":
        text = _code_of(text, file)
    namespace: dict[str, Any] = {"__name__": f"exercise_{file.stem}", "__file__": str(file)}
    try:
        program = compile(text, str(file), "exec")
    except (SyntaxError, ValueError) as error:  # a ValueError for null bytes
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise BadInput(f"{file}{line}: {type(error).__name__}: {getattr(error, 'msg', error)}.") from None
    with _neighbors(file.parent):
        try:
            exec(program, namespace)
        except (Exception, SystemExit) as error:
            raise BadInput(_sentence(error, str(file))) from None
    return Answer(namespace, file, text)


def _code_of(text: str, file: Path) -> str:
    """The code cells of a notebook, without lines for the shell or for IPython, and without asking the judge."""
    try:
        listed = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in listed if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{file} is not a notebook of Jupyter's format 4.") from None
    lines = "\n\n".join(source for source in sources if "compare.exercise" not in source).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines) + "\n"


@contextmanager
def _neighbors(folder: Path) -> Iterator[None]:
    """Inside, modules beside the file can be imported, as when it is run."""
    before = list(sys.path)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path[:] = before


def functions_of(name: str, answer: Answer) -> dict[str, Callable[..., Any]]:
    """The functions that the judge asks for, each with a look at what it returns.

    Raises:
        BadInput: a ValueError, if one is missing; Unfinished, which is one, if a blank is left.
    """
    exercise, own = EXERCISES[name], function_name(name)
    needed = [own] if exercise.given is None else [name, own]
    for function in needed:
        found = answer.namespace.get(function)
        if not callable(found):
            came = "" if found is None else f" (it is {type(found).__name__})"
            raise BadInput(f"{answer.where} has no function {function}{came}: keep the names that were given.")
    written = answer.namespace[own]
    blanks = _blanks(answer.source_of(own) or "")
    if blanks:
        raise Unfinished(f"{own} is not finished: {_joined(blanks)} {'is' if len(blanks) == 1 else 'are'} still `...`.")
    return {function: answer.namespace[function] for function in needed} | {own: _watched(written, own, exercise)}


def _blanks(source: str) -> list[str]:
    """The names that are still `...` in a function's source."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)]
    blank = [node for node in found if isinstance(node.value, ast.Constant) and node.value.value is Ellipsis]
    return [ast.unparse(target) for node in blank for target in node.targets]


def _watched(function: Callable[..., Any], called: str, exercise: Exercise) -> Callable[..., Any]:
    """The function, whose result is looked at, and which prints at the first of the judge's many calls only."""
    calls = 0

    def watched(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            result = function(*args)
        else:
            with redirect_stdout(StringIO()):
                result = function(*args)
        _check_result(result, called, exercise)
        return result

    return watched


def _check_result(result: Any, called: str, exercise: Exercise) -> None:
    """Raises BadInput unless there are as many values as are asked for, and each is one of numbers."""
    asked = ", ".join(exercise.returns)
    if result is None or result is Ellipsis:
        raise Unfinished(f"{called} returns {'nothing' if result is None else '`...`'}: it should return {asked}.")
    if exercise.door == "gradients":
        gradients = result[0] if isinstance(result, tuple) and result else result
        if not isinstance(gradients, dict) or set(gradients) != set(exercise.returns):
            came = f"the keys {_joined(map(str, gradients))}" if isinstance(gradients, dict) else _kind(gradients)
            raise BadInput(f"{called} must return a dict with the keys {asked}, but it returns {came}.")
        values = gradients
    else:
        listed = list(result) if isinstance(result, tuple | list) else [result]
        if exercise.door == "backward" and len(listed) > 1 and isinstance(listed[-1], dict):
            listed = listed[:-1]
        if len(listed) != len(exercise.returns):
            count = f"{len(exercise.returns)} value{'s' if len(exercise.returns) > 1 else ''}"
            raise BadInput(f"{called} must return {asked} ({count}), but it returns {len(listed)}.")
        values = dict(zip(exercise.returns, listed, strict=True))
    for name, value in values.items():
        if value is Ellipsis:
            raise Unfinished(f"{called} is not finished: {name} is still `...`.")
        if _no_numbers(value):
            raise BadInput(f"{called} returns {_kind(value)} for {name}, where an array of numbers is expected.")


def _no_numbers(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind not in "biufc"
    except (ValueError, TypeError):  # a list whose parts do not fit together
        return True


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def failed(error: BaseException, answer: Answer) -> BadInput | None:
    """What is to be said of an exception that the learner's code raised; None if it is not the learner's."""
    if isinstance(error, BadInput):
        return error
    file = str(answer.file) if answer.file else None
    own = {value.__code__.co_filename for value in answer.namespace.values() if inspect.isfunction(value)}
    places = {file} if file else {name for name in own if not name.endswith(".py")}
    if any(frame.filename in places for frame in traceback.extract_tb(error.__traceback__)):
        return BadInput(_sentence(error, file))
    if isinstance(error, TypeError | ValueError):  # of the judge's, about what was returned
        return BadInput(str(error).partition("\n")[0])
    return None


def _sentence(error: BaseException, file: str | None) -> str:
    """Where and what, in one line: of the last of the learner's lines that was at work."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or ([] if file else frames[-1:])
    said = str(error).partition("\n")[0].rstrip(".")
    if "'ellipsis'" in said:
        said = "a value is still `...`"
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if not own:
        return f"{file or 'the notebook'}: {what}."
    inside = "" if own[-1].name == "<module>" else f", in {own[-1].name}"
    return f"{file or 'the notebook'}, line {own[-1].lineno}{inside}: {what}."


def _joined(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
