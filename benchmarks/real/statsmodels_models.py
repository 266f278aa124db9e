"""statsmodels: scores and Hessians of its models, links, variance functions, robust norms, penalties, copulas."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

from benchmarks.real.case import RealCase, elementwise, product, slope

POSITIVE, UNIT = {"value": "positive"}, {"value": "unit interval"}
PACKED = {"value": "fixed"}  # coefficients, and behind them a dispersion that must be positive


def cases() -> Iterator[RealCase]:
    yield from links()
    yield from variance_functions()
    yield from robust_norms()
    yield from penalties()
    yield from copulas()
    yield from generalized_linear_models()
    yield from discrete_models()
    yield from other_counts()
    yield from survival()
    yield from linear_models()
    yield from multivariate()


# ------------------------------------------------------------------- functions of one number


def _power(exponent: float) -> Any:
    return lambda p: p**exponent


def _links() -> dict[str, tuple[Any, Any, Any, str, np.ndarray]]:
    """The library's link, the same and its inverse in JAX, the domain of the mean, linear predictors."""
    from statsmodels.genmod.families import links as of

    random = np.random.default_rng(0)
    real, positive = random.standard_normal(15), random.uniform(0.3, 3, 15)
    expit = jax.nn.sigmoid
    return {
        "Logit": (of.Logit(), lambda p: jnp.log(p) - jnp.log1p(-p), expit, "unit interval", real),
        "Probit": (of.Probit(), norm.ppf, norm.cdf, "unit interval", real),
        "Cauchy": (
            of.Cauchy(),
            lambda p: jnp.tan(np.pi * (p - 0.5)),
            lambda z: 0.5 + jnp.arctan(z) / np.pi,
            "unit interval",
            real,
        ),
        "CLogLog": (
            of.CLogLog(),
            lambda p: jnp.log(-jnp.log1p(-p)),
            lambda z: -jnp.expm1(-jnp.exp(z)),
            "unit interval",
            real,
        ),
        "LogLog": (
            of.LogLog(),
            lambda p: -jnp.log(-jnp.log(p)),
            lambda z: jnp.exp(-jnp.exp(-z)),
            "unit interval",
            real,
        ),
        "LogC": (of.LogC(), lambda p: jnp.log1p(-p), lambda z: -jnp.expm1(z), "unit interval", -positive),
        "Log": (of.Log(), jnp.log, jnp.exp, "positive", real),
        "Identity": (of.Identity(), _power(1.0), _power(1.0), "", real),
        "Sqrt": (of.Sqrt(), jnp.sqrt, _power(2.0), "positive", positive),
        "InversePower": (of.InversePower(), _power(-1.0), _power(-1.0), "positive", positive),
        "InverseSquared": (of.InverseSquared(), _power(-2.0), _power(-0.5), "positive", positive),
        "Power(0.7)": (of.Power(0.7), _power(0.7), _power(1 / 0.7), "positive", positive),
        "NegativeBinomial": (
            of.NegativeBinomial(0.8),
            lambda p: jnp.log(p / (p + 1 / 0.8)),
            lambda z: jnp.exp(z) / (0.8 * -jnp.expm1(z)),
            "positive",
            -positive,
        ),
    }


def links() -> Iterator[RealCase]:
    for name, (link, in_jax, inverse, space, z) in _links().items():
        mean: Any = np.linspace(0.1, 0.9, 15) if space == "unit interval" else np.asarray(link.inverse(z))
        of_mean = {"value": space} if space else {}
        of_predictor = {} if (z > 0).any() and (z < 0).any() else {"value": "positive" if z[0] > 0 else "fixed"}
        yield elementwise(f"links.{name}.deriv", link, link.deriv, in_jax, mean, domain=of_mean)
        yield elementwise(f"links.{name}.deriv2", link.deriv, link.deriv2, slope(in_jax), mean, domain=of_mean)
        yield elementwise(
            f"links.{name}.inverse_deriv", link.inverse, link.inverse_deriv, inverse, z, domain=of_predictor
        )
        yield elementwise(
            f"links.{name}.inverse_deriv2",
            link.inverse_deriv,
            link.inverse_deriv2,
            slope(inverse),
            z,
            domain=of_predictor,
        )


