"""SciPy: special functions, splines, densities as derivatives, test problems, robust losses, adjoints."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalCall=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats as jax_stats
from scipy import fft, interpolate, linalg, ndimage, optimize, signal, special, stats
from scipy.optimize._lsq.least_squares import IMPLEMENTED_LOSSES
from scipy.spatial.transform import Rotation

from benchmarks.real.case import FLOAT32, RealCase, elementwise, product, slope

POSITIVE, UNIT = {"value": "positive"}, {"value": "unit interval"}
NEAR = {"value": "fixed"}  # where few nodes are enough for the integral, or the formula holds
# Nodes of the trapezoidal rule for integrals of periodic or quickly decaying functions, where it is exact.
CIRCLE = np.arange(64) * np.pi / 32
LINE = np.linspace(-6, 6, 241)


STRIDES = (
    "ndimage reads an array of stride 0 wrongly: correlate(np.broadcast_to(0.5, (6, 7)), np.arange(9.).reshape(3, 3)) "
    "is 14 away from that of np.full((6, 7), 0.5)"
)


def cases() -> Iterator[RealCase]:
    yield from test_problems()
    yield from special_functions()
    yield from interpolators()
    yield from densities()
    yield from robust_losses()
    yield from adjoints(np.float64, "")
    yield from adjoints(np.float32, FLOAT32)
    yield from matrix_functions()


def test_problems() -> Iterator[RealCase]:
    x = np.random.default_rng(0).standard_normal(6)

    def rosenbrock(x: Any) -> Any:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    yield RealCase("rosen_der", lambda x: (optimize.rosen(x), optimize.rosen_der(x)), rosenbrock, x)
    yield product(
        "rosen_hess_prod",
        lambda x: (optimize.rosen_der(x), lambda v: optimize.rosen_hess_prod(x, v)),
        rosenbrock,
        x,
    )
    yield product("rosen_hess", lambda x: (optimize.rosen_der(x), lambda v: optimize.rosen_hess(x) @ v), rosenbrock, x)


# ---------------------------------------------------------------------------- special functions


def _bessel_j(n: int) -> Any:
    return lambda x: jnp.mean(jnp.cos(n * CIRCLE - x[..., None] * np.sin(CIRCLE)), axis=-1)


def _bessel_i(n: int) -> Any:
    return lambda x: jnp.mean(jnp.cos(n * CIRCLE) * jnp.exp(x[..., None] * np.cos(CIRCLE)), axis=-1)


def _bessel_k(v: float) -> Any:
    step = LINE[1] - LINE[0]
    return lambda x: jnp.sum(jnp.exp(-x[..., None] * np.cosh(LINE)) * np.cosh(v * LINE), axis=-1) * step / 2


def _airy(x: Any) -> Any:
    """For positive arguments, by a Bessel function (DLMF 9.6.2)."""
    return jnp.sqrt(x / 3) / np.pi * _bessel_k(1 / 3)(2 / 3 * x**1.5)


def _spherical(n: int) -> Any:
    """By Rayleigh's formulas."""
    table = {
        0: lambda x: jnp.sin(x) / x,
        1: lambda x: jnp.sin(x) / x**2 - jnp.cos(x) / x,
        2: lambda x: (3 / x**2 - 1) * jnp.sin(x) / x - 3 * jnp.cos(x) / x**2,
    }
    return table[n]


