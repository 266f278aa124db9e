"""Writes a line of code, such as `dW = x.T @ dZ / m`, as a mathematical formula.

The code is parsed by Python. A call of `sum` becomes ∑ with its axis, a comparison that is used as a number becomes an
Iverson bracket, `np.where` a choice of cases, `@` a product without a sign, and `*` between arrays ⊙ (entry by entry).
A subclass of `Notation` decides how these look: `Plain` here makes text for a terminal, `compare.html.mathml` MathML.
"""

import ast
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Generic, NoReturn, TypeVar

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ"}
GREEK |= {"lambda": "λ", "mu": "μ", "sigma": "σ", "phi": "φ", "omega": "ω", "pi": "π", "Phi": "Φ", "ones": "𝟏"}
# Names of single numbers. A product with one of them is written without a sign.
SCALARS = {"m", "k", "t", "rate", "learning_rate", "alpha", "beta1", "beta2", "epsilon", "pi"}
COMPARISONS = {ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥"}
UPDATES = {ast.Add: "+", ast.Sub: "−"}
# How tightly each kind of expression binds. An operand that binds less tightly than its operator needs parentheses.
COMPARISON, BIG, SUM, PRODUCT, POWER, ATOM = range(6)  # BIG: an ∑ with its summand
LIBRARIES = ("np", "jnp", "math")

T = TypeVar("T")


class Notation(ABC, Generic[T]):
    """Walks through the syntax tree of a statement. The abstract methods say how each piece looks.

    `scalars` are the names of single numbers. A statement that cannot be written as a formula raises ValueError, so
    that nothing is ever written in part.
    """

    def __init__(self, scalars: Collection[str] = SCALARS) -> None:
        self.scalars = {"pi", *scalars}

    # -------------------------------------------------------------------------------- the pieces

    @abstractmethod
    def row(self, *parts: T | str) -> T:
        """Parts side by side."""

    @abstractmethod
    def name(self, name: str) -> T:
        """A variable."""

    @abstractmethod
    def number(self, text: str) -> T:
        """A number."""

    @abstractmethod
    def words(self, text: str) -> T:
        """Text, such as the name of a function."""

    @abstractmethod
    def sign(self, sign: str, *, prefix: bool = False) -> T:
        """An operator or a comma. `prefix` says that it has no left operand."""

    @abstractmethod
    def beside(self, left: T, right: T) -> T:
        """A product without a sign."""

    @abstractmethod
    def enclosed(self, opening: str, inside: T, closing: str) -> T:
        """An expression in brackets."""

    @abstractmethod
    def fraction(self, left: ast.expr, right: ast.expr) -> tuple[T, int]:
        """A quotient, and how tightly it binds."""

    @abstractmethod
    def power(self, base: T, exponent: T, tightness: int) -> T:
        """A power, whose exponent binds with this tightness."""

    @abstractmethod
    def exponential(self, exponent: T) -> tuple[T, int]:
        """A power of e, and how tightly it binds."""

    @abstractmethod
    def root(self, inside: T) -> T:
        """A square root."""

    @abstractmethod
    def below(self, base: T, index: T) -> T:
        """An expression with a subscript."""

    @abstractmethod
    def big(self, sign: str, over: T | None) -> T:
        """The sign of a sum or product, with what it is taken over."""

    @abstractmethod
    def cases(self, choices: Sequence[tuple[T, T]]) -> T:
        """A choice of cases: pairs of a value and its condition."""

    # -------------------------------------------------------------------------------- statements

    def statement(self, node: ast.stmt) -> T:
        """A statement: an expression, an assignment or an update."""
        if isinstance(node, ast.Expr):
            return self.bare(node.value)
        if isinstance(node, ast.Assign):
            return self.joined([*map(self.bare, node.targets), self.factor(node.value, COMPARISON)], "=")
        if isinstance(node, ast.AugAssign) and type(node.op) in UPDATES:
            target, operator = self.bare(node.target), self.sign(UPDATES[type(node.op)])
            if isinstance(node.target, ast.Subscript):  # a long target is written only once
                return self.row(target, self.sign(f"{UPDATES[type(node.op)]}="), self.bare(node.value))
            return self.row(target, self.sign("←"), target, operator, self.at_least(node.value, PRODUCT))
        give_up(node)

    # -------------------------------------------------------------------------------- expressions

    def bare(self, node: ast.expr) -> T:
        """An expression without parentheses around it."""
        return self.part(node)[0]

    def at_least(self, node: ast.expr, tightness: int) -> T:
        """An expression, in parentheses if it binds less tightly than this."""
        written, own = self.part(node)
        return written if own >= tightness else self.parentheses(written)

    def parentheses(self, inside: T) -> T:
        """An expression in parentheses."""
        return self.enclosed("(", inside, ")")

    def part(self, node: ast.expr) -> tuple[T, int]:
        """The expression as it is written, and how tightly it binds."""
        match node:
            case ast.Name(id=name):
                return self.name(name), ATOM
            case ast.Starred(value=value):
                return self.part(value)
            case ast.Constant(value=bool() | None):
                give_up(node)
            case ast.Constant(value=int() | float() as number):
                return self.number(f"{number:g}"), ATOM
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                written, own = self.part(operand)
                if own not in (BIG, PRODUCT, POWER, ATOM):
                    written = self.parentheses(written)
                return self.row(self.sign("−", prefix=True), written), BIG if own == BIG else SUM
            case ast.BinOp():
                return self.binary(node)
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in COMPARISONS:
                sign = self.sign(COMPARISONS[type(operator)])
                return self.row(self.at_least(left, BIG), sign, self.said_or(right)), COMPARISON
            case ast.Tuple(elts=elements):
                return self.joined([self.inner(element) for element in elements], ","), COMPARISON
            case ast.List(elts=elements):
                return self.enclosed("[", self.joined(list(map(self.bare, elements)), ","), "]"), ATOM
            case ast.Attribute(value=value, attr="T" | "mT"):
                return self.power(self.at_least(value, ATOM), self.words("⊤"), ATOM), POWER
            case ast.Attribute(value=ast.Name(id=library), attr="inf") if library in LIBRARIES:
                return self.number("∞"), ATOM
            case ast.Attribute(value=ast.Name() | ast.Attribute(), attr=name):  # a field of a cache, say
                return self.name(name), ATOM
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):  # parameters["W1"]
                return self.name(name), ATOM
            case ast.Subscript(value=value, slice=index):
                return self.indexed(value, index), ATOM
            case ast.Call():
                return self.call(node)
        give_up(node)

    def inner(self, element: ast.expr) -> T:
        """An entry of a tuple, in parentheses if it is itself a tuple."""
        return self.parentheses(self.bare(element)) if isinstance(element, ast.Tuple) else self.bare(element)

    def said_or(self, node: ast.expr) -> T:
        """The right side of a comparison, which may be a string."""
        match node:
            case ast.Constant(value=str(word)):
                return self.words(word)
        return self.at_least(node, BIG)

    def binary(self, node: ast.BinOp) -> tuple[T, int]:
        """An operation with two operands, and how tightly it binds."""
        left, right = node.left, node.right
        match node.op:
            case ast.Add():
                return self.row(self.at_least(left, SUM), self.sign("+"), self.at_least(right, PRODUCT)), SUM
            case ast.Sub():
                return self.row(self.at_least(left, SUM), self.sign("−"), self.at_least(right, PRODUCT)), SUM
            case ast.Div():
                return self.fraction(left, right)
            case ast.Pow():
                return self.power(self.at_least(left, ATOM), self.bare(right), self.part(right)[1]), POWER
            case ast.MatMult():
                return self.beside(self.factor(left, PRODUCT), self.factor(right, POWER)), PRODUCT
            case ast.BitAnd():
                return self.row(self.truth(left), self.sign("∧"), self.truth(right)), COMPARISON
            case ast.Mult():
                first, second = self.factor(left, PRODUCT), self.factor(right, POWER)
                if isinstance(right, ast.Constant):
                    return self.row(first, self.sign("·"), second), PRODUCT
                if self.scalar(left) or self.scalar(right):
                    return self.beside(first, second), PRODUCT
                return self.row(first, self.sign("⊙"), second), PRODUCT
        give_up(node)

    def factor(self, node: ast.expr, tightness: int) -> T:
        """An operand. A comparison is written as an Iverson bracket, which is 1 where it holds and else 0."""
        if isinstance(node, ast.Compare):
            return self.enclosed("[", self.bare(node), "]")
        return self.at_least(node, tightness)

    def truth(self, node: ast.expr) -> T:
        """An operand of a logical operation."""
        return self.parentheses(self.bare(node)) if isinstance(node, ast.Compare) else self.at_least(node, BIG)

    def scalar(self, node: ast.expr) -> bool:
        """Whether an expression is known to be a single number."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return name in self.scalars
            case ast.UnaryOp(operand=operand):
                return self.scalar(operand)
            case ast.BinOp(left=left, right=right):
                return self.scalar(left) and self.scalar(right)
            case ast.Call(args=[_, *_] as arguments, keywords=[]):
                return all(map(self.scalar, arguments))
        return False

    def call(self, node: ast.Call) -> tuple[T, int]:
        """A call of a function. A method is written as a function of its object."""
        function, arguments = node.func, list(node.args)
        match function:
            case ast.Attribute(value=ast.Name(id=library), attr=name) if library in LIBRARIES:
                pass
            case ast.Attribute(value=value, attr=name):
                arguments.insert(0, value)
            case ast.Name(id=name):
                pass
            case _:
                give_up(node)
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        if options.keys() - {"axis", "keepdims"}:  # another option may change the result
            give_up(node)
        axis = self.axis(options["axis"]) if "axis" in options else None
        match name, arguments:
            case "exp", [power]:
                return self.exponential(self.bare(power))
            case "sqrt", [value]:
                return self.root(self.bare(value)), ATOM
            case "abs", [value]:
                return self.enclosed("|", self.bare(value), "|"), ATOM
            case "square", [value]:
                return self.power(self.at_least(value, ATOM), self.number("2"), ATOM), POWER
            case "sum", [value]:
                return self.row(self.big("∑", axis), self.factor(value, PRODUCT)), BIG
            case "prod", [value]:
                return self.row(self.big("∏", axis), self.factor(value, PRODUCT)), BIG
            case "total", [ast.Name(id=letters), value]:  # a sum over indices
                return self.row(self.big("∑", self.letters(letters)), self.at_least(value, PRODUCT)), BIG
            case "times", [left, right]:  # a product of single numbers
                return self.beside(self.at_least(left, PRODUCT), self.at_least(right, POWER)), PRODUCT
            case "where", [condition, value, other]:
                first, second = self.factor(value, COMPARISON), self.factor(other, COMPARISON)
                return self.cases([(first, self.condition(condition)), (second, self.words("otherwise"))]), COMPARISON
            case (("concatenate" | "stack"), [ast.List() as parts]):
                return self.bare(parts) if axis is None else self.below(self.bare(parts), axis), ATOM
            case "arange", [count]:
                return self.parentheses(self.row(self.number("0"), ", 1, …, ", self.bare(count), " − 1")), ATOM
            case _, _:
                named = self.words(name.lstrip("_"))
                if axis is not None:
                    named = self.below(named, axis)
                return self.row(named, self.parentheses(self.joined(list(map(self.inner, arguments)), ","))), ATOM

    def condition(self, node: ast.expr) -> T:
        """The condition of a case."""
        return self.row(self.words("if "), self.bare(node))

    def axis(self, node: ast.expr) -> T:
        """The axes of a reduction in words."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
                return self.words("last axis")
            case ast.Tuple():
                return self.words(f"axes {', '.join(map(ast.unparse, node.elts))}")
            case ast.Constant():
                return self.words(f"axis {ast.unparse(node)}")
            case ast.Name(id=name):
                return self.words(name.replace("_", " "))
        give_up(node)

    def letters(self, letters: str) -> T:
        """Indices of one letter each, separated by commas."""
        return self.joined([self.name(letter) for letter in letters], ",")

    def indexed(self, value: ast.expr, index: ast.expr) -> T:
        """An indexed array, with the index as a subscript. An index None, which only adds an axis, is left out."""
        base = self.at_least(value, ATOM)
        entries = list(index.elts) if isinstance(index, ast.Tuple) else [index]
        entries = [entry for entry in entries if not (isinstance(entry, ast.Constant) and entry.value is None)]
        if all(is_everything(entry) for entry in entries):
            return base
        if all(isinstance(entry, ast.Name) and len(entry.id) == 1 for entry in entries):
            return self.below(base, self.row(*map(self.bare, entries)))
        inside = type(self)(self.scalars | {name.id for name in ast.walk(index) if isinstance(name, ast.Name)})
        written = self.joined([inside.entry(entry) for entry in entries], ",")
        if any(isinstance(entry, ast.Slice) and not is_everything(entry) for entry in entries):
            return self.row(base, self.enclosed("[", written, "]"))
        return self.below(base, written)

    def entry(self, entry: ast.expr) -> T:
        """One entry of an index, which may be a slice."""
        if is_everything(entry):
            return self.words("·" if isinstance(entry, ast.Slice) else "…")
        if not isinstance(entry, ast.Slice):
            return self.bare(entry)
        match entry:
            case ast.Slice(lower=None, upper=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)), step=None):
                return self.words("all but the last")
        bounds = [entry.lower, entry.upper, *([entry.step] if entry.step else [])]
        return self.joined([self.bare(bound) if bound else self.words("") for bound in bounds], ":")

    def joined(self, parts: Sequence[T], sign: str) -> T:
        """Parts with a sign between them."""
        return self.row(*parts[:1], *(self.row(self.sign(sign), part) for part in parts[1:]))