def variance_functions() -> Iterator[RealCase]:
    from statsmodels.genmod.families import varfuncs as of

    mean = np.random.default_rng(1).uniform(0.1, 0.9, 12)
    table = {
        "Power(1.5)": (of.Power(1.5), _power(1.5), "positive"),
        "Binomial(3)": (of.Binomial(3), lambda mu: mu * (1 - mu / 3), "unit interval"),
        "NegativeBinomial(0.7)": (of.NegativeBinomial(0.7), lambda mu: mu + 0.7 * mu**2, "positive"),
    }
    for name, (library, in_jax, space) in table.items():
        yield elementwise(f"varfuncs.{name}.deriv", library, library.deriv, in_jax, mean, domain={"value": space})


def _hampel(z: Any) -> Any:
    a, b, c = 2.0, 4.0, 8.0
    t = jnp.abs(z)
    third = a * (b - a / 2) + a * (c - b) / 2 * (1 - ((c - t) / (c - b)) ** 2)
    inner = jnp.where(t <= a, t**2 / 2, jnp.where(t <= b, a * t - a**2 / 2, third))
    return jnp.where(t <= c, inner, a * (b - a + c) / 2)


def robust_norms() -> Iterator[RealCase]:
    from statsmodels.robust import norms as of

    z = 3 * np.random.default_rng(2).standard_normal(25)

    def inside(t: Any, c: float, within: Any, beyond: Any) -> Any:
        return jnp.where(jnp.abs(t) <= c, within, beyond)

    def huber(z: Any) -> Any:
        return inside(z, 1.345, z**2 / 2, 1.345 * jnp.abs(z) - 1.345**2 / 2)

    def ramsay(z: Any) -> Any:
        return (1 - jnp.exp(-0.3 * jnp.abs(z)) * (1 + 0.3 * jnp.abs(z))) / 0.3**2

    def andrew(z: Any) -> Any:
        return inside(z, 1.339 * np.pi, 1.339**2 * (1 - jnp.cos(z / 1.339)), 2 * 1.339**2)

    def quartic(z: Any) -> Any:
        u = (z / 3.61752) ** 2
        return inside(z, 3.61752, 3.61752**2 / 2 * (u - 2 * u**3 / 3 + u**5 / 5), 3.61752**2 / 2 * (8 / 15))

    def biweight(z: Any) -> Any:
        return inside(z, 4.685, 4.685**2 / 6 * (1 - (1 - (z / 4.685) ** 2) ** 3), 4.685**2 / 6)

    table = {
        "LeastSquares": (of.LeastSquares(), lambda z: z**2 / 2),
        "HuberT": (of.HuberT(), huber),
        "RamsayE": (of.RamsayE(), ramsay),
        "AndrewWave": (of.AndrewWave(), andrew),
        "TrimmedMean": (of.TrimmedMean(), lambda z: inside(z, 2.0, z**2 / 2, 2.0)),
        "Hampel": (of.Hampel(), _hampel),
        "TukeyBiweight": (of.TukeyBiweight(), biweight),
        "TukeyQuartic": (of.TukeyQuartic(), quartic),
        "StudentT": (of.StudentT(c=2.3849, df=4), lambda z: 4 / 2 * 2.3849**2 * jnp.log1p((z / 2.3849) ** 2 / 4)),
    }
    for name, (library, in_jax) in table.items():
        yield elementwise(f"norms.{name}.psi", library.rho, library.psi, in_jax, z)
        yield elementwise(f"norms.{name}.psi_deriv", library.psi, library.psi_deriv, slope(in_jax), z)