def special_functions() -> Iterator[RealCase]:
    """Functions whose derivatives SciPy has. The references are integral representations or closed forms."""
    random = np.random.default_rng(1)
    positive, real = random.uniform(0.5, 4, 12), random.standard_normal(12)
    inside = random.uniform(-0.9, 0.9, 12)
    for n in (0, 1, 3):
        yield elementwise(
            f"jvp({n})",
            lambda x, n=n: special.jv(n, x),
            lambda x, n=n: special.jvp(n, x),
            _bessel_j(n),
            real,
            domain=NEAR,
        )
        yield elementwise(
            f"ivp({n})",
            lambda x, n=n: special.iv(n, x),
            lambda x, n=n: special.ivp(n, x),
            _bessel_i(n),
            real,
            domain=NEAR,
        )
    for v in (0, 1, 1.5):
        yield elementwise(
            f"kvp({v})",
            lambda x, v=v: special.kv(v, x),
            lambda x, v=v: special.kvp(v, x),
            _bessel_k(v),
            positive,
            domain=NEAR,
        )
    for n in (0, 1, 2):
        yield elementwise(
            f"spherical_jn({n})",
            lambda x, n=n: special.spherical_jn(n, x),
            lambda x, n=n: special.spherical_jn(n, x, derivative=True),
            _spherical(n),
            positive,
            domain=POSITIVE,
        )
    yield elementwise(
        "spherical_yn(0)",
        lambda x: special.spherical_yn(0, x),
        lambda x: special.spherical_yn(0, x, derivative=True),
        lambda x: -jnp.cos(x) / x,
        positive,
        domain=POSITIVE,
    )
    yield elementwise(
        "spherical_in(0)",
        lambda x: special.spherical_in(0, x),
        lambda x: special.spherical_in(0, x, derivative=True),
        lambda x: jnp.sinh(x) / x,
        positive,
        domain=POSITIVE,
    )
    yield elementwise(
        "spherical_kn(1)",
        lambda x: special.spherical_kn(1, x),
        lambda x: special.spherical_kn(1, x, derivative=True),
        lambda x: np.pi / 2 * jnp.exp(-x) * (1 / x + 1 / x**2),
        positive,
        domain=POSITIVE,
    )
    yield elementwise("airy", lambda x: special.airy(x)[0], lambda x: special.airy(x)[1], _airy, positive, domain=NEAR)
    for n in (2, 5):
        coefficients = np.polynomial.legendre.leg2poly(np.eye(n + 1)[n])
        yield elementwise(
            f"legendre_p({n})",
            lambda x, n=n: special.legendre_p(n, x),
            lambda x, n=n: special.legendre_p(n, x, diff_n=1)[1],
            lambda x, c=coefficients: jnp.polyval(c[::-1], x),
            inside,
        )
    yield elementwise(
        "ellipj: sn, and cn dn",
        lambda u: special.ellipj(u, 0.0)[0],
        lambda u: special.ellipj(u, 0.0)[1] * special.ellipj(u, 0.0)[2],
        jnp.sin,
        real,
    )
    expit, logit = special.expit, special.logit
    identities = [
        ("expit", expit, lambda x: expit(x) * expit(-x), jax.nn.sigmoid, real, {}),
        ("log_expit", special.log_expit, lambda x: expit(-x), jax.nn.log_sigmoid, real, {}),
        ("logit", logit, lambda x: 1 / (x * (1 - x)), lambda x: jnp.log(x) - jnp.log1p(-x), expit(real), UNIT),
        ("gammaln, digamma", special.gammaln, special.digamma, jax.scipy.special.gammaln, positive, POSITIVE),
        (
            "digamma, polygamma",
            special.digamma,
            lambda x: special.polygamma(1, x),
            jax.scipy.special.digamma,
            positive,
            POSITIVE,
        ),
        ("entr", special.entr, lambda x: -np.log(x) - 1, lambda x: -x * jnp.log(x), positive, POSITIVE),
        (
            "ndtr, its density",
            special.ndtr,
            lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
            jax.scipy.special.ndtr,
            real,
            {},
        ),
        (
            "log_ndtr, Mills' ratio",
            special.log_ndtr,
            lambda x: np.sqrt(2 / np.pi) / special.erfcx(-x / np.sqrt(2)),
            jax.scipy.special.log_ndtr,
            real,
            {},
        ),
        (
            "erfcx",
            special.erfcx,
            lambda x: 2 * x * special.erfcx(x) - 2 / np.sqrt(np.pi),
            lambda x: jnp.exp(x**2) * jax.scipy.special.erfc(x),
            real,
            {},
        ),
        (
            "exprel",
            special.exprel,
            lambda x: (np.exp(x) - special.exprel(x)) / x,
            lambda x: jnp.expm1(x) / x,
            positive,
            POSITIVE,
        ),
    ]
    for name, function, derivative, in_jax, x, domain in identities:
        yield elementwise(name, function, derivative, in_jax, x, domain=domain)
    z = random.standard_normal((4, 5))
    yield RealCase(
        "logsumexp, softmax",
        lambda z: (special.logsumexp(z, axis=1).sum(), special.softmax(z, axis=1)),
        lambda z: jnp.sum(jax.nn.logsumexp(z, axis=1)),
        z,
    )
    yield RealCase(
        "huber",
        lambda r: (special.huber(1.3, r).sum(), np.clip(r, -1.3, 1.3)),
        lambda r: jnp.sum(jnp.where(jnp.abs(r) <= 1.3, r**2 / 2, 1.3 * (jnp.abs(r) - 0.65))),
        3 * real,
    )


