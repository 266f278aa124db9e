"""check_jacobian: dense, sparse and by products, with faults that only matrices have."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import approx_fprime, rosen, rosen_der, rosen_hess
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import compare
from compare import GradientMismatch, Verdict, check_jacobian

Operator: Any = LinearOperator  # whose stubs lack its keywords
hessian: Any = rosen_hess
slope: Any = rosen_der
A = np.random.default_rng(0).normal(size=(5, 5))
X = np.random.default_rng(1).normal(size=5)


def function(x):
    return jnp.tanh(A @ x)


def right(x):
    return (1 - np.tanh(A @ x) ** 2)[:, None] * A


def rosenbrock_gradient(x):
    """SciPy's `rosen_der`, in JAX."""
    return jnp.concatenate(
        [
            -400 * x[:1] * (x[1:2] - x[:1] ** 2) - 2 * (1 - x[:1]),
            200 * (x[1:-1] - x[:-2] ** 2) - 400 * (x[2:] - x[1:-1] ** 2) * x[1:-1] - 2 * (1 - x[1:-1]),
            200 * (x[-1:] - x[-2:-1] ** 2),
        ]
    )


def changed(change, jacobian=right):
    def wrong(x):
        matrix = jacobian(x)
        found = change(matrix)
        return matrix if found is None else found

    return wrong


def put(matrix, index, value):
    matrix[index] = value