def penalties() -> Iterator[RealCase]:
    from statsmodels.base import _penalties as of

    random = np.random.default_rng(3)
    x, weights = 2 * random.standard_normal(12), random.uniform(0.5, 2, 12)

    def scad(x: Any, tau: float = 0.8, c: float = 3.7) -> Any:
        t = jnp.abs(x)
        middle = (-(t**2) + 2 * c * tau * t - tau**2) / (2 * (c - 1))
        return jnp.where(t <= tau, tau * t, jnp.where(t <= c * tau, middle, (c + 1) * tau**2 / 2))

    def smoothed(x: Any, c0: float = 0.3, tau: float = 0.8) -> Any:
        """SCAD with a parabola that touches it at c0, moved so that it is 0 at 0."""
        return jnp.where(jnp.abs(x) < c0, tau / (2 * c0) * x**2, scad(x) - tau * c0 / 2)

    def pseudo(x: Any) -> Any:
        return 0.6**2 * (jnp.sqrt(1 + (x / 0.6) ** 2) - 1)

    table = {
        "L2": (of.L2(weights), lambda x: x**2),
        "PseudoHuber": (of.PseudoHuber(0.6, weights), pseudo),
        "SCAD": (of.SCAD(0.8, weights=weights), scad),
        "SCADSmoothed": (of.SCADSmoothed(0.8, c0=0.3, weights=weights), smoothed),
    }
    for name, (library, in_jax) in table.items():

        def loss(x: Any, in_jax: Any = in_jax) -> Any:
            return jnp.sum(weights * in_jax(x))

        yield RealCase(f"_penalties.{name}.deriv", lambda x, of=library: (np.sum(of.func(x)), of.deriv(x)), loss, x)
        yield product(
            f"_penalties.{name}.deriv2",
            lambda x, of=library: (of.deriv(x), lambda v: of.deriv2(x) * v),
            loss,
            x,
        )
    # The penalty of R x, of which every row has a weight.
    wrong = "the weights of the rows of R x multiply the entries of x: R = [[1, 1], [0, 1]], weights = [1, 2]"
    R = random.standard_normal((12, 12))
    for name, by_row in (("", weights), (", one weight", 1.3)):
        constrained = of.ConstraintsPenalty(of.L2Univariate(), weights=by_row, restriction=R)
        restricted = of.SCADSmoothed(0.8, c0=0.3, weights=by_row, restriction=R)
        for library, in_jax in ((constrained, _power(2.0)), (restricted, smoothed)):
            yield RealCase(
                f"_penalties.{type(library).__name__}.deriv, of R x{name}",
                lambda x, library=library: (np.sum(library.func(x)), library.deriv(x)),
                lambda x, in_jax=in_jax, by_row=by_row: jnp.sum(by_row * in_jax(R @ x)),
                x,
                faulty="" if name else wrong,
            )


def copulas() -> Iterator[RealCase]:
    """Generators of Archimedean copulas and their inverses: each derivative as that of the one before."""
    from statsmodels.distributions.copula import transforms as of

    random = np.random.default_rng(4)
    t, phi = random.uniform(0.1, 0.9, 10), random.uniform(0.3, 3, 10)
    theta = 1.7
    table = {
        "Frank": (
            of.TransfFrank(),
            lambda t: -jnp.log(jnp.expm1(-theta * t) / np.expm1(-theta)),
            lambda phi: -jnp.log1p(jnp.exp(-phi) * np.expm1(-theta)) / theta,
        ),
        "Clayton": (of.TransfClayton(), lambda t: t**-theta - 1, lambda phi: (1 + phi) ** (-1 / theta)),
        "Gumbel": (
            of.TransfGumbel(),
            lambda t: (-jnp.log(t)) ** theta,
            lambda phi: jnp.exp(-(phi ** (1 / theta))),
        ),
        "Indep": (of.TransfIndep(), lambda t: -jnp.log(t), lambda phi: jnp.exp(-phi)),
    }
    wrong = {
        ("Frank", "deriv"): "the sign: phi' = -theta exp(-theta t) / (1 - exp(-theta t)), at t = 0.5, theta = 1.7",
        ("Frank", "deriv2"): "the sign, as of deriv",
        ("Gumbel", "deriv2"): (
            "(-1)**(1 + theta) and log(t)**theta are NaN unless theta is whole: t = 0.5, theta = 1.7"
        ),
    }

    def bound(method: Any) -> Any:
        return lambda x: method(x, theta)

    for name, (library, generator, inverse) in table.items():
        chain = [library.evaluate, library.deriv, library.deriv2]
        in_jax: Any = generator
        for function, derivative in pairwise(chain):
            called = derivative.__name__
            yield elementwise(
                f"Transf{name}.{called}",
                bound(function),
                bound(derivative),
                in_jax,
                t,
                domain=UNIT,
                faulty=wrong.get((name, called), ""),
            )
            in_jax = slope(in_jax)
        names = ["inverse", "deriv_inverse", "deriv2_inverse", "deriv3_inverse", "deriv4_inverse"]
        in_jax = inverse
        for before, after in pairwise(names):
            if hasattr(library, before) and hasattr(library, after):
                yield elementwise(
                    f"Transf{name}.{after}",
                    bound(getattr(library, before)),
                    bound(getattr(library, after)),
                    in_jax,
                    phi,
                    domain=POSITIVE,
                )
            in_jax = slope(in_jax)


