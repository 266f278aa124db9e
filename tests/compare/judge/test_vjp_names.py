"""check_vjp's `names`: leaves go by them, in the order of the inputs, and those that cannot be used are refused."""

import re

import numpy as np
import pytest

from compare import Verdict, assert_vjp_agrees, check_vjp
from tests.compare.judge.norms import drawn, layer_norm, layer_norm_backward, layer_norm_forward, sigma_constant


def test_inputs_go_by_their_names_in_their_order():
    inputs = drawn((5, 6), (6,))
    report = check_vjp(layer_norm_forward, sigma_constant, layer_norm, *inputs, names=("x", "gain"))
    assert report.first_wrong == "x"
    assert [row.path for row in report.rows] == ["output", "x", "gain"]  # though "gain" is the first in an alphabet
    assert "the gradient of x" in report.sentence
    assert_vjp_agrees(layer_norm_forward, layer_norm_backward, layer_norm, *inputs, names=["x", "gain"])


def test_what_is_no_array_has_a_name_and_no_row():
    def forward(table, ids, scale):
        return table[ids] * scale, (table, ids, scale)

    def backward(dy, cache):
        table, ids, scale = cache
        d_table = np.zeros_like(table)
        np.add.at(d_table, ids, dy * scale)
        return d_table, None, np.sum(dy * table[ids], axis=0)

    table, scale = drawn((4, 3), (3,))
    given = (table, np.array([2, 0, 2]), scale)
    names = ("table", "ids", "scale")
    report = check_vjp(forward, backward, lambda table, ids, scale: table[ids] * scale, *given, names=names)
    assert report.verdict is Verdict.AGREE
    assert {row.path for row in report.rows} == {"output", "table", "scale"}


def product_forward(x, w):
    return x * w, (x, w)


@pytest.mark.parametrize(("count", "path", "message"), [(1, "w", "missing"), (3, "gradient_2", "no leaf of this name")])
def test_a_gradient_that_is_missing_or_too_many_is_named(count, path, message):
    def backward(dy, cache):
        return (dy * cache[1], dy * cache[0], dy)[:count]

    report = check_vjp(product_forward, backward, lambda x, w: x * w, *drawn((3,), (3,)), names=("x", "w"))
    assert (report.verdict, report.first_wrong) == (Verdict.DISAGREE, path)
    assert re.search(rf"the gradient of {path}: .*{message}", report.sentence)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x",), "one name for each of the 2 inputs, but it holds 1"),
        ("xy", "a sequence of names, one for each input, got 'xy'"),
        (("x", "x"), "names must be different from each other, got x, x"),
        (("x", 1), r"a sequence of names, one for each input, got \('x', 1\)"),
        (("x", "not one"), "names must be valid argument names that do not begin with _, got 'not one'"),
        (("x", "class"), "got 'class'"),
        (("x", "_y"), "got '_y'"),
        (("x", "y", "z"), "one name for each of the 2 inputs, but it holds 3"),
    ],
)
def test_names_that_cannot_be_used_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        check_vjp(layer_norm_forward, layer_norm_backward, layer_norm, *drawn((5, 6), (6,)), names=names)
