"""The site: `make docs` builds it from README.md, docs/, notebooks/ and docstrings into build/site.

Its source is the root of the project, so that a link from page to page is the one that works on GitHub, too. Links to
source files lead to pages of the site that show them. Nothing is loaded from anywhere, so it works from disk.
"""

import itertools
import posixpath
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from sphinx.addnodes import download_reference, pending_xref
from sphinx.ext.autodoc.mock import _MockObject

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "backproof"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md", "docs/**.rst", "notebooks/*.ipynb"]
exclude_patterns = [".*", "build", "dist"]

html_theme = "furo"
html_title = "backproof"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}

myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are those of `make notebooks`, and a test holds them
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]  # compare.torch is described where PyTorch is not installed, too
_MockObject.__or__ = lambda one, other: one  # `torch.Tensor | None` is evaluated there
default_role = "code"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

CONTENTS = (ROOT / "docs" / "contents.txt").read_text(encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-signature", without_factories)
    app.connect("autodoc-process-docstring", as_rst, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", fields_of_tuples)
    app.connect("doctree-read", to_shown_source, priority=100)  # before Sphinx copies the files
    app.connect("html-collect-pages", shown_sources)
    app.connect("build-finished", finished)
    return {"parallel_read_safe": False}


def with_contents(app: Any, name: str, source: list[str]) -> None:
    """The README is the home page. Only there it needs a table of contents."""
    if name == root_doc:
        source[0] += CONTENTS


def finished(app: Any, failure: Exception | None) -> None:
    """Mend what the theme's markup lacks, and name the home page as servers expect it."""
    if failure is None:
        for page in Path(app.outdir).rglob("*.html"):
            page.write_text(accessible(page.read_text(encoding="utf-8")), encoding="utf-8")
        Path(app.outdir, "index.html").write_bytes(Path(app.outdir, f"{root_doc}.html").read_bytes())


def accessible(page: str) -> str:
    """Headings with a level, landmarks with a name, what scrolls within reach of the keyboard, lists that are some."""
    for theirs, ours in (
        ('role="heading"', 'role="heading" aria-level="2"'),
        ('<aside class="sidebar-drawer', '<aside aria-label="Site" class="sidebar-drawer'),
        ('<aside class="toc-drawer', '<aside aria-label="Page" class="toc-drawer'),
        ("<pre>", '<pre tabindex="0">'),
        ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
    ):
        page = page.replace(theirs, ours)
    parameters = r"<dl>\n((?:<dd><em class=\"sig-param\">.*</dd>\n)+)</dl>"
    return re.sub(parameters, lambda found: as_lines(found[1]), page)


def as_lines(parameters: str) -> str:
    lines = parameters.replace("<dd>", "<span>").replace("</dd>", "</span>")
    return f'<span class="sig-parameters">{lines}</span>'


# ---------------------------------------------------------------------------------------- docstrings


def without_factories(app: Any, what: str, name: str, thing: Any, options: Any, signature: Any, result: Any) -> Any:
    """Sphinx cannot read the default of a data class's field that a function makes."""
    return (signature or "").replace("<factory>", "...") or None, result


def fields_of_tuples(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Python says of a field of a NamedTuple that it is an "Alias for field number 0": its type stands in the class."""
    return True if str(getattr(thing, "__doc__", "")).startswith("Alias for field number") else None


def as_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text, in which an asterisk is an asterisk.

    An indented block after a blank line is a formula, and so is a block with columns, of which Python has taken the
    indentation because there is nothing else below the first line.
    """
    lines[:] = list(restructured(lines))
    if what in ("attribute", "property"):
        lines.insert(0, "")  # or napoleon takes what stands before a colon in the first line for a type


def restructured(lines: list[str]) -> Iterator[str]:
    text = 0  # its indentation
    for paragraph in paragraphs(lines):
        indent = len(paragraph[0]) - len(paragraph[0].lstrip())
        columns = len(paragraph) > 1 and any(re.search(r"\S {3,}\S", line) for line in paragraph)
        if indent > text or columns:
            yield from (" " * text + ".. code-block:: text", "", *(f"    {line}" for line in paragraph), "")
        else:
            text = len(paragraph[-1]) - len(paragraph[-1].lstrip()) if is_section(paragraph) else indent
            yield from (*map(escaped, paragraph), "")


def paragraphs(lines: list[str]) -> list[list[str]]:
    return [list(group) for filled, group in itertools.groupby(lines, key=lambda line: bool(line.strip())) if filled]


def is_section(paragraph: list[str]) -> bool:
    """`Args:` and the like, with what belongs to it indented below it."""
    return bool(re.match(r"\w+:$", paragraph[0].strip()))


def escaped(line: str) -> str:
    """Without markup, but for `code`."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts)


# ------------------------------------------------------------------------------------- source files

LINKED: set[str] = set()  # what the links of this build lead to, from the root


def to_shown_source(app: Any, doctree: nodes.document) -> None:
    """A link to a file or a folder of the project leads to the page that shows or lists it."""
    here = posixpath.dirname(app.env.current_document.docname)
    links = [*doctree.findall(download_reference), *doctree.findall(pending_xref)]
    for link in links:
        path = posixpath.normpath(posixpath.join(here, link["reftarget"]))
        if isinstance(link, download_reference) or (link["reftype"] == "myst" and (ROOT / path).is_dir()):
            LINKED.add(path)
            address = posixpath.relpath(f"source/{path}.html", here or ".")
            link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=True))


def shown_sources(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    folders = {file for file in LINKED if (ROOT / file).is_dir()}
    listed = {folder: [f"{folder}/{path.name}" for path in sorted((ROOT / folder).glob("*.*"))] for folder in folders}
    for folder, files in listed.items():
        name = posixpath.basename(folder)
        items = "".join(f'<li><a href="{name}/{posixpath.basename(file)}.html">{file}</a></li>' for file in files)
        yield f"source/{folder}", {"title": folder, "body": f"<h1>{escape(folder)}</h1><ul>{items}</ul>"}, "page.html"
    for file in sorted(LINKED.union(*listed.values()) - folders):
        text = (ROOT / file).read_text(encoding="utf-8")
        shown = app.builder.highlighter.highlight_block(text, get_lexer_for_filename(file).aliases[0])
        yield f"source/{file}", {"title": file, "body": f"<h1>{escape(file)}</h1>{shown}"}, "page.html"
