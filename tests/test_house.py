"""The layout of the project and its rules, one test for each."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

import autodiff
import manual
from tests.xla import quick_environment

ROOT = Path(__file__).parent.parent
SIDES = ("manual", "autodiff")


def imported_packages(path):
    """Top-level names of everything that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute in this project"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("side", SIDES)
def test_the_sides_import_neither_each_other_nor_the_judge(side):
    forbidden = {*SIDES, "compare"} - {side}
    for path in (ROOT / side).rglob("*.py"):
        assert not forbidden & set(imported_packages(path)), path


@pytest.fixture(scope="module")
def loaded_with_manual():
    """The names of the modules in a process that imports `manual` and nothing else."""
    script = "import manual, sys; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()


def test_manual_leaves_jax_unloaded(loaded_with_manual):
    assert "manual.shallow" in loaded_with_manual
    assert not [name for name in loaded_with_manual if name.split(".")[0] in ("jax", "jaxlib")]


def test_pages_import_pages_only(loaded_with_manual):
    """`manual` does not load `manual.fast`, and its modules use no threads and no preallocated memory."""
    for path in (ROOT / "manual").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(out=|np\.empty|threading|concurrent|ctypes)", text), path
        assert not re.search(r"^\s*(from|import) manual\.fast\b", text, re.M), path
        assert not re.search(r"^\s*from manual import .*\bfast\b", text, re.M), path
    assert not [name for name in loaded_with_manual if name.startswith("manual.fast")]


# The state of the whole process, which work must leave unchanged. `look` returns it, and is called before and after
# each piece of work. One process does all the work, because importing JAX anew for each would take most of the time.
LOOKS = """
import gc, json, os, random, signal, sys, threading, traceback, warnings, zlib
import numpy as np, jax, threadpoolctl
import rich.style  # which draws a random number when it is imported

def look():
    umask = os.umask(0)
    os.umask(umask)
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return {
        "JAX's configuration": dict(jax.config.values),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
        "NumPy's random numbers": zlib.crc32(repr(np.random.get_state()).encode()),
        "Python's random numbers": zlib.crc32(repr(random.getstate()).encode()),
        "environment": dict(os.environ),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook],
        "umask": umask,
        "warnings": list(warnings.filters),
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "threads": threading.active_count(),
        "threads of BLAS": pools,
    }

def changes(work):
    try:
        before = look()
        exec(work, {})
        after = look()
    except BaseException:
        return [traceback.format_exc()]
    pools = before["threads of BLAS"]  # SciPy may bring one of its own
    after["threads of BLAS"] = {path: threads for path, threads in after["threads of BLAS"].items() if path in pools}
    return [f"{name}: {value} became {after[name]}" for name, value in before.items() if after[name] != value]

found = {name: changes(work) for name, work in json.load(sys.stdin).items()}
print("", json.dumps(found), sep="\\n")
"""


