"""One step of a lesson on the page: its formulas and text, its numbers, and the code of both sides."""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from compare.html.mathml import formula
from compare.html.page import SIGNS, Html, html, tag
from compare.lesson.content import Moment, Quantity, Step
from compare.lesson.formulas import Formulas, Line
from compare.lesson.source import Excerpt
from compare.lesson.text import DOCUMENTED, indexed, shown

FORWARD_ONLY = "in JAX, only the forward pass"


@dataclass
class Live:
    """The elements whose text changes with the slider, in the order of the page."""

    moments: Sequence[Moment]
    places: list[Callable[[Moment], str]] = field(default_factory=list)

    def __call__(self, element: str, text: Callable[[Moment], str], **attributes: Any) -> Html:
        self.places.append(text)
        return tag(element, text(self.moments[0]), data_live=True, **attributes)

    def texts(self) -> list[list[str]]:
        """The texts of all elements, for each moment."""
        return [[text(moment) for text in self.places] for moment in self.moments]


def step_article(step: Step, number: int, live: Live) -> Html:
    """The article on one step.

    Args:
        step: The step.
        number: Its number among all steps.
        live: Collects the elements whose text changes with the slider.
    """
    single = all("\n" not in excerpt.code for excerpt in step.by_hand)
    text = html(
        tag("p", DOCUMENTED, class_="soft") if step.short else "",
        tag("p", with_formulas(step.words)) if single else _paragraph(step.words),
        *map(_paragraph, step.derivation.split("\n\n") if step.derivation else ()),
    )
    numbers = html(*(_numbers(quantity, live) for quantity in step.quantities))
    code = html(
        lines("by hand", "manual", step.by_hand),
        lines(FORWARD_ONLY if step.backward else "in JAX", "autodiff", step.by_jax),
    )
    return tag(
        "article",
        tag("h3", tag("span", f"{number} ", class_="ordinal"), step.title),
        *_formulas(step),
        *(tag("div", part, class_=kind) for kind, part in (("text", text), ("numbers", numbers), ("code", code))),
        class_="step" if single else "step wide",
        id=anchor(step.name),
    )


def anchor(name: str) -> str:
    """The id of a step's article, which links lead to."""
    return "step-" + re.sub(r"\W", "-", name)


# ------------------------------------------------------------------------------------------- words


def with_formulas(text: str) -> Html:
    """Prose with the names of quantities, such as dZ1, m and dJ/dW (layer 2), written as in formulas."""
    text = re.sub(r"(?<=\d) x (?=\d)", " × ", text)
    symbols = re.split(r"((?:dJ/d|\b)[A-Za-z] \((?:layer|block) [^)]*\)|dJ/d[A-Za-z]\b)", text)
    return html(*(_in_italics(part) if i % 2 else _with_names(part) for i, part in enumerate(symbols)))


def _with_names(text: str) -> Html:
    parts = re.split(r"\b(R?d?[ZAWb][12]|[Rd]?[JQ]|[xym])\b", text)
    return html(*(formula(part) if i % 2 else part for i, part in enumerate(parts)))


def _paragraph(text: str) -> Html:
    """A paragraph of a docstring. Indented text and text in columns are equations, which keep their layout."""
    if text.startswith(" ") or "   " in text:
        return tag("pre", inspect.cleandoc("\n" + text), tabindex="0", role="group", aria_label="Equations")
    return tag("p", *(tag("code", part) if i % 2 else part for i, part in enumerate(text.split("`"))))


def _formulas(step: Step) -> list[Html]:
    """The formulas of the step, then those of the functions that it calls. Wide formulas can be scrolled."""
    return [_written(part) for part in step.formulas]


def _written(part: Formulas) -> Html:
    title = tag("p", "with ", formula(part.title, scalars=part.scalars), class_="called") if part.title else ""
    shown = [formula_line(line, part.scalars) for line in part.lines]
    name = f"Formulas of {part.title.partition('(')[0]}" if part.title else "Formulas"
    return tag("div", title, *shown, class_="written", tabindex="0", role="group", aria_label=name)


def formula_line(line: Line, scalars: frozenset[str]) -> Html:
    """One formula with its note beside it, or a note alone."""
    pieces = line.note.split("`")
    note = html(*(formula(piece, scalars=scalars) if i % 2 else piece for i, piece in enumerate(pieces)))
    written = formula(line.code, display=True, scalars=scalars) if line.code else ""
    said = tag("span", note, class_="note") if line.note else ""
    kinds = ["line", *([f"in{line.depth}"] if line.depth else []), *([] if line.code else ["said"])]
    return tag("div", written, said, class_=" ".join(kinds))


# ------------------------------------------------------------------------------------------- lines


