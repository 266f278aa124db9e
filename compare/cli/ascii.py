"""Replaces characters that a terminal or file cannot show, for example with `LANG=C` or on an old console."""

import unicodedata

# Replacements of the characters for which `_plain` finds none.
SUBSTITUTES = {
    "─": "-",
    "━": "-",
    "│": "|",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "·": "*",
    "⊙": "*",
    "÷": "/",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "√": "sqrt",
    "∂": "d",
    "∑": "sum",
    "Σ": "sum",
    "→": "->",
    "←": "<-",
    "∈": "in",
    "✓": "+",
    "✗": "x",
    "ᵀ": "^T",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "µ": "u",
    "μ": "u",
    "∞": "inf",
    "±": "+-",
    "′": "'",
    "∏": "prod",
    "∧": "and",
    "⊤": "^T",
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-~=*#", strict=True)),  # bars of increasing height
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", ("^0", "^1", "^2", "^3", "^4", "^5", "^6", "^7", "^8", "^9", "^-"), strict=True)),
}


def showable(text: str, encoding: str) -> str:
    """The text with each character that `encoding` lacks replaced by a similar one, or by `?` if there is none."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_showable(character, encoding) for character in text)
    return text


def _showable(character: str, encoding: str) -> str:
    for form in (character, SUBSTITUTES.get(character, ""), _plain(character), "?"):
        if form and form.encode(encoding, "ignore").decode(encoding) == form:
            return form
    return ""


def _plain(character: str) -> str:
    """A letter without its accent, the characters that a compatibility character is equivalent to, or the name of a
    Greek letter.
    """
    parts = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    if parts != character:
        return parts
    family, _, letter = unicodedata.name(character, "").partition(" LETTER ")
    return letter.split()[0].lower() if family.startswith("GREEK") and letter else ""
