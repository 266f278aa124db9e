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
        R: dict[tuple[int, int], Any] = {
            (-1, -1): 0.0
        }  # cells outside of the matrix have infinite costs: they are left out of the sum below
        for i in range(m):
            for j in range(n):
                before = [R[k] for k in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if k in R]
                R[i, j] = D[i, j] - gamma * jax.nn.logsumexp(-jnp.stack(jnp.broadcast_arrays(*before)) / gamma)
        return R[m - 1, n - 1]

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
