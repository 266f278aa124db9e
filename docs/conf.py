"""The site: `make docs` builds it from README.md, docs/, notebooks/ and docstrings into build/site.

The source folder is the root of the project, so that links between pages also work on GitHub. Links to source files
lead to pages of the site that show them. The site loads nothing from other hosts, so it works from disk.
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
nb_execution_mode = "off"  # outputs are those of `make notebooks`, which a test compares
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]  # so that compare.torch is documented without PyTorch, too
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
    """Adds the table of contents to the README, which is the home page."""
    if name == root_doc:
        source[0] += CONTENTS


def finished(app: Any, failure: Exception | None) -> None:
    """Makes the pages accessible, and copies the home page to index.html, which servers expect."""
    if failure is None:
        for page in Path(app.outdir).rglob("*.html"):
            page.write_text(accessible(page.read_text(encoding="utf-8")), encoding="utf-8")
        Path(app.outdir, "index.html").write_bytes(Path(app.outdir, f"{root_doc}.html").read_bytes())


def accessible(page: str) -> str:
    """The page with levels of headings, names of landmarks, scrolling by keyboard, and lists that are valid."""
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
    """Replaces default factories of data classes in a signature by dots, because Sphinx cannot parse them."""
    return (signature or "").replace("<factory>", "...") or None, result


def fields_of_tuples(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Skips fields of NamedTuples, whose generated docstring, "Alias for field number 0", says nothing."""
    return True if str(getattr(thing, "__doc__", "")).startswith("Alias for field number") else None


def as_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Converts docstrings, which are plain text, to reStructuredText.

    An indented block after a blank line is a formula. So is a block with columns, whose indentation Python removes if
    nothing else follows the first line.
    """
    lines[:] = list(restructured(lines))
    if what in ("attribute", "property"):
        lines.insert(0, "")  # or napoleon takes the text before a colon in the first line for a type


def restructured(lines: list[str]) -> Iterator[str]:
    text = 0  # the indentation of the text
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
    """Whether a paragraph is a section such as `Args:`, with an indented body."""
    return bool(re.match(r"\w+:$", paragraph[0].strip()))


def escaped(line: str) -> str:
    """The line with all markup escaped but `code`."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts)


# ------------------------------------------------------------------------------------- source files

LINKED: set[str] = set()  # the targets of links in this build, relative to the root


def to_shown_source(app: Any, doctree: nodes.document) -> None:
    """Redirects links to files and folders of the project to the pages that show or list them."""
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
