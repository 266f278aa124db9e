"""choix: log-likelihoods of choices between items, their gradients and Hessians."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase, product


def cases() -> Iterator[RealCase]:
    from choix.opt import PairwiseFcts, Top1Fcts

    random = np.random.default_rng(0)
    items = 6
    x = random.standard_normal(items)
    pairs = [tuple(int(i) for i in random.choice(items, 2, replace=False)) for _ in range(20)]
    winners, losers = np.array(pairs).T
    choices = [(int(chosen[0]), chosen[1:]) for chosen in (random.choice(items, 4, replace=False) for _ in range(15))]
    rankings = [random.permutation(items) for _ in range(5)]

    def pairwise(x: Any) -> Any:
        return 0.1 * jnp.sum(x**2) + jnp.sum(jnp.logaddexp(0, x[losers] - x[winners]))

    def top(x: Any) -> Any:
        total = 0.1 * jnp.sum(x**2)
        for winner, others in choices:
            total += jax.nn.logsumexp(x[jnp.append(others, winner)]) - x[winner]
        return total

    def ranked(x: Any) -> Any:
        total = 0.1 * jnp.sum(x**2)
        for ranking in rankings:
            for i in range(items - 1):
                total += jax.nn.logsumexp(x[ranking[i:]]) - x[ranking[i]]
        return total

    table = {
        "PairwiseFcts": (PairwiseFcts(pairs, 0.1), pairwise),
        "Top1Fcts": (Top1Fcts(choices, 0.1), top),
        "Top1Fcts.from_rankings": (Top1Fcts.from_rankings(rankings, 0.1), ranked),
    }
    for name, (library, loss) in table.items():
        yield RealCase(
            f"{name}.gradient",
            lambda x, library=library: (library.objective(x), library.gradient(x)),
            loss,
            x,
            without=lambda x, library=library: (library.objective(x), library.gradient(x) - 0.2 * x),
        )
        yield product(
            f"{name}.hessian",
            lambda x, library=library: (library.gradient(x), lambda v: library.hessian(x) @ v),
            loss,
            x,
        )