def interpolators() -> Iterator[RealCase]:
    """Derivatives of interpolators. The references are the same polynomials, written out."""
    random = np.random.default_rng(2)
    knots, values = np.sort(random.uniform(0, 10, 8)), random.standard_normal(8)
    z = random.uniform(knots[1], knots[-2], 12)

    def in_jax(c: np.ndarray, x: np.ndarray) -> Any:
        def function(z: Any) -> Any:
            i = jnp.clip(jnp.searchsorted(x, z, side="right") - 1, 0, len(x) - 2)
            t = z - jnp.asarray(x)[i]
            return sum(jnp.asarray(c[k])[i] * t ** (len(c) - 1 - k) for k in range(len(c)))

        return function

    for name, made in (
        ("CubicSpline", interpolate.CubicSpline(knots, values)),
        ("PchipInterpolator", interpolate.PchipInterpolator(knots, values)),
        ("Akima1DInterpolator", interpolate.Akima1DInterpolator(knots, values)),
    ):
        yield elementwise(
            f"{name}(nu=1)",
            made,
            lambda z, made=made: made(z, nu=1),
            in_jax(np.asarray(made.c), np.asarray(made.x)),
            z,
            domain={"value": "fixed"},
        )
    spline = interpolate.make_interp_spline(knots, values, k=3)
    pieces = interpolate.PPoly.from_spline(spline)
    yield elementwise(
        "BSpline.derivative",
        spline,
        spline.derivative(),
        in_jax(np.asarray(pieces.c), np.asarray(pieces.x)),
        z,
        domain={"value": "fixed"},
    )

    def lagrange(z: Any) -> Any:
        total = 0.0
        for j in range(5):
            others = [i for i in range(5) if i != j]
            total += values[j] * jnp.prod(jnp.stack([(z - knots[i]) / (knots[j] - knots[i]) for i in others]), axis=0)
        return total

    near = random.uniform(knots[0], knots[4], 6)
    for name, made in (
        ("KroghInterpolator", interpolate.KroghInterpolator(knots[:5], values[:5])),
        ("BarycentricInterpolator", interpolate.BarycentricInterpolator(knots[:5], values[:5])),
    ):
        yield elementwise(
            f"{name}.derivative",
            made,
            lambda z, made=made: made.derivative(z),
            lagrange,
            near,
            domain={"value": "fixed"},
        )