DENSE = {
    "transposed": (lambda m: m.T.copy(), "transpose"),
    "off-diagonal doubled": (lambda m: 2 * m - np.diag(np.diag(m)), "off-diagonal-doubled"),
    "off-diagonal halved": (lambda m: (m + np.diag(np.diag(m))) / 2, "off-diagonal-halved"),
    "upper triangle": (np.triu, "triangle"),
    "lower triangle": (np.tril, "triangle"),
    "one entry": (lambda m: put(m, (1, 3), 1.5 * m[1, 3]), "single-entry"),
    "one entry of zero": (lambda m: put(m, (2, 2), 0.0), "zeros"),
    "twice": (lambda m: 2 * m, "factor"),
    "a sign": (lambda m: -m, "sign"),
    "an output's row": (lambda m: put(m, 2, -m[2]), None),
    "an input's column": (lambda m: put(m, (slice(None), 1), 0.0), "zeros"),
    "rows turned": (lambda m: m[::-1].copy(), None),
    "one part in a million": (lambda m: m * (1 + 1e-6), None),
    "one row's rounding": (lambda m: m.astype(np.float32).astype(float), None),
    "not a number": (lambda m: put(m, (0, 0), np.nan), "non-finite"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", DENSE)
def test_faults_of_a_dense_jacobian_are_caught(name):
    change, kind = DENSE[name]
    report = check_jacobian(changed(change), function, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "matrix"
    assert report.wrong_side == "manual"
    if kind is not None:
        assert kind in [cause.kind for cause in report.diagnoses]


@pytest.mark.sweep
@pytest.mark.parametrize("name", DENSE)
def test_the_same_faults_are_caught_by_products(name):
    report = check_jacobian(changed(DENSE[name][0]), function, X, entries=False)
    assert report.verdict is Verdict.DISAGREE
    assert "transpose" not in [cause.kind for cause in report.diagnoses] or name == "transposed"


def lacking(m):
    m[0, 1] = 0
    return sparse.csr_matrix(m)


def outside(x):
    matrix = sparse.lil_matrix(rosen_hess(x))
    matrix[0, 4] = 3.0
    return matrix.tocsr()


def test_entries_that_a_pattern_lacks_are_named():
    report = check_jacobian(lambda x: sparse.diags(np.diag(hessian(x))), rosenbrock_gradient, X)
    (cause,) = report.diagnoses
    assert cause.kind == "pattern"
    assert "lacks [0, 1] and 7 more entries" in cause.message
    assert "[0, 1]" in check_jacobian(changed(lacking), function, X).diagnoses[0].message


def test_entries_outside_of_the_true_pattern_are_named():
    (cause,) = check_jacobian(outside, rosenbrock_gradient, X).diagnoses
    assert cause.kind == "pattern"
    assert "should not have [0, 4]" in cause.message


def test_an_entry_that_is_declared_and_zero_is_no_fault():
    def declared(x):
        matrix = sparse.coo_matrix(rosen_hess(x))
        places = (np.append(matrix.row, 0), np.append(matrix.col, 4))
        return sparse.coo_matrix((np.append(matrix.data, 0.0), places), (5, 5))

    assert check_jacobian(declared, rosenbrock_gradient, X).verdict is Verdict.AGREE


def test_a_sparse_matrix_with_a_wrong_number_is_not_called_a_pattern():
    report = check_jacobian(changed(lambda m: sparse.csr_matrix(1.1 * m)), function, X)
    assert report.verdict is Verdict.DISAGREE
    assert "pattern" not in [cause.kind for cause in report.diagnoses]


def operator(product, transposed):
    return lambda x: Operator((5, 5), matvec=product(right(x)), rmatvec=transposed(right(x)), dtype=float)


def by(change):
    return lambda m: lambda v: change(m) @ v


PRODUCTS = {
    "J v": (operator(by(lambda m: 2 * m), by(lambda m: m.T)), "adjoint"),
    "J' u": (operator(by(lambda m: m), by(lambda m: 2 * m.T)), "adjoint"),
    "J' u is J u": (operator(by(lambda m: m), by(lambda m: m)), "adjoint"),
    "J' u is -J' u": (operator(by(lambda m: m), by(lambda m: -m.T)), "adjoint"),
    "the two in each other's place": (lambda x: aslinearoperator(right(x).T.copy()), "transpose"),
    "both doubled": (lambda x: aslinearoperator(2 * right(x)), "factor"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", PRODUCTS)
def test_faults_of_an_operator_are_caught(name):
    jacobian, kind = PRODUCTS[name]
    report = check_jacobian(jacobian, function, X)
    assert report.verdict is Verdict.DISAGREE
    assert kind in [cause.kind for cause in report.diagnoses]


SOUND = {
    "dense": (right, function, X),
    "Fortran's order": (lambda x: np.asfortranarray(right(x)), function, X),
    "a list of lists": (lambda x: right(x).tolist(), function, X),
    "csr": (lambda x: sparse.csr_matrix(right(x)), function, X),
    "csc array": (lambda x: sparse.csc_array(right(x)), function, X),
    "coo with entries given twice": (
        lambda x: sparse.coo_array((np.r_[x / 2, x / 2], (np.r_[:5, :5], np.r_[:5, :5]))), lambda x: x**2 / 2, X),
    "an operator": (lambda x: aslinearoperator(right(x)), function, X),
    "SciPy's rosen_hess": (rosen_hess, rosenbrock_gradient, X),
    "wide": (lambda x: (right(x) + 0)[:2], lambda x: function(x)[:2], X),
    "tall": (lambda x: np.r_[right(x), right(x)], lambda x: jnp.concatenate([function(x)] * 2), X),
    "one output": (lambda x: slope(x)[None], lambda x: jnp.sum(
        100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2, keepdims=True), X),
    "shapes of its own": (
        lambda x: np.einsum("ij,kl->ikjl", np.eye(2), np.eye(3)) * 3.0, lambda x: 3 * x, np.ones((2, 3))),
    "float32": (lambda x: right(x).astype(np.float32), lambda x: jnp.tanh(A.astype(np.float32) @ x),
                X.astype(np.float32)),
    "a zero matrix": (lambda x: np.zeros((5, 5)), lambda x: 0 * x, X),
    "ReLU": (lambda x: np.diag((x > 0) * 1.0), lambda x: jnp.maximum(x, 0), X),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", SOUND)
def test_sound_jacobians_agree(name):
    report = check_jacobian(*SOUND[name])
    assert report.verdict is Verdict.AGREE, str(report)


def test_scipys_differences_are_not_taken_for_the_derivative():
    """They are right to 1e-8, and a derivative in float64 is not."""
    report = check_jacobian(lambda x: np.atleast_2d(np.asarray(approx_fprime(x, rosen))), lambda x: jnp.sum(
        100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2, keepdims=True), X)  # fmt: skip
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.campaign
@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 99), entries=st.booleans())
def test_linear_functions_agree_and_their_sign_does_not(rows, columns, seed, entries):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    x = np.ones(columns)
    assert check_jacobian(lambda x: matrix, lambda x: matrix @ x, x, entries=entries).verdict is Verdict.AGREE
    assert check_jacobian(lambda x: -matrix, lambda x: matrix @ x, x, entries=entries).verdict is Verdict.DISAGREE


@pytest.mark.sweep
@pytest.mark.parametrize("wrong", [False, True])
def test_a_hundred_thousand_unknowns_are_judged_by_products(wrong):
    n = 100_000

    def jacobian(x):
        values = 3 * x**2
        values[7777] *= 1.5 if wrong else 1
        return sparse.diags(values)

    report = check_jacobian(jacobian, lambda x: x**3, np.linspace(-1, 1, n))
    assert report.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE)
    if wrong:
        assert any("[7777]" in cause.message for cause in report.diagnoses)


BAD = {
    "another shape": (lambda x: right(x)[:3], function, X, r"must have the shape \(5, 5\)"),
    "a pattern of another shape": (lambda x: sparse.eye(3), function, X, r"must have the shape \(5, 5\)"),
    "the transpose's shape": (lambda x: np.ones((5, 2)), lambda x: x[:2], X, "That is the shape of the transpose"),
    "an operator of another shape": (lambda x: aslinearoperator(np.eye(4)), function, X, "must have the shape"),
    "nothing": (lambda x: None, function, X, "jacobian must return an array"),
    "whole numbers": (right, function, np.arange(5), "must be an array of floating-point numbers"),
    "complex numbers": (right, function, X + 1j, "checked by check_gradients and check_vjp only"),
    "complex outputs": (right, lambda x: 1j * x, X, "checked by check_gradients and check_vjp only"),
    "two outputs": (right, lambda x: (x, x), X, "must return one array"),
    "no rmatvec": (lambda x: Operator((5, 5), matvec=lambda v: v, dtype=float), function, X, "without rmatvec"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name):
    jacobian, function, x, message = BAD[name]
    with pytest.raises(compare.errors.BadInput, match=message):
        check_jacobian(jacobian, function, x)


def test_entries_of_an_operator_cannot_be_asked_for():
    with pytest.raises(ValueError, match="has no entries to compare"):
        check_jacobian(lambda x: aslinearoperator(right(x)), function, X, entries=True)


def test_further_arguments_reach_both_sides():
    report = check_jacobian(lambda x, k: k * right(x), lambda x, k: k * function(x), X, 2.5)
    assert report.verdict is Verdict.AGREE


def test_the_assertion_raises_what_the_report_says():
    compare.assert_jacobian_agrees(right, function, X)
    with pytest.raises(GradientMismatch, match="transposed"):
        compare.assert_jacobian_agrees(lambda x: right(x).T, function, X)
