"""CVXPY: the gradients of its atoms, by the chain rule of expressions."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, rel_entr

from benchmarks.real.case import RealCase


def cases() -> Iterator[RealCase]:
    import cvxpy as cp

    random = np.random.default_rng(0)
    real, positive, share = random.standard_normal(5), random.uniform(0.3, 2, 5), random.uniform(0.1, 0.9, 5)
    A, M = random.standard_normal((4, 5)), random.standard_normal((3, 4))
    S = M.T @ M + np.eye(4)
    P = A.T @ A + np.eye(5)
    other = random.uniform(0.3, 2, 5)
    POSITIVE, UNIT, FIXED = {"value": "positive"}, {"value": "unit interval"}, {"value": "fixed"}
    # Symmetric matrices as the library wants them: S + x1 B1 + x2 B2, definite for small x only.
    B = random.standard_normal((2, 4, 4))
    B = B + B.swapaxes(1, 2)
    small, vector = np.array([0.1, -0.2]), np.arange(1.0, 5)

    def matrix(x: Any) -> Any:
        return S + x[0] * B[0] + x[1] * B[1]

    def of_matrix(x: Any) -> Any:
        return S + x[0] * B[0] + x[1] * B[1]

    table: list[tuple[str, Any, Any, np.ndarray, dict[str, str]]] = [
        ("exp", lambda x: cp.sum(cp.exp(x)), lambda x: jnp.sum(jnp.exp(x)), real, {}),
        ("log", lambda x: cp.sum(cp.log(x)), lambda x: jnp.sum(jnp.log(x)), positive, POSITIVE),
        ("log1p", lambda x: cp.sum(cp.log1p(x)), lambda x: jnp.sum(jnp.log1p(x)), positive, POSITIVE),
        ("logistic", lambda x: cp.sum(cp.logistic(x)), lambda x: jnp.sum(jax.nn.softplus(x)), real, {}),
        ("log_sum_exp", cp.log_sum_exp, jax.nn.logsumexp, real, {}),
        ("entr", lambda x: cp.sum(cp.entr(x)), lambda x: jnp.sum(entr(x)), positive, POSITIVE),
        (
            "kl_div",
            lambda x: cp.sum(cp.kl_div(x, other)),
            lambda x: jnp.sum(rel_entr(x, other) - x + other),
            positive,
            POSITIVE,
        ),
        (
            "rel_entr, second argument",
            lambda x: cp.sum(cp.rel_entr(other, x)),
            lambda x: jnp.sum(other * jnp.log(other / x)),
            positive,
            POSITIVE,
        ),
        ("xexp", lambda x: cp.sum(cp.xexp(x)), lambda x: jnp.sum(x * jnp.exp(x)), positive, POSITIVE),
        (
            "huber",
            lambda x: cp.sum(cp.huber(x, 0.7)),
            lambda x: jnp.sum(jnp.where(jnp.abs(x) <= 0.7, x**2, 1.4 * jnp.abs(x) - 0.49)),
            2 * real,
            {},
        ),
        ("power(2.5)", lambda x: cp.sum(cp.power(x, 2.5)), lambda x: jnp.sum(x**2.5), positive, POSITIVE),
        ("power(-0.5)", lambda x: cp.sum(cp.power(x, -0.5)), lambda x: jnp.sum(x**-0.5), positive, POSITIVE),
        ("sqrt", lambda x: cp.sum(cp.sqrt(x)), lambda x: jnp.sum(jnp.sqrt(x)), positive, POSITIVE),
        ("inv_pos", lambda x: cp.sum(cp.inv_pos(x)), lambda x: jnp.sum(1 / x), positive, POSITIVE),
        ("norm2", lambda x: cp.norm(A @ x, 2), lambda x: jnp.linalg.norm(A @ x), real, {}),
        ("norm1", lambda x: cp.norm1(A @ x), lambda x: jnp.sum(jnp.abs(A @ x)), real, {}),
        ("norm_inf", lambda x: cp.norm_inf(A @ x), lambda x: jnp.max(jnp.abs(A @ x)), real, {}),
        ("pnorm(3)", lambda x: cp.pnorm(x, 3), lambda x: jnp.sum(jnp.abs(x) ** 3) ** (1 / 3), real, {}),
        ("pnorm(0.5)", lambda x: cp.pnorm(x, 0.5), lambda x: jnp.sum(jnp.sqrt(x)) ** 2, positive, POSITIVE),
        ("geo_mean", cp.geo_mean, lambda x: jnp.exp(jnp.mean(jnp.log(x))), positive, POSITIVE),
        ("harmonic_mean", cp.harmonic_mean, lambda x: 5 / jnp.sum(1 / x), positive, POSITIVE),
        ("quad_form", lambda x: cp.quad_form(x, P), lambda x: x @ P @ x, real, {}),
        ("quad_over_lin", lambda x: cp.quad_over_lin(x[:4], x[4]), lambda x: x[:4] @ x[:4] / x[4], positive, POSITIVE),
        ("sum_squares", lambda x: cp.sum_squares(A @ x), lambda x: jnp.sum((A @ x) ** 2), real, {}),
        ("max", lambda x: cp.max(A @ x), lambda x: jnp.max(A @ x), real, {}),
        ("sum_largest(2)", lambda x: cp.sum_largest(x, 2), lambda x: jnp.sum(jnp.sort(x)[-2:]), real, {}),
        ("prod", cp.prod, jnp.prod, positive, POSITIVE),
        ("one_minus_pos", lambda x: cp.sum(cp.one_minus_pos(x)), lambda x: jnp.sum(1 - x), share, UNIT),
        ("log_det", lambda x: cp.log_det(matrix(x)), lambda x: jnp.linalg.slogdet(matrix(x))[1], small, FIXED),
        ("lambda_max", lambda x: cp.lambda_max(matrix(x)), lambda x: jnp.linalg.eigvalsh(matrix(x))[-1], small, FIXED),
        ("lambda_min", lambda x: cp.lambda_min(matrix(x)), lambda x: jnp.linalg.eigvalsh(matrix(x))[0], small, FIXED),
        ("tr_inv", lambda x: cp.tr_inv(matrix(x)), lambda x: jnp.trace(jnp.linalg.inv(matrix(x))), small, FIXED),
        (
            "matrix_frac",
            lambda x: cp.matrix_frac(vector, matrix(x)),
            lambda x: vector @ jnp.linalg.solve(matrix(x), vector),
            small,
            FIXED,
        ),
        ("sigma_max", cp.sigma_max, lambda X: jnp.linalg.norm(X, 2), M, {}),
        ("normNuc", cp.normNuc, lambda X: jnp.sum(jnp.linalg.svd(X, compute_uv=False)), M, {}),
        ("mixed_norm", lambda X: cp.mixed_norm(X, 2, 1), lambda X: jnp.sum(jnp.linalg.norm(X, axis=1)), M, {}),
        (
            "log_sum_exp by rows",
            lambda X: cp.sum(cp.log_sum_exp(X, axis=1)),
            lambda X: jnp.sum(jax.nn.logsumexp(X, axis=1)),
            M,
            {},
        ),
        ("tv", cp.tv, lambda x: jnp.sum(jnp.abs(jnp.diff(x))), real, {}),
        ("cumsum", lambda x: cp.sum_squares(cp.cumsum(x)), lambda x: jnp.sum(jnp.cumsum(x) ** 2), real, {}),
        (
            "conv",
            lambda x: cp.sum_squares(cp.convolve(other, x)),
            lambda x: jnp.sum(jnp.convolve(other, x) ** 2),
            real,
            {},
        ),
    ]
    for name, atom, in_jax, at, domain in table:
        x = cp.Variable(at.shape)
        try:
            expression = atom(x)
            x.value = at
            if expression.grad[x] is None:
                continue
        except (NotImplementedError, AttributeError):
            continue  # this release has no gradient of it

        def by_hand(value: Any, x: Any = x, expression: Any = expression) -> Any:
            x.value = value
            gradient = expression.grad[x]
            dense = gradient.toarray() if hasattr(gradient, "toarray") else np.asarray(gradient)
            return np.asarray(expression.value, float).reshape(()), dense.reshape(value.shape, order="F").astype(float)

        yield RealCase(name, by_hand, in_jax, at, domain=domain)