# ----------------------------------------------------------------------------------- regression


def _data(kind: str, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    X = np.column_stack([np.ones(n), random.standard_normal((n, 2))])
    return X, {
        "real": random.standard_normal(n),
        "binary": random.integers(0, 2, n).astype(float),
        "count": random.poisson(2.0, n).astype(float),
        "positive": random.gamma(2.0, 1.0, n) + 0.1,
        "share": random.uniform(0.1, 0.9, n),
        "class": random.integers(0, 3, n),
    }[kind]


def generalized_linear_models() -> Iterator[RealCase]:
    """`GLM.score` and `hessian` at a fixed scale, canonical links and others; weights and offsets."""
    import statsmodels.api as sm

    families = sm.families
    links_in_jax = {name: inverse for name, (_, _, inverse, _, _) in _links().items()}

    def binomial(y: Any, mu: Any) -> Any:
        return y * jnp.log(mu) + (1 - y) * jnp.log1p(-mu)

    s = 0.7  # the scale

    def gaussian(y: Any, mu: Any) -> Any:
        return -((y - mu) ** 2) / (2 * s) - jnp.log(2 * np.pi * s) / 2

    def gamma(y: Any, mu: Any) -> Any:
        return jnp.log(y / (s * mu)) / s - y / (s * mu) - jnp.log(y) - gammaln(1 / s)

    def inverse_gaussian(y: Any, mu: Any) -> Any:
        return -((y - mu) ** 2) / (2 * s * y * mu**2) - jnp.log(s * y**3) / 2 - jnp.log(2 * np.pi) / 2

    def negative_binomial(y: Any, mu: Any, a: float = 0.6) -> Any:
        terms = y * jnp.log(a * mu / (1 + a * mu)) - jnp.log1p(a * mu) / a
        return terms + gammaln(y + 1 / a) - gammaln(y + 1) - gammaln(1 / a)

    table = [
        ("Gaussian", "Identity", families.Gaussian, "real", gaussian),
        ("Gaussian", "Log", families.Gaussian, "positive", gaussian),
        ("Binomial", "Logit", families.Binomial, "binary", binomial),
        ("Binomial", "Probit", families.Binomial, "binary", binomial),
        ("Binomial", "CLogLog", families.Binomial, "binary", binomial),
        ("Binomial", "Cauchy", families.Binomial, "binary", binomial),
        ("Poisson", "Log", families.Poisson, "count", _poisson),
        ("Poisson", "Sqrt", families.Poisson, "count", _poisson),
        ("Gamma", "Log", families.Gamma, "positive", gamma),
        ("Gamma", "InversePower", families.Gamma, "positive", gamma),
        ("InverseGaussian", "Log", families.InverseGaussian, "positive", inverse_gaussian),
        ("NegativeBinomial", "Log", families.NegativeBinomial, "count", negative_binomial),
    ]
    random = np.random.default_rng(6)
    weights, offset = random.uniform(0.5, 2, 30), 0.2 * random.standard_normal(30)
    library_links = {name: link for name, (link, *_) in _links().items()}
    for family, link, of, kind, log_likelihood in table:
        X, y = _data(kind)
        options = {"alpha": 0.6} if family == "NegativeBinomial" else {}
        model = sm.GLM(y, X, family=of(link=library_links[link], **options), freq_weights=weights, offset=offset)
        b = np.array([0.3, 0.1, -0.2])
        if link in ("InversePower", "Sqrt"):
            b[0] = 2.0  # linear predictors are positive
        scale = 1.0 if family in ("Binomial", "Poisson", "NegativeBinomial") else s

        def loss(b: Any, X: Any = X, y: Any = y, link: str = link, ll: Any = log_likelihood) -> Any:
            return jnp.sum(weights * ll(y, links_in_jax[link](X @ b + offset)))

        domain = PACKED if link in ("InversePower", "Sqrt") else {}
        yield RealCase(
            f"GLM({family}, {link}).score",
            lambda b, model=model, scale=scale: (model.loglike(b, scale), model.score(b, scale)),
            loss,
            b,
            domain=domain,
        )
        yield product(
            f"GLM({family}, {link}).hessian",
            lambda b, model=model, scale=scale: (model.score(b, scale), lambda v: model.hessian(b, scale) @ v),
            loss,
            b,
            domain=domain,
        )


def _both(
    name: str, model: Any, loss: Any, b: np.ndarray, hessian: bool = True, wrong_hessian: str = "", **more: Any
) -> Iterator[RealCase]:
    """A model's score, and its Hessian times a vector."""
    yield RealCase(f"{name}.score", lambda b: (model.loglike(b), model.score(b)), loss, b, **more)
    if hessian:
        yield product(
            f"{name}.hessian",
            lambda b: (model.score(b), lambda v: model.hessian(b) @ v),
            loss,
            b,
            faulty=wrong_hessian,
            **more,
        )


def _poisson(y: Any, mu: Any) -> Any:
    return y * jnp.log(mu) - mu - gammaln(y + 1)


def _generalized_poisson(y: Any, mu: Any, alpha: Any, p: int = 1) -> Any:
    m = mu ** (p - 1)
    t = mu + (y * alpha) * m
    return jnp.log(mu) + (y - 1) * jnp.log(t) - y * jnp.log1p(alpha * m) - gammaln(y + 1) - t / (1 + alpha * m)


def _negative_binomial(y: Any, mu: Any, alpha: Any, p: int = 2) -> Any:
    size = mu ** (2 - p) / alpha
    terms = gammaln(size + y) - gammaln(size) - gammaln(y + 1)
    return terms + size * jnp.log(size / (size + mu)) + y * jnp.log(mu / (size + mu))


def discrete_models() -> Iterator[RealCase]:
    from statsmodels.discrete import discrete_model as of

    b = np.array([0.3, 0.4, -0.2])
    X, y = _data("binary")
    q = 2 * y - 1
    yield from _both("Logit", of.Logit(y, X), lambda b: jnp.sum(jax.nn.log_sigmoid(q * (X @ b))), b)
    yield from _both("Probit", of.Probit(y, X), lambda b: jnp.sum(norm.logcdf(q * (X @ b))), b)
    X, counts = _data("count")
    yield from _both("Poisson", of.Poisson(counts, X), lambda b: jnp.sum(_poisson(counts, jnp.exp(X @ b))), b)
    _, labels = _data("class")
    B = np.random.default_rng(7).standard_normal((3, 2))
    model = of.MNLogit(labels, X)

    def multinomial(b: Any) -> Any:  # packed by columns
        z = jnp.column_stack([jnp.zeros(len(X)), X @ b.reshape(2, 3).T])
        return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], 1))

    yield from _both("MNLogit", model, multinomial, B.ravel(order="F"))
    packed = np.append(b, 0.6)
    for p in (1, 2):
        yield from _both(
            f"GeneralizedPoisson(p={p})",
            of.GeneralizedPoisson(counts, X, p=p),
            lambda b, p=p: jnp.sum(_generalized_poisson(counts, jnp.exp(X @ b[:-1]), b[-1], p)),
            packed,
            domain=PACKED,
        )
    for kind, p in (("nb1", 1), ("nb2", 2)):
        plain = of.NegativeBinomial(counts, X, loglike_method=kind)
        plain._transparams = False  # as after fit
        yield from _both(
            f"NegativeBinomial({kind})",
            plain,
            lambda b, p=p: jnp.sum(_negative_binomial(counts, jnp.exp(X @ b[:-1]), b[-1], p)),
            packed,
            domain=PACKED,
        )
        wrong = (
            "before fit() the last parameter is log(alpha) for loglike and score, and hessian lacks the chain rule: "
            "its last row and column are those of alpha. NegativeBinomial([0, 1, 2, 0, 3, 1], ones).hessian([0.3, 0.6])"
        )
        yield from _both(
            f"NegativeBinomial({kind}, not fitted)",
            of.NegativeBinomial(counts, X, loglike_method=kind),
            lambda b, p=p: jnp.sum(_negative_binomial(counts, jnp.exp(X @ b[:-1]), jnp.exp(b[-1]), p)),
            packed,
            wrong_hessian=wrong,
        )
        yield from _both(
            f"NegativeBinomialP(p={p})",
            of.NegativeBinomialP(counts, X, p=p),
            lambda b, p=p: jnp.sum(_negative_binomial(counts, jnp.exp(X @ b[:-1]), b[-1], p)),
            packed,
            domain=PACKED,
        )
    yield from _both(
        "NegativeBinomial(geometric)",
        of.NegativeBinomial(counts, X, loglike_method="geometric"),
        lambda b: jnp.sum(_negative_binomial(counts, jnp.exp(X @ b), 1.0)),
        b,
    )


