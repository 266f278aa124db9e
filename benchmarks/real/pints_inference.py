"""PINTS: log-priors, toy densities, forward models with sensitivities, likelihoods, error measures, transformations."""

# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy.special import betaln, gammaln, ndtr

from benchmarks.real.case import RealCase

POSITIVE, UNIT, PACKED = {"value": "positive"}, {"value": "unit interval"}, {"value": "fixed"}
TIMES = np.linspace(0.2, 4.0, 15)


def cases() -> Iterator[RealCase]:
    yield from priors()
    yield from densities()
    yield from models()
    yield from likelihoods()
    yield from transformations()


def _case(name: str, density: Any, in_jax: Callable[..., Any], x: Any, **more: Any) -> RealCase:
    def by_hand(x: Any) -> tuple[Any, Any]:
        value, gradient = density.evaluateS1(x)
        return np.reshape(value, ()), np.asarray(gradient)  # one of them returns an array of one entry

    return RealCase(f"{name}.evaluateS1", by_hand, in_jax, np.asarray(x, float), **more)


def priors() -> Iterator[RealCase]:
    import pints

    half_pi = np.log(2 * np.pi) / 2

    def student(x: Any) -> Any:
        constant = -np.log(4) / 2 - np.log(1.3) - betaln(2.0, 0.5)
        return jnp.sum(constant - 2.5 * jnp.log1p(((x - 0.4) / 1.3) ** 2 / 4))

    def cauchy(x: Any) -> Any:
        return jnp.sum(-jnp.log(np.pi * 1.3 * (1 + ((x - 0.4) / 1.3) ** 2)))

    def normal(x: Any) -> Any:
        return jnp.sum(-(((x - 0.4) / 1.3) ** 2) / 2) - np.log(1.3) - half_pi

    inside = np.log(ndtr((2 - 0.4) / 1.3) - ndtr((-1 - 0.4) / 1.3))
    mass = np.log(np.arctan(0.4 / 1.3) / np.pi + 0.5)
    beta_constant, gamma_constant = float(betaln(2.5, 1.5)), float(gammaln(2.5))
    cov = np.array([[1.5, 0.4, 0.1], [0.4, 1.0, -0.2], [0.1, -0.2, 0.8]])
    mean = np.array([0.1, -0.3, 0.5])

    def multivariate(x: Any) -> Any:
        return -(x - mean) @ jnp.linalg.solve(cov, x - mean) / 2 - np.linalg.slogdet(cov)[1] / 2 - 3 * half_pi

    table = [
        (
            "BetaLogPrior",
            pints.BetaLogPrior(2.5, 1.5),
            lambda x: jnp.sum(1.5 * jnp.log(x) + 0.5 * jnp.log1p(-x)) - beta_constant,
            [0.3],
            UNIT,
        ),
        ("CauchyLogPrior", pints.CauchyLogPrior(0.4, 1.3), cauchy, [1.7], {}),
        (
            "ExponentialLogPrior",
            pints.ExponentialLogPrior(1.7),
            lambda x: jnp.sum(np.log(1.7) - 1.7 * x),
            [0.8],
            POSITIVE,
        ),
        (
            "GammaLogPrior",
            pints.GammaLogPrior(2.5, 1.4),
            lambda x: jnp.sum(2.5 * np.log(1.4) - gamma_constant + 1.5 * jnp.log(x) - 1.4 * x),
            [0.8],
            POSITIVE,
        ),
        ("GaussianLogPrior", pints.GaussianLogPrior(0.4, 1.3), normal, [1.7], {}),
        ("HalfCauchyLogPrior", pints.HalfCauchyLogPrior(0.4, 1.3), lambda x: cauchy(x) - mass, [1.7], POSITIVE),
        (
            "InverseGammaLogPrior",
            pints.InverseGammaLogPrior(2.5, 1.4),
            lambda x: jnp.sum(2.5 * np.log(1.4) - gamma_constant - 3.5 * jnp.log(x) - 1.4 / x),
            [0.8],
            POSITIVE,
        ),
        (
            "LogNormalLogPrior",
            pints.LogNormalLogPrior(0.3, 0.7),
            lambda x: jnp.sum(-jnp.log(x) - np.log(0.7) - half_pi - ((jnp.log(x) - 0.3) / 0.7) ** 2 / 2),
            [0.8],
            POSITIVE,
        ),
        (
            "LogUniformLogPrior",
            pints.LogUniformLogPrior(0.1, 5.0),
            lambda x: jnp.sum(-jnp.log(x) - np.log(np.log(50.0))),
            [0.8],
            PACKED,
        ),
        (
            "MultivariateGaussianLogPrior",
            pints.MultivariateGaussianLogPrior(mean, cov),
            multivariate,
            [0.2, 0.7, -0.4],
            {},
        ),
        ("StudentTLogPrior", pints.StudentTLogPrior(0.4, 4, 1.3), student, [1.7], {}),
        (
            "TruncatedGaussianLogPrior",
            pints.TruncatedGaussianLogPrior(0.4, 1.3, -1, 2),
            lambda x: normal(x) - inside,
            [1.7],
            PACKED,
        ),
        (
            "ComposedLogPrior",
            pints.ComposedLogPrior(pints.GaussianLogPrior(0.4, 1.3), pints.CauchyLogPrior(0.4, 1.3)),
            lambda x: normal(x[0]) + cauchy(x[1]),
            [1.7, 0.2],
            {},
        ),
    ]
    for name, prior, in_jax, x, domain in table:
        yield _case(name, prior, in_jax, x, domain=domain)