def changes_by(works, preparation=""):
    """The changes of global state by each piece of work, by its name."""
    ended = subprocess.run(
        [sys.executable, "-c", preparation + LOOKS],
        input=json.dumps(works),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=quick_environment(),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def taken(request, test, works):
    """The pieces of work whose rows of a sweep this run takes."""
    names = {item.name for item in request.session.items}
    return {name: work for name, work in works.items() if f"{test}[{name}]" in names}


@pytest.fixture(scope="module")
def changes_by_imports(request):
    """The changes by importing each package, in an order in which its modules are imported for the first time."""
    every = """
import importlib, pkgutil
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        if missing.name != "torch":  # which is optional
            raise
"""
    # The imports of these packages change the filters of warnings, so they are imported first.
    others = "import contextlib, scipy.special, scipy.sparse.linalg\n"
    others += "with contextlib.suppress(ImportError):\n    import torch"
    works = {package: every.format(package=package) for package in PACKAGES}
    return changes_by(taken(request, "test_importing_changes_no_global_state", works), others)


PACKAGES = (*SIDES, "compare", "backproof")


@pytest.mark.sweep
@pytest.mark.parametrize("package", PACKAGES)
def test_importing_changes_no_global_state(package, changes_by_imports):
    assert changes_by_imports[package] == []


TOY = """
import numpy as np, jax.numpy as jnp
parameters = {"w": np.arange(3.0)}
x = np.ones((4, 3))
loss = lambda parameters, x: jnp.sum((x @ parameters["w"]) ** 2)
by_hand = lambda parameters, x: (np.sum((x @ parameters["w"]) ** 2), {"w": 2 * x.T @ (x @ parameters["w"])})
"""
CALLS = {
    "manual.shallow.train": """
import manual, numpy as np
x, y = np.ones((3, 8)), np.ones((1, 8))
manual.shallow.train(manual.shallow.initialize_parameters(3, 4, 1, seed=0), x, y, iterations=3, learning_rate=0.1)
""",
    "manual ops in several threads": """
import threading, numpy as np
os_threads = []
from manual.fast import activations, keep_threads, optimizers
start = threading.Thread.start
threading.Thread.start = lambda thread: (os_threads.append(thread), start(thread))
x = np.ones((4, 1024, 1024), np.float32)
activations.gelu_backward(x, activations.gelu(x)[1])
with keep_threads():
    activations.gelu_backward(x, activations.gelu(x)[1])
optimizer = optimizers.adam(0.1)
optimizer.update({"w": x}, {"w": x}, optimizer.initialize({"w": x}))
assert os_threads, "one thread did all of it"
""",
    "autodiff.shallow.train": """
import autodiff, numpy as np
x, y = np.ones((3, 8), np.float32), np.ones((1, 8), np.float32)
start = autodiff.shallow.initialize_parameters(3, 4, 1, seed=0, dtype=np.float32)
autodiff.shallow.train(start, x, y, iterations=3, learning_rate=0.1)
""",
    "check_gradients that agree": f"import compare{TOY}compare.assert_gradients_agree(by_hand, loss, parameters, x)",
    "check_gradients that do not": f"""
import compare{TOY}
wrong = lambda parameters, x: (by_hand(parameters, x)[0], {{"w": 3 * by_hand(parameters, x)[1]["w"]}})
assert compare.check_gradients(wrong, loss, parameters, x).verdict is compare.Verdict.DISAGREE
""",
    "check_trajectory": f"""
import compare, jax{TOY}
step = lambda parameters, x: {{"w": parameters["w"] - 0.01 * by_hand(parameters, x)[1]["w"]}}
other = lambda parameters, x: {{"w": parameters["w"] - 0.01 * jax.grad(loss)(parameters, x)["w"]}}
report = compare.check_trajectory(step, other, parameters, [(x,)] * 3)
assert report.verdict is compare.Verdict.AGREE, str(report)
""",
    "files": """
import tempfile
from pathlib import Path
from compare.files import check_plottable, check_writable, write_figure, write_json
from matplotlib.figure import Figure
with tempfile.TemporaryDirectory() as folder:
    check_writable(Path(folder, "a.json"))
    write_json(Path(folder, "a.json"), {"a": 1})
    write_figure(Path(folder, "a.png"), Figure())
""",
    "verify": "from compare.verify.shallow import Settings, verify\nverify(Settings(dataset='flower', iterations=3))",
    "bench": """
from compare.bench.turns import measure
from compare.bench.workloads import Workload
measure(Workload("tests.compare.bench.contestants", "any"), ["manual"], rounds=1, threads=1)
""",
    "the command": """
from typer.testing import CliRunner
from compare.cli.app import app
assert CliRunner().invoke(app, ["verify", "--op", "relu"]).exit_code == 0
assert CliRunner().invoke(app, ["verify", "--iterations", "1", "--devices", "0"]).exit_code == 2
assert CliRunner().invoke(app, ["bench", "--rounds", "0"]).exit_code == 2
""",
}


@pytest.fixture(scope="module")
def changes_by_calls(request):
    # Two threads on any machine. Packages of others whose import changes global state are imported before `look`.
    preparation = "import os; os.environ['OMP_NUM_THREADS'] = '2'\nimport matplotlib.figure, scipy.special, jax.numpy\n"
    works = taken(request, "test_calling_changes_no_global_state", CALLS)
    return changes_by(works | CHANGING, preparation)


@pytest.mark.sweep
@pytest.mark.parametrize("work", CALLS)
def test_calling_changes_no_global_state(work, changes_by_calls):
    assert changes_by_calls[work] == []


# Work that changes global state. The changes are not undone, so each of the following must be detected by itself.
CHANGING = {
    "NumPy's errors": "import numpy; numpy.seterr(divide='raise')",
    "warnings": "import warnings; warnings.simplefilter('error')",
    "environment": "import os; os.environ['A'] = 'B'",
    "threads": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "Python's random numbers": "import random; random.random()",
    "ZeroDivisionError": "1 / 0",
    "SystemExit": "raise SystemExit(0)",
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_the_process_is_noticed(name, changes_by_calls):
    (change,) = changes_by_calls[name]
    assert name in change


# Functions that change the whole process, and the one file that may call each, because it runs in its own process.
GLOBAL = {
    "_exit": "compare/cli/app.py",
    "umask": None,
    "register_at_fork": None,
    "mallopt": None,
    "seterr": None,
    "threadpool_limits": None,
    "set_num_threads": None,
    "setrecursionlimit": None,
    "putenv": None,
}


def test_nothing_is_called_that_changes_the_whole_process():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None) for node in tree}
            here = path.relative_to(ROOT).as_posix()
            assert not [name for name, place in GLOBAL.items() if name in names and place != here], here