def other_counts() -> Iterator[RealCase]:
    """Zero-inflated, truncated and hurdle counts, and beta regression."""
    from statsmodels.discrete import count_model, truncated_model
    from statsmodels.othermod.betareg import BetaModel

    X, counts = _data("count")
    b = np.array([0.3, 0.4, -0.2])

    def inflated(log_likelihood: Any, extra: int) -> Any:
        def loss(b: Any) -> Any:
            w = jax.nn.sigmoid(b[0])
            mu = jnp.exp(X @ b[1:4])
            ll = log_likelihood(counts, mu, *b[4 : 4 + extra])
            zero = log_likelihood(jnp.zeros_like(mu), mu, *b[4 : 4 + extra])
            return jnp.sum(jnp.where(counts == 0, jnp.log(w + (1 - w) * jnp.exp(zero)), jnp.log1p(-w) + ll))

        return loss

    start = np.concatenate([[-0.5], b])
    wrong = (
        "the mixed block, which the upper triangle holds, is overwritten by the lower one's zeros. "
        "ZeroInflatedPoisson([0, 1, 2, 0, 3, 1], ones).hessian([-0.5, 0.3])"
    )
    yield from _both(
        "ZeroInflatedPoisson",
        count_model.ZeroInflatedPoisson(counts, X),
        inflated(_poisson, 0),
        start,
        wrong_hessian=wrong,
    )
    yield from _both(
        "ZeroInflatedGeneralizedPoisson",
        count_model.ZeroInflatedGeneralizedPoisson(counts, X, p=1),
        inflated(_generalized_poisson, 1),
        np.append(start, 0.6),
        hessian=False,
        domain=PACKED,
    )
    yield from _both(
        "ZeroInflatedNegativeBinomialP",
        count_model.ZeroInflatedNegativeBinomialP(counts, X, p=2),
        inflated(_negative_binomial, 1),
        np.append(start, 0.6),
        hessian=False,
        domain=PACKED,
    )
    some = counts > 0
    Xs, ys = X[some], counts[some]

    def truncated(b: Any) -> Any:
        mu = jnp.exp(Xs @ b)
        return jnp.sum(_poisson(ys, mu) - jnp.log(-jnp.expm1(-mu)))

    yield from _both(
        "TruncatedLFPoisson",
        truncated_model.TruncatedLFPoisson(ys, Xs, truncation=0),
        truncated,
        b,
        at_least=1e-4,  # its Hessian is by differences
    )
    X, shares = _data("share")

    def beta(b: Any) -> Any:
        mu, phi = jax.nn.sigmoid(X @ b[:3]), jnp.exp(b[3])
        terms = gammaln(phi) - gammaln(mu * phi) - gammaln((1 - mu) * phi)
        return jnp.sum(terms + (mu * phi - 1) * jnp.log(shares) + ((1 - mu) * phi - 1) * jnp.log1p(-shares))

    yield from _both("BetaModel", BetaModel(shares, X), beta, np.append(b, 1.2))


