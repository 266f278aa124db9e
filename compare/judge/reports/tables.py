"""Tables for the terminal and for notebooks."""

from collections.abc import Sequence
from html import escape
from io import StringIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

STYLES = {"agree": "green", "disagree": "bold red", "inconclusive": "yellow"}
WIDTH = 110  # columns, unless the terminal has fewer


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are aligned left and the others right; verdicts are colored."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        result.add_column(header, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))  # Text: never markup
    return result


def plain_text(*parts: RenderableType, width: int = WIDTH) -> str:
    """The parts as text, as a terminal without color shows them."""
    console = Console(file=StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # the StringIO above
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def html_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><tr>{cells('th', headers)}</tr>{body}</table>"


def readable(seconds: float) -> str:
    """A time with three digits, in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:  # what rounds up to a thousand belongs to the next unit
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
