"""metric-learn: NCA, MLKR, LMNN, LSML and MMC."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase


def cases() -> Iterator[RealCase]:
    import metric_learn as of

    random = np.random.default_rng(0)
    n = 16
    X, A = random.standard_normal((n, 4)), 0.7 * random.standard_normal((3, 4))
    labels, targets = random.integers(0, 3, n), random.standard_normal(n)
    same = (labels[:, None] == labels).astype(float)

    def weights(A: Any) -> Any:
        Z = X @ A.T
        away = jnp.sum((Z[:, None] - Z) ** 2, axis=2)
        return jax.nn.softmax(jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, -away), axis=1)

    nca, mlkr = of.NCA(), of.MLKR()
    nca.n_iter_ = mlkr.n_iter_ = 0
    yield RealCase(
        "NCA._loss_grad_lbfgs",
        lambda a: nca._loss_grad_lbfgs(a, X, same, -1.0),
        lambda a: -jnp.sum(same * weights(a.reshape(3, 4))),
        A.ravel(),
    )
    yield RealCase(
        "MLKR._loss",
        lambda a: mlkr._loss(a, X, targets),
        lambda a: jnp.sum((weights(a.reshape(3, 4)) @ targets - targets) ** 2),
        A.ravel(),
    )
    yield from large_margins(of, random)
    M = random.standard_normal((4, 4))
    M = M @ M.T + np.eye(4)
    ab, cd = random.standard_normal((12, 4)), random.standard_normal((12, 4))
    weighted = random.uniform(0.5, 2, 12)
    for name, w in (("", np.ones(12)), (", weights", weighted)):
        lsml = of.LSML()
        lsml.w_ = w

        def total(M: Any, w: Any = w) -> Any:
            first = jnp.sqrt(jnp.einsum("ij,jk,ik->i", ab, M, ab))
            second = jnp.sqrt(jnp.einsum("ij,jk,ik->i", cd, M, cd))
            fit = jnp.sum(w * jnp.maximum(0, first - second) ** 2)
            return fit + jnp.trace(M) - jnp.linalg.slogdet(M)[1]

        yield RealCase(
            f"LSML._gradient{name}",
            lambda M, lsml=lsml: (lsml._total_loss(M, ab, cd, np.eye(4)), lsml._gradient(M, ab, cd, np.eye(4))),
            total,
            M,
            domain={"value": "positive definite"},
            faulty="_gradient lacks the weights w_ of the quadruplets, which _total_loss has" if name else "",
        )
    mmc = of.MMC()
    pairs = random.standard_normal((10, 2, 4))
    apart = pairs[:, 0] - pairs[:, 1]
    yield RealCase(
        "MMC._fD1",
        lambda M: (mmc._fD(pairs, M), mmc._fD1(pairs, M)),
        lambda M: jnp.log(jnp.sum(jnp.sqrt(jnp.einsum("ij,jk,ik->i", apart, M, apart)))),
        M,
        domain={"value": "positive definite"},
        at_least=1e-5,  # the library adds 1e-6 to some distances
    )


def large_margins(of: Any, random: np.random.Generator) -> Iterator[RealCase]:
    """The hinge of every target neighbor and every point of another class, where no impostor appears or goes."""
    n, k = 12, 2
    X, labels = random.standard_normal((n, 3)), np.arange(n) % 2
    L = random.standard_normal((3, 3))
    lmnn: Any = of.LMNN(n_neighbors=k)
    lmnn.labels_, lmnn.n_neighbors = np.unique(labels), k
    targets = lmnn._select_targets(X, labels)
    near = np.zeros((n, n))
    near[np.arange(n)[:, None], targets] = 1
    apart = X[:, None] - X
    dfG = np.einsum("ij,ijk,ijl->kl", near, apart, apart)

    def by_hand(L: Any) -> Any:
        gradient, value, _ = lmnn._loss_grad(X, L, dfG, k, 0.5, targets, labels)
        return value, gradient

    def in_jax(L: Any) -> Any:
        d2 = jnp.sum((apart @ L.T) ** 2, axis=2)
        other = labels[:, None] != labels
        hinge = jax.nn.relu(1 + d2[:, :, None] - d2[:, None, :])  # (i, its neighbor, an impostor)
        push = jnp.sum(near[:, :, None] * other[:, None, :] * hinge)
        return 0.5 * jnp.sum(near * d2) + 0.5 * push

    yield RealCase("LMNN._loss_grad", by_hand, in_jax, L)