def lines(label: str, side: str, excerpts: Sequence[Excerpt]) -> Html:
    """Lines of source with their line numbers, below the name of their file.

    Args:
        label: The heading, such as "by hand".
        side: "manual" or "autodiff", which decides the color.
        excerpts: The lines.
    """
    files = groupby(excerpts, lambda excerpt: excerpt.file)
    return html(*(_of_file(label, side, file, list(group)) for file, group in files))


def _of_file(label: str, side: str, file: str, excerpts: Sequence[Excerpt]) -> Html:
    rows, following = [], excerpts[0].line
    for excerpt in excerpts:
        if excerpt.line != following:
            rows.append(tag("span", tag("span", "⋯", class_="line"), "\n"))
        rows += [
            tag("span", tag("span", number, class_="line"), tag("span", line), "\n", data_line=number)
            for number, line in excerpt.numbered()
        ]
        following = excerpt.line + len(excerpt.numbered())
    return tag(
        "figure",
        tag("figcaption", tag("b", label), " ", file),
        tag("pre", tag("code", *rows), tabindex="0", role="group", aria_label=f"{label}: {file}"),
        class_=f"lines {side}",
        data_file=file,
    )


# ----------------------------------------------------------------------------------------- numbers


def _numbers(quantity: Quantity, live: Live) -> Html:
    """A table with a row for each entry, and a sentence on all of them."""
    label, symbol, of = quantity.label, _symbol(quantity.label), _symbol(quantity.path)
    headers = [symbol or "entry", *([of or "value"] if quantity.gradient and not quantity.along else [])]
    caption = f"{quantity.shown}: by hand, by JAX, and their difference"
    rows = [
        tag("tr", tag("th", indexed(entry) or tag("i", "J"), scope="row"), *_cells(quantity, i, live))
        for i, entry in enumerate(live.moments[0].numbers[label].entries)
    ]
    titles = (*headers, "by hand", "by JAX", "difference")
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", title, scope="col") for title in titles))),
        tag("tbody", *rows),
    )
    return tag(
        "div",
        "" if symbol else tag("p", _in_italics(quantity.shown), class_="path"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption),
        tag("p", *_judged(quantity, live), class_="judged"),
        data_quantity=label,
    )


def _cells(quantity: Quantity, i: int, live: Live) -> Iterator[Html]:
    fields = ("value",) * (quantity.gradient and not quantity.along) + ("by_hand", "by_jax")
    for name in fields:

        def text(moment: Moment, name: str = name) -> str:
            return _typeset(shown(getattr(moment.numbers[quantity.label].entries[i], name)))

        yield live("td", text)
    yield live("td", lambda moment: _size(moment.numbers[quantity.label].entries[i].difference), class_="tiny")


def _judged(quantity: Quantity, live: Live) -> Iterator[Html | str]:
    first = live.moments[0].numbers[quantity.label]
    count, shape = math.prod(first.shape), " × ".join(map(str, first.shape))
    yield f"Largest difference of all {count:,} entries ({shape}): " if count > 1 else "Difference: "
    yield live("span", lambda moment: _size(moment.numbers[quantity.label].largest_difference), class_="tiny")
    if first.verdict is None:
        return
    yield "; tolerance "
    yield live("span", lambda moment: _size(moment.numbers[quantity.label].tolerance), class_="tiny")
    yield " at the entry that is closest to it. " if count > 1 else ". "

    def verdict(moment: Moment) -> str:
        found = moment.numbers[quantity.label].verdict
        return f"{SIGNS[found.value]} {found.value}" if found is not None else ""

    yield live("span", verdict, class_=f"verdict {first.verdict.value}")


def _symbol(label: str) -> Html | None:
    """A name such as dZ1 as it looks in formulas; None for a path.

    It is not MathML, because some screen readers do not read MathML in a table's header.
    """
    found = re.fullmatch(r"(R?d?)([A-Z]|b(?=\d))(\d?)", label)
    if found is None:
        return None
    d, letter, digit = found.groups()
    return html(d, tag("i", letter), tag("sub", digit) if digit else "")


def _in_italics(symbol: str) -> Html:
    """A symbol such as dJ/dW (layer 2), with its variables in italics, as in formulas."""
    found = re.fullmatch(r"(dJ/d)?([A-Za-z])( \(.*\))?", symbol)
    if found is None:
        return html(symbol)
    over = html("d", tag("i", "J"), "/d") if found[1] else ""
    return html(over, tag("i", found[2]), found[3] or "")


def _size(number: float | None) -> str:
    """The number with two digits."""
    if number is None:
        return "unknown"
    return "0" if number == 0 else _typeset(f"{number:.1e}")


def _typeset(number: str) -> str:
    return number.replace("-", "−")