def public_modules(package):
    """The modules of a package without an underscore, and without `manual.fast`, which is a package."""
    modules = pkgutil.iter_modules(package.__path__)
    return {module.name for module in modules if not module.ispkg and not module.name.startswith("_")}


def test_the_mirror_has_the_same_modules():
    assert public_modules(manual) == public_modules(autodiff)


def public_names(module):
    """The public names of a module: `__all__`, or all names without an underscore that it defines.

    The ops in its table belong to them, although they may be defined in another file, whose name has an underscore.
    """
    if hasattr(module, "__all__"):
        return set(module.__all__)
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    rules = vars(module).get(module.__name__.rpartition(".")[2].upper(), {}).values()
    ops = {part.__name__ for rule in rules if isinstance(rule, tuple) for part in rule if inspect.isfunction(part)}
    return {name for name in own | tables(module) | ops if not name.startswith("_")}


def tables(module):
    return {name for name, value in vars(module).items() if name.isupper() and isinstance(value, dict)}


def mirrored_names(module):
    """Public names without those of the backward pass: caches, `*_backward`, and `backpropagation` in `shallow`."""
    if module.__name__.endswith(".shallow") or "." not in module.__name__:
        return public_names(module) - {"backpropagation"}  # its cache is what its forward pass returns, on both sides
    return {name for name in public_names(module) if not name.endswith(("_backward", "Cache"))}


def mirrored_arguments(function):
    """The names, kinds and defaults of the arguments, without two that the JAX side does not have.

    These are `intermediates`, the gradients inside a backward pass, and `ops`, the package that provides the ops.
    """
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters if p.name not in ("intermediates", "ops")]


@pytest.mark.parametrize("name", ["", *sorted(public_modules(manual))])
def test_the_mirror_has_the_same_names_and_arguments(name):
    ours, theirs = (importlib.import_module(f"{side}.{name}".rstrip(".")) for side in SIDES)
    assert mirrored_names(ours) == mirrored_names(theirs)
    for public in sorted(mirrored_names(ours)):
        ours_here, theirs_here = getattr(ours, public), getattr(theirs, public)
        if isinstance(ours_here, dict):
            assert list(ours_here) == list(theirs_here), public
        elif inspect.isfunction(ours_here):
            assert mirrored_arguments(ours_here) == mirrored_arguments(theirs_here), public
            assert inspect.getdoc(ours_here), public
            assert inspect.getdoc(theirs_here), public


@pytest.mark.parametrize("name", sorted(public_modules(manual)))
def test_a_table_holds_every_op_of_its_module(name):
    module = importlib.import_module(f"manual.{name}")
    backward = {public.removesuffix("_backward") for public in public_names(module) if public.endswith("_backward")}
    rows = getattr(module, name.upper(), None)
    if rows is not None and backward:
        assert set(rows) == backward
        assert all(rows[row] == (getattr(module, row), getattr(module, f"{row}_backward")) for row in rows)


@pytest.mark.parametrize("side", [manual, autodiff])
def test_the_package_offers_the_first_network_and_all_modules(side):
    assert public_names(importlib.import_module(f"{side.__name__}.shallow")) <= set(side.__all__)
    assert public_modules(side) <= set(vars(side))


# Rooms from the top to the bottom: a module imports from its own room, and from those that stand below it.
ROOMS = (
    ("compare.__main__", "backproof"),
    ("compare.cli",),
    ("compare.html",),
    ("compare.lesson", "compare.museum", "compare.exercise", "compare.bench", "compare.verify", "compare.check"),
    ("compare.suite",),
    ("compare",),  # the public names
    ("compare.judge",),  # the checks
    ("compare.judge.diagnosis",),
    ("compare.judge.evaluation",),
    ("compare.judge.reports",),
    ("compare.judge.roundoff",),
    ("compare.judge.program",),
    ("compare.environment", "compare.files", "compare.platform", "compare.pytrees"),
    ("compare.errors",),
)
# A notebook displays a lesson as its page. The room of pages is loaded only then.
DISPLAYED = {("compare.lesson.content", "compare.html.lesson")}
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(name):
    """The innermost room that a module belongs to: for `compare.judge.vjp` it is `compare.judge`."""
    while name not in FLOOR:
        name = name.rpartition(".")[0]
    return name


