"""tslearn: soft dynamic time warping, its expected alignment, and squared distances."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase


def cases() -> Iterator[RealCase]:
    from tslearn.metrics import softdtw_variants as of

    random = np.random.default_rng(0)
    D = random.uniform(0.2, 2, (5, 6))
    X, Y, E = random.standard_normal((5, 2)), random.standard_normal((6, 2)), random.standard_normal((5, 6))

    def soft(D: Any, gamma: float) -> Any:
        """Cuturi and Blondel 2017, algorithm 1."""
        m, n = D.shape
        R = [[jnp.asarray(np.inf)] * (n + 1) for _ in range(m + 1)]
        R[0][0] = jnp.asarray(0.0)
        for i in range(1, m + 1):
            for j in range(1, n + 1):
                before = [r for r in (R[i - 1][j - 1], R[i - 1][j], R[i][j - 1]) if isinstance(r, jax.core.Tracer) or r < np.inf]
                R[i][j] = D[i - 1, j - 1] - gamma * jax.nn.logsumexp(-jnp.stack(before) / gamma)
        return R[m][n]

    for gamma in (0.1, 1.0):

        def by_hand(D: Any, gamma: float = gamma) -> Any:
            soft_dtw = of.SoftDTW(D, gamma=gamma)
            return soft_dtw.compute(), soft_dtw.grad()

        yield RealCase(f"SoftDTW(gamma={gamma}).grad", by_hand, lambda D, g=gamma: soft(D, g), D)

    def distances(X: Any) -> Any:
        library = of.SquaredEuclidean(X, Y)
        return np.sum(E * library.compute()), library.jacobian_product(E)

    yield RealCase(
        "SquaredEuclidean.jacobian_product",
        distances,
        lambda X: jnp.sum(E * jnp.sum((X[:, None] - Y) ** 2, axis=2)),
        X,
    )

    def whole(X: Any) -> Any:
        library = of.SquaredEuclidean(X, Y)
        soft_dtw = of.SoftDTW(library, gamma=0.5)
        return soft_dtw.compute(), library.jacobian_product(soft_dtw.grad())

    yield RealCase(
        "SoftDTW of SquaredEuclidean",
        whole,
        lambda X: soft(jnp.sum((X[:, None] - Y) ** 2, axis=2), 0.5),
        X,
    )
