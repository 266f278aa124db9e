"""What a learner wrote: what is run, and the sentence about what cannot be."""

import re

import pytest

from compare.errors import BadInput
from compare.exercise import EXERCISES, check
from compare.exercise.outcome import judged
from compare.exercise.reading import Answer, Unfinished, answer_in, functions_of, known, read
from compare.exercise.sheet import as_notebook, as_python
from tests.compare.exercise.answered import RIGHT, WRONG, filled, written


def said_of(file):
    with pytest.raises(BadInput) as refused:
        judged(file.stem, read(file))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_file_as_it_is_handed_out_is_unfinished(name, tmp_path):
    with pytest.raises(Unfinished, match=r"is not finished: .* still `...`\."):
        functions_of(name, read(written(tmp_path, name)))


@pytest.mark.parametrize(
    ("db", "sentence"),
    [
        ("dy.sum(axis=0", r"bias\.py, line \d+: SyntaxError: '\(' was never closed\."),
        ("dy.summe(axis=0)", r"bias\.py, line \d+, in bias_backward: AttributeError: .*'summe'\."),
        ("1 / 0", r"bias\.py, line \d+, in bias_backward: ZeroDivisionError: division by zero\."),
        ("None", r"bias_backward returns None for db, where an array of numbers is expected\."),
        ("'sum'", r"bias_backward returns a str for db, where"),
        ("[[1.0], [2.0, 3.0]]", r"bias_backward returns a list for db, where"),
        ("dy; return dy", r"bias_backward must return dx, db \(2 values\), but it returns 1\."),
        ("dy; return dx, dy, dy", r"but it returns 3\."),
        ("dy; return", r"bias_backward returns nothing\. It should return dx, db\."),
        ("(lambda: ...)()", r"bias_backward is not finished: db is still `...`\."),
        ("(lambda: ...)() + dy", r"line \d+, in bias_backward: TypeError: a value is still `...`\."),
        ("exit(0)", r"line \d+, in bias_backward: SystemExit: 0\."),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(db, sentence, tmp_path):
    assert re.search(sentence, said_of(written(tmp_path, "bias", dx="dy", db=db)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import nonesuch\n", r"bias\.py, line 1: ModuleNotFoundError: No module named 'nonesuch'\."),
        ("x = 1\n\ny = z\n", r"bias\.py, line 3: NameError: name 'z' is not defined\."),
        ("raise SystemExit\n", r"bias\.py, line 1: SystemExit\."),
        ("x = 1\n", r"bias\.py has no function bias\. Keep the names in the file\."),
        (
            "def bias(x, b): return x + b, None\nbias_backward = 3\n",
            r"bias\.py has no function bias_backward \(it is of type int",
        ),
        ("def bias(x, b): return x + b\ndef bias_backward(dy, c): return dy, dy\n", r"return \(value, cache\)"),
        ("\0", r"bias\.py"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_sentence(text, sentence, tmp_path):
    file = tmp_path / "bias.py"
    file.write_text(text, encoding="utf-8")
    assert re.search(sentence, said_of(file))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "bias.py"
    file.write_bytes(b"\xff\xfe")
    assert "is not text in UTF-8" in said_of(file)


def test_gradients_by_name_need_every_name(tmp_path):
    blanks = ("dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")
    file = written(tmp_path, "two_layer", **dict.fromkeys(blanks, "0"))
    file.write_text(file.read_text().replace('"W1": dW1, ', ""))
    assert "must return a dict with the keys W1, b1, W2, b2, but it returns the keys b1, W2 and b2." in said_of(file)
    file.write_text(file.read_text().replace("return {", "return 1, {"))
    assert "but it returns an int." in said_of(file)


def test_modules_beside_the_file_can_be_imported(tmp_path):
    (tmp_path / "my_helpers_of_bias.py").write_text("def total(a):\n    return a.sum(axis=0)\n")
    file = written(tmp_path, "bias", dx="dy", db="my_helpers_of_bias.total(dy)")
    file.write_text("import my_helpers_of_bias\n" + file.read_text())
    assert judged("bias", read(file)).right


def test_only_the_first_call_prints(tmp_path, capsys):
    assert judged("bias", read(written(tmp_path, "bias", dx="print('here') or dy", db=RIGHT["db"]))).right
    assert capsys.readouterr().out == "here\n"


def test_a_notebook_is_read_without_its_magic(tmp_path):
    text = as_notebook("bias").replace("dx = ...", "dx = dy").replace("db = ...", "db = dy.sum(axis=0)")
    file = tmp_path / "bias.ipynb"
    file.write_text(text.replace('"import numpy as np', '"%matplotlib inline\\n", "!ls\\n", "import numpy as np'))
    assert judged("bias", read(file)).right
    assert answer_in(tmp_path, "bias") == file
    assert answer_in(tmp_path, "relu") is None
    python = written(tmp_path, "bias")
    assert answer_in(tmp_path, "bias") == python
    file.write_text("{}")
    with pytest.raises(BadInput, match="is not a notebook in Jupyter's format 4"):
        read(file)


def test_a_cell_is_judged_by_its_names():
    namespace = {}
    exec(compile(filled("bias", **WRONG), "<ipython-input-1>", "exec"), namespace)
    assert judged("bias", Answer(namespace)).to_dict()["causes"] == ["factor"]
    assert repr(check("bias", namespace)).startswith("DISAGREE: the gradient of b: it is 0.2 times")
    exec(compile(filled("bias", dx="dy", db="1 / 0"), "<ipython-input-2>", "exec"), namespace)
    assert re.match(r"the notebook, line \d+, in bias_backward: ZeroDivisionError", str(check("bias", namespace)))
    assert repr(check("bias", {})).startswith("the notebook has no function bias")


def test_an_error_of_our_own_is_not_laid_to_the_learner(monkeypatch):
    def broken(*args):
        raise KeyError("ours")

    namespace = {}
    exec(as_python("bias").replace("...\n", "dy\n"), namespace)
    monkeypatch.setattr("compare.exercise.judging.report_on", broken)
    with pytest.raises(KeyError, match="ours"):
        judged("bias", Answer(namespace))


@pytest.mark.parametrize("name", ["layer-norm", "Layer_Norm", "layer_norm"])
def test_a_name_is_found_however_it_is_written(name):
    assert known(name) == "layer_norm"


def test_a_name_that_there_is_not_has_a_nearest_one():
    with pytest.raises(BadInput, match=r"'lyer-norm'\. Did you mean layer_norm\? `backproof exercise` lists them"):
        known("lyer-norm")
