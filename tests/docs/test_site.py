"""What the site is made of: every public name is described, every page can be reached, and links lead somewhere.

`make docs` builds it, and fails on any warning; that takes too long for a test.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import autodiff
import compare
import manual

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
API = sorted((ROOT / "docs" / "api").glob("*.rst"))
NETWORKS = [
    importlib.import_module(f"{side.__name__}.{module.name}")
    for side in (manual, autodiff)
    for module in pkgutil.iter_modules(side.__path__)
    if not module.name.startswith("_") and module.name != "fast"
]


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


# -------------------------------------------------------------------------------- the reference of the API


def public(module: ModuleType) -> set[str]:
    """Its `__all__`; or the functions and classes that it defines, and its tables."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    found = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    found |= {name for name, value in vars(module).items() if name.isupper() and isinstance(value, dict)}
    return {name for name in found if not name.startswith("_")}


def described(reference: str) -> set[str]:
    """What Sphinx describes: what is named, and of a module all members that have a docstring."""
    names = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)$", reference, flags=re.MULTILINE))
    data = re.findall(r"^\.\. py:data:: (\w+)\n   :module: ([\w.]+)$", reference, flags=re.MULTILINE)
    names |= {f"{module}.{name}" for name, module in data}
    for name in re.findall(r"^\.\. automodule:: ([\w.]+)\n   :members:$", reference, flags=re.MULTILINE):
        module = importlib.import_module(name)
        members = {member for member in public(module) if not member.isupper()}
        names |= {f"{name}.{member}" for member in members if inspect.getdoc(getattr(module, member))}
    return names


@cache
def reference() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in API)


def missing(modules: list[ModuleType], text: str) -> set[str]:
    return {f"{module.__name__}.{name}" for module in modules for name in public(module)} - described(text)


def test_every_public_name_of_the_checks_is_described():
    assert missing([compare], reference()) == set()


def test_every_public_name_of_both_sides_is_described():
    assert missing(NETWORKS, reference()) == set()
    for side in (manual, autodiff):  # which offer modules, and what `shallow` has
        modules = {name for name in side.__all__ if isinstance(getattr(side, name), ModuleType)}
        assert set(side.__all__) - modules <= public(importlib.import_module(f"{side.__name__}.shallow"))
        assert {name.name for name in pkgutil.iter_modules(side.__path__) if name.name in modules} == modules
        assert all((ROOT / "docs" / "api" / f"{name}.rst").exists() for name in modules)


