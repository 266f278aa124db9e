"""Code becomes the formula that it computes, with every pair of parentheses that its meaning needs and no other."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.html.mathml import formula, formulas
from compare.museum import EXHIBITS


def said(markup):
    """MathML in one line: a/b for a fraction, ^ and _ for what stands above and below."""

    def read(node):
        parts = [read(child) for child in node]
        name = node.tag
        if name == "mfrac":
            return f"[{parts[0]}/{parts[1]}]"
        if name in ("msup", "mover"):
            return f"{parts[0]}^{{{parts[1]}}}"
        if name in ("msub", "munder"):
            return f"{parts[0]}_{{{parts[1]}}}"
        if name == "msqrt":
            return f"√{{{''.join(parts)}}}"
        return "".join(parts) if parts else (node.text or "").replace("\N{INVISIBLE TIMES}", "×")

    return read(ElementTree.fromstring(markup)).replace("\N{FUNCTION APPLICATION}", "")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("dZ1 = dA1 * (1 - A1**2)", "dZ_{1}=dA_{1}⊙(1−A_{1}^{2})"),
        ("dW1 = dZ1 @ x.T", "dW_{1}=dZ_{1}×x^{⊤}"),
        ("db1 = dZ1.sum(axis=1, keepdims=True)", "db_{1}=∑_{axis 1}dZ_{1}"),
        ("dZ2 = (A2 - y) / m", "dZ_{2}=[A_{2}−y/m]"),
        ("A2 = 1 / (1 + np.exp(-Z2))", "A_{2}=[1/1+e^{−Z_{2}}]"),
        ("W1 -= rate * dW1", "W_{1}←W_{1}−rate×dW_{1}"),
        ("W -= a - b", "W←W−(a−b)"),
        ("m_hat = m / (1 - beta1**t)", "m^{^}=[m/1−β_{1}^{t}]"),
        ("J = -sum(y * np.log(P)) / m", "J=[−∑y⊙log(P)/m]"),
        ("parameters['W1'] @ x + v.b1", "W_{1}×x+b_{1}"),
        ("b[:, None] + x[..., 0] + x[i, :]", "b+x_{…,0}+x_{i,·}"),
        ("np.sqrt(np.abs(x)) * np.square(a + b)", "√{|x|}⊙(a+b)^{2}"),
        ("x.mean(axis=0)", "mean_{axis 0}(x)"),
        ("learning_rate * dlosses", "learning rate×dlosses"),
        ("f(x, y) == 0.5", "f(x,y)=0.5"),
        ("dy * (y > 0)", "dy⊙[y>0]"),
        ("c_before[t] + p[b, k]", "(c_{before})_{t}+p_{bk}"),
        ("Phi_prime + dx_down + dW_up", "Φ^{′}+dx_{down}+dW_{up}"),
        ("y = x[:, i * d : h]", "y=x[·,i×d:h]"),
        ("y = concatenate([a_i, b], axis=1)", "y=[a_{i},b]_{axis 1}"),
        ("x[ids] += dy", "x_{ids}+=dy"),
        ("RdZ1 = RW2.T @ dZ2", "RdZ_{1}=RW_{2}^{⊤}×dZ_{2}"),
    ],
)
def test_code_becomes_what_mathematics_writes(code, expected):
    assert said(formula(code)) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a - (b - c)", "a−(b−c)"),
        ("(a - b) - c", "a−b−c"),
        ("a + (b + c)", "a+(b+c)"),
        ("(a + b) * c", "(a+b)⊙c"),
        ("a * (b * c)", "a⊙(b⊙c)"),
        ("a @ (b + c)", "a×(b+c)"),
        ("(a * b) ** 2", "(a⊙b)^{2}"),
        ("-(a + b)", "−(a+b)"),
        ("(-x) ** 2", "(−x)^{2}"),
        ("-x ** 2", "−x^{2}"),
        ("a * -b", "a⊙(−b)"),
        ("a - -b", "a−(−b)"),
        ("(a / b) ** 2", "([a/b])^{2}"),
        ("(a @ b).T", "(a×b)^{⊤}"),
        ("a + -b", "a+(−b)"),
        ("-a + b", "−a+b"),
        ("-np.sum(a)", "−∑a"),
        ("b - np.sum(a)", "b−(∑a)"),
        ("np.sum(a + b)", "∑(a+b)"),
        ("c * np.sum(a)", "c⊙(∑a)"),
        ("np.sum(a) + c", "(∑a)+c"),
        ("x * (x == y)", "x⊙[x=y]"),
    ],
)
def test_parentheses_stand_where_the_meaning_needs_them(code, expected):
    assert said(formula(code)) == expected


@pytest.mark.parametrize(
    "code",
    [
        *("", "\0", "x =", "a; b", "a if b else c", "lambda x: x", "(lambda: 0)()", "import os", "x *= 2", "a // b"),
        *("a < b < c", "True", "'x'", "np.negative(a, out=b)"),
    ],
)
def test_what_cannot_be_written_is_refused_and_never_written_in_part(code):
    with pytest.raises(ValueError, match=r"formula|statement"):
        formula(code)


def test_a_line_is_as_many_formulas_as_it_has_statements():
    line = "dW = x.T @ dZ;  dx = dy + dZ    # a comment"
    assert list(map(said, formulas(line))) == ["dW=x^{⊤}×dZ", "dx=dy+dZ"]
    assert list(map(said, formulas("n = x * scale,  dn = f(dy, w)"))) == ["n=x⊙scale", "dn=f(dy,w)"]
    with pytest.raises(ValueError, match="statement"):
        formulas("a = 1;  b = mean over examples")


def test_a_name_is_never_markup():
    written = formula("ℵ < µ_hat")
    assert "&lt;" in written
    assert ElementTree.fromstring(written) is not None


NAMES = st.sampled_from(["x", "dZ1", "A1", "m", "rate", "2", "0.5"])
CODE = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda code: f"(-{code})"),
        inner.map(lambda code: f"np.sum({code}, axis=0)"),
    ),
    max_leaves=8,
)


@given(CODE)
@settings(deadline=None)  # a machine may be busy
def test_a_formula_read_back_has_the_value_of_its_code(code):
    """An ∑ is taken for a factor of 1.7, which binds as it does."""
    read = re.sub(r"_\{(\d)\}", r"\1", said(formula(code))).replace("∑_{axis 0}", "1.7*")
    read = re.sub("[×⊙·]", "*", read).replace("−", "-").replace("^{", "**(").replace("}", ")")
    read = read.replace("[", "((").replace("/", ")/(").replace("]", "))")
    assert value(read) == pytest.approx(value(code.replace("np.sum", "total")), rel=1e-9, nan_ok=True)


def value(code):
    names = {"x": 1.1, "dZ1": 1.37, "A1": 0.71, "m": 1.9, "rate": 0.83}
    try:
        result = eval(code, {"total": lambda value, axis: 1.7 * value}, names)
    except (OverflowError, ZeroDivisionError):
        return float("nan")
    return result if isinstance(result, int | float) else float("nan")  # of a negative number's root


def test_most_of_the_museums_lines_are_formulas():
    written = 0
    for exhibit in EXHIBITS.values():
        try:
            for line in (exhibit.wrong, exhibit.right):
                for markup in formulas(line):
                    ElementTree.fromstring(markup)
            written += 1
        except ValueError:
            continue
    assert written >= 25
