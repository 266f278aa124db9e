"""check_hessian and check_hvp: second derivatives of functions that nobody here wrote, and known faults."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy import sparse
from scipy.optimize import rosen_hess, rosen_hess_prod
from scipy.sparse.linalg import aslinearoperator
from sklearn.linear_model._linear_loss import LinearModelLoss

import compare
from compare import GradientMismatch, Verdict, check_hessian, check_hvp

X = np.random.default_rng(1).normal(size=5)
DATA = np.random.default_rng(2).normal(size=(30, 4))
LABELS = (DATA[:, 0] + np.random.default_rng(3).normal(size=30) > 0) * 1.0


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def logistic(w, x, y):
    z = x @ w
    return jnp.sum(jnp.logaddexp(0, z) - y * z)


def logistic_hessian(w, x, y):
    p = scipy.special.expit(x @ w)
    return (x * (p * (1 - p))[:, None]).T @ x


def least_squares(w, x, y):
    return jnp.sum((jnp.tanh(x @ w) - y) ** 2)


def least_squares_hessian(w, x, y):
    t = np.tanh(x @ w)
    slope = 1 - t**2
    return (x * (2 * slope**2 - 4 * (t - y) * t * slope)[:, None]).T @ x


def gauss_newton(w, x, y):
    """Without the residuals' own second derivatives."""
    slope = 1 - np.tanh(x @ w) ** 2
    return (x * (2 * slope**2)[:, None]).T @ x


def entry(h):
    h[1, 2] *= 1.1
    return h


