"""Arguments that are no arrays stay what they are, on the side that wants them so."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from compare import Verdict, check_gradients
from compare.errors import BadInput
from compare.judge.evaluation.static_arguments import (
    as_hand_has_it,
    as_loss_has_it,
    bind,
    is_fixed,
    places,
    positional_names,
)

W = np.random.default_rng(0).normal(size=3)
X = np.random.default_rng(1).normal(size=(5, 3)) * (np.random.default_rng(2).random((5, 3)) > 0.5)


class Frame:
    """What a data frame of any library has: columns, a shape, and NumPy on demand."""

    def __init__(self, values):
        self.values, self.shape, self.columns = values, values.shape, ["a", "b", "c"]

    def to_numpy(self):
        return self.values

    def __getitem__(self, name):
        return self.values[:, self.columns.index(name)]


@pytest.mark.parametrize("value", [True, "mean", b"x", len, np.sum, lambda x: x, sparse.eye(2), Frame(X)])
def test_what_is_fixed_by_what_it_is(value):
    assert is_fixed(value)


@pytest.mark.parametrize("value", [1, 2.5, 1j, np.ones(2), np.float32(1), [1.0], {"a": np.ones(1)}, None, jnp.ones(2)])
def test_what_is_not(value):
    assert not is_fixed(value)


def test_names_and_places_choose():
    names = ["w", "x", "n"]
    assert places((X, 3), ["n"], names) == [False, True]
    assert places((X, 3), [2], names) == [False, True]
    assert places((X, 3), "n", names) == [False, True]
    assert places((X, True), (), names) == [False, True]
    for wrong in ("m", "w", 0, 3):
        with pytest.raises(BadInput, match=r"static names .* but the arguments are x, n"):
            places((X, 3), [wrong], names)


@given(st.lists(st.booleans(), max_size=5))
def test_the_others_are_bound_in_their_places(fixed):
    arguments = tuple(range(len(fixed)))
    function = bind(lambda parameters, *args: (parameters, args), arguments, fixed, lambda one: one)
    moving = [one for one, still in zip(arguments, fixed, strict=True) if not still]
    assert function("p", *moving) == ("p", arguments)


def test_tables_are_arrays_for_the_loss_and_copies_for_the_hand():
    matrix = sparse.csr_matrix(X)
    np.testing.assert_array_equal(as_loss_has_it(matrix), X)
    np.testing.assert_array_equal(as_loss_has_it(Frame(X)), X)
    assert as_loss_has_it("mean") == "mean"
    copied = as_hand_has_it(matrix)
    copied.data[:] = 0
    np.testing.assert_array_equal(matrix.toarray(), X)


def mean_or_sum(w, x, reduction, fault=1.0):
    r = x @ w
    scale = 1 / len(r) if reduction == "mean" else 1.0
    return scale * np.sum(r**2), fault * scale * 2 * x.T @ r


def loss(w, x, reduction):
    return (jnp.mean if reduction == "mean" else jnp.sum)((x @ w) ** 2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("fault", [1.0, 1.1])
@pytest.mark.parametrize("reference", [loss, None])
def test_a_string_reaches_both_sides(reduction, fault, reference):
    report = check_gradients(lambda w, x, r: mean_or_sum(w, x, r, fault), reference, W, X, reduction)
    assert report.verdict is (Verdict.AGREE if fault == 1 else Verdict.DISAGREE)


@pytest.mark.parametrize("fault", [1.0, -1.0])
def test_a_length_that_is_named_stays_a_number(fault):
    def by_hand(w, n):
        return np.sum(w[:n] ** 2), fault * 2 * w * (np.arange(len(w)) < n)

    def reference(w, n):
        assert isinstance(n, int)
        return jnp.sum(w[:n] ** 2)

    for static in (["n"], [1]):
        report = check_gradients(by_hand, reference, W, 2, static=static)
        assert report.verdict is (Verdict.AGREE if fault == 1 else Verdict.DISAGREE)


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix, Frame], ids=str)
@pytest.mark.parametrize("fault", [1.0, 1.1])
def test_tables_reach_the_hand_as_they_are(make, fault):
    def by_hand(w, x):
        assert type(x) is type(make(X))
        dense = x.toarray() if sparse.issparse(x) else np.stack([x[name] for name in x.columns], axis=1)
        return np.sum((dense @ w) ** 2), fault * 2 * dense.T @ (dense @ w)

    report = check_gradients(by_hand, lambda w, x: jnp.sum((x @ w) ** 2), W, make(X))
    assert report.verdict is (Verdict.AGREE if fault == 1 else Verdict.DISAGREE)


def test_a_function_is_passed_through():
    report = check_gradients(
        lambda w, f: (f(w), np.cos(w)), lambda w, f: jnp.sum(jnp.sin(w)), W, lambda w: np.sum(np.sin(w))
    )
    assert report.verdict is Verdict.AGREE


def test_a_sparse_matrix_that_is_written_into_stays_the_callers():
    def writes(w, x):
        value = np.sum((x @ w) ** 2), 2 * x.T @ (x @ w)
        x.data[:] = 0
        return value

    matrix = sparse.csr_matrix(X)
    check_gradients(writes, lambda w, x: jnp.sum((x @ w) ** 2), W, matrix)
    np.testing.assert_array_equal(matrix.toarray(), X)


def test_the_names_of_positional_arguments_as_far_as_a_function_tells_them():
    assert positional_names(lambda x, /, y, *rest, option=1: None, 3) == ["x", "y"]
    assert positional_names(lambda x, y: None, 1) == ["x"]
    assert positional_names(min, 2) == []  # of which Python knows no signature
