"""A line of code written as the formula that it computes: `dW = x.T @ dZ / m` and the like.

The code is read by Python itself. What it writes as a call or an operator becomes what mathematics writes for it: a sum
a ∑ with its axis, a comparison that is multiplied by an Iverson bracket, `np.where` a choice of cases, `@` two letters
side by side, `*` between arrays ⊙ (entry by entry). How these look is said by a notation: `Plain` is text for a
terminal, and a page has MathML.
"""

import ast
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Generic, NoReturn, TypeVar

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ"}
GREEK |= {"lambda": "λ", "mu": "μ", "sigma": "σ", "phi": "φ", "omega": "ω", "pi": "π", "Phi": "Φ", "ones": "𝟏"}
# Known to be single numbers: a product with one of them is written without a sign.
SCALARS = {"m", "k", "t", "rate", "learning_rate", "alpha", "beta1", "beta2", "epsilon", "pi"}
COMPARISONS = {ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥"}
UPDATES = {ast.Add: "+", ast.Sub: "−"}
# How tightly each binds: what binds less tightly than its surroundings stands in parentheses.
COMPARISON, BIG, SUM, PRODUCT, POWER, ATOM = range(6)  # BIG: an ∑ and what follows it
LIBRARIES = ("np", "jnp", "math")

T = TypeVar("T")


class Notation(ABC, Generic[T]):
    """Walks through the syntax tree, and asks a subclass for how each piece looks.

    `scalars` are the names that are known to be single numbers. Raises ValueError for what there is no way to write:
    nothing is ever written in part.
    """

    def __init__(self, scalars: Collection[str] = SCALARS) -> None:
        self.scalars = {"pi", *scalars}

    # -------------------------------------------------------------------------------- the pieces

    @abstractmethod
    def row(self, *parts: T | str) -> T: ...
    @abstractmethod
    def name(self, name: str) -> T: ...
    @abstractmethod
    def number(self, text: str) -> T: ...
    @abstractmethod
    def words(self, text: str) -> T: ...
    @abstractmethod
    def sign(self, sign: str, *, prefix: bool = False) -> T: ...
    @abstractmethod
    def beside(self, left: T, right: T) -> T: ...
    @abstractmethod
    def enclosed(self, opening: str, inside: T, closing: str) -> T: ...
    @abstractmethod
    def fraction(self, left: ast.expr, right: ast.expr) -> tuple[T, int]: ...
    @abstractmethod
    def power(self, base: T, exponent: T, tightness: int) -> T: ...
    @abstractmethod
    def exponential(self, exponent: T) -> tuple[T, int]: ...
    @abstractmethod
    def root(self, inside: T) -> T: ...
    @abstractmethod
    def below(self, base: T, index: T) -> T: ...
    @abstractmethod
    def big(self, sign: str, over: T | None) -> T: ...
    @abstractmethod
    def cases(self, choices: Sequence[tuple[T, T]]) -> T: ...

    # -------------------------------------------------------------------------------- statements

    def statement(self, node: ast.stmt) -> T:
        if isinstance(node, ast.Expr):
            return self.bare(node.value)
        if isinstance(node, ast.Assign):
            return self.joined([*map(self.bare, node.targets), self.factor(node.value, COMPARISON)], "=")
        if isinstance(node, ast.AugAssign) and type(node.op) in UPDATES:
            target, operator = self.bare(node.target), self.sign(UPDATES[type(node.op)])
            if isinstance(node.target, ast.Subscript):  # to be written once is enough
                return self.row(target, self.sign(f"{UPDATES[type(node.op)]}="), self.bare(node.value))
            return self.row(target, self.sign("←"), target, operator, self.at_least(node.value, PRODUCT))
        give_up(node)

    # -------------------------------------------------------------------------------- expressions

    def bare(self, node: ast.expr) -> T:
        return self.part(node)[0]

    def at_least(self, node: ast.expr, tightness: int) -> T:
        written, own = self.part(node)
        return written if own >= tightness else self.parentheses(written)

    def parentheses(self, inside: T) -> T:
        return self.enclosed("(", inside, ")")

    def part(self, node: ast.expr) -> tuple[T, int]:
        """What it looks like, and how tightly it binds."""
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
            case ast.Attribute(value=value, attr="T"):
                return self.power(self.at_least(value, ATOM), self.words("⊤"), ATOM), POWER
            case ast.Attribute(value=ast.Name(id=library), attr="inf") if library in LIBRARIES:
                return self.number("∞"), ATOM
            case ast.Attribute(value=ast.Name() | ast.Attribute(), attr=name):  # a field of a cache, say
                return self.name(name), ATOM
            case ast.Subscript(value=ast.Name(id="d"), slice=ast.Constant(value=str(name))):  # d["down.input"]
                return self.words(f"d {name}"), ATOM
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):  # parameters["W1"]
                return self.name(name), ATOM
            case ast.Subscript(value=value, slice=index):
                return self.indexed(value, index), ATOM
            case ast.Call():
                return self.call(node)
        give_up(node)

    def inner(self, element: ast.expr) -> T:
        """An entry of a tuple, which is in parentheses if it is a tuple itself."""
        return self.parentheses(self.bare(element)) if isinstance(element, ast.Tuple) else self.bare(element)

    def said_or(self, node: ast.expr) -> T:
        """The right side of a comparison, which may be a word."""
        match node:
            case ast.Constant(value=str(word)):
                return self.words(word)
        return self.at_least(node, BIG)

    def binary(self, node: ast.BinOp) -> tuple[T, int]:
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
        """A comparison that is a value is 1 where it is true, and else 0: an Iverson bracket."""
        if isinstance(node, ast.Compare):
            return self.enclosed("[", self.bare(node), "]")
        return self.at_least(node, tightness)

    def truth(self, node: ast.expr) -> T:
        return self.parentheses(self.bare(node)) if isinstance(node, ast.Compare) else self.at_least(node, BIG)

    def scalar(self, node: ast.expr) -> bool:
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
        """A function as mathematics writes it; a method is a function of what it belongs to."""
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
        if options.keys() - {"axis", "keepdims"}:  # any other may change what is computed
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
            case "total", [ast.Name(id=letters), value]:  # over indices
                return self.row(self.big("∑", self.letters(letters)), self.at_least(value, PRODUCT)), BIG
            case "times", [left, right]:  # of single numbers
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
        return self.row(self.words("if "), self.bare(node))

    def axis(self, node: ast.expr) -> T:
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
        """Indices, one letter each."""
        return self.joined([self.name(letter) for letter in letters], ",")

    def indexed(self, value: ast.expr, index: ast.expr) -> T:
        """x[i, :] with its index below; what only gives an array more axes is left out."""
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
        return self.row(*parts[:1], *(self.row(self.sign(sign), part) for part in parts[1:]))


def is_everything(entry: ast.expr) -> bool:
    if isinstance(entry, ast.Constant) and entry.value is ...:
        return True
    return isinstance(entry, ast.Slice) and (entry.lower, entry.upper, entry.step) == (None, None, None)


def give_up(node: ast.AST) -> NoReturn:
    raise ValueError(f"there is no way to write {ast.unparse(node)!r} as a formula here")


def statement_of(code: str) -> ast.stmt:
    """The one statement that the code is. Raises ValueError if it is anything else."""
    try:
        (statement,) = ast.parse(code.strip()).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{code!r} is not one statement of Python") from error
    return statement


class Plain(Notation[str]):
    """Text on one line: dh[t] = dy[t] + dh_next. Names are those of the source."""

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
    """The formula as text. Raises ValueError for what there is no way to write."""
    return Plain(scalars).statement(statement_of(code))
