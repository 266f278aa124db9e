"""Text for a terminal or a file that knows fewer characters than we use: `LANG=C`, an old console, PYTHONIOENCODING."""

import unicodedata

# What is not the letter without its accent, nor has the name of a Greek letter.
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
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-~=*#", strict=True)),  # bars, from low to high
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", ("^0", "^1", "^2", "^3", "^4", "^5", "^6", "^7", "^8", "^9", "^-"), strict=True)),
}


def showable(text: str, encoding: str) -> str:
    """The text with every character that `encoding` lacks written by those that it has; `?` where nothing is near."""
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
    """A letter without its accent, what a compatibility character stands for, or the name of a Greek letter."""
    parts = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    if parts != character:
        return parts
    family, _, letter = unicodedata.name(character, "").partition(" LETTER ")
    return letter.split()[0].lower() if family.startswith("GREEK") and letter else ""
