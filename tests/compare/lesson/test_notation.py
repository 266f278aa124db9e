"""Formulas as text: what the code says, with the parentheses that its meaning needs."""

import pytest

from compare.lesson.notation import plain


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("dx = dy @ W.T", "dx = dy Wᵀ"),
        ("dx = (g - mean(g, axis=-1)) / s", "dx = (g − mean[last axis](g)) / s"),
        ("p = a / (b / c)", "p = a / (b / c)"),
        ("p = a / b / c", "p = a / b / c"),
        ("p = a - b / (c + d)", "p = a − b / (c + d)"),
        ("p = exp(-(t**2) / 2)", "p = exp(−t² / 2)"),
        ("p = (a / b) ** n", "p = (a / b)^n"),
        ("p = a ** (b + 1)", "p = a^(b + 1)"),
        ("db = ones.T @ dy", "db = 𝟏ᵀ dy"),
        ("y = where(x > 0, dy, -dy)", "y = dy if x > 0, −dy otherwise"),
        ("y = (x == y) & (z < 1)", "y = (x = y) ∧ (z < 1)"),
        ("dv[b, k] = total(q, times(p[b, q, k], do[b, q]))", "dv_bk = ∑[q] p_bqk do_bq"),
        ("h_before[t] = h[:, :-1]", "h_before[t] = h[·, all but the last]"),
        ("x[:, i * d : i * d + n : s] += y[..., i, j]", "x[·, i d:i d + n:s] += y[…, i, j]"),
        ("a = b - sum(c, axis=(0, 1))", "a = b − (∑[axes 0, 1] c)"),
        ("a = [b, c]", "a = [b, c]"),
        ("(a, b), c = d", "(a, b), c = d"),
        ("a = x[:, None] * y[...]", "a = x ⊙ y"),
    ],
)
def test_code_becomes_a_line_of_text(code, expected):
    assert plain(code) == expected


def test_a_product_with_a_number_has_no_sign():
    assert plain("y = a * b") == "y = a ⊙ b"
    assert plain("y = a * b", {"a"}) == plain("y = a * b", {"b"}) == "y = a b"
    assert plain("y = m * b", set()) == "y = m ⊙ b"  # of these names nothing is known


@pytest.mark.parametrize(
    "code", ["y = f(x, dtype=a)", "y = lambda: x", "y = x if a else b", "y = 'x'", "for i in x: y"]
)
def test_what_cannot_be_written_is_refused(code):
    with pytest.raises(ValueError, match="cannot be written as a formula"):
        plain(code)
