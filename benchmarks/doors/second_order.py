"""Cases of check_hvp and check_hessian: SciPy, scikit-learn, statsmodels, HIPS autograd, and reported faults.

statsmodels is in the optional group `real`, which needs an environment of its own. Without it, its models are skipped.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

import importlib.util
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from benchmarks.doors.case import Case, planted, unchanged
from compare import check_hessian, check_hvp

X = np.array([0.5, -1.0, 2.0, 0.1])
DATA = np.random.default_rng(2).standard_normal((30, 4))
LABELS = (DATA[:, 0] + np.random.default_rng(3).standard_normal(30) > 0) * 1.0
COUNTS = np.random.default_rng(4).poisson(2.0, 30) * 1.0


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# By name: a formula in terms of a module like NumPy, autograd's or JAX's.
FORMULAS: dict[str, Any] = {
    "logistic regression": lambda np, w: np.sum(np.logaddexp(0, DATA @ w) - LABELS * (DATA @ w)),
    "Poisson regression": lambda np, w: np.sum(np.exp(DATA @ w) - COUNTS * (DATA @ w)),
    "least squares through tanh": lambda np, w: np.sum((np.tanh(DATA @ w) - LABELS) ** 2),
    "a Gaussian's logarithm": lambda np, w: np.log(1 + np.sum(w**2)),
    "Student's t": lambda np, w: 2 * np.sum(np.log(1 + (DATA @ w - LABELS) ** 2 / 3)),
    "log-sum-exp": lambda np, w: np.log(np.sum(np.exp(DATA @ w))),
    "a log determinant": lambda np, w: np.linalg.slogdet(np.eye(4) * 3 + np.outer(w, w))[1],
    "a network's layer": lambda np, w: np.mean((np.sin(DATA @ w) * np.tanh(DATA @ w)) ** 2),
}


def hvps() -> Iterator[Case]:
    def of_rosen(change: Any) -> Any:
        return check_hvp(lambda x, v: change(scipy.optimize.rosen_hess_prod(x, v)), rosenbrock, X)

    yield Case("rosen_hess_prod", "SciPy", False, lambda: of_rosen(unchanged))
    yield Case(
        "rosen_hess_prod at ones",
        "SciPy",
        False,
        lambda: check_hvp(scipy.optimize.rosen_hess_prod, rosenbrock, np.ones(7)),
    )
    yield from planted("rosen_hess_prod", scipy.optimize.rosen_hess_prod(X, X), of_rosen, 4)
    for name, (product, loss, w) in _products_of_scikit_learn().items():

        def of_scikit_learn(change: Any, product: Any = product, loss: Any = loss, w: Any = w) -> Any:
            return check_hvp(lambda w, v: change(product(w, v)), loss, w)

        yield Case(name, "scikit-learn", False, lambda check=of_scikit_learn: check(unchanged))
        yield from planted(name, product(w, w + 1), of_scikit_learn, 2)
    import autograd
    import autograd.numpy

    for name, formula in FORMULAS.items():
        product = autograd.hessian_vector_product(lambda w, formula=formula: formula(autograd.numpy, w))

        def check(change: Any, product: Any = product, formula: Any = formula) -> Any:
            return check_hvp(lambda w, v: change(product(w, v)), lambda w: formula(jnp, w), X / 2)

        yield Case(name, "HIPS autograd", False, lambda check=check: check(unchanged))
        yield from planted(name, product(X / 2, X), check, 1)
    yield from _known(lambda hessian, loss, x: check_hvp(lambda x, v: hessian(x) @ v, loss, x))


def hessians() -> Iterator[Case]:
    def of_rosen(change: Any) -> Any:
        return check_hessian(lambda x: change(scipy.optimize.rosen_hess(x)), rosenbrock, X)

    yield Case("rosen_hess", "SciPy", False, lambda: of_rosen(unchanged))
    yield from planted("rosen_hess", scipy.optimize.rosen_hess(X), of_rosen, 4)
    import autograd
    import autograd.numpy

    for name, formula in FORMULAS.items():
        hessian = autograd.hessian(lambda w, formula=formula: formula(autograd.numpy, w))

        def check(change: Any, hessian: Any = hessian, formula: Any = formula) -> Any:
            return check_hessian(lambda w: change(hessian(w)), lambda w: formula(jnp, w), X / 2)

        yield Case(name, "HIPS autograd", False, lambda check=check: check(unchanged))
        yield from planted(name, hessian(X / 2), check, 1)
    yield from _of_statsmodels()
    yield from _known(check_hessian)


def _products_of_scikit_learn() -> dict[str, tuple[Any, Any, np.ndarray]]:
    """The Hessian-vector products of generalized linear models, which the Newton-CG solver uses."""
    from sklearn._loss import HalfBinomialLoss, HalfPoissonLoss, HalfSquaredError
    from sklearn.linear_model._linear_loss import LinearModelLoss

    def one(base: Any, y: np.ndarray, pointwise: Any) -> tuple[Any, Any, np.ndarray]:
        model = LinearModelLoss(base_loss=base, fit_intercept=False)
        product = lambda w, v: model.gradient_hessian_product(w, DATA, y, l2_reg_strength=0.1)[1](v)  # noqa: E731
        return product, lambda w: jnp.mean(pointwise(DATA @ w, y)) + 0.05 * jnp.sum(w**2), X / 2

    return {
        "binomial loss": one(HalfBinomialLoss(), LABELS, lambda z, y: jnp.logaddexp(0, z) - y * z),
        "Poisson loss": one(HalfPoissonLoss(), COUNTS, lambda z, y: jnp.exp(z) - y * z),
        "squared error": one(HalfSquaredError(), LABELS, lambda z, y: (z - y) ** 2 / 2),
    }


def _of_statsmodels() -> Iterator[Case]:
    """The second derivatives of six models' log-likelihoods."""
    if importlib.util.find_spec("statsmodels") is None:
        return
    from jax.scipy.special import gammaln, log_ndtr
    from statsmodels.discrete.discrete_model import Logit, NegativeBinomial, NegativeBinomialP, Poisson, Probit
    from statsmodels.miscmodels.count import PoissonGMLE

    def negative_binomial(p: Any) -> Any:
        mu, size = jnp.exp(DATA @ p[:-1]), 1 / p[-1]
        terms = gammaln(COUNTS + size) - gammaln(COUNTS + 1) - gammaln(size)
        return jnp.sum(terms + size * jnp.log(size / (size + mu)) + COUNTS * jnp.log(mu / (size + mu)))

    def poisson(p: Any) -> Any:
        return jnp.sum(COUNTS * (DATA @ p) - jnp.exp(DATA @ p) - gammaln(COUNTS + 1))

    signs = 2 * LABELS - 1
    more = np.append(X / 4, 0.7)
    fitted = NegativeBinomial(COUNTS, DATA)
    fitted._transparams = False  # fit() sets this, too
    table = {
        "Logit": (Logit(LABELS, DATA), lambda p: -jnp.sum(jnp.logaddexp(0, -signs * (DATA @ p))), X / 2),
        "Probit": (Probit(LABELS, DATA), lambda p: jnp.sum(log_ndtr(signs * (DATA @ p))), X / 4),
        "Poisson": (Poisson(COUNTS, DATA), poisson, X / 4),
        "NegativeBinomial": (fitted, negative_binomial, more),
        "NegativeBinomialP": (NegativeBinomialP(COUNTS, DATA), negative_binomial, more),
        "PoissonGMLE": (PoissonGMLE(COUNTS, DATA), poisson, X / 4),
    }
    for name, (model, loglike, p) in table.items():
        # PoissonGMLE differentiates numerically.
        options = {"at_least": 1e-4} if name == "PoissonGMLE" else {}

        def check(change: Any, model: Any = model, loglike: Any = loglike, p: Any = p, options: Any = options) -> Any:
            return check_hessian(lambda p: change(model.hessian(p)), loglike, p, probes=False, **options)

        yield Case(f"statsmodels, {name}", "statsmodels", False, lambda check=check: check(unchanged))
        yield from planted(f"statsmodels, {name}", model.hessian(p), check, 1)

    # Before fit(), the last parameter is log(alpha) for loglike, and hessian lacks the chain rule.
    unfitted = NegativeBinomial(COUNTS, DATA)
    yield Case("statsmodels, NegativeBinomial before fit()", "statsmodels", True, lambda: check_hessian(
        unfitted.hessian, lambda p: negative_binomial(jnp.append(p[:-1], jnp.exp(p[-1]))), more, probes=False
    ))  # fmt: skip


