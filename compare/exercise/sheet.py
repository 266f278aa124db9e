"""An exercise as a file to fill in: Python, or a notebook as JSON or as text in jupytext's percent format."""

import inspect
import json
import textwrap
from typing import Any

from compare.exercise import EXERCISES

ASK_THE_COMMAND = """Then type `backproof exercise {name}`.
It says whether your answer is right and, if not, where it is wrong and why. With --hint it gives a hint."""
ASK_BELOW = "The last cell says whether your answer is right and, if not, where it is wrong and why."
GIVEN = "# The forward pass. Do not change it, because the judge compares its output as well."


def function_name(name: str) -> str:
    """The name of the learner's function."""
    return f"{name}_{EXERCISES[name].suffix}"


def as_python(name: str) -> str:
    """The text of a Python file with the task, the forward pass, and a function with blanks."""
    exercise = EXERCISES[name]
    said = f"{exercise.title}\n\n{_task(name)}\n\n{_instruction(name, ASK_THE_COMMAND.format(name=name))}"
    given = [f"{GIVEN}\n{_given(name)}"] if exercise.given else []
    return "\n\n\n".join([f'"""{said}\n"""\n\nimport numpy as np', *given, _blank(name)]) + "\n"


def cells(name: str) -> list[tuple[str, str]]:
    """The cells of a notebook in order, each with its kind, "markdown" or "code". The last cell calls `check`."""
    exercise = EXERCISES[name]
    task = textwrap.indent(_task(name), "    ")  # indented text is a code block, which keeps its layout
    title = f"# {exercise.title}\n\n{task}\n\n{_instruction(name, ASK_BELOW)}"
    given = "import numpy as np" + (f"\n\n\n{GIVEN}\n{_given(name)}" if exercise.given else "")
    ask = (
        f'from compare.exercise import check, hint, solution\n\ncheck("{name}", globals())\n'
        f'# hint("{name}", 1)  # 2 and 3 say more\n# solution("{name}")'
    )
    return [("markdown", title), ("code", given), ("code", _blank(name)), ("code", ask)]


def as_percent_script(name: str) -> str:
    """The notebook as a Python file in percent format, which jupytext, VS Code and others read as a notebook."""
    parts = []
    for kind, text in cells(name):
        if kind == "markdown":
            text = "\n".join(f"# {line}".rstrip() for line in text.splitlines())
        parts.append(f"# %%{' [markdown]' if kind == 'markdown' else ''}\n{text}\n")
    return "\n".join(parts)


def as_notebook(name: str) -> str:
    """The notebook as an .ipynb file without outputs."""
    listed = [_cell(f"{name}-{number}", kind, text) for number, (kind, text) in enumerate(cells(name))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": listed, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _cell(identity: str, kind: str, text: str) -> dict[str, Any]:
    cell = {"id": identity, "cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _task(name: str) -> str:
    return inspect.cleandoc(EXERCISES[name].task)


def _given(name: str) -> str:
    function = EXERCISES[name].given
    assert function is not None
    return inspect.getsource(function).rstrip()


def _blank(name: str) -> str:
    exercise = EXERCISES[name]
    body = textwrap.indent('"""Derive it here or on paper before you write the code.\n\n\n"""', "    ")
    body = "\n".join(line.rstrip() for line in body.splitlines())
    return f"def {function_name(name)}({exercise.signature}):\n{body}{exercise.blank}"


def _instruction(name: str, ask: str) -> str:
    exercise = EXERCISES[name]
    first, *others = exercise.returns
    # J is a loss itself. It may be the final loss, for which dy is 1, or one term of it.
    loss, one = ("final loss", " (1 if J is the final loss)") if exercise.output == "J" else ("loss", "")
    gradients = textwrap.fill(
        f"dy is the gradient of the {loss} with respect to {exercise.output}{one}, {first} is the gradient with "
        f"respect to {first.removeprefix('d')}{', and so on' if others else ''}.",
        100,
    )
    return (f"{gradients}\n\n" if exercise.door == "backward" else "") + (
        f"Write {function_name(name)}: replace every `...`. {ask}"
    )