def densities() -> Iterator[RealCase]:
    """Densities, as derivatives of distribution functions, and a hazard rate, as that of a log survival function."""
    random = np.random.default_rng(3)
    real, positive, share = random.standard_normal(12), random.uniform(0.3, 3, 12), random.uniform(0.1, 0.9, 12)
    atan = jnp.arctan
    table = [
        ("norm", stats.norm(0.3, 1.2), lambda x: jax_stats.norm.cdf(x, 0.3, 1.2), real, {}),
        ("logistic", stats.logistic(0.3, 1.2), lambda x: jax.nn.sigmoid((x - 0.3) / 1.2), real, {}),
        ("cauchy", stats.cauchy(0.3, 1.2), lambda x: 0.5 + atan((x - 0.3) / 1.2) / np.pi, real, {}),
        (
            "laplace",
            stats.laplace(0.3, 1.2),
            lambda x: jnp.where(x < 0.3, jnp.exp((x - 0.3) / 1.2) / 2, 1 - jnp.exp((0.3 - x) / 1.2) / 2),
            real,
            {},
        ),
        ("gumbel_r", stats.gumbel_r(0.3, 1.2), lambda x: jnp.exp(-jnp.exp((0.3 - x) / 1.2)), real, {}),
        ("expon", stats.expon(scale=1.2), lambda x: -jnp.expm1(-x / 1.2), positive, POSITIVE),
        ("weibull_min", stats.weibull_min(1.7), lambda x: -jnp.expm1(-(x**1.7)), positive, POSITIVE),
        ("gamma", stats.gamma(2.3), lambda x: jax.scipy.special.gammainc(2.3, x), positive, POSITIVE),
        ("chi2", stats.chi2(5), lambda x: jax.scipy.special.gammainc(2.5, x / 2), positive, POSITIVE),
        ("beta", stats.beta(2.3, 1.4), lambda x: jax.scipy.special.betainc(2.3, 1.4, x), share, UNIT),
        ("pareto", stats.pareto(2.3), lambda x: 1 - x**-2.3, 1 + positive, NEAR),
        (
            "lognorm",
            stats.lognorm(0.7),
            lambda x: jax.scipy.special.ndtr(jnp.log(x) / 0.7),
            positive,
            POSITIVE,
        ),
        (
            "invgauss",
            stats.invgauss(0.8),
            lambda x: (
                jax.scipy.special.ndtr((x / 0.8 - 1) / jnp.sqrt(x))
                + jnp.exp(2 / 0.8) * jax.scipy.special.ndtr(-(x / 0.8 + 1) / jnp.sqrt(x))
            ),
            positive,
            POSITIVE,
        ),
        (
            "t(3)",
            stats.t(3),
            lambda x: 0.5 + (x / np.sqrt(3) / (1 + x**2 / 3) + atan(x / np.sqrt(3))) / np.pi,
            real,
            {},
        ),
        ("rayleigh", stats.rayleigh(), lambda x: -jnp.expm1(-(x**2) / 2), positive, POSITIVE),
        ("genextreme", stats.genextreme(-0.2), lambda x: jnp.exp(-((1 + 0.2 * x) ** (-1 / 0.2))), positive, POSITIVE),
    ]
    for name, distribution, in_jax, x, domain in table:
        yield elementwise(f"stats.{name}.pdf", distribution.cdf, distribution.pdf, in_jax, x, domain=domain)
    yield elementwise(
        "stats.norm.logsf, hazard",
        stats.norm.logsf,
        lambda x: -np.exp(stats.norm.logpdf(x) - stats.norm.logsf(x)),
        lambda x: jax.scipy.special.log_ndtr(-x),
        real,
    )
    data, points = random.standard_normal((2, 20)), random.standard_normal((2, 3))
    kde = stats.gaussian_kde(data)
    precision = np.asarray(kde.inv_cov)

    def by_hand(points: Any) -> Any:
        """The gradient of the log-density of gaussian_kde: the mean shift."""
        density = kde(points)
        away = points[:, None, :] - data[:, :, None]
        weights = np.exp(-np.einsum("ijk,il,ljk->jk", away, precision, away) / 2)
        pull = np.einsum("il,ljk,jk->ik", precision, away, weights) / weights.sum(axis=0)
        return kde.logpdf(points).sum(), -pull + 0 * density

    def reference(points: Any) -> Any:
        away = points[:, None, :] - data[:, :, None]
        inside = -jnp.einsum("ijk,il,ljk->jk", away, precision, away) / 2
        constant = np.log(20) + np.linalg.slogdet(2 * np.pi * np.asarray(kde.covariance))[1] / 2
        return jnp.sum(jax.nn.logsumexp(inside, axis=0) - constant)

    yield RealCase("stats.gaussian_kde.logpdf, mean shift", by_hand, reference, points)


def robust_losses() -> Iterator[RealCase]:
    """rho, rho' and rho'' of least_squares."""
    z = np.random.default_rng(4).uniform(0.05, 4, 15)
    in_jax = {
        "huber": lambda z: jnp.where(z <= 1, z, 2 * jnp.sqrt(z) - 1),
        "soft_l1": lambda z: 2 * (jnp.sqrt(1 + z) - 1),
        "cauchy": jnp.log1p,
        "arctan": jnp.arctan,
    }

    def called(name: str, order: int) -> Any:
        def function(z: Any) -> Any:
            rho = np.empty((3, len(z)))
            IMPLEMENTED_LOSSES[name](z, rho, False)
            return rho[order]

        return function

    for name, function in in_jax.items():
        yield elementwise(
            f"least_squares({name}), rho'", called(name, 0), called(name, 1), function, z, domain=POSITIVE
        )
        yield elementwise(
            f"least_squares({name}), rho''", called(name, 1), called(name, 2), slope(function), z, domain=POSITIVE
        )


# ------------------------------------------------------------------- adjoints and matrix functions