def _known(check: Any) -> Iterator[Case]:
    """Reported faults of second derivatives, planted in Hessians of SciPy and of a least-squares problem."""

    def rosen(change: Any) -> Any:
        return check(lambda x: change(scipy.optimize.rosen_hess(x)), rosenbrock, X)

    def residuals(w: Any) -> Any:
        return jnp.sum((jnp.tanh(DATA @ w) - LABELS) ** 2)

    def gauss_newton(w: np.ndarray) -> np.ndarray:
        slope = 1 - np.tanh(DATA @ w) ** 2
        return (DATA * (2 * slope**2)[:, None]).T @ DATA

    def through_the_slope(w: np.ndarray) -> np.ndarray:
        t = np.tanh(DATA @ w)
        return (DATA * (-4 * (t - LABELS) * t * (1 - t**2))[:, None]).T @ DATA

    table = {
        "off-diagonal entries doubled": ("cyipopt #143", lambda h: 2 * h - np.diag(np.diag(h))),
        "off-diagonal entries halved": ("planted", lambda h: (h + np.diag(np.diag(h))) / 2),
        "the lower triangle alone": ("pyadolc #5", np.tril),
        "off-diagonal entries of the other sign": ("psi4 #31", lambda h: 2 * np.diag(np.diag(h)) - h),
        "one entry and not its mirror": ("planted", lambda h: h + 0.1 * np.outer(np.eye(4)[0], np.eye(4)[2])),
    }
    for name, (source, change) in table.items():
        yield Case(name, source, True, lambda change=change: rosen(change))
    yield Case(
        "Gauss-Newton", "RALFit's J' J in the place of the Hessian", True, lambda: check(gauss_newton, residuals, X / 2)
    )
    yield Case(
        "the first derivative for a constant", "torch #104040", True, lambda: check(through_the_slope, residuals, X / 2)
    )
