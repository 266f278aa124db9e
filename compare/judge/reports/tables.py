"""Formats tables and reports for the terminal and for notebooks."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from io import StringIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

STYLES = {"agree": "green", "disagree": "bold red", "inconclusive": "yellow"}
SIGNS = {"agree": "✓", "disagree": "✗", "inconclusive": "?"}
WIDTH = 110  # the default width of text, in columns
_columns: ContextVar[int] = ContextVar("columns", default=WIDTH)


@contextmanager
def at_width(columns: int) -> Iterator[None]:
    """Sets the width of text inside the `with` block to a number of columns."""
    token = _columns.set(columns)
    try:
        yield
    finally:
        _columns.reset(token)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Table:
    """A table in which verdicts are colored.

    Args:
        headers: the headers of the columns.
        rows: the cells of each row.
        left: the number of columns, from the first, that are aligned to the left. The others are aligned to the right.

    Returns:
        A table of the library rich.
    """
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        result.add_column(header, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))  # Text: never markup
    return result


def plain_text(*parts: RenderableType, width: int | None = None) -> str:
    """The text that a terminal without color shows.

    Args:
        *parts: strings and tables. The rows of a table that is too wide are printed as lists.
        width: the number of columns; that of `at_width` by default.

    Returns:
        The text, without trailing spaces.
    """
    console = Console(file=StringIO(), width=width or _columns.get(), color_system=None, force_jupyter=False)
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else _fitting(part, console))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # the StringIO above
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _fitting(part: RenderableType, console: Console, margin: int = 0) -> RenderableType:
    """The table if it fits without breaking words. If not, each row becomes a list of headers and values."""
    if isinstance(part, Padding):
        return Padding(_fitting(part.renderable, console, part.left), (part.top, part.right, part.bottom, part.left))
    if not isinstance(part, Table) or not part.show_header:
        return part
    unlimited = console.options.update(width=10_000)
    if Measurement.get(console, unlimited, part).minimum <= console.width - margin:
        return part
    headers = [str(column.header) for column in part.columns]
    rows = zip(*(column.cells for column in part.columns), strict=True)
    return Group("", *(line for row in rows for line in _record(headers, row)))


def _record(headers: Sequence[str], row: Sequence[RenderableType]) -> Iterator[RenderableType]:
    first, *others = row
    yield first if str(first).strip() else Text("-")
    for header, value in zip(headers[1:], others, strict=True):
        if str(value).strip():
            yield Padding(Text(f"{header}: {value}" if header.strip() else str(value)), (0, 0, 0, 2))


def html_report(lines: Sequence[str], headers: Sequence[str], rows: Sequence[Sequence[str]], *below: str) -> str:
    """A report as HTML for a notebook, without colors of its own.

    Args:
        lines: the lines above the table. The first one begins with the verdict.
        headers: the headers of the table.
        rows: the cells of each row, of which the last one is a verdict.
        *below: the lines below the table.

    Returns:
        The HTML.
    """

    def cells(tag: str, row: Sequence[str]) -> str:
        *others, last = row
        sides = ["left", *["right"] * (len(others) - 1), "left"]
        texts = [*map(escape, others), signed(last)]
        return "".join(f'<{tag} style="text-align:{s}">{text}</{tag}>' for s, text in zip(sides, texts, strict=True))

    def signed(word: str) -> str:
        sign = SIGNS.get(word.lower())
        return f"<strong>{sign} {escape(word)}</strong>" if sign else escape(word)

    verdict = re.split(r"[: ]", lines[0])[0]
    paragraphs = [signed(verdict) + escape(lines[0].removeprefix(verdict)), *map(escape, lines[1:])]
    table = f"<tr>{cells('th', headers)}</tr>" + "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return "".join(
        [
            *(f"<p>{paragraph}</p>" for paragraph in paragraphs),
            f'<div style="overflow-x:auto" tabindex="0"><table>{table}</table></div>',
            *(f"<p>{escape(line)}</p>" for line in below),
        ]
    )


def readable(seconds: float) -> str:
    """A time with three digits, in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:  # 0.9995 ms is written as 1 ms and not as 1000 µs
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
