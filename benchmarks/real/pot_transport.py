"""POT (Python Optimal Transport): dual and semi-dual objectives, Gromov-Wasserstein, unbalanced transport."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import FLOAT32, RealCase


def cases() -> Iterator[RealCase]:
    for dtype in (np.float64, np.float32):
        end = FLOAT32 if dtype is np.float32 else ""
        yield from smooth(dtype, end)
        yield from gromov(dtype, end)
    yield from stochastic()
    yield from unbalanced()


def _problem(dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(0)
    a, b = random.dirichlet(np.ones(5)).astype(dtype), random.dirichlet(np.ones(4)).astype(dtype)
    return a, b, random.uniform(0, 1, (5, 4)).astype(dtype), random


def smooth(dtype: Any, end: str) -> Iterator[RealCase]:
    from ot import smooth as of

    a, b, C, random = _problem(dtype)
    gamma = dtype(0.5)
    p = {"alpha": random.standard_normal(5).astype(dtype), "beta": random.standard_normal(4).astype(dtype)}
    conjugates = {
        "NegEntropy": (of.NegEntropy(gamma), lambda X: gamma * jnp.sum(jnp.exp(X / gamma - 1))),
        "SquaredL2": (of.SquaredL2(gamma), lambda X: jnp.sum(jax.nn.relu(X) ** 2) / (2 * gamma)),
        "SparsityConstrained": (
            of.SparsityConstrained(2, gamma),
            lambda X: jnp.sum(jnp.sort(jax.nn.relu(X), axis=0)[-2:] ** 2) / (2 * gamma),
        ),
    }

    for name, (library, conjugate) in conjugates.items():

        def dual(p: Any, library: Any = library) -> Any:
            value, d_alpha, d_beta = of.dual_obj_grad(p["alpha"], p["beta"], a, b, C, library)
            return value, {"alpha": d_alpha, "beta": d_beta}

        def in_jax(p: Any, conjugate: Any = conjugate) -> Any:
            return p["alpha"] @ a + p["beta"] @ b - conjugate(p["alpha"][:, None] + p["beta"] - C)

        yield RealCase(f"dual_obj_grad({name}){end}", dual, in_jax, p)

    def maximum(X: Any) -> Any:
        """The conjugate of the entropy on the simplex, times b, by columns."""
        inside = jnp.log(b) * gamma
        return jnp.sum(b * (gamma * jax.nn.logsumexp(X / gamma, axis=0) - inside))

    yield RealCase(
        f"semi_dual_obj_grad(NegEntropy){end}",
        lambda alpha: of.semi_dual_obj_grad(alpha, a, b, C, of.NegEntropy(gamma)),
        lambda alpha: alpha @ a - maximum(alpha[:, None] - C),
        p["alpha"],
    )


def gromov(dtype: Any, end: str) -> Iterator[RealCase]:
    """The constant matrix is that of the plan's own marginals: with these held fixed, gwggrad is no gradient."""
    from ot.gromov import _utils as of

    a, b, _, random = _problem(dtype)
    C1, C2 = random.uniform(0.1, 1, (5, 5)).astype(dtype), random.uniform(0.1, 1, (4, 4)).astype(dtype)
    C1, C2 = (C1 + C1.T) / 2, (C2 + C2.T) / 2
    T = np.outer(a, b) * random.uniform(0.5, 1.5, (5, 4)).astype(dtype)
    losses = {
        "square_loss": lambda x, y: (x - y) ** 2,
        "kl_loss": lambda x, y: x * jnp.log(x / y) - x + y,
    }
    for name, loss in losses.items():

        def by_hand(T: Any, name: str = name) -> Any:
            constants = of.init_matrix(C1, C2, T.sum(axis=1), T.sum(axis=0), loss_fun=name)
            return of.gwloss(*constants, T), of.gwggrad(*constants, T)

        def in_jax(T: Any, loss: Any = loss) -> Any:
            costs = loss(C1[:, None, :, None], C2[None, :, None, :])
            return jnp.einsum("ijkl,ij,kl->", costs, T, T)

        yield RealCase(f"gwggrad({name}){end}", by_hand, in_jax, T)


