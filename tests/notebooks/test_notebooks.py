"""The notebooks: their text runs, and says what the executed ones show. `make notebooks` runs them in a kernel."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
TEXTS = sorted((ROOT / "notebooks").glob("[!_]*.py"))
NAMES = [text.stem for text in TEXTS]


class Cell(NamedTuple):
    code: bool
    source: str
    tags: Sequence[str] = ()
    outputs: Sequence[dict[str, Any]] = ()


@cache
def cells_of_text(name: str) -> list[Cell]:
    """In jupytext's percent format: `# %%` begins a cell, behind it stand its kind and metadata."""
    _, *cells = re.split(r"^# %%", (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for cell in cells:
        head, _, body = cell.partition("\n")
        code = "[markdown]" not in head
        tags = json.loads(match[1]) if (match := re.search(r"tags=(\[.*?\])", head)) else []
        found.append(Cell(code, (body if code else re.sub(r"^# ?", "", body, flags=re.MULTILINE)).strip("\n"), tags))
    return found


@cache
def cells_as_executed(name: str) -> list[Cell]:
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [
        Cell(
            cell["cell_type"] == "code",
            "".join(cell["source"]),
            cell["metadata"].get("tags", []),
            cell.get("outputs", []),
        )
        for cell in notebook["cells"]
    ]


def shown(cell: Cell) -> tuple[str, str, int]:
    """(text, the last value as HTML, how many images) among the outputs of an executed cell."""
    data = [output.get("data", {}) for output in cell.outputs]
    texts = [
        "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])
        for output in cell.outputs
        if output["output_type"] in ("stream", "execute_result")
    ]
    html = "".join("".join(part.get("text/html", [])) for part in data)
    return "\n".join(texts), html, sum("image/png" in part for part in data)


def run(source: str, names: dict[str, Any]) -> tuple[str, str, int]:
    """The same of a cell that is run here: the value of an expression at its end is shown."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    before = len(plt.get_fignums())
    with redirect_stdout(StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)
        value: Any = (
            eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
        )
    html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    images = len(plt.get_fignums()) - before
    return "\n".join([*filter(None, [printed.getvalue()]), *([] if value is None else [repr(value)])]), html, images


NUMBER = r"-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?"
ROW = re.compile(r"^.*\b(?:agree|disagree|inconclusive)$", re.MULTILINE)  # of a report's table: rounding errors


def differences(one: str, other: str) -> list[tuple[str, str]]:
    """Words that differ, and numbers that do by more than rounding, which is not the same on every machine."""
    parts = []
    for text in (one, other):
        text = ROW.sub(lambda row: re.sub(NUMBER, "", row[0]), re.sub(r"<[^>]*>", " ", re.sub(r"</tr>", "\n", text)))
        text = re.sub(r"[✓✗?] (?=agree|disagree|inconclusive)", "", text)
        parts.append(re.split(rf"({NUMBER})", re.sub(r"[\s─]+", " ", text).strip()))
    texts, numbers = [list(zip(*(part[i::2] for part in parts), strict=False)) for i in (0, 1)]
    if len(parts[0]) != len(parts[1]):
        return [(one, other)]
    return [(a, b) for a, b in texts if a.strip() != b.strip()] + [(a, b) for a, b in numbers if not near(a, b)]


def near(one: str, other: str) -> bool:
    """Within a percent; or both as small as errors are, and chances to miss one."""
    a, b = abs(float(one)), abs(float(other))
    return abs(float(one) - float(other)) <= 0.01 * max(a, b) or max(a, b) < 1e-6


# ------------------------------------------------------------------------------------ what holds of each


@pytest.mark.parametrize("name", NAMES)
def test_the_executed_notebook_has_the_cells_of_the_text(name):
    text, executed = (
        [(cell.code, cell.source, cell.tags) for cell in cells]
        for cells in (cells_of_text(name), cells_as_executed(name))
    )
    assert text == executed, "make notebooks"


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_it_shows_what_its_text_says_today(name, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict[str, Any] = {}
    for cell, executed in zip(cells_of_text(name), cells_as_executed(name), strict=True):
        if cell.code:
            (text, html, images), (text_then, html_then, images_then) = run(cell.source, names), shown(executed)
            assert not differences(text, text_then), f"make notebooks\n{cell.source}"
            assert not differences(html, html_then), f"make notebooks\n{cell.source}"
            assert images == images_then
    plt.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_machine_or_of_a_run_is_kept(name):
    content = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/home/|/root/|/Users/|/tmp/|[A-Z]:\\\\|site-packages", content)
    assert "stderr" not in content
    assert "0:00" not in content  # a bar of progress
    assert "iopub" not in content  # a cell's times


@pytest.mark.parametrize("name", NAMES)
def test_images_are_small_and_have_a_text_in_their_place(name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for image in (output["data"]["image/png"] for output in cell.get("outputs", []) if "image/png" in str(output)):
            assert len(image) < 40_000
            assert len(cell["metadata"]["mystnb"]["image"]["alt"]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_it_says_from_where_on_it_needs_jax(name):
    cells = cells_of_text(name)
    tagged = [i for i, cell in enumerate(cells) if "jax" in cell.tags]
    if not tagged:
        assert "Everything here needs JAX" in cells[0].source
        return
    assert [i for i, cell in enumerate(cells) if cell.code and i >= tagged[0]] == tagged
    headings = [
        line for cell in cells[: tagged[0]] if not cell.code for line in cell.source.splitlines() if line[:3] == "## "
    ]
    assert f"The cells up to *{headings[-1][3:]}* need" in " ".join(cells[0].source.split())


WITHOUT_JAX = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "compare", "backproof", "ml_dtypes"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nowhere())
import json, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot
matplotlib.pyplot.show = lambda: None
for sources in json.load(sys.stdin):
    names = {}
    for source in sources:
        exec(source, names)
try:
    import jax
except ModuleNotFoundError:
    print("finished without JAX")
"""


def test_what_comes_before_jax_runs_without_it():
    parts = [
        [cell.source for cell in cells_of_text(name) if cell.code and not cell.tags]
        for name in NAMES
        if any(cell.tags for cell in cells_of_text(name))
    ]
    assert len(parts) >= 3
    command = [sys.executable, "-c", WITHOUT_JAX]
    ended = subprocess.run(command, input=json.dumps(parts), capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.stdout.splitlines()[-1:] == ["finished without JAX"], ended.stderr


# ---------------------------------------------------------------------------------- planted faults


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AGREE: the loss", "DISAGREE: the loss"),
        ("loss: 0.701 at the start", "loss: 0.721 at the start"),
        ("step 30", "step 30 of 31"),
        ("<td>W1</td><td>agree</td>", "<td>W1</td><td>disagree</td>"),
        ("a factor of 1.007", "a factor of -1.007"),
    ],
)
def test_another_output_is_noticed(one, other):
    assert differences(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("chance of missing an error this large: 1e-09", "chance of missing an error this\nlarge: 3e-10"),
        (
            " W1   8x2   float64    0.0542      4.8e-18   3.0e-16     agree",
            " W1  8x2  float64  0.0542  5.3e-18  2.0e-16  agree",
        ),
        ("0.03333333333 times", "0.03333333334 times"),
    ],
)
def test_another_rounding_is_none(one, other):
    assert not differences(one, other)


def test_a_cell_that_differs_is_noticed():
    assert run("x = 1\nx + 1", {}) == ("2", "", 0)
    assert run("print('a')\nNone", {}) == ("a\n", "", 0)
    assert shown(Cell(True, "", outputs=[{"output_type": "stream", "name": "stdout", "text": ["a", "b"]}])) == (
        "ab",
        "",
        0,
    )
