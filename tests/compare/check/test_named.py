"""Functions and inputs that are named on the command line."""

import sys
from typing import Any

import numpy as np
import pytest

from compare.check.named import check_takes, in_dtype, inputs_of, loaded, named_function
from compare.errors import BadInput


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import neighbor\ndef by_hand(x): return neighbor.twice(x)\nVALUE = 3\n")
    (tmp_path / "neighbor.py").write_text("def twice(x): return 2 * x\n")
    return path


def test_a_function_is_found_and_may_import_its_neighbors(mine):
    before = list(sys.path)
    assert named_function(f"{mine}:by_hand")(4) == 8
    assert sys.path == before
    assert loaded(mine) is loaded(mine)


BAD = {
    "{mine}": "names no function: write FILE.py:NAME",
    "{mine}:": "names no function",
    ":by_hand": "names no function",
    "{mine}:by-hand": "names no function",
    "{mine}:VALUE": "has no function 'VALUE'",
    "{mine}:byhand": "Is it by_hand",
    "{mine}.txt:f": "no such file",
    "{folder}:f": "no such file",
}


@pytest.mark.parametrize("name", BAD)
def test_what_names_no_function_is_refused(name, mine):
    with pytest.raises(BadInput, match=BAD[name]):
        named_function(name.format(mine=mine, folder=mine.parent))


RAISES = {
    "import nothing_of_that_name": "ModuleNotFoundError",
    "def f(:": "line 1: SyntaxError",
    "raise RuntimeError('no')": "RuntimeError: no",
    "import sys; sys.exit(0)": "SystemExit: 0",
}


@pytest.mark.parametrize("text", RAISES)
def test_a_module_that_cannot_be_imported_is_refused(text, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    for _ in range(2):
        with pytest.raises(BadInput, match=RAISES[text]):
            named_function(f"{tmp_path / 'bad.py'}:f")


def test_what_is_no_python_file_is_refused(tmp_path):
    (tmp_path / "run.txt").write_text("x = 1")
    with pytest.raises(BadInput, match=r"must end with \.py"):
        named_function(f"{tmp_path / 'run.txt'}:f")


def test_inputs_come_from_the_file_or_from_an_array_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef f(w, x): pass\ndef inputs(): return np.ones(3), 2\n")
    assert len(inputs_of(f"{path}:f", None)) == 2
    arrays: Any = {"x": np.zeros(1), "parameters.w": np.ones(2), "parameters.b": np.ones(1)}
    np.savez(tmp_path / "a.npz", **arrays)
    parameters, x = inputs_of(f"{path}:f", tmp_path / "a.npz")
    assert set(parameters) == {"w", "b"}
    assert x.shape == (1,)
    np.savez(tmp_path / "b.npz", x=np.zeros(1), parameters=np.ones(2))
    assert [one.shape for one in inputs_of("", tmp_path / "b.npz")] == [(2,), (1,)]
    np.savez(tmp_path / "c.npz", a=np.zeros(1), b=np.ones(2))
    assert [one.shape for one in inputs_of("", tmp_path / "c.npz")] == [(1,), (2,)]


NO_INPUTS = {
    "def f(w): pass": "where are the inputs",
    "def f(w): pass\ndef inputs(): return 3": "must return a tuple",
    "def f(w): pass\ndef inputs(): return ()": "must return a tuple",
    "def f(w): pass\ninputs = 3": "where are the inputs",
}


@pytest.mark.parametrize("text", NO_INPUTS)
def test_inputs_that_are_none_are_refused(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(BadInput, match=NO_INPUTS[text]):
        inputs_of(f"{tmp_path / 'mine.py'}:f", None)


def test_an_archive_without_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz")
    with pytest.raises(BadInput, match="holds no arrays"):
        inputs_of("", tmp_path / "a.npz")


def test_floating_point_arrays_are_converted_and_others_stay():
    tree = {"w": np.ones(2), "ids": np.arange(3), "k": 2}
    found = in_dtype(tree, "float32")
    assert found["w"].dtype == np.float32
    assert found["ids"].dtype == np.arange(3).dtype
    assert found["k"] == 2
    assert in_dtype(tree, None) is tree
    assert in_dtype({"w": np.ones(2)}, "bfloat16")["w"].dtype == "bfloat16"


class Net:
    """As people write them, with a method for the loss."""


TAKES = {
    "two": (lambda W, X: None, "inputs() in hw.py gives 3 arguments; f takes 2 (W, X)."),
    "four or five": (
        lambda W, X, y, a, b=1: None,
        "inputs() in hw.py gives 3 arguments; f takes 4 to 5 (W, X, y, a, b).",
    ),
    "more": (lambda W, X, y, a, *more: None, "inputs() in hw.py gives 3 arguments; f takes at least 4 (W, X, y, a)."),
    "none": (lambda: None, "inputs() in hw.py gives 3 arguments; f takes 0."),
    "a class": (Net, "f is a class: write a function around its loss, such as by_hand(parameters, X, y)."),
    "three": (lambda W, X, y: None, None),
    "three, if one likes": (lambda W, X, y=1, z=2: None, None),
    "any number": (lambda *all_of_them: None, None),
    "in C, which does not tell": (max, None),
}


@pytest.mark.parametrize("function", TAKES)
def test_who_takes_another_number_of_arguments_is_told_before_the_check(function):
    taking, message = TAKES[function]
    if message is None:
        check_takes("hw.py:f", taking, (1, 2, 3), "inputs() in hw.py")
        return
    with pytest.raises(BadInput) as refused:
        check_takes("hw.py:f", taking, (1, 2, 3), "inputs() in hw.py")
    assert str(refused.value) == message