def stochastic() -> Iterator[RealCase]:
    from ot import stochastic as of

    _, b, M, random = _problem(np.float64)
    alpha, beta = random.standard_normal(5), random.standard_normal(4)

    def semi(beta: Any, i: int) -> Any:
        return beta @ b - 0.5 * jax.nn.logsumexp((beta - M[i]) / 0.5 + jnp.log(b))

    def by_hand(beta: Any, i: int) -> Any:
        value = beta @ b - 0.5 * np.log(np.sum(b * np.exp((beta - M[i]) / 0.5)))
        return value, of.coordinate_grad_semi_dual(b, M, 0.5, beta, i)

    yield RealCase("coordinate_grad_semi_dual", lambda beta: by_hand(beta, 2), lambda beta: semi(beta, 2), beta)
    xs, xt = random.standard_normal((5, 2)), random.standard_normal((4, 2))
    cost = np.sum((xs[:, None] - xt) ** 2, axis=2)

    def entropic(u: Any) -> Any:
        inner = jnp.exp((u["u"][:, None] + u["v"] - cost) / 2.0)
        return jnp.mean(u["u"]) + jnp.mean(u["v"]) - 2.0 * jnp.mean(inner)

    def plan(u: Any) -> Any:
        F = of.plan_dual_entropic(u["u"], u["v"], xs, xt, reg=2.0)
        value = of.loss_dual_entropic(u["u"], u["v"], xs, xt, reg=2.0)
        return value, {"u": 1 / 5 - F.sum(axis=1), "v": 1 / 4 - F.sum(axis=0)}

    yield RealCase("plan_dual_entropic, marginals as the gradient", plan, entropic, {"u": alpha, "v": beta})

    def quadratic(u: Any) -> Any:
        inner = jax.nn.relu(u["u"][:, None] + u["v"] - cost) ** 2
        return jnp.mean(u["u"]) + jnp.mean(u["v"]) - jnp.mean(inner) / (4 * 2.0)

    def quadratic_plan(u: Any) -> Any:
        F = of.plan_dual_quadratic(u["u"], u["v"], xs, xt, reg=2.0)
        value = of.loss_dual_quadratic(u["u"], u["v"], xs, xt, reg=2.0)
        return value, {"u": 1 / 5 - F.sum(axis=1), "v": 1 / 4 - F.sum(axis=0)}

    yield RealCase(
        "plan_dual_quadratic, marginals as the gradient", quadratic_plan, quadratic, {"u": 2 + alpha, "v": 2 + beta}
    )


def unbalanced() -> Iterator[RealCase]:
    from ot.unbalanced._lbfgs import _get_loss_unbalanced

    a, b, M, random = _problem(np.float64)
    a, b = 1.3 * a, 0.8 * b
    c = np.outer(a, b)
    G = c.ravel() * random.uniform(0.5, 1.5, 20)

    def kl(x: Any, y: Any) -> Any:
        return jnp.sum(x * jnp.log(x / y) - x + y)

    def squares(x: Any, y: Any) -> Any:
        return jnp.sum((x - y) ** 2) / 2

    for divergence, of in (("kl", kl), ("l2", squares)):
        library = _get_loss_unbalanced(a, b, c, M, 0.3, 0.7, 1.1, reg_div=divergence, regm_div=divergence)

        def in_jax(G: Any, of: Any = of) -> Any:
            P = G.reshape(5, 4)
            marginals = 0.7 * of(P.sum(axis=1), a) + 1.1 * of(P.sum(axis=0), b)
            return jnp.sum(P * M) + 0.3 * of(P, c) + marginals

        yield RealCase(
            f"_get_loss_unbalanced({divergence})", library, in_jax, G, domain={"value": "positive"}, at_least=1e-13
        )
