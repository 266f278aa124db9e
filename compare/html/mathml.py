"""A line of code as the formula that it computes, in MathML: `dW = x.T @ dZ / m` and the like.

The code is read by Python itself. What it writes as a call or an operator becomes what mathematics writes for it: a
quotient a fraction, `np.exp(x)` a power, `@` two letters side by side, `*` between arrays ⊙ (entry by entry), a sum a
∑ with its axis below. Names carry their numbers as subscripts, Greek ones turn into letters, and a `d` before a name is
upright: dZ1, as in this project's formulas, is the gradient of the loss with respect to Z1.
"""

import ast
import re
from collections.abc import Iterable
from typing import NoReturn

from compare.html.page import Html, html, tag

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ"}
GREEK |= {"lambda": "λ", "mu": "μ", "sigma": "σ", "phi": "φ", "omega": "ω"}
# Known to be single numbers: a product with one of them is written without a sign.
SCALARS = {"m", "k", "t", "rate", "learning_rate", "alpha", "beta1", "beta2", "epsilon"}
COMPARISONS = {ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥"}
UPDATES = {ast.Add: "+", ast.Sub: "−"}
# How tightly each binds: what binds less tightly than its surroundings stands in parentheses.
COMPARISON, BIG, SUM, PRODUCT, POWER, ATOM = range(6)  # BIG: an ∑ and what follows it

Part = tuple[Html, int]  # and how tightly it binds


def formula(code: str, *, display: bool = False) -> Html:
    """One `<math>` for one statement or expression. Raises ValueError for what this module has no way to write."""
    try:
        (statement,) = ast.parse(code.strip()).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{code!r} is not one statement of Python") from error
    return tag("math", tag("mrow", _statement(statement)), display="block" if display else None)


def formulas(line: str) -> list[Html]:
    """One for each statement of a line; `;` and wide gaps are between them, and a comment is left out.

    Raises ValueError if there is one that cannot be written.
    """
    parts = re.split(r";|,\s{2,}", line.partition("#")[0])
    return [formula(part) for part in parts if part.strip()]


# ------------------------------------------------------------------------------------- statements


def _statement(node: ast.stmt) -> Html:
    if isinstance(node, ast.Expr):
        return _bare(node.value)
    if isinstance(node, ast.Assign):
        return _joined([_bare(side) for side in (*node.targets, node.value)], "=")
    if isinstance(node, ast.AugAssign) and type(node.op) in UPDATES:
        target = _bare(node.target)
        operator = UPDATES[type(node.op)]
        return html(target, _operator("←"), target, _operator(operator), _at_least(node.value, PRODUCT))
    _give_up(node)


# ------------------------------------------------------------------------------------- expressions


def _bare(node: ast.expr) -> Html:
    return _part(node)[0]


def _at_least(node: ast.expr, tightness: int) -> Html:
    written, own = _part(node)
    return written if own >= tightness else _parentheses(written)


def _part(node: ast.expr) -> Part:
    match node:
        case ast.Name(id=name):
            return _name(name), ATOM
        case ast.Constant(value=bool() | None):
            _give_up(node)
        case ast.Constant(value=int() | float() as number):
            return tag("mn", f"{number:g}"), ATOM
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            written, own = _part(operand)
            if own not in (BIG, PRODUCT, POWER, ATOM):
                written = _parentheses(written)
            return html(_operator("−", prefix=True), written), BIG if own == BIG else SUM
        case ast.BinOp():
            return _binary(node)
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in COMPARISONS:
            sign = _operator(COMPARISONS[type(operator)])
            return html(_at_least(left, BIG), sign, _at_least(right, BIG)), COMPARISON
        case ast.Tuple(elts=elements):
            return _joined(map(_bare, elements), ","), COMPARISON
        case ast.Attribute(value=value, attr="T"):
            return tag("msup", _boxed(_at_least(value, ATOM)), tag("mi", "⊤")), POWER
        case ast.Attribute(value=ast.Name(), attr=name):  # a field of a cache, say
            return _name(name), ATOM
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):  # parameters["W1"]
            return _name(name), ATOM
        case ast.Subscript(value=value, slice=index):
            return _indexed(value, index), ATOM
        case ast.Call():
            return _call(node)
    _give_up(node)


def _binary(node: ast.BinOp) -> Part:
    left, right = node.left, node.right
    match node.op:
        case ast.Add():
            return html(_at_least(left, SUM), _operator("+"), _at_least(right, PRODUCT)), SUM
        case ast.Sub():
            return html(_at_least(left, SUM), _operator("−"), _at_least(right, PRODUCT)), SUM
        case ast.Div():
            return tag("mfrac", _boxed(_bare(left)), _boxed(_bare(right))), POWER
        case ast.Pow():
            base = _at_least(left, ATOM)
            return tag("msup", _boxed(base), _boxed(_bare(right))), POWER
        case ast.MatMult():
            return _product(left, right, _operator("\N{INVISIBLE TIMES}", space="0.12em")), PRODUCT
        case ast.Mult():
            if isinstance(right, ast.Constant):
                return _product(left, right, _operator("·")), PRODUCT
            quiet = _scalar(left) or _scalar(right)
            return _product(left, right, _operator("\N{INVISIBLE TIMES}" if quiet else "⊙", space="0.12em")), PRODUCT
    _give_up(node)