def is_everything(entry: ast.expr) -> bool:
    """Whether an index selects a whole axis or all remaining ones: `:` or `...`."""
    if isinstance(entry, ast.Constant) and entry.value is ...:
        return True
    return isinstance(entry, ast.Slice) and (entry.lower, entry.upper, entry.step) == (None, None, None)


def give_up(node: ast.AST) -> NoReturn:
    """Raises the ValueError for code that cannot be written as a formula."""
    raise ValueError(f"{ast.unparse(node)!r} cannot be written as a formula")


def statement_of(code: str) -> ast.stmt:
    """The code, parsed as one statement. Raises ValueError if it is not exactly one statement."""
    try:
        (statement,) = ast.parse(code.strip()).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{code!r} is not one Python statement") from error
    return statement


class Plain(Notation[str]):
    """Formulas as text on one line, such as dh[t] = dy[t] + dh_next. Names stay as they are in the source."""

    def row(self, *parts: str) -> str:
        return "".join(parts)

    def name(self, name: str) -> str:
        stem, prime, _ = name.partition("_prime")
        return GREEK.get(stem, stem) + ("′" if prime else "")

    def number(self, text: str) -> str:
        return text

    def words(self, text: str) -> str:
        return text

    def sign(self, sign: str, *, prefix: bool = False) -> str:
        if prefix or sign in ":·":
            return sign
        return ", " if sign == "," else f" {sign} "

    def beside(self, left: str, right: str) -> str:
        return f"{left} {right}"

    def enclosed(self, opening: str, inside: str, closing: str) -> str:
        return f"{opening}{inside}{closing}"

    def fraction(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        over = self.bare(left) if isinstance(left, ast.UnaryOp) else self.factor(left, PRODUCT)
        return f"{over} / {self.factor(right, POWER)}", SUM if isinstance(left, ast.UnaryOp) else PRODUCT

    def power(self, base: str, exponent: str, tightness: int) -> str:
        short = {"⊤": "ᵀ", "2": "²", "3": "³"}.get(exponent)
        return f"{base}{short}" if short else f"{base}^{exponent if tightness == ATOM else self.parentheses(exponent)}"

    def exponential(self, exponent: str) -> tuple[str, int]:
        return f"exp({exponent})", ATOM

    def root(self, inside: str) -> str:
        return f"sqrt({inside})"

    def below(self, base: str, index: str) -> str:
        return f"{base}_{index}" if f"{base}{index}".isalnum() else f"{base}[{index}]"

    def big(self, sign: str, over: str | None) -> str:
        return f"{sign} " if over is None else f"{sign}[{over}] "

    def cases(self, choices: Sequence[tuple[str, str]]) -> str:
        return ", ".join(f"{value} {condition}" for value, condition in choices)


def plain(code: str, scalars: Collection[str] = SCALARS) -> str:
    """The formula as text. Raises ValueError if the code cannot be written as a formula."""
    return Plain(scalars).statement(statement_of(code))