def survival() -> Iterator[RealCase]:
    """Cox's partial likelihood with ties, by Breslow and Efron, and conditional likelihoods of groups."""
    from statsmodels.discrete.conditional_models import ConditionalLogit, ConditionalPoisson
    from statsmodels.duration.hazard_regression import PHReg

    random = np.random.default_rng(8)
    n = 25
    X = random.standard_normal((n, 3))
    time, status = np.ceil(5 * random.exponential(1.0, n)), random.integers(0, 2, n)
    b = np.array([0.3, -0.4, 0.2])
    at_risk = (time[None] >= time[:, None]).astype(float)

    def breslow(b: Any) -> Any:
        z = X @ b
        return jnp.sum(status * (z - jnp.log(at_risk @ jnp.exp(z))))

    def efron(b: Any) -> Any:
        z = X @ b
        e = jnp.exp(z)
        total = 0.0
        for t in np.unique(time[status == 1]):
            died = (time == t) & (status == 1)
            share = np.arange(died.sum()) / died.sum()
            total += jnp.sum(z[died]) - jnp.sum(jnp.log(jnp.sum(e[time >= t]) - share * jnp.sum(e[died])))
        return total

    for ties, loss in (("breslow", breslow), ("efron", efron)):
        yield from _both(f"PHReg({ties})", PHReg(time, X, status=status, ties=ties), loss, b)
    groups = np.repeat(np.arange(5), 5)
    y = random.integers(0, 2, n)
    y[::5], y[1::5] = 0, 1

    def conditional_logit(b: Any) -> Any:
        """By recursion over the members of a group: the sum over all sets of as many cases."""
        total = jnp.sum(y * (X @ b))
        for g in range(5):
            members = groups == g
            polynomial = jnp.zeros(6).at[0].set(1.0)
            for e in jnp.exp(X[members] @ b):
                polynomial = polynomial.at[1:].add(e * polynomial[:-1])
            total -= jnp.log(polynomial[int(y[members].sum())])
        return total

    yield from _both("ConditionalLogit", ConditionalLogit(y, X, groups=groups), conditional_logit, b, hessian=False)
    counts = random.poisson(2.0, n)
    one_hot = (groups[:, None] == np.arange(5)).astype(float)

    def conditional_poisson(b: Any) -> Any:
        z = X @ b
        return jnp.sum(counts * z) - jnp.sum((counts @ one_hot) * jnp.log(jnp.exp(z) @ one_hot))

    yield from _both(
        "ConditionalPoisson", ConditionalPoisson(counts, X, groups=groups), conditional_poisson, b, hessian=False
    )


