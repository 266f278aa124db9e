"""The frame of a page, and the elements that pages are made of.

The content of a page is either `Html`, which only this package makes, or text, which is escaped. The content security
policy of a page forbids it to load anything, and to run any script but its own.
"""

import base64
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from compare.judge.reports.tables import SIGNS

Cell = object  # Html, or anything that `str` turns into text

VOID = {"meta", "link", "input", "br", "hr", "col"}


class Html(str):
    """Markup that needs no escaping. Only the functions of this package make it."""

    __slots__ = ()


def html(*parts: Cell) -> Html:
    """The parts joined together. A part that is not Html is escaped as text."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def tag(element: str, *children: Cell, **attributes: Any) -> Html:
    """An element, such as `tag("p", "a < b", class_="note", aria_label="...")`.

    An attribute that is True is written without a value. One that is None or False is left out.
    """
    words = [element]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening) if element in VOID else Html(f"{opening}{html(*children)}</{element}>")


def page(title: str, body: Html, *, style: str = "", script: str = "", data: Any = None, footer: Cell = "") -> str:
    """The whole document.

    Args:
        title: The title of the document.
        body: The content.
        style: CSS that is added to the style sheet.
        script: JavaScript that runs when the page has been parsed.
        data: A value that is stored as JSON in the element with the id `data`, for the script to read.
        footer: The text of the footer.
    """
    policy = {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",  # drawings have style attributes
        "script-src": f"'sha256-{_digest(script)}'" if script else "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    head = html(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content="; ".join(map(" ".join, policy.items()))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="backproof"),
        tag("link", rel="icon", href="data:,"),  # without it, browsers request /favicon.ico
        tag("title", title),
        tag("style", Html(asset("style.css") + style)),
    )
    below = tag("footer", footer or "Made by backproof.")
    scripts = html(
        embedded(data) if data is not None else "",
        tag("script", Html(script)) if script else "",
    )
    content = html(tag("head", head), tag("body", tag("main", body), below, scripts))
    return f"<!doctype html>\n{tag('html', content, lang='en')}\n"


def asset(name: str) -> str:
    """The text of a file of this package: the style sheet, or a script."""
    return files("compare.html").joinpath(name).read_text(encoding="utf-8")


def embedded(value: Any) -> Html:
    """JSON that a script reads by `JSON.parse(document.getElementById("data").textContent)`.

    The characters <, > and & are written as \\uXXXX, so that no text can end the element or begin another.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="data">{text}</script>')


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


# ------------------------------------------------------------------------------------- elements of a page


def heading(kicker: str, title: Cell, *lead: Cell) -> Html:
    """The header of a page: the kind of page, its title, and introductory paragraphs."""
    return tag("header", tag("p", kicker, class_="kicker"), tag("h1", title), *lead)


def section(title: str, *content: Cell, name: str = "") -> Html:
    """A part of the page. `name` is its id, which links lead to."""
    return tag("section", tag("h2", title), *content, id=name or None)


def badge(verdict: str) -> Html:
    """A verdict as a word with a sign, in the color of the verdict."""
    return tag("span", f"{SIGNS[verdict]} {verdict.upper()}", class_=f"badge {verdict}")


def facts(pairs: Mapping[str, Cell]) -> Html:
    """Names and their values, in two columns."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs.items()), class_="facts")


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str, left: int = 1) -> Html:
    """A table that scrolls in its own box if it is wide. Cells that hold a verdict are colored.

    Args:
        headers: The titles of the columns.
        rows: The cells of each row.
        caption: The name of the table, for screen readers.
        left: The number of columns that are aligned left. The others hold numbers, and are aligned right.
    """

    def cell(i: int, value: Cell) -> Html:
        kind = "" if i < left else "number"
        if value in SIGNS:
            value, kind = html(SIGNS[str(value)], " ", value), f"{kind} verdict {value}"
        return tag("th", value, scope="row") if i == 0 else tag("td", value, class_=kind.strip() or None)

    top = tag("tr", *(tag("th", h, scope="col", class_=None if i < left else "number") for i, h in enumerate(headers)))
    body = (tag("tr", *(cell(i, value) for i, value in enumerate(row))) for row in rows)
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *body))
    # tabindex makes the box focusable, so that the keyboard can scroll it.
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def code(text: str, *, label: str = "Code") -> Html:
    """A block of code. `label` is its name, for screen readers."""
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=label)


def code_pair(wrong: str, right: str) -> Html:
    """The wrong line above the right one, with the differences marked in both."""
    before, after = _marked(wrong, right)
    lines = (
        tag("del", tag("span", "− ", class_="sign", aria_hidden="true"), spoken("Wrong: "), before),
        tag("ins", tag("span", "+ ", class_="sign", aria_hidden="true"), spoken("Right: "), after),
    )
    region = {"tabindex": "0", "role": "region", "aria_label": "The wrong line and the right line"}
    return tag("pre", tag("code", *lines), class_="pair", **region)


def _marked(wrong: str, right: str) -> tuple[Html, Html]:
    """Both lines, with the words marked that only one of them has. Comments are not compared."""
    lines = [re.fullmatch(r"(.*?)(\s*#.*)?", line, flags=re.DOTALL) for line in (wrong, right)]
    (before, said_before), (after, said_after) = (line.groups(default="") for line in lines if line)
    words = [re.findall(r"\w+|\s+|\*\*|\W", line) for line in (before, after)]
    parts: tuple[list[Html], list[Html]] = ([], [])
    for kind, *ends in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side, (begin, end) in enumerate((ends[:2], ends[2:])):
            text = "".join(words[side][begin:end])
            changed = kind != "equal" and text.strip()
            parts[side].append(tag("mark", text) if changed else html(text))
    return html(*parts[0], said_before), html(*parts[1], said_after)


def spoken(text: str) -> Html:
    """Text for screen readers only. Others see its meaning by position or color."""
    return tag("span", text, class_="spoken")


def figure(drawing: Html, caption: Cell) -> Html:
    """A drawing with its caption below."""
    return tag("figure", drawing, tag("figcaption", caption))