def imported_modules(path):
    """The modules of this project that a file imports, at any depth. `from a import b` is a.b if that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else node.module for name in inner]
        yield from (name for name in names if name.split(".")[0] in ("compare", "backproof"))


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


OUR_MODULES = sorted([*(ROOT / "compare").rglob("*.py"), *(ROOT / "backproof").rglob("*.py")])


def test_every_room_imports_only_what_stands_below_it():
    for path in OUR_MODULES:
        own = room_of(module_name(path))
        allowed = {"compare"} if own in ("compare.__main__", "backproof") else set()
        if own != "compare":  # it offers names of rooms below it, and imports them when they are used
            for name in imported_modules(path):
                other = room_of(name)
                if (module_name(path), name) in DISPLAYED:
                    continue
                assert other in {own, *allowed} or FLOOR[other] > FLOOR[own], f"{module_name(path)} imports {name}"


def test_the_judge_knows_nothing_of_our_networks():
    for path in (ROOT / "compare" / "judge").rglob("*.py"):
        assert not set(SIDES) & set(imported_packages(path)), path


def test_the_public_names_are_shown_and_nothing_else():
    import backproof
    import compare

    assert dir(compare) == dir(backproof) == sorted(compare.__all__)
    for name in compare.__all__:
        assert getattr(backproof, name) is getattr(compare, name)
    with pytest.raises(AttributeError, match="has no attribute 'check'"):
        backproof.check  # noqa: B018


@pytest.mark.parametrize("names", [None, ["by_hand"]])
def test_a_file_that_hides_our_package_is_named(monkeypatch, names):
    homework = types.ModuleType("compare")
    homework.__file__ = "homework/compare.py"
    if names is not None:
        vars(homework)["__all__"] = names
    monkeypatch.setitem(sys.modules, "compare", homework)
    with pytest.raises(ImportError, match=r"Python found homework/compare\.py first: give that file another name"):
        runpy.run_path(str(ROOT / "backproof" / "__init__.py"))


def test_the_checks_of_pytorch_have_the_projects_name_and_are_loaded_when_asked_for():
    asked = "import sys, backproof; print('torch' in sys.modules, 'compare.torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]
    pytest.importorskip("torch")
    import backproof.torch
    import compare.torch

    assert backproof.torch.__all__ == compare.torch.__all__
    assert all(getattr(backproof.torch, name) is getattr(compare.torch, name) for name in compare.torch.__all__)


def modules_to_test():
    for package in (*SIDES, "compare"):
        for path in (ROOT / package).rglob("*.py"):
            if not path.stem.startswith("_"):
                yield path.relative_to(ROOT)


def test_every_module_has_its_tests():
    """Tests are in the same room under `tests`. Both sides share `tests/manual`, and `manual.fast` has one file."""
    for path in modules_to_test():
        where = Path("manual", *path.parts[1:]) if path.parts[0] == "autodiff" else path
        where = Path("manual", "fast", "fast.py") if path.parts[:2] == ("manual", "fast") else where
        assert (ROOT / "tests" / where.parent / f"test_{where.name}").exists(), path


def imports_of_test_modules(source):
    """The names that a file imports from test modules. Shared code belongs in a conftest or in a helper module."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if any(part.startswith("test_") for part in name.split(".")))


def test_nothing_is_imported_from_a_module_of_tests():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not list(imports_of_test_modules(path.read_text(encoding="utf-8"))), path


def test_an_import_from_a_module_of_tests_is_found():
    """Imported fixtures and tests would be collected twice."""
    for line in ("from tests.test_x import y", "from tests.a import test_b", "import tests.a.test_b as b"):
        assert list(imports_of_test_modules(f"def f():\n    {line}\n")), line
    assert not list(imports_of_test_modules("from tests.a import y, latest_x\nimport tests.contest_x"))


PAGES = sorted(path for path in (ROOT / "manual").glob("*.py") if not path.stem.startswith("_"))


