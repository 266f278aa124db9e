"""`backproof check`: verdicts, files, and bad input as a sentence with status 2."""

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.command import assert_no_traceback, assert_refused, invoke, strict
from tests.compare.check.records import LOSS, steps, write_safetensors

MINE = """
import numpy as np, jax, jax.numpy as jnp
from scipy.optimize import rosen_hess, rosen_hess_prod

def by_hand(w, x, y):
    r = x @ w - y
    return np.mean(r**2), 2 * x.T @ r / len(y)

def wrong(w, x, y):
    return by_hand(w, x, y)[0], 3 * by_hand(w, x, y)[1]

def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)

def inputs():
    return np.ones(3), np.arange(12.0).reshape(4, 3), np.arange(4.0)

def raises(w, x, y): raise RuntimeError("no luck")
def exits(w, x, y): raise SystemExit(0)
def looks_up(w, x, y): return {}["a"]
def one_thing(w, x, y): return 3
def in_numpy(w, x, y): return float(np.mean((np.asarray(x) @ np.asarray(w) - y) ** 2))
def a_vector(w, x, y): return w
"""
DOORS = {
    "jvp": ("""
import numpy as np, jax.numpy as jnp
def mine(primals, tangents): return np.sin(primals[0]), FACTOR * np.cos(primals[0]) * tangents[0]
def theirs(x): return jnp.sin(x)
def inputs(): return (np.linspace(0, 1, 4),)
""", []),
    "hvp": ("""
import numpy as np, jax.numpy as jnp
from scipy.optimize import rosen_hess_prod
def mine(x, v): return FACTOR * rosen_hess_prod(x, v)
def theirs(x): return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
def inputs(): return (np.linspace(0, 1, 4),)
""", []),
    "hessian": ("""
import numpy as np, jax.numpy as jnp
from scipy.optimize import rosen_hess
def mine(x): return FACTOR * rosen_hess(x)
def theirs(x): return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
def inputs(): return (np.linspace(0, 1, 4),)
""", []),
    "jacobian": ("""
import numpy as np, jax.numpy as jnp
def mine(x): return FACTOR * np.diag(np.cos(x))
def theirs(x): return jnp.sin(x)
def inputs(): return (np.linspace(0, 1, 4),)
""", []),
    "vjp": ("""
import numpy as np, jax.numpy as jnp
def mine(x): return np.sin(x), x
def backward(dy, x): return FACTOR * dy * np.cos(x)
def theirs(x): return jnp.sin(x)
def inputs(): return (np.linspace(0, 1, 4),)
""", ["--backward", "{file}:backward"]),
}  # fmt: skip


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def check(*arguments):
    result = invoke("check", *arguments)
    assert_no_traceback(result)
    return result


def test_a_right_gradient_agrees_and_a_wrong_one_does_not(mine):
    for reference in ([f"{mine}:loss"], []):
        result = check(f"{mine}:by_hand", *reference)
        assert (result.exit_code, result.stdout[:5]) == (0, "AGREE")
        result = check(f"{mine}:wrong", *reference)
        assert (result.exit_code, result.stdout[:8]) == (1, "DISAGREE")
        assert "3 times" in result.stdout


@pytest.mark.sweep
@pytest.mark.parametrize("factor", [1.0, 1.1])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_opens_from_the_shell(door, factor, tmp_path):
    text, more = DOORS[door]
    file = tmp_path / f"{door}.py"
    file.write_text(text.replace("FACTOR", str(factor)))
    result = check(f"{file}:mine", f"{file}:theirs", f"--{door}", *(one.format(file=file) for one in more))
    assert result.exit_code == (0 if factor == 1 else 1), result.stderr


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inputs_from_an_array_file_in_any_dtype(mine, tmp_path, dtype):
    at = tmp_path / "in.npz"
    np.savez(at, x=np.arange(12.0).reshape(4, 3), y=np.arange(4.0), parameters=np.ones(3))
    result = check(f"{mine}:by_hand", f"{mine}:loss", "--at", at, "--dtype", dtype)
    assert result.exit_code == 0
    assert dtype in result.stdout