def _product(left: ast.expr, right: ast.expr, sign: Html) -> Html:
    return html(_at_least(left, PRODUCT), sign, _at_least(right, POWER))


def _scalar(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name in SCALARS
        case ast.UnaryOp(operand=operand):
            return _scalar(operand)
        case ast.BinOp(left=left, right=right):
            return _scalar(left) and _scalar(right)
    return False


def _call(node: ast.Call) -> Part:
    """A function as mathematics writes it; a method is a function of what it belongs to."""
    function, arguments = node.func, list(node.args)
    if isinstance(function, ast.Attribute):
        if not (isinstance(function.value, ast.Name) and function.value.id in ("np", "jnp")):
            arguments.insert(0, function.value)
        name = function.attr
    elif isinstance(function, ast.Name):
        name = function.id
    else:
        _give_up(node)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if options.keys() - {"axis", "keepdims"}:  # any other may change what is computed
        _give_up(node)
    axis = tag("mtext", f"axis {options['axis']}") if "axis" in options else None
    match name, arguments:
        case "exp", [power]:
            return tag("msup", tag("mi", "e"), _boxed(_bare(power))), POWER
        case "sqrt", [value]:
            return tag("msqrt", _bare(value)), ATOM
        case "abs", [value]:
            return html(_operator("|"), _bare(value), _operator("|")), ATOM
        case "square", [value]:
            return tag("msup", _boxed(_at_least(value, ATOM)), tag("mn", "2")), POWER
        case "sum", [value]:
            big = tag("mo", "∑")
            below = tag("munder", big, axis) if axis is not None else big
            return html(below, _at_least(value, PRODUCT)), BIG
        case _, _:
            named = tag("mi", name)
            if axis is not None:
                named = tag("msub", named, axis)
            applied = _parentheses(_joined(map(_bare, arguments), ","))
            return html(named, _operator("\N{FUNCTION APPLICATION}"), applied), ATOM


def _indexed(value: ast.expr, index: ast.expr) -> Html:
    """x[i, :] with its index below; what only gives an array more axes is left out, and so is [...]."""
    base = _at_least(value, ATOM)
    entries = index.elts if isinstance(index, ast.Tuple) else [index]
    entries = [entry for entry in entries if not (isinstance(entry, ast.Constant) and entry.value in (None, ...))]
    if all(_is_everything(entry) for entry in entries):
        return base
    shown = [_operator("·") if _is_everything(entry) else _bare(entry) for entry in entries]
    return tag("msub", _boxed(base), tag("mrow", _joined(shown, ",")))


def _is_everything(entry: ast.expr) -> bool:
    return isinstance(entry, ast.Slice) and (entry.lower, entry.upper, entry.step) == (None, None, None)


# ------------------------------------------------------------------------------------------- pieces


def _name(name: str) -> Html:
    """dZ1: an upright d, and Z with 1 below; m_hat: m with a hat; beta1: β with 1 below."""
    if name.endswith("_hat") and len(name) > 4:
        return tag("mover", _name(name[:-4]), tag("mo", "^"))
    if re.fullmatch(r"d[A-Za-z]\w*", name) and (len(name.rstrip("0123456789")) == 2 or name[1].isupper()):
        return tag("mrow", tag("mi", "d", mathvariant="normal"), _name(name[1:]))
    letter, _, below = re.sub(r"^([A-Za-z]+)(\d+)$", r"\1_\2", name).partition("_")
    if len(letter) > 1 and letter not in GREEK and not below.isdigit():  # words: learning_rate
        return tag("mi", name.replace("_", " "))
    written = tag("mi", GREEK.get(letter, letter))
    if not below:
        return written
    return tag("msub", written, tag("mn" if below.isdigit() else "mi", below))


def _operator(sign: str, *, prefix: bool = False, space: str | None = None) -> Html:
    return tag("mo", sign, form="prefix" if prefix else None, lspace=space, rspace=space)


def _parentheses(inside: Html) -> Html:
    return tag("mrow", tag("mo", "("), inside, tag("mo", ")"))


def _boxed(part: Html) -> Html:
    """Where MathML counts children, a part has to be one."""
    return tag("mrow", part)


def _joined(parts: Iterable[Html], sign: str) -> Html:
    shown = list(parts)
    return html(*shown[:1], *(html(_operator(sign), part) for part in shown[1:]))


def _give_up(node: ast.AST) -> NoReturn:
    raise ValueError(f"there is no way to write {ast.unparse(node)!r} as a formula here")