def lines_of_body(function):
    """The number of lines from the first statement after the docstring to the last."""
    first = 1 if ast.get_docstring(function) is not None else 0
    return (function.body[-1].end_lineno or 0) - function.body[first].lineno + 1


@pytest.mark.parametrize("path", PAGES, ids=module_name)
def test_a_backward_pass_on_a_page_can_be_quoted_whole(path):
    functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        derives = function.name.endswith(("_backward", "_along"))
        if derives or function.name in ("backpropagation", "hessian_vector_product"):
            assert lines_of_body(function) <= 15, function.name


def fast_modules():
    import manual.fast

    return [name for name in manual.fast.__all__ if inspect.ismodule(getattr(manual.fast, name))]


@pytest.mark.parametrize("name", fast_modules())
def test_what_is_fast_has_the_names_and_arguments_of_its_page(name):
    page, fast = (importlib.import_module(f"{package}.{name}") for package in ("manual", "manual.fast"))
    shared = {public for public in vars(fast) if public in public_names(page) and not public.startswith("_")}
    own = {public for public, value in vars(fast).items() if getattr(value, "__module__", None) == fast.__name__}
    assert {public for public in own if not public.startswith("_")} <= public_names(page)
    for public in sorted(shared):
        ours, theirs = getattr(page, public), getattr(fast, public)
        if inspect.isfunction(ours):
            assert mirrored_arguments(theirs) == mirrored_arguments(ours), public


# Modules for options, shapes and sizes, which compute nothing. They exist on both sides, with the same text.
AGREED = ("_attention_shapes", "_description", "_kinds", "_recurrent_shapes", "_windows")


def definitions(side, name):
    """The source of each function by name, without annotations, and with the names of `manual` for JAX's."""
    tree = ast.parse((ROOT / side / f"{name}.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: re.sub(r"\bjnp\b", "np", ast.unparse(node)).replace(".function)", ".forward)") for node in found}


def differing(ours, theirs):
    return {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}


@pytest.mark.parametrize("name", AGREED)
def test_what_both_sides_agree_on_reads_the_same(name):
    ours, theirs = (definitions(side, name) for side in SIDES)
    assert ours.keys() & theirs.keys()
    assert differing(ours, theirs) - {"_last", "_kept"} == set()  # which are ops, and compute


def test_a_paraphrase_is_noticed():
    ours = definitions("manual", "_windows")
    assert differing(ours, ours | {"pair": ours["pair"].replace("an option that", "an argument that")}) == {"pair"}


def test_the_picture_of_the_judge_names_its_files():
    """The picture is the docstring of compare/judge/__init__.py. It does not name the files of two folders of rules."""
    judge = ROOT / "compare" / "judge"
    picture = ast.get_docstring(ast.parse((judge / "__init__.py").read_text())) or ""
    folded = {"hypotheses", "primitives"}
    files = {
        path.name
        for path in judge.rglob("*.py")
        if path.name != "__init__.py" and folded.isdisjoint(path.relative_to(judge).parts)
    }
    named = set(re.findall(r"\b(\w+\.py)\b", picture))
    assert named == files


# The files of the judge with functions of (parameters, args): the caller's functions and what stands in for them, the
# checks that callers call, and the moves of `Probe`. All other functions take both together, as `Inputs` or a point.
AS_THE_CALLER_HAS_THEM = {"gradients", "hessian", "reading", "complex_parts", "perturbed_points", "trace"}


def with_parameters_beside_arguments(source):
    """The names of the functions that take both `parameters` and `args`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg]
            if {"parameters", "args"} <= {argument.arg for argument in taken if argument is not None}:
                yield node.name


def test_parameters_and_arguments_go_together_through_the_judge():
    """A reader who follows the parameters of a check has one name to look for, `inputs`, and one file that reads them.

    A function that takes the parameters and the arguments side by side must be named in AS_THE_CALLER_HAS_THEM.
    """
    found = {path: set(with_parameters_beside_arguments(path.read_text())) for path in OUR_MODULES}
    judge = {path.stem: names for path, names in found.items() if "judge" in path.parts and names}
    assert judge.keys() == AS_THE_CALLER_HAS_THEM, judge
    assert judge["gradients"] == {"check_gradients", "check"}


def test_a_function_that_takes_both_side_by_side_is_found():
    source = (
        "class A:\n    def f(self, parameters, *args): ...\ndef g(inputs, args): ...\ndef h(args, *, parameters): ..."
    )
    assert set(with_parameters_beside_arguments(source)) == {"f", "h"}
