"""Writes a line of code, such as `dW = x.T @ dZ / m`, as a formula in MathML.

`compare.lesson.notation` reads the code, and this module says how its pieces look on a page. Quotients are fractions,
and `np.exp(x)` is a power of e. Numbers in names become subscripts, names of Greek letters become the letters, and a
`d` before a name is upright: dZ1 is the gradient of the loss with respect to Z1.
"""

import ast
import re
from collections.abc import Collection, Sequence

from compare.html.page import Html, html, tag
from compare.lesson.notation import COMPARISON, GREEK, POWER, SCALARS, Notation, statement_of


def formula(code: str, *, display: bool = False, scalars: Collection[str] = SCALARS) -> Html:
    """One `<math>` element for one statement or expression. Raises ValueError if it cannot be written as a formula."""
    written = MathML(scalars).statement(statement_of(code))
    return tag("math", tag("mrow", written), display="block" if display else None)


def formulas(line: str) -> list[Html]:
    """A `<math>` element for each statement of a line. Statements are separated by `;` or by a wide gap after a comma.

    A comment is left out. Raises ValueError if a statement cannot be written as a formula.
    """
    parts = re.split(r";|,\s{2,}", line.partition("#")[0])
    return [formula(part) for part in parts if part.strip()]


class MathML(Notation[Html]):
    """MathML markup, without the `<math>` element around it."""

    def row(self, *parts: Html | str) -> Html:
        return html(*(part if isinstance(part, Html) else self.words(part) for part in parts))

    def name(self, name: str) -> Html:
        """A name: dZ1 is an upright d and Z with the index 1, m_hat is m with a hat, beta1 is β with the index 1,
        u_prime is u′, and RZ1 is an upright R and Z with the index 1."""
        if name.endswith("_hat") and len(name) > 4:
            return tag("mover", self.name(name[:-4]), tag("mo", "^"))
        if name.endswith("_prime"):
            return tag("msup", self.name(name[:-6]), tag("mo", "′"))
        if found := re.fullmatch(r"d([A-Za-z](?:\d+|_\w+)?|[A-Z]\w*)", name):
            return tag("mrow", tag("mi", "d", mathvariant="normal"), self.name(found[1]))
        if found := re.fullmatch(r"R(d?[A-Zb]\d?)", name):  # a directional derivative
            return tag("mrow", tag("mi", "R", mathvariant="normal"), self.name(found[1]))
        letter, _, below = re.sub(r"^([A-Za-z]+)(\d+)$", r"\1_\2", name).partition("_")
        if len(letter) > 1 and letter not in GREEK and not below.isdigit():  # a word, such as learning_rate
            return self.words(name.replace("_", " "))
        written = tag("mi", GREEK.get(letter, letter))
        if not below:
            return written
        return tag("msub", written, tag("mn", below) if below.isdigit() else self.words(below.replace("_", " ")))

    def number(self, text: str) -> Html:
        return tag("mn", text)

    def words(self, text: str) -> Html:
        if re.fullmatch(r"\w+|⊤", text):
            return tag("mi", text)
        return tag("mtext", re.sub(r"^ | $", "\N{NO-BREAK SPACE}", text))  # MathML drops plain spaces at the ends

    def sign(self, sign: str, *, prefix: bool = False) -> Html:
        return tag("mo", sign, form="prefix" if prefix else None, **(SPACED if sign == "⊙" else {}))

    def beside(self, left: Html, right: Html) -> Html:
        return html(left, tag("mo", "\N{INVISIBLE TIMES}", **SPACED), right)

    def enclosed(self, opening: str, inside: Html, closing: str) -> Html:
        stretchy = None if any(high in inside for high in HIGH) else "false"
        return tag("mrow", *(tag("mo", opening, stretchy=stretchy), inside, tag("mo", closing, stretchy=stretchy)))

    def fraction(self, left: ast.expr, right: ast.expr) -> tuple[Html, int]:
        over, under = (
            self.factor(side, COMPARISON) if isinstance(side, ast.Compare) else self.bare(side)
            for side in (left, right)
        )
        return tag("mfrac", boxed(over), boxed(under)), POWER

    def power(self, base: Html, exponent: Html, tightness: int) -> Html:
        return tag("msup", boxed(base), boxed(exponent))

    def exponential(self, exponent: Html) -> tuple[Html, int]:
        return tag("msup", tag("mi", "e"), boxed(exponent)), POWER

    def root(self, inside: Html) -> Html:
        return tag("msqrt", inside)

    def below(self, base: Html, index: Html) -> Html:
        """The base with an index. A base that has an index already is put in parentheses, to keep the two apart."""
        base = self.parentheses(base) if base.endswith(("</msub>", "</msub></mrow>")) else base
        return tag("msub", boxed(base), boxed(index))

    def big(self, sign: str, over: Html | None) -> Html:
        return tag("mo", sign) if over is None else tag("munder", tag("mo", sign), boxed(over))

    def cases(self, choices: Sequence[tuple[Html, Html]]) -> Html:
        rows = [tag("mtr", *(tag("mtd", cell) for cell in choice)) for choice in choices]
        return tag("mrow", tag("mo", "{"), tag("mtable", *rows, columnalign="left"))


HIGH = ("<mfrac", "<munder", "<mtable", "<msqrt")  # elements that are taller than a line of text
SPACED = {"lspace": "0.12em", "rspace": "0.12em"}


def boxed(part: Html) -> Html:
    """The part as one element, for parents such as mfrac and msup that need an exact number of children."""
    return tag("mrow", part)
