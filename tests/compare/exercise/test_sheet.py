"""The files that a learner fills in."""

import ast
import json
import re

import pytest

from compare.errors import BadInput
from compare.exercise import EXERCISES, hint, solution
from compare.exercise.sheet import as_notebook, as_percent_script, as_python, cells, function_name


@pytest.mark.parametrize("name", EXERCISES)
def test_a_file_has_the_task_the_forward_pass_and_blanks(name):
    text = as_python(name)
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    given = {name} if EXERCISES[name].given else set()
    assert set(functions) == given | {function_name(name)}
    blanks = [node for node in ast.walk(functions[function_name(name)]) if isinstance(node, ast.Assign)]
    assert any(isinstance(node.value, ast.Constant) and node.value.value is Ellipsis for node in blanks)
    task = ast.get_docstring(tree) or ""
    assert EXERCISES[name].title in task
    assert f"`backproof exercise {name}`" in task
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bias", "of the loss with respect to y, dx is the gradient with respect to x, and so on."),
        ("cross_entropy", "of the final loss with respect to J (1 if J is the final loss), dz is the gradient with"),
        ("rnn", "of the loss with respect to h, dx is"),
    ],
)
def test_the_output_is_called_what_the_task_calls_it(name, said):
    assert f"dy is the gradient {said}" in " ".join(as_python(name).split())
    for each, exercise in EXERCISES.items():
        assert exercise.door != "backward" or re.search(
            rf"\b{re.escape(exercise.output.split()[-1])}", exercise.task
        ), each


@pytest.mark.parametrize("name", EXERCISES)
def test_a_notebook_holds_the_same(name):
    whole = json.loads(as_notebook(name))
    sources = ["".join(cell["source"]) for cell in whole["cells"]]
    assert sources == [text for _, text in cells(name)]
    assert f'check("{name}", globals())' in sources[-1]
    for part in ("\n\n".join(sources[1:]), as_percent_script(name)):
        ast.parse(part)


def test_a_notebook_runs_as_it_is_handed_out_and_says_what_is_missing():
    namespace = {}
    *code, ask = [text for kind, text in cells("bias") if kind == "code"]
    for text in code:
        exec(text, namespace)
    exec(ask.replace("\ncheck(", "\nsaid = check("), namespace)
    assert re.match("bias_backward .* `...`", namespace["said"])
    with pytest.raises(BadInput, match="the hints are 1 to 3, got 4"):
        hint("bias", 4)
    assert hint("layer-norm", 3) == EXERCISES["layer_norm"].hints[2]
    assert "def dense_backward(output_gradient, cache):" in solution("bias")


def test_others_read_the_notebook_and_its_text():
    jupytext = pytest.importorskip("jupytext")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.reads(as_notebook("bias"), as_version=4)
    nbformat.validate(notebook)
    again = jupytext.reads(as_percent_script("bias"), fmt="py:percent")
    assert [(cell.cell_type, cell.source) for cell in again.cells] == [
        (cell.cell_type, cell.source) for cell in notebook.cells
    ]