def test_reports_are_written_and_agree_with_each_other(mine, tmp_path):
    paths = [tmp_path / name for name in ("r.json", "r.html", "r.xml")]
    options = [str(one) for pair in zip(("--json", "--report", "--junit"), paths, strict=True) for one in pair]
    assert check(f"{mine}:wrong", f"{mine}:loss", *options).exit_code == 1
    report = strict(paths[0].read_text())
    assert report["verdict"] == "disagree"
    assert "3 times" in paths[1].read_text()
    suite = ElementTree.parse(paths[2]).getroot()
    assert int(suite.get("failures") or 0) == sum(row["verdict"] == "disagree" for row in report["rows"])


@pytest.fixture
def recorded(tmp_path):
    (tmp_path / "l.py").write_text(LOSS)

    def write(name, arrays):
        if name.endswith(".npz"):
            np.savez(tmp_path / name, **arrays)
        else:
            write_safetensors(tmp_path / name, arrays)
        return tmp_path / name

    return write, ["--loss", f"{tmp_path / 'l.py'}:loss"]


@pytest.mark.parametrize("name", ["run.safetensors", "run.npz"])
def test_recorded_steps_are_judged(recorded, name, tmp_path):
    write, loss = recorded
    rule = ["--optimizer", "sgd:lr=0.1"]
    assert check(write(name, steps(3)), *loss, *rule).exit_code == 0
    wrong = write(f"w{name}", steps(3, gradient=lambda g: g | {"w": -g["w"]}, at=2))
    result = check(
        wrong, *loss, "--json", tmp_path / "r.json", "--report", tmp_path / "r.html", "--junit", tmp_path / "j"
    )
    assert result.exit_code == 1
    assert "step 2" in result.stdout
    assert strict((tmp_path / "r.json").read_text())["wrong_step"] == 2
    result = check(write(f"u{name}", steps(4, update=lambda p: p | {"b": p["b"] + 1}, at=3)), *loss, *rule)
    assert result.exit_code == 1
    assert "step 3 of 4" in result.stdout


def test_two_runs_are_compared(recorded, tmp_path):
    write, _ = recorded
    first, second = write("a.npz", steps(3)), write("b.npz", steps(3, update=lambda p: p | {"w": p["w"] + 1}, at=2))
    assert check(first, first).exit_code == 0
    result = check(first, second, "--twin", first, "--json", tmp_path / "r.json", "--report", tmp_path / "r.html")
    assert result.exit_code == 1
    assert "first differ at step.2/next/w" in result.stdout
    assert strict((tmp_path / "r.json").read_text())["first_wrong"] == "step.2/next/w"


def test_names_are_text_on_the_terminal_and_on_the_page(recorded, tmp_path):
    write, _ = recorded
    name = "<img src=x onerror=alert(1)>[red]"
    (tmp_path / "odd.py").write_text(f"import jax.numpy as jnp\ndef loss(p): return jnp.sum(p[{name!r}] ** 2)\n")
    file = write("odd.safetensors", {f"parameters/{name}": np.ones(2), f"gradients/{name}": np.ones(2)})
    for more in (["--loss", f"{tmp_path / 'odd.py'}:loss"], [write("b.npz", {"a": np.ones(1)})]):
        result = check(file, *more, "--report", tmp_path / "r.html")
        assert result.exit_code == 1
        assert name in result.stdout
        page = (tmp_path / "r.html").read_text()
        assert "&lt;img src=x onerror=alert(1)&gt;[red]" in page
        assert "<img src=x" not in page