def linear_models() -> Iterator[RealCase]:
    import statsmodels.api as sm

    X, y = _data("real")
    b = np.array([0.3, 0.4, -0.2])
    n = len(y)

    def profile(b: Any) -> Any:  # the variance is at its best
        return -n / 2 * jnp.log(jnp.sum((y - X @ b) ** 2)) - n / 2 * (1 + np.log(np.pi) - np.log(n / 2))

    wrong = "X'X / ssr in the profile likelihood's Hessian lacks its 2. OLS([0, 1, 2, 0, 3, 1], ones).hessian([0.3])"
    yield from _both("OLS", sm.OLS(y, X), profile, b, wrong_hessian=wrong)
    model = sm.OLS(y, X)

    def fixed(b: Any) -> Any:
        return -jnp.sum((y - X @ b) ** 2) / (2 * 0.7) - n / 2 * jnp.log(2 * np.pi * 0.7)

    yield RealCase("OLS.score, a given scale", lambda b: (model.loglike(b, 0.7), model.score(b, 0.7)), fixed, b)
    yield product(
        "OLS.hessian, a given scale", lambda b: (model.score(b, 0.7), lambda v: model.hessian(b, 0.7) @ v), fixed, b
    )


def multivariate() -> Iterator[RealCase]:
    """Factor rotations, maximum likelihood of factors, and covariance reduction."""
    from statsmodels.multivariate.factor import Factor
    from statsmodels.multivariate.factor_rotation import _gpa_rotation as of
    from statsmodels.regression.dimred import CovarianceReduction

    random = np.random.default_rng(10)
    L, H = random.standard_normal((6, 3)), random.standard_normal((6, 3))
    W = random.integers(0, 2, (6, 3)).astype(float)
    off = 1 - np.eye(3)

    def oblimin(L: Any, gamma: float) -> Any:
        squares = L**2
        return jnp.sum(squares * ((squares - gamma * jnp.mean(squares, axis=0)) @ off)) / 4

    def orthomax(L: Any, gamma: float) -> Any:
        squares = L**2
        return -(jnp.sum(squares * (squares - gamma * jnp.mean(squares, axis=0)))) / 4

    def crawford_ferguson(L: Any, kappa: float) -> Any:
        squares = L**2
        rows = jnp.sum(squares * (squares @ off)) / 4
        columns = jnp.sum(squares * ((1 - np.eye(6)) @ squares)) / 4
        return (1 - kappa) * rows + kappa * columns

    for gamma in (0.0, 0.5):
        yield RealCase(
            f"oblimin_objective(gamma={gamma})",
            lambda L, g=gamma: of.oblimin_objective(L=L, gamma=g),
            lambda L, g=gamma: oblimin(L, g),
            L,
        )
        yield RealCase(
            f"orthomax_objective(gamma={gamma})",
            lambda L, g=gamma: of.orthomax_objective(L=L, gamma=g),
            lambda L, g=gamma: orthomax(L, g),
            L,
        )
    yield RealCase(
        "CF_objective(kappa=0.3)", lambda L: of.CF_objective(L=L, kappa=0.3), lambda L: crawford_ferguson(L, 0.3), L
    )
    yield RealCase("vgQ_target", lambda L: of.vgQ_target(H, L=L), lambda L: jnp.sum((L - H) ** 2), L)
    yield RealCase(
        "vgQ_partial_target", lambda L: of.vgQ_partial_target(H, W, L=L), lambda L: jnp.sum((W * (L - H)) ** 2), L
    )
    data = random.standard_normal((40, 5)) @ random.standard_normal((5, 5))
    factor = Factor(data, n_factor=2, method="ml")
    load, uniq = random.standard_normal((5, 2)), random.uniform(0.5, 1.5, 5)

    def factors(p: Any) -> Any:
        """Packed: the square roots of the uniquenesses, then the loadings by columns."""
        root, loadings = p[:5], p[5:].reshape(2, 5).T
        S = loadings @ loadings.T + jnp.diag(root**2)
        return -(jnp.linalg.slogdet(S)[1] + jnp.trace(jnp.linalg.solve(S, factor.corr))) / 10

    packed = np.concatenate([np.sqrt(uniq), load.T.ravel()])
    yield RealCase("Factor(ml).score", lambda p: (factor.loglike(p), factor.score(p)), factors, packed, domain=PACKED)
    groups = np.repeat([0, 1, 2], [14, 13, 13])
    reduction = CovarianceReduction(groups, data, 2)

    def reduced(p: Any) -> Any:
        P = p.reshape(5, 2)
        value = reduction.nobs * jnp.linalg.slogdet(P.T @ reduction.covm @ P)[1] / 2
        for count, cov in zip(reduction.ns, reduction.covs, strict=True):
            value -= count * jnp.linalg.slogdet(P.T @ cov @ P)[1] / 2
        return value

    yield RealCase(
        "CovarianceReduction.score",
        lambda p: (reduction.loglike(p), reduction.score(p)),
        reduced,
        random.standard_normal(10),
    )
