"""GPy: gradients of the log-likelihood in a kernel's parameters and in the inputs, and link functions."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase, elementwise, slope


def cases() -> Iterator[RealCase]:
    import GPy

    random = np.random.default_rng(0)
    n = 10
    X = random.standard_normal((n, 2))
    Y = (np.sin(2 * X[:, :1]) + X[:, 1:]) + 0.1 * random.standard_normal((n, 1))
    weights = random.standard_normal((n, n))
    kernels = GPy.kern

    def squared(X: Any, length: Any) -> Any:
        return jnp.sum(((X[:, None] - X) / length) ** 2, axis=2)

    def distance(X: Any, length: Any) -> Any:
        d2 = squared(X, length)
        return jnp.sqrt(jnp.where(d2 > 0, d2, 1)) * (d2 > 0)

    def periodic(p: Any, X: Any) -> Any:  # variance, period, length
        return p[0] * jnp.exp(-jnp.sum((jnp.sin(np.pi * (X[:, None] - X) / p[1]) / p[2]) ** 2, axis=2) / 2)

    def mlp(p: Any, X: Any) -> Any:  # variance, weight variance, bias variance
        inner = p[1] * X @ X.T + p[2]
        own = jnp.diag(inner) + 1
        return p[0] * 2 / np.pi * jnp.arcsin(inner / jnp.sqrt(own[:, None] * own))

    table = {
        "RBF": (kernels.RBF(2), lambda p, X: p[0] * jnp.exp(-squared(X, p[1]) / 2), [1.3, 0.8]),
        "RBF(ARD)": (kernels.RBF(2, ARD=True), lambda p, X: p[0] * jnp.exp(-squared(X, p[1:]) / 2), [1.3, 0.8, 1.7]),
        "Exponential": (kernels.Exponential(2), lambda p, X: p[0] * jnp.exp(-distance(X, p[1])), [1.3, 0.8]),
        "Matern32": (
            kernels.Matern32(2),
            lambda p, X: p[0] * (1 + np.sqrt(3) * distance(X, p[1])) * jnp.exp(-np.sqrt(3) * distance(X, p[1])),
            [1.3, 0.8],
        ),
        "Matern52": (
            kernels.Matern52(2),
            lambda p, X: (
                p[0]
                * (1 + np.sqrt(5) * distance(X, p[1]) + 5 / 3 * squared(X, p[1]))
                * jnp.exp(-np.sqrt(5) * distance(X, p[1]))
            ),
            [1.3, 0.8],
        ),
        "RatQuad": (
            kernels.RatQuad(2),
            lambda p, X: p[0] * (1 + squared(X, p[1]) / 2) ** -p[2],
            [1.3, 0.8, 1.6],
        ),
        "Linear": (kernels.Linear(2), lambda p, X: p[0] * X @ X.T, [1.3]),
        "Poly": (kernels.Poly(2, order=3.0), lambda p, X: p[0] * (p[1] * X @ X.T + p[2]) ** 3, [1.3, 0.6, 0.9]),
        "MLP": (kernels.MLP(2), mlp, [1.3, 0.7, 0.4]),
        "StdPeriodic": (kernels.StdPeriodic(2), periodic, [1.3, 2.3, 0.9]),
        "RBF + White": (
            kernels.RBF(2) + kernels.White(2),
            lambda p, X: p[0] * jnp.exp(-squared(X, p[1]) / 2) + p[2] * jnp.eye(n),
            [1.3, 0.8, 0.2],
        ),
        "RBF * Linear": (
            kernels.RBF(2) * kernels.Linear(2),
            lambda p, X: p[0] * jnp.exp(-squared(X, p[1]) / 2) * (p[2] * X @ X.T),
            [1.3, 0.8, 0.6],
        ),
    }
    for name, (kernel, in_jax, start) in table.items():
        p = np.array(start)

        def of_parameters(p: Any, kernel: Any = kernel) -> Any:
            kernel.param_array[:] = p
            kernel._trigger_params_changed()
            kernel.update_gradients_full(weights, X)
            return np.sum(weights * kernel.K(X)), kernel.gradient.copy()

        def of_inputs(X: Any, kernel: Any = kernel, p: Any = p) -> Any:
            kernel.param_array[:] = p
            kernel._trigger_params_changed()
            return np.sum(weights * kernel.K(X)), kernel.gradients_X(weights, X)

        yield RealCase(
            f"{name}.update_gradients_full",
            of_parameters,
            lambda p, in_jax=in_jax: jnp.sum(weights * in_jax(p, X)),
            p,
            domain={"value": "positive"},
        )
        if name == "Poly":
            continue  # it has none in the inputs
        yield RealCase(
            f"{name}.gradients_X", of_inputs, lambda X, in_jax=in_jax, p=p: jnp.sum(weights * in_jax(p, X)), X
        )

    model = GPy.models.GPRegression(X, Y, kernels.RBF(2, ARD=True))

    def likelihood(p: Any) -> Any:
        K = p[0] * jnp.exp(-squared(X, p[1:3]) / 2) + (p[3] + 1e-8) * jnp.eye(n)
        y = Y[:, 0]
        return -(y @ jnp.linalg.solve(K, y) + jnp.linalg.slogdet(K)[1] + n * np.log(2 * np.pi)) / 2

    def regression(p: Any) -> Any:
        model.param_array[:] = p
        model._trigger_params_changed()
        return float(model.log_likelihood()), model._log_likelihood_gradients().copy()

    yield RealCase(
        "GPRegression, log likelihood",
        regression,
        likelihood,
        np.array([1.3, 0.8, 1.7, 0.2]),
        domain={"value": "positive"},
    )
    f = random.standard_normal(8)
    links = GPy.likelihoods.link_functions
    functions = {
        "Identity": (links.Identity(), lambda f: f),
        "Probit": (links.Probit(), jax.scipy.special.ndtr),
        "Log": (links.Log(), jnp.exp),
        "Log_ex_1": (links.Log_ex_1(), jax.nn.softplus),
        "Reciprocal": (links.Reciprocal(), lambda f: 1 / f),
        "Cloglog": (links.Cloglog(), lambda f: -jnp.expm1(-jnp.exp(f))),
    }
    for name, (link, in_jax) in functions.items():
        at = np.abs(f) + 0.3 if name == "Reciprocal" else f
        domain = {"value": "positive"} if name == "Reciprocal" else {}
        yield elementwise(f"{name}.dtransf_df", link.transf, link.dtransf_df, in_jax, at, domain=domain)
        yield elementwise(f"{name}.d2transf_df2", link.dtransf_df, link.d2transf_df2, slope(in_jax), at, domain=domain)
        yield elementwise(
            f"{name}.d3transf_df3", link.d2transf_df2, link.d3transf_df3, slope(slope(in_jax)), at, domain=domain
        )
    yield from likelihoods(GPy, f)


def likelihoods(GPy: Any, f: np.ndarray) -> Iterator[RealCase]:
    """Derivatives of log p(y | f) in the latent f, up to the third: each as that of the one before."""
    random = np.random.default_rng(1)
    of = GPy.likelihoods
    counts = random.poisson(2.0, (len(f), 1)).astype(float)
    binary = random.integers(0, 2, (len(f), 1)).astype(float)
    real = random.standard_normal((len(f), 1))
    lgamma = jax.scipy.special.gammaln
    log_ndtr = jax.scipy.special.log_ndtr

    def student(f: Any) -> Any:
        constant = lgamma(3.0) - lgamma(2.5) - jnp.log(5 * 0.7 * np.pi) / 2
        return constant - 3.0 * jnp.log1p((real[:, 0] - f) ** 2 / 0.7 / 5)

    table = {
        "Poisson": (of.Poisson(), counts, lambda f: counts[:, 0] * f - jnp.exp(f) - lgamma(counts[:, 0] + 1)),
        "Bernoulli": (of.Bernoulli(), binary, lambda f: log_ndtr((2 * binary[:, 0] - 1) * f)),
        "Gaussian": (
            of.Gaussian(variance=0.7),
            real,
            lambda f: -((real[:, 0] - f) ** 2) / 1.4 - np.log(2 * np.pi * 0.7) / 2,
        ),
        "StudentT": (of.StudentT(deg_free=5, sigma2=0.7), real, student),
    }
    for name, (likelihood, y, in_jax) in table.items():
        chain = ["logpdf", "dlogpdf_df", "d2logpdf_df2", "d3logpdf_df3"]
        function = in_jax
        for before, after in pairwise(chain):
            first, second = getattr(likelihood, before), getattr(likelihood, after)

            def called(f: Any, method: Any = first, y: Any = y) -> Any:
                values = method(f[:, None], y)
                return np.ravel(values) if np.size(values) > 1 else values

            def derived(f: Any, method: Any = second, y: Any = y) -> Any:
                return np.ravel(method(f[:, None], y))

            if before == "logpdf":  # which sums
                yield RealCase(
                    f"{name}.{after}",
                    lambda f, c=called, d=derived: (np.sum(c(f)), d(f)),
                    lambda f, g=function: jnp.sum(g(f)),
                    f,
                )
            else:
                yield elementwise(f"{name}.{after}", called, derived, function, f)
            function = slope(function)