REFUSED = {
    "raises": (["{mine}:raises", "{mine}:loss"], "mine.py, line 18, in raises: RuntimeError: no luck"),
    "the reference raises": (["{mine}:by_hand", "{mine}:raises"], "in raises: RuntimeError: no luck"),
    "a key that is not there": (["{mine}:looks_up", "{mine}:loss"], "KeyError: 'a'"),
    "an exit that is no verdict": (["{mine}:exits", "{mine}:loss"], "called sys.exit"),
    "an exit of the reference": (["{mine}:by_hand", "{mine}:exits"], "called sys.exit"),
    "one thing for two": (["{mine}:one_thing", "{mine}:loss"], r"must return \(loss, gradients\)"),
    "a reference in NumPy": (["{mine}:by_hand", "{mine}:in_numpy"], "traced|JAX"),
    "a reference that is a vector": (["{mine}:by_hand", "{mine}:a_vector"], "one floating-point number"),
    "a function that is not there": (["{mine}:byhand"], "Is it by_hand.* It has .*by_hand, exits"),
    "no function": (["{mine}"], "names no function: write FILE.py:NAME"),
    "no file": (["{mine}.py:f"], "no such file"),
    "no inputs": (["{folder}/noin.py:f"], "where are the inputs"),
    "inputs that raise": (["{folder}/badin.py:f"], "in inputs: ValueError: no data"),
    "a module that raises": (["{folder}/bad.py:f"], "cannot be imported: ModuleNotFoundError"),
    "a module that exits": (["{folder}/exit.py:f"], "cannot be imported: SystemExit"),
    "no such dtype": (["{mine}:by_hand", "--dtype", "int8"], "--dtype must be"),
    "two doors": (["{mine}:by_hand", "--jvp", "--hvp"], "exclude each other"),
    "a door without a reference": (["{mine}:by_hand", "--jvp"], "needs a reference in JAX"),
    "no backward": (["{mine}:by_hand", "--vjp"], "needs the backward function"),
    "one thing from a jvp": (
        ["{folder}/one.py:mine", "{folder}/one.py:theirs", "--jvp"], "must return .value, tangent"),
    "a matrix of another shape": (
        ["{folder}/one.py:pattern", "{folder}/one.py:theirs", "--jacobian"], r"must have the shape \(4, 4\)"),
    "one report on another": (["{mine}:by_hand", "--json", "{folder}/r", "--report", "{folder}/r"], "r"),
    "a report in no folder": (["{mine}:by_hand", "--json", "{folder}/no/r.json"], "r.json"),
    "garbage": (["{mine}:by_hand", "--at", "{folder}/garbage.npz"], "cannot be read as .npz"),
    "too few inputs": (
        ["{mine}:by_hand", "{mine}:loss", "--at", "{folder}/few.npz"], "few.npz gives 1 argument; by_hand takes 3"),
    "a recording of nothing": (["{folder}/nothing.npz", "--loss", "{mine}:loss"], "holds no arrays"),
    "a recording and no loss": (["{folder}/few.npz"], "give --loss"),
    "a recording and a function": (["{folder}/few.npz", "{mine}:loss"], "write --loss"),
    "a recording with a door": (["{folder}/few.npz", "--jvp"], "is for functions"),
    "a truncated recording": (["{folder}/cut.safetensors", "--loss", "{mine}:loss"], "extends beyond the file"),
    "a header that lies": (["{folder}/lies.safetensors", "--loss", "{mine}:loss"], "its header is longer than"),
    "another name": (["{folder}/name.npz", "--loss", "{mine}:loss"], "'stuff' is no name of a recording"),
    "a loss that is no number": (["{folder}/vector.npz", "--loss", "{folder}/l.py:loss"], "a loss is one number"),
    "whole numbers": (["{folder}/whole.npz", "--loss", "{folder}/l.py:loss"], "must be floating-point numbers"),
    "a parameter that is missing": (
        ["{folder}/no_b.npz", "--loss", "{folder}/l.py:loss"], "needs the parameter .b.; the param.* are w"),
    "a rule that cannot begin": (
        ["{folder}/half.npz", "--loss", "{folder}/l.py:loss", "--optimizer", "adam:lr=1"], "float16 .* rounds to 0"),
    "a recording with inputs": (["{folder}/few.npz", "--at", "{folder}/few.npz"], "--at is for functions"),
    "a recording with a dtype": (["{folder}/few.npz", "--dtype", "float32"], "--dtype is for functions"),
    "a twin of one": (["{folder}/few.npz", "--loss", "{mine}:loss", "--twin", "{folder}/few.npz"], "two recordings"),
    "a rule for two": (["{folder}/few.npz", "{folder}/few.npz", "--optimizer", "sgd:lr=1"], "--optimizer is for one"),
    "a function with a rule": (["{mine}:by_hand", "--optimizer", "sgd:lr=1"], "--optimizer is for recordings"),
    "a loss of no recording": (["{folder}/run.bin", "--loss", "{mine}:loss"], "recordings end with .npz, .npy"),
    "a backward function alone": (["{mine}:by_hand", "--backward", "{mine}:by_hand"], "--backward needs --vjp"),
    "two recordings and a loss": (["{folder}/few.npz", "{folder}/few.npz", "--loss", "{mine}:loss"], "Leave one"),
    "no such rule": (["{folder}/run.npz", "--loss", "{mine}:loss", "--optimizer", "adan:lr=1"], "Is it adam"),
    "inputs of another shape later": (
        ["{folder}/shapes.npz", "--loss", "{folder}/l.py:loss"], "line .*, in loss: TypeError"),
    "an input that is missing": (["{folder}/lacks.npz", "--loss", "{folder}/l.py:loss"], "has no inputs/x"),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_a_sentence_with_status_two(name, mine):
    folder = mine.parent
    (folder / "noin.py").write_text("def f(x): return x\n")
    (folder / "badin.py").write_text("def f(x): return x\ndef inputs(): raise ValueError('no data')\n")
    (folder / "bad.py").write_text("import nothing_of_that_name\n")
    (folder / "exit.py").write_text("import sys; sys.exit(0)\n")
    (folder / "l.py").write_text(LOSS)
    (folder / "one.py").write_text(
        "import numpy as np, jax.numpy as jnp\nfrom scipy import sparse\ndef mine(p, t): return p[0]\n"
        "def pattern(x): return sparse.eye(3)\ndef theirs(x): return jnp.sin(x)\ndef inputs(): return (np.ones(4),)\n"
    )
    (folder / "garbage.npz").write_bytes(b"garbage")
    np.savez(folder / "few.npz", parameters=np.ones(3))
    np.savez(folder / "nothing.npz")
    np.savez(folder / "run.npz", **steps(1))
    shapes: Any = steps(2) | {"step.2/inputs/x": np.ones((4, 2))}
    lacks: Any = {name: one for name, one in steps(1).items() if name != "inputs/x"}
    one: dict[str, Any] = steps(1)
    write_safetensors(folder / "ok.safetensors", one)
    whole_file = (folder / "ok.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole_file[:-9])
    (folder / "lies.safetensors").write_bytes((2**40).to_bytes(8, "little") + whole_file[8:])
    recordings: dict[str, dict[str, Any]] = {
        "name": one | {"stuff": np.ones(1)},
        "vector": one | {"loss": np.ones(3)},
        "whole": one | {"parameters/w": np.ones(3, int)},
        "no_b": {name: array for name, array in one.items() if not name.endswith("/b")},
        "half": steps(1, np.float16),
    }
    for file, arrays in recordings.items():
        np.savez(folder / f"{file}.npz", **arrays)
    np.savez(folder / "shapes.npz", **shapes)
    np.savez(folder / "lacks.npz", **lacks)
    arguments, message = REFUSED[name]
    assert_refused(invoke("check", *(one.format(mine=mine, folder=folder) for one in arguments)), message)


def test_a_file_that_is_not_named_is_not_run(mine, tmp_path):
    (tmp_path / "neighbor.py").write_text("raise SystemExit('it ran')\n")
    assert check(f"{mine}:by_hand", f"{mine}:loss").exit_code == 0


def test_a_loss_that_is_not_finite_is_status_three(tmp_path):
    file = tmp_path / "inf.py"
    file.write_text(
        "import numpy as np, jax.numpy as jnp\ndef f(w): return np.inf, w\n"
        "def loss(w): return jnp.sum(w) + jnp.inf\ndef inputs(): return (np.ones(2),)\n"
    )
    assert check(f"{file}:f", f"{file}:loss").exit_code == 3
