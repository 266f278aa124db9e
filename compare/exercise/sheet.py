"""An exercise as a file: Python to be filled in, or a notebook, as text (jupytext's percent format) or as JSON."""

import inspect
import json
import textwrap
from typing import Any

from compare.exercise import EXERCISES

ASK_THE_COMMAND = """Then type `backproof exercise {name}`,
which says whether it is right, and if not, where it is wrong and why. With --hint it gives a hint."""
ASK_BELOW = "The last cell says whether it is right, and if not, why."
GIVEN = "# Given, and not to be changed: the judge compares its output, too."


def function_name(name: str) -> str:
    """What the learner's function is called."""
    return f"{name}_{EXERCISES[name].suffix}"


def as_python(name: str) -> str:
    """A file with the task, the forward pass, and a function whose body is blank."""
    exercise = EXERCISES[name]
    said = f"{exercise.title}\n\n{_task(name)}\n\n{_instruction(name, ASK_THE_COMMAND.format(name=name))}"
    given = [f"{GIVEN}\n{_given(name)}"] if exercise.given else []
    return "\n\n\n".join([f'"""{said}\n"""\n\nimport numpy as np', *given, _blank(name)]) + "\n"


def cells(name: str) -> list[tuple[str, str]]:
    """The notebook's cells, in order: "markdown" or "code", and the text. The last one asks the judge."""
    exercise = EXERCISES[name]
    task = textwrap.indent(_task(name), "    ")  # as code, in which a shape stays as it is
    title = f"# {exercise.title}\n\n{task}\n\n{_instruction(name, ASK_BELOW)}"
    given = "import numpy as np" + (f"\n\n\n{GIVEN}\n{_given(name)}" if exercise.given else "")
    ask = (
        f'from compare.exercise import check, hint, solution\n\ncheck("{name}", globals())\n'
        f'# hint("{name}", 1)  # 2 and 3 say more\n# solution("{name}")'
    )
    return [("markdown", title), ("code", given), ("code", _blank(name)), ("code", ask)]


def as_percent_script(name: str) -> str:
    """The notebook as a Python file that jupytext, VS Code and others take for a notebook."""
    parts = []
    for kind, text in cells(name):
        if kind == "markdown":
            text = "\n".join(f"# {line}".rstrip() for line in text.splitlines())
        parts.append(f"# %%{' [markdown]' if kind == 'markdown' else ''}\n{text}\n")
    return "\n".join(parts)


def as_notebook(name: str) -> str:
    """The notebook as Jupyter keeps it, without outputs."""
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
    body = textwrap.indent('"""Derive it here, on paper or in words, before you write it below.\n\n\n"""', "    ")
    body = "\n".join(line.rstrip() for line in body.splitlines())
    return f"def {function_name(name)}({exercise.signature}):\n{body}{exercise.blank}"


def _instruction(name: str, ask: str) -> str:
    exercise = EXERCISES[name]
    first, *others = exercise.returns
    # J is a loss itself: it may be the last step, or one part of a larger one.
    loss, one = ("final loss", " (1 if J is the final loss)") if exercise.output == "J" else ("loss", "")
    gradients = textwrap.fill(
        f"dy is the gradient of the {loss} with respect to {exercise.output}{one}, {first} that with respect to "
        f"{first.removeprefix('d')}{', and so on' if others else ''}.",
        100,
    )
    return (f"{gradients}\n\n" if exercise.door == "backward" else "") + (
        f"You write {function_name(name)}: fill in every `...`. {ask}"
    )