def densities() -> Iterator[RealCase]:
    from pints import toy

    random = np.random.default_rng(0)
    three, ten = random.standard_normal(3), random.standard_normal(10)
    half_pi = np.log(2 * np.pi) / 2

    def rosenbrock(x: Any) -> Any:
        return -jnp.log(1 + (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)

    def gaussian(x: Any, mean: Any, cov: Any) -> Any:
        away = x - mean
        return -(away @ jnp.linalg.solve(cov, away) + jnp.linalg.slogdet(cov)[1]) / 2 - len(mean) * half_pi

    def mixture(x: Any, modes: Any, cov: Any) -> Any:
        return jax.nn.logsumexp(jnp.stack([gaussian(x, np.array(mode, float), cov) for mode in modes]))

    def funnel(x: Any) -> Any:
        nu = x[-1]
        return jnp.sum(-(x[:-1] ** 2) * jnp.exp(-nu) / 2 - nu / 2 - half_pi) - nu**2 / 18 - np.log(3) - half_pi

    def twisted(x: Any) -> Any:
        first, second = x[0] / np.sqrt(100) / 10, x[1] + 0.1 * (x[0] ** 2 - 100)
        return -(first**2 + second**2 + jnp.sum(x[2:] ** 2)) / 2 - 10 * half_pi - np.log(10)

    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sd = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(x: Any, centered: bool) -> Any:
        """The school's effects, or their standardized ones."""
        mu, tau, theta = x[0], x[1], x[2:]
        prior = norm.logpdf(mu, 0, 5) - jnp.log(np.pi * 5 * (1 + (tau / 5) ** 2)) + np.log(2)
        if centered:
            return prior + jnp.sum(norm.logpdf(theta, mu, tau)) + jnp.sum(norm.logpdf(y, theta, sd))
        return prior + jnp.sum(norm.logpdf(theta)) + jnp.sum(norm.logpdf(y, mu + tau * theta, sd))

    at = np.concatenate([[1.3, 2.1], 2 * random.standard_normal(8)])
    for centered in (True, False):
        density = toy.EightSchoolsLogPDF(centered=centered)
        yield _case(
            f"EightSchoolsLogPDF(centered={centered})",
            density,
            lambda x, c=centered: schools(x, c),
            at,
            domain=PACKED,
        )
    rho = toy.HighDimensionalGaussianLogPDF(10, 0.5)
    egg = toy.SimpleEggBoxLogPDF(2, 4)
    modes = [[1.0, 2.0], [-1.0, 0.5], [3.0, -1.0]]
    table = [
        (
            "AnnulusLogPDF",
            toy.AnnulusLogPDF(3, 2.0, 0.7),
            lambda x: norm.logpdf(jnp.sqrt(jnp.sum(x**2)), 2.0, 0.7),
            three,
        ),
        ("ConeLogPDF", toy.ConeLogPDF(3, 0.7), lambda x: -(jnp.sum(x**2) ** 0.35), three),
        (
            "GaussianLogPDF",
            toy.GaussianLogPDF([0.1, -0.3, 0.5], [1.2, 0.7, 2.0]),
            lambda x: jnp.sum(norm.logpdf(x, np.array([0.1, -0.3, 0.5]), np.sqrt([1.2, 0.7, 2.0]))),
            three,
        ),
        (
            "HighDimensionalGaussianLogPDF",
            rho,
            lambda x: gaussian(x, np.zeros(10), np.asarray(rho._cov)),
            ten,
        ),
        (
            "MultimodalGaussianLogPDF",
            toy.MultimodalGaussianLogPDF(modes),
            lambda x: mixture(x, modes, np.eye(2)),
            three[:2],
        ),
        ("NealsFunnelLogPDF", toy.NealsFunnelLogPDF(10), funnel, ten),
        ("RosenbrockLogPDF", toy.RosenbrockLogPDF(), rosenbrock, three[:2]),
        (
            "SimpleEggBoxLogPDF",
            egg,
            lambda x: mixture(x, egg._modes, np.diag([2.0, 2.0])),
            np.array([1.0, 2.5]),
        ),
        ("TwistedGaussianLogPDF", toy.TwistedGaussianLogPDF(10, 0.1, 100), twisted, ten),
        (
            "ParabolicError",
            toy.ParabolicError([0.1, -0.3, 0.5]),
            lambda x: jnp.sum((x - np.array([0.1, -0.3, 0.5])) ** 2),
            three,
        ),
    ]
    for name, density, in_jax, x in table:
        yield _case(name, density, in_jax, x)


# -------------------------------------------------------------------------- models and data


def _logistic(p: Any) -> Any:
    return p[1] / (1 + (p[1] / 2 - 1) * jnp.exp(-p[0] * TIMES))


def _oscillator(p: Any) -> Any:
    """Underdamped: y'' = -y - theta y'."""
    w = jnp.sqrt(1 - p[2] ** 2 / 4)
    decay = jnp.exp(-p[2] * TIMES / 2)
    return decay * (p[0] * jnp.cos(w * TIMES) + (p[1] + p[2] * p[0] / 2) / w * jnp.sin(w * TIMES))


def _overdamped(p: Any) -> Any:
    w = jnp.sqrt(p[2] ** 2 / 4 - 1)
    decay = jnp.exp(-p[2] * TIMES / 2)
    return decay * (p[0] * jnp.cosh(w * TIMES) + (p[1] + p[2] * p[0] / 2) / w * jnp.sinh(w * TIMES))


LOTKA = {"y0": np.array([3.0, 2.0]), "times": np.linspace(0.4, 1.2, 3)}


def _lotka_volterra(p: Any) -> Any:
    """x' = a x - b x y, y' = -c y + d x y, by many steps of Runge and Kutta."""

    def slope(z: Any) -> Any:
        return jnp.stack([p[0] * z[0] - p[1] * z[0] * z[1], -p[2] * z[1] + p[3] * z[0] * z[1]])

    return _runge_kutta(slope, LOTKA["y0"], LOTKA["times"])


def _fitzhugh_nagumo(p: Any) -> Any:
    a, b, c = p

    def slope(z: Any) -> Any:
        v, r = z
        return jnp.stack([(v - v**3 / 3 + r) * c, -(v - a + b * r) / c])

    return _runge_kutta(slope, np.array([-1.0, 1.0]), np.linspace(0.4, 1.2, 3))


def _runge_kutta(slope: Any, start: Any, times: np.ndarray, steps: int = 20) -> Any:
    def step(z: Any, h: Any) -> Any:
        k1 = slope(z)
        k2 = slope(z + h / 2 * k1)
        k3 = slope(z + h / 2 * k2)
        k4 = slope(z + h * k3)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    z, found = jnp.asarray(start), []
    for length in np.diff(np.concatenate([[0.0], times])):
        z = jax.lax.fori_loop(0, steps, lambda _, z, h=length / steps: step(z, h), z)
        found.append(z)
    return jnp.stack(found)


def models() -> Iterator[RealCase]:
    """`simulateS1` gives values and sensitivities: the vector-Jacobian product is their contraction."""
    from pints import toy

    lotka = toy.LotkaVolterraModel(y0=LOTKA["y0"])
    table = [
        ("LogisticModel", toy.LogisticModel(2), _logistic, [0.7, 9.0], TIMES, 0.0),
        (
            "SimpleHarmonicOscillatorModel(underdamped)",
            toy.SimpleHarmonicOscillatorModel(),
            _oscillator,
            [1.2, 0.4, 0.6],
            TIMES,
            0.0,
        ),
        (
            "SimpleHarmonicOscillatorModel(overdamped)",
            toy.SimpleHarmonicOscillatorModel(),
            _overdamped,
            [1.2, 0.4, 2.6],
            TIMES,
            0.0,
        ),
        (
            "ConstantModel",
            toy.ConstantModel(3),
            lambda p: TIMES[:, None] ** 0 * (p * np.arange(1, 4)),
            [1.2, -0.4, 2.6],
            TIMES,
            0.0,
        ),
        # Solved by odeint, whose tolerance is 1.5e-8.
        ("LotkaVolterraModel", lotka, _lotka_volterra, [0.5, 0.15, 1.0, 0.3], LOTKA["times"], 1e-5),
        (
            "FitzhughNagumoModel",
            toy.FitzhughNagumoModel(),
            _fitzhugh_nagumo,
            [0.1, 0.5, 3.0],
            np.linspace(0.4, 1.2, 3),
            1e-5,
        ),
    ]
    for name, model, in_jax, p, times, at_least in table:

        def forward(p: Any, model: Any = model, times: Any = times) -> Any:
            return model.simulateS1(p, times)

        def backward(output_gradient: Any, sensitivities: Any) -> Any:
            return np.tensordot(output_gradient, sensitivities, axes=output_gradient.ndim)

        domain = {"p": "positive"} if name == "LogisticModel" else {}
        if "damped" in name or at_least:
            domain = {"p": "fixed"}  # another damping is another formula; elsewhere the solver may fail
        yield RealCase(
            f"{name}.simulateS1",
            (forward, backward),
            in_jax,
            (np.array(p),),
            kind="vjp",
            domain=domain,
            at_least=at_least,
        )


def likelihoods() -> Iterator[RealCase]:
    import pints
    from pints import toy

    random = np.random.default_rng(1)
    p = np.array([0.7, 9.0])
    clean = np.asarray(_logistic(p))
    data = clean + 0.5 * random.standard_normal(len(TIMES))
    problem = pints.SingleOutputProblem(toy.LogisticModel(2), TIMES, data)
    n = len(TIMES)

    def gaussian(p: Any, sigma: Any) -> Any:
        return jnp.sum(norm.logpdf(data, _logistic(p[:2]), sigma))

    def log_normal(p: Any, shift: bool) -> Any:
        error = np.log(data) - jnp.log(_logistic(p[:2])) + (p[2] ** 2 / 2 if shift else 0)
        return jnp.sum(norm.logpdf(error, 0, p[2])) - np.sum(np.log(data))

    def both_noises(p: Any) -> Any:
        f = _logistic(p[:2])
        return jnp.sum(norm.logpdf(data, f, p[2] + p[4] * f ** p[3]))

    censored = np.clip(data, 3.0, 8.0)
    censored_problem = pints.SingleOutputProblem(toy.LogisticModel(2), TIMES, censored)

    def clipped(p: Any) -> Any:
        f = _logistic(p[:2])
        low, high = censored <= 3.0, censored >= 8.0
        middle = norm.logpdf(censored, f, p[2])
        return jnp.sum(
            jnp.where(low, norm.logcdf((3.0 - f) / p[2]), jnp.where(high, norm.logcdf((f - 8.0) / p[2]), middle))
        )

    with_sigma = np.append(p, 0.6)
    of_two = pints.SumOfIndependentLogLikelihoods(
        [pints.GaussianKnownSigmaLogLikelihood(problem, 0.5), pints.GaussianKnownSigmaLogLikelihood(problem, 1.5)]
    )
    known = pints.GaussianKnownSigmaLogLikelihood(problem, 0.5)
    table = [
        ("GaussianKnownSigmaLogLikelihood", known, lambda p: gaussian(p, 0.5), p),
        ("GaussianLogLikelihood", pints.GaussianLogLikelihood(problem), lambda p: gaussian(p, p[2]), with_sigma),
        ("LogNormalLogLikelihood", pints.LogNormalLogLikelihood(problem), lambda p: log_normal(p, False), with_sigma),
        (
            "LogNormalLogLikelihood(mean_adjust)",
            pints.LogNormalLogLikelihood(problem, mean_adjust=True),
            lambda p: log_normal(p, True),
            with_sigma,
        ),
        (
            "ConstantAndMultiplicativeGaussianLogLikelihood",
            pints.ConstantAndMultiplicativeGaussianLogLikelihood(problem),
            both_noises,
            np.array([0.7, 9.0, 0.4, 1.1, 0.1]),
        ),
        (
            "CensoredGaussianLogLikelihood",
            pints.CensoredGaussianLogLikelihood(censored_problem, lower=3.0, upper=8.0),
            clipped,
            with_sigma,
        ),
        ("ScaledLogLikelihood", pints.ScaledLogLikelihood(known), lambda p: gaussian(p, 0.5) / n, p),
        ("SumOfIndependentLogLikelihoods", of_two, lambda p: gaussian(p, 0.5) + gaussian(p, 1.5), p),
        ("SumOfSquaresError", pints.SumOfSquaresError(problem), lambda p: jnp.sum((_logistic(p) - data) ** 2), p),
        ("MeanSquaredError", pints.MeanSquaredError(problem), lambda p: jnp.mean((_logistic(p) - data) ** 2), p),
        ("ProbabilityBasedError", pints.ProbabilityBasedError(known), lambda p: -gaussian(p, 0.5), p),
    ]
    wrong = (
        "the terms of censored data are summed over the parameters, not the outputs (a .T too many), and the sum is "
        "added to the derivative of each: any model of two parameters with a value at the limit"
    )
    for name, density, in_jax, x in table:
        faulty = wrong if name.startswith("Censored") else ""
        yield _case(name, density, in_jax, x, domain=POSITIVE, faulty=faulty)


def transformations() -> Iterator[RealCase]:
    """A density through a change of variables, which adds the logarithm of a Jacobian's determinant."""
    import pints

    density = pints.GaussianLogPrior(0.4, 1.3)

    def normal(x: Any) -> Any:
        return jnp.sum(norm.logpdf(x, 0.4, 1.3))

    sigmoid = jax.nn.sigmoid
    table = [
        ("LogTransformation", pints.LogTransformation(1), lambda q: normal(jnp.exp(q)) + jnp.sum(q)),
        (
            "LogitTransformation",
            pints.LogitTransformation(1),
            lambda q: normal(sigmoid(q)) + jnp.sum(jnp.log(sigmoid(q) * sigmoid(-q))),
        ),
        (
            "RectangularBoundariesTransformation",
            pints.RectangularBoundariesTransformation(-1.0, 2.0),
            lambda q: normal(3 * sigmoid(q) - 1) + jnp.sum(jnp.log(3 * sigmoid(q) * sigmoid(-q))),
        ),
        ("ScalingTransformation", pints.ScalingTransformation([2.5]), lambda q: normal(q / 2.5) - np.log(2.5)),
    ]
    for name, transformation, in_jax in table:
        yield _case(name, transformation.convert_log_pdf(density), in_jax, [0.3])
