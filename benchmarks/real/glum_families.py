"""glum: links, and the gradients of deviances with respect to the linear predictor."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import FLOAT32, RealCase, elementwise, slope


def cases() -> Iterator[RealCase]:
    yield from links()
    for dtype in (np.float64, np.float32):
        yield from deviances(dtype, FLOAT32 if dtype is np.float32 else "")


def links() -> Iterator[RealCase]:
    from glum import _link as of

    random = np.random.default_rng(0)
    real, positive, share = random.standard_normal(10), random.uniform(0.3, 3, 10), random.uniform(0.1, 0.9, 10)
    POSITIVE, UNIT = {"value": "positive"}, {"value": "unit interval"}
    table = {
        "LogLink": (of.LogLink(), jnp.log, jnp.exp, positive, real, POSITIVE, {}),
        "LogitLink": (
            of.LogitLink(),
            lambda p: jnp.log(p) - jnp.log1p(-p),
            jax.nn.sigmoid,
            share,
            real,
            UNIT,
            {},
        ),
        "CloglogLink": (
            of.CloglogLink(),
            lambda p: jnp.log(-jnp.log1p(-p)),
            lambda z: -jnp.expm1(-jnp.exp(z)),
            share,
            real,
            UNIT,
            {},
        ),
        "TweedieLink(1.5)": (
            of.TweedieLink(1.5),
            lambda mu: mu**-0.5,
            lambda z: z**-2.0,
            positive,
            positive,
            POSITIVE,
            POSITIVE,
        ),
    }
    for name, (library, link, inverse, mu, z, of_mean, of_predictor) in table.items():
        yield elementwise(f"{name}.derivative", library.link, library.derivative, link, mu, domain=of_mean)
        yield elementwise(
            f"{name}.inverse_derivative", library.inverse, library.inverse_derivative, inverse, z, domain=of_predictor
        )
        yield elementwise(
            f"{name}.inverse_derivative2",
            library.inverse_derivative,
            library.inverse_derivative2,
            slope(inverse),
            z,
            domain=of_predictor,
        )


def deviances(dtype: Any, end: str) -> Iterator[RealCase]:
    """Half the deviance, whose gradient the library computes row by row."""
    from glum import _distribution as of
    from glum import _link

    random = np.random.default_rng(1)
    n = 20
    eta = (0.5 * random.standard_normal(n)).astype(dtype)
    weights = random.uniform(0.5, 2, n).astype(dtype)
    counts, positive = random.poisson(2.0, n).astype(dtype), random.uniform(0.3, 3, n).astype(dtype)
    real, binary = random.standard_normal(n).astype(dtype), random.integers(0, 2, n).astype(dtype)
    xlogy = jax.scipy.special.xlogy
    log, logit, identity = _link.LogLink(), _link.LogitLink(), _link.IdentityLink()

    def tweedie(y: Any, mu: Any, p: float = 1.5) -> Any:
        terms = y ** (2 - p) / (1 - p) / (2 - p) - y * mu ** (1 - p) / (1 - p)
        return terms + mu ** (2 - p) / (2 - p)

    def negative_binomial(y: Any, mu: Any) -> Any:
        return xlogy(y, y) - y * jnp.log(mu) - (y + 1) * jnp.log((1 + y) / (1 + mu))

    table = [
        ("Normal", of.NormalDistribution(), identity, real, lambda y, mu: (y - mu) ** 2 / 2, lambda z: z),
        (
            "Poisson",
            of.PoissonDistribution(),
            log,
            counts,
            lambda y, mu: xlogy(y, y) - y * jnp.log(mu) - y + mu,
            jnp.exp,
        ),
        ("Gamma", of.GammaDistribution(), log, positive, lambda y, mu: y / mu - 1 - jnp.log(y / mu), jnp.exp),
        ("Tweedie(1.5)", of.TweedieDistribution(1.5), log, positive, tweedie, jnp.exp),
        (
            "InverseGaussian",
            of.InverseGaussianDistribution(),
            log,
            positive,
            lambda y, mu: (y - mu) ** 2 / (2 * mu**2 * y),
            jnp.exp,
        ),
        ("NegativeBinomial", of.NegativeBinomialDistribution(1.0), log, counts, negative_binomial, jnp.exp),
        (
            "Binomial",
            of.BinomialDistribution(),
            logit,
            binary,
            lambda y, mu: -xlogy(y, mu) - xlogy(1 - y, 1 - mu),
            jax.nn.sigmoid,
        ),
    ]
    for name, family, link, y, half, inverse in table:

        def by_hand(eta: Any, y: Any, w: Any, family: Any = family, link: Any = link) -> Any:
            mu = link.inverse(eta)
            gradient, _ = family.rowwise_gradient_hessian(link, np.zeros(1), 1, np.ones((n, 1)), y, w, eta, mu)
            return family.deviance(y, mu, w) / 2, -gradient

        def reference(eta: Any, y: Any, w: Any, half: Any = half, inverse: Any = inverse) -> Any:
            return jnp.sum(w * half(y, inverse(eta)))

        yield RealCase(f"{name}.rowwise_gradient_hessian{end}", by_hand, reference, eta, (y, weights))