def adjoints(dtype: Any, end: str) -> Iterator[RealCase]:
    random = np.random.default_rng(5)
    x, h = random.standard_normal(16).astype(dtype), random.standard_normal(5).astype(dtype)
    image, kernel = random.standard_normal((6, 7)).astype(dtype), random.standard_normal((3, 3)).astype(dtype)
    n = len(x)
    k, i = np.mgrid[:n, :n]
    dct = (np.sqrt(2 / n) * np.cos(np.pi * k * (2 * i + 1) / (2 * n))).astype(dtype)
    dct[0] /= dtype(np.sqrt(2))
    turn = Rotation.from_rotvec([0.3, -0.5, 0.8])
    matrix = turn.as_matrix().astype(dtype)
    table = [
        (
            "convolve, correlate",
            lambda x: signal.convolve(x, h, mode="full"),
            lambda g: signal.correlate(g, h, mode="valid"),
            lambda x: jnp.convolve(x, h),
            x,
        ),
        ("dct, idct", lambda x: fft.dct(x, norm="ortho"), lambda g: fft.idct(g, norm="ortho"), lambda x: dct @ x, x),
        (
            "irfft, rfft",
            lambda x: fft.rfft(x, norm="ortho").real,
            lambda g: fft.fft(np.pad(g, (0, n - len(g))), norm="ortho").real.astype(dtype),
            lambda x: jnp.fft.rfft(x, norm="ortho").real,
            x,
        ),
        (
            "ndimage.convolve, correlate",
            lambda image: ndimage.convolve(image, kernel, mode="constant"),
            lambda g: ndimage.correlate(g, kernel, mode="constant"),
            lambda image: jax.scipy.signal.convolve(image, kernel, mode="same"),
            image,
        ),
        (
            "ndimage.gaussian_filter, its own adjoint",
            lambda image: ndimage.gaussian_filter(image, 1.0, mode="constant"),
            lambda g: ndimage.gaussian_filter(g, 1.0, mode="constant"),
            _gaussian_filter(dtype),
            image,
        ),
        (
            "lfilter, backwards in time",
            lambda x: signal.lfilter(h[:2], [1.0, dtype(0.5)], x).astype(dtype),
            lambda g: signal.lfilter(h[:2], [1.0, dtype(0.5)], g[::-1])[::-1].astype(dtype),
            lambda x: _impulse(h[:2], n).astype(dtype) @ x,
            x,
        ),
        (
            "Rotation.apply, its inverse",
            lambda v: turn.apply(v).astype(dtype),
            lambda g: turn.apply(g, inverse=True).astype(dtype),
            lambda v: v @ matrix.T,
            image[:, :3],
        ),
    ]
    for name, function, adjoint, in_jax, at in table:
        yield RealCase(
            f"{name}{end}",
            (lambda x, function=function: (function(x), None), lambda g, cache, adjoint=adjoint: adjoint(g)),
            in_jax,
            (at,),
            kind="vjp",
            faulty=STRIDES if name.startswith("ndimage.convolve") else "",
        )


def _impulse(b: np.ndarray, n: int) -> np.ndarray:
    """The matrix of the filter (b0 + b1 z) / (1 + z / 2)."""
    response = signal.lfilter(b, [1.0, 0.5], np.eye(n)[0])
    return np.array([[response[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)])


def _gaussian_filter(dtype: Any) -> Any:
    weights = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    weights = (weights / weights.sum()).astype(dtype)
    return lambda image: jax.scipy.signal.convolve(image, jnp.outer(weights, weights), mode="same")


def matrix_functions() -> Iterator[RealCase]:
    random = np.random.default_rng(6)
    A, C = 0.5 * random.standard_normal((4, 4)), random.standard_normal((4, 4))
    B, Q = random.standard_normal((4, 4)) + 3 * np.eye(4), random.standard_normal((4, 4))
    yield RealCase(
        "expm_frechet",
        lambda A: (np.sum(C * linalg.expm(A)), linalg.expm_frechet(A.T, C, compute_expm=False)),
        lambda A: jnp.sum(C * jax.scipy.linalg.expm(A)),
        A,
    )
    S = A + 3 * np.eye(4)

    def sylvester(Q: Any) -> Any:
        return np.sum(C * linalg.solve_sylvester(S, B, Q)), linalg.solve_sylvester(S.T, B.T, C)

    big = np.kron(S, np.eye(4)) + np.kron(np.eye(4), B.T)
    yield RealCase(
        "solve_sylvester, its adjoint",
        sylvester,
        lambda Q: jnp.sum(C * jnp.linalg.solve(big, Q.ravel()).reshape(4, 4)),
        Q,
    )

    def log_det(S: Any) -> Any:
        lu = linalg.lu_factor(S)
        return np.log(np.abs(linalg.det(S))), linalg.lu_solve(lu, np.eye(4), trans=1)

    yield RealCase("lu_solve, the gradient of log det", log_det, lambda S: jnp.linalg.slogdet(S)[1], S)
    c, r, b = random.standard_normal(5) + 5 * np.eye(5)[0], random.standard_normal(5), random.standard_normal(5)
    r[0] = c[0]
    T = linalg.toeplitz(c, r)
    weights = random.standard_normal(5)
    yield RealCase(
        "solve_toeplitz, its adjoint",
        lambda b: (weights @ linalg.solve_toeplitz((c, r), b), linalg.solve_toeplitz((r, c), weights)),
        lambda b: weights @ jnp.linalg.solve(T, b),
        b,
    )