def test_every_public_name_for_pytorch_is_described():
    """Of which the source is read, because PyTorch is optional."""
    found = importlib.util.find_spec("compare.torch")
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    functions |= {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    public_ones = {name for name in functions if name.startswith(("check_", "assert_"))}
    assert "check_function" in public_ones
    assert {f"compare.torch.{name}" for name in public_ones} <= described(reference())


def test_a_name_that_is_not_described_is_found():
    shorter = reference().replace(".. autofunction:: compare.tap\n", "")
    assert missing([compare], shorter) == {"compare.tap"}
    shorter = reference().replace(".. automodule:: manual.pooling\n   :members:", "")
    assert "manual.pooling.max_pool2d" in missing(NETWORKS, shorter)


# ------------------------------------------------------------------------------------------- navigation


def reached(contents: str, folder: Path) -> Iterator[Path]:
    """The pages that the tables of contents name, and those that these name."""
    for entry in re.findall(r"^ *([\w/-]+)$", contents, flags=re.MULTILINE):
        for suffix in (".md", ".rst", ".ipynb"):
            page = (folder / entry).with_suffix(suffix)
            if page.exists():
                yield page
                inner = re.findall(r"^\.\. toctree::\n(?:   .*\n|\n)*", text_of(page), flags=re.MULTILINE)
                yield from reached("\n".join(inner), page.parent)


def not_reached(contents: str) -> set[Path]:
    everything = {*PAGES, *NOTEBOOKS, *API} - {ROOT / "README.md"}  # which is the home page
    return everything - set(reached(contents, ROOT))


def test_every_page_is_in_the_navigation():
    contents = (ROOT / "docs" / "contents.txt").read_text(encoding="utf-8")
    assert not_reached(contents) == set()
    assert not_reached(contents.replace("docs/judge\n", "")) == {ROOT / "docs" / "judge.md"}
    assert ROOT / "docs" / "api" / "pooling.rst" in not_reached(contents.replace("docs/api/networks\n", ""))


# ------------------------------------------------------------------------------------------------- links


def anchors(text: str) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """Links in a page that lead to no file, or to no heading of one."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(text_of(file))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert broken(page, text_of(page)) == []


def test_a_broken_link_is_found():
    page = ROOT / "docs" / "judge.md"
    text = "[a](nowhere.md) [b](doors.md#no-such-door) [c](doors.md#pytorch) [d](https://example.org) `x[i](y)` [e](#a)"
    assert broken(page, text) == ["nowhere.md", "doors.md#no-such-door", "#a"]


# ---------------------------------------------------------------------- what stands in more places than one


def rows_of(text: str, heading: str) -> list[list[str]]:
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    _, _, *rows = (line for line in section.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_what_was_measured_of_other_checkers_is_what_the_judge_says():
    measured = (ROOT / "docs" / "judge.md").read_text(encoding="utf-8").splitlines()
    rows = rows_of((ROOT / "docs" / "compared-with.md").read_text(encoding="utf-8"), "What was measured")
    assert len(rows) > 5
    for name, *figures in rows:
        lines = [line for line in measured if re.match(rf"[│|] *{re.escape(name)} *[│|] *\d+ of", line)]
        assert [re.findall(r"\d+ of \d+|\b1e-\d+", line.replace(name, ""))[:4] for line in lines] == [figures], name


def test_the_picture_of_the_judge_names_its_rooms_and_checks_that_exist():
    picture = (ROOT / "docs" / "static" / "judge.svg").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "compare" / "judge").glob("*/__init__.py")}
    assert set(re.findall(r">(\w+)/<", picture)) == rooms
    checks = set(re.findall(r"\bcheck_\w+", picture))
    assert checks
    assert checks <= set(compare.__all__)


def test_the_map_of_the_code_is_included_whole():
    """The map, and the way of the parameters, from the lines that the page names, which stand in the source."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    source = (ROOT / "compare" / "judge" / "__init__.py").read_text(encoding="utf-8")
    left, included = source.split('"""')[1], ""
    for start, end in re.findall(r':start-at: "(.+)"\n:end-at: "(.+)"', page):
        before, found, rest = left.partition(start)
        block, ends, after = rest.partition(end)
        assert found, start
        assert ends, end
        included += found + block + ends
        left = before + after.partition("\n")[2]
    for word in ("diagnosis/", "evaluation/", "reports/", "roundoff/", "program/", "check_gradients(", "read(...)"):
        assert word in included
    assert not re.search(r"\w\.py\b|\w/", left)


@pytest.fixture
def conf(monkeypatch) -> ModuleType:
    """The configuration of the site."""
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("site_configuration", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_docstrings_are_read_as_text(conf):
    lines = [
        "y = x**2 for `x**2`.",
        "",
        "    dy = 2 x",
        "    dz = *z",
        "",
        "Args:",
        "    x: any",
        "        number",
        "",
        "    y_: z",
    ]
    assert list(conf.restructured(lines)) == [
        r"y = x\*\*2 for `x**2`.", "", ".. code-block:: text", "", "        dy = 2 x", "        dz = *z", "",
        "Args:", "    x: any", "        number", "", r"    y\_: z", "",
    ]  # fmt: skip
    assert ".. code-block:: text" in conf.restructured(["dx = y", "", "exact    1", "rough    2"])
    assert ".. code-block:: text" not in conf.restructured(["dx = y", "", "one  space more", "than usual"])


def test_markup_of_the_theme_is_mended(conf):
    assert conf.accessible('<p role="heading">') == '<p role="heading" aria-level="2">'
    assert conf.accessible("<pre>1</pre>") == '<pre tabindex="0">1</pre>'
    parameters = '<dl>\n<dd><em class="sig-param">x</em>,</dd>\n</dl>'
    assert conf.accessible(parameters) == (
        '<span class="sig-parameters"><span><em class="sig-param">x</em>,</span>\n</span>'
    )
    definitions = "<dl><dt>a</dt><dd>b</dd></dl>"
    assert conf.accessible(definitions) == definitions