FAULTS = {
    "off-diagonal doubled": (lambda h: 2 * h - np.diag(np.diag(h)), "off-diagonal-doubled"),
    "off-diagonal halved": (lambda h: (h + np.diag(np.diag(h))) / 2, "off-diagonal-halved"),
    "upper triangle": (np.triu, "triangle"),
    "lower triangle": (np.tril, "triangle"),
    "one entry": (entry, "single-entry"),
    "not symmetric": (entry, "not-symmetric"),
    "the diagonal alone": (lambda h: np.diag(np.diag(h)), None),
    "a sign": (lambda h: -h, "sign"),
    "half": (lambda h: h / 2, "factor"),
    "a ridge": (lambda h: h + 1e-3 * np.eye(5), None),
    "the pattern": (
        lambda h: sparse.csr_array(np.triu(h) * (abs(np.arange(5)[:, None] - np.arange(5)) < 2)),
        "pattern",
    ),
    "the inverse": (np.linalg.inv, None),
    "one row": (lambda h: h * (np.arange(5) != 2)[:, None], None),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_hessian_are_caught(name):
    change, kind = FAULTS[name]
    report = check_hessian(lambda x: change(rosen_hess(x)), rosenbrock, X)
    assert report.verdict is Verdict.DISAGREE
    if kind is not None:
        assert kind in [cause.kind for cause in report.diagnoses]


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_the_same_faults_are_caught_by_products_with_a_vector(name):
    report = check_hvp(lambda x, v: FAULTS[name][0](rosen_hess(x)) @ v, rosenbrock, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


SOUND = {
    "rosen_hess": lambda: check_hessian(rosen_hess, rosenbrock, X),
    "rosen_hess, sparse": lambda: check_hessian(lambda x: sparse.csr_array(rosen_hess(x)), rosenbrock, X),
    "rosen_hess, an operator": lambda: check_hessian(lambda x: aslinearoperator(rosen_hess(x)), rosenbrock, X),
    "rosen_hess_prod": lambda: check_hvp(rosen_hess_prod, rosenbrock, X),
    "rosen_hess_prod at ones": lambda: check_hvp(rosen_hess_prod, rosenbrock, np.ones(7)),
    "rosen_hess_prod of 20": lambda: check_hvp(rosen_hess_prod, rosenbrock, np.linspace(-2, 2, 20)),
    "logistic": lambda: check_hessian(logistic_hessian, logistic, np.ones(4) / 3, DATA, LABELS),
    "least squares": lambda: check_hessian(least_squares_hessian, least_squares, np.ones(4) / 3, DATA, LABELS),
    "a quadratic": lambda: check_hvp(lambda p, v: v, lambda p: jnp.sum(p**2) / 2, X),
    "a linear function": lambda: check_hessian(lambda x: np.zeros((5, 5)), lambda x: jnp.sum(x), X),
    "a tree": lambda: check_hvp(
        lambda p, v: {"a": v["b"] * p["b"] * 2 + 0 * p["a"], "b": 2 * p["b"] * v["a"] + 2 * p["a"] * v["b"]},
        lambda p: jnp.sum(p["a"] * p["b"] ** 2), {"a": X, "b": X[::-1].copy()}),
    "float32": lambda: check_hvp(
        lambda x, v: 12 * x**2 * v, lambda x: jnp.sum(x**4), X.astype(np.float32)),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", SOUND)
def test_sound_second_derivatives_agree(name):
    report = SOUND[name]()
    assert report.verdict is Verdict.AGREE, str(report)


def test_scikit_learns_product_with_the_hessian_agrees():
    """Of its logistic regression, as its Newton-CG solver has it."""
    from sklearn._loss import HalfBinomialLoss

    model = LinearModelLoss(base_loss=HalfBinomialLoss(), fit_intercept=False)
    x, y = np.ascontiguousarray(DATA), np.ascontiguousarray(LABELS)

    def product(w, v):
        return model.gradient_hessian_product(w, x, y, l2_reg_strength=0.1)[1](v)

    def loss(w):
        return logistic(w, x, y) / len(y) + 0.05 * jnp.sum(w**2)

    assert check_hvp(product, loss, np.ones(4) / 3).verdict is Verdict.AGREE
    doubled = check_hvp(product, lambda w: loss(w) + 0.05 * jnp.sum(w**2), np.ones(4) / 3)
    assert doubled.verdict is Verdict.DISAGREE


def test_gauss_newton_is_not_the_hessian():
    report = check_hessian(gauss_newton, least_squares, np.ones(4) / 3, DATA, LABELS)
    assert report.verdict is Verdict.DISAGREE
    where = np.arctanh(np.clip(LABELS, 0.1, 0.9))  # no residuals, where it is
    report = check_hessian(
        gauss_newton, least_squares, np.ones(4), np.diag(where[:4]), np.tanh(where[:4]), probes=False
    )
    assert report.verdict is Verdict.AGREE


def test_the_path_through_the_first_derivative_is_missed():
    """A double backward that takes the slope for a constant."""
    report = check_hvp(lambda x, v: 0 * v, lambda x: jnp.sum(jnp.tanh(x)), X)
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.parametrize("index", range(4))
def test_a_fault_in_one_leaf_is_found_there(index):
    names = "abcd"

    def loss(p):
        return sum(jnp.sum(jnp.cosh(p[name])) for name in names)

    def product(p, v):
        return {name: np.cosh(p[name]) * v[name] * (1.02 if name == names[index] else 1) for name in names}

    report = check_hvp(product, loss, {name: X + i for i, name in enumerate(names)})
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == [names[index]]


BAD = {
    "a hessian of another shape": lambda: check_hessian(lambda x: np.eye(4), rosenbrock, X),
    "a hessian of nothing": lambda: check_hessian(lambda x: None, rosenbrock, X),
    "a hessian at whole numbers": lambda: check_hessian(rosen_hess, rosenbrock, np.arange(4)),
    "parameters that are whole numbers": lambda: check_hvp(rosen_hess_prod, rosenbrock, np.arange(4)),
    "complex parameters": lambda: check_hvp(lambda z, v: 2 * v, lambda z: jnp.sum(jnp.abs(z) ** 2), X + 1j),
    "a hessian at complex numbers": lambda: check_hessian(rosen_hess, lambda z: jnp.sum(jnp.abs(z) ** 2), X + 1j),
    "no parameters": lambda: check_hvp(lambda p, v: v, lambda p: 0.0, {}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name):
    with pytest.raises(compare.errors.BadInput, match=r"\.$"):
        BAD[name]()


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"must return one floating-point number.*Sum or average it"):
        check_hessian(rosen_hess, lambda x: x, X)
    with pytest.raises(TypeError, match=r"must return one floating-point number.*Sum or average it"):
        check_hvp(rosen_hess_prod, lambda x: x, X)
    with pytest.raises(TypeError, match="a tuple of 2"):
        check_hessian(rosen_hess, lambda x: (jnp.sum(x), x), X)
    with pytest.raises(TypeError, match="a tuple of 2"):
        check_hvp(rosen_hess_prod, lambda x: (jnp.sum(x), x), X)


def test_a_product_that_is_missing_is_a_wrong_structure():
    report = check_hvp(lambda x, v: None, rosenbrock, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "structure"


def test_the_assertions_raise_what_the_reports_say():
    compare.assert_hvp_agrees(rosen_hess_prod, rosenbrock, X)
    compare.assert_hessian_agrees(rosen_hess, rosenbrock, X)
    with pytest.raises(GradientMismatch):
        compare.assert_hvp_agrees(lambda x, v: -rosen_hess_prod(x, v), rosenbrock, X)
    with pytest.raises(GradientMismatch):
        compare.assert_hessian_agrees(lambda x: -rosen_hess(x), rosenbrock, X)
