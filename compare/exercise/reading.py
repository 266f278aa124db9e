"""Runs a learner's code and prepares its functions for the judge. Code that fails gets one sentence with the line."""

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
    """The answer still has a blank."""


@dataclass(frozen=True)
class Answer:
    """A learner's answer.

    Attributes:
        namespace: Its functions and values by their names.
        file: The file that it comes from; None for a notebook that is running.
        text: The text of that file, or of a notebook's code cells.
    """

    namespace: Mapping[str, Any]
    file: Path | None = None
    text: str = ""

    @property
    def where(self) -> str:
        """The name of its file, for messages."""
        return self.file.name if self.file else "the notebook"

    def source_of(self, function: str) -> str | None:
        """The source of a function; None if it is not available."""
        with suppress(OSError, TypeError, SyntaxError):
            if not self.text:
                return textwrap.dedent(inspect.getsource(self.namespace[function]))
            defined = [node for node in ast.parse(self.text).body if isinstance(node, ast.FunctionDef)]
            own = [node for node in defined if node.name == function]
            return ast.get_source_segment(self.text, own[-1]) if own else None
        return None


def known(name: str) -> str:
    """The exercise with this name. Hyphens and capitals are accepted. Raises BadInput if there is none."""
    plain = name.replace("-", "_").lower()
    if plain in EXERCISES:
        return plain
    near = get_close_matches(plain, EXERCISES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BadInput(f"no exercise is called {name!r}.{hint} `backproof exercise` lists them.")


def answer_in(folder: Path, name: str) -> Path | None:
    """The file with the answer to an exercise; a Python file if there is also a notebook. None if there is no file."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def read(file: Path) -> Answer:
    """Run a learner's file, and return the functions that it defines.

    Args:
        file: A Python file or a notebook.

    Raises:
        BadInput: A ValueError with one sentence and the line, if the file cannot be read or run.
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
    except (SyntaxError, ValueError) as error:  # null bytes raise ValueError
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise BadInput(f"{file}{line}: {type(error).__name__}: {getattr(error, 'msg', error)}.") from None
    with _neighbors(file.parent):
        try:
            exec(program, namespace)
        except (Exception, SystemExit) as error:
            raise BadInput(_sentence(error, str(file))) from None
    return Answer(namespace, file, text)


def _code_of(text: str, file: Path) -> str:
    """The code cells of a notebook, without shell and IPython commands and without the cell that calls `check`."""
    try:
        listed = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in listed if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{file} is not a notebook in Jupyter's format 4.") from None
    lines = "\n\n".join(source for source in sources if "compare.exercise" not in source).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines) + "\n"


@contextmanager
def _neighbors(folder: Path) -> Iterator[None]:
    """A context in which modules beside the file can be imported, as when the file is run as a script."""
    before = list(sys.path)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path[:] = before


def functions_of(name: str, answer: Answer) -> dict[str, Callable[..., Any]]:
    """The functions that the judge calls. The learner's function checks its own result before it returns it.

    Args:
        name: The exercise.
        answer: The learner's answer.

    Raises:
        BadInput: A ValueError, if a function is missing.
        Unfinished: A BadInput, if a blank is left.
    """
    exercise, own = EXERCISES[name], function_name(name)
    needed = [own] if exercise.given is None else [name, own]
    for function in needed:
        found = answer.namespace.get(function)
        if not callable(found):
            actual = "" if found is None else f" (it is of type {type(found).__name__})"
            raise BadInput(f"{answer.where} has no function {function}{actual}. Keep the names in the file.")
    written = answer.namespace[own]
    blanks = _blanks(answer.source_of(own) or "")
    if blanks:
        raise Unfinished(f"{own} is not finished: {_joined(blanks)} {'is' if len(blanks) == 1 else 'are'} still `...`.")
    return {function: answer.namespace[function] for function in needed} | {own: _watched(written, own, exercise)}


def _blanks(source: str) -> list[str]:
    """The names to which a function's source still assigns `...`."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)]
    blank = [node for node in found if isinstance(node.value, ast.Constant) and node.value.value is Ellipsis]
    return [ast.unparse(target) for node in blank for target in node.targets]


def _watched(function: Callable[..., Any], called: str, exercise: Exercise) -> Callable[..., Any]:
    """The function with a check of its result. It prints only at the first of the judge's many calls."""
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
    """Raises BadInput unless the function returns the expected number of values, each of them an array of numbers."""
    expected = ", ".join(exercise.returns)
    if result is None or result is Ellipsis:
        raise Unfinished(f"{called} returns {'nothing' if result is None else '`...`'}. It should return {expected}.")
    if exercise.door == "gradients":
        gradients = result[0] if isinstance(result, tuple) and result else result
        if not isinstance(gradients, dict) or set(gradients) != set(exercise.returns):
            actual = f"the keys {_joined(map(str, gradients))}" if isinstance(gradients, dict) else _kind(gradients)
            raise BadInput(f"{called} must return a dict with the keys {expected}, but it returns {actual}.")
        values = gradients
    else:
        listed = list(result) if isinstance(result, tuple | list) else [result]
        if exercise.door == "backward" and len(listed) > 1 and isinstance(listed[-1], dict):
            listed = listed[:-1]
        if len(listed) != len(exercise.returns):
            count = f"{len(exercise.returns)} value{'s' if len(exercise.returns) > 1 else ''}"
            raise BadInput(f"{called} must return {expected} ({count}), but it returns {len(listed)}.")
        values = dict(zip(exercise.returns, listed, strict=True))
    for name, value in values.items():
        if value is Ellipsis:
            raise Unfinished(f"{called} is not finished: {name} is still `...`.")
        if _no_numbers(value):
            raise BadInput(f"{called} returns {_kind(value)} for {name}, where an array of numbers is expected.")


def _no_numbers(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind not in "biufc"
    except (ValueError, TypeError):  # a list of arrays of different shapes
        return True


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def failed(error: BaseException, answer: Answer) -> BadInput | None:
    """The BadInput for an exception that the learner's code raised; None if the learner's code did not raise it."""
    if isinstance(error, BadInput):
        return error
    file = str(answer.file) if answer.file else None
    own = {value.__code__.co_filename for value in answer.namespace.values() if inspect.isfunction(value)}
    places = {file} if file else {name for name in own if not name.endswith(".py")}
    if any(frame.filename in places for frame in traceback.extract_tb(error.__traceback__)):
        return BadInput(_sentence(error, file))
    if isinstance(error, TypeError | ValueError):  # the judge rejects the returned values
        return BadInput(str(error).partition("\n")[0])
    return None


def _sentence(error: BaseException, file: str | None) -> str:
    """One sentence on an exception, with the last line of the learner's code in its traceback."""
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
