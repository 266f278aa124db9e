"""What a docstring says to somebody who learns: without what it refuses, and how NumPy does it fast."""

import inspect
import re
from collections.abc import Callable
from typing import Any

HEAD = "from the head of this file"
ASIDES = re.compile(r"Raises\b|.*\b(ValueError|BLAS|np\.)", re.DOTALL)


def paragraphs(function: Callable[..., Any]) -> list[str]:
    """Of a function's docstring; those of its module, up to the last equations, follow where it refers to them."""
    first, *rest = map(_taught, (inspect.getdoc(function) or "").split("\n\n"))
    if HEAD in first:
        _, *head = (inspect.getdoc(inspect.getmodule(inspect.unwrap(function))) or "").split("\n\n")
        last = max(i for i, part in enumerate(head) if is_equations(part))
        first, rest = first.replace(HEAD, "below"), [*head[: last + 1], *rest]
    return [first, *filter(None, rest)]


def is_equations(paragraph: str) -> bool:
    """Of a docstring: what is indented, or in columns."""
    return paragraph.startswith(" ") or "   " in paragraph


def _taught(paragraph: str) -> str:
    """Without the sentences that are asides. Equations stay as they are, and so does prose that has none."""
    sentences = re.split(r"(?<=\.)\s+(?=[A-Z(])", paragraph)
    kept = [sentence for sentence in sentences if not ASIDES.match(sentence)]
    return paragraph if is_equations(paragraph) or len(kept) == len(sentences) else " ".join(kept)
