"""Special functions of real numbers, evaluated by SciPy.

SciPy's implementations are more accurate than JAX's (`RELATIVE_ERROR`). Where the two differ at poles, in limits or
outside the domain, the rules return the same values as JAX 0.10.2 on the CPU. There is one exception: for q < -9, JAX's
zeta function, and with it polygamma, is wrong in every digit, and the rules return the correct value.

`igamma_grad_a` has no rule, because SciPy does not have this function.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray
Rule = Callable[..., Any]


def _elementwise(function: Callable[..., Any]) -> Rule:
    """Apply a function of floating-point arrays without warnings; the result has the dtype of the inputs."""

    @functools.wraps(function)
    def rule(*inputs: Array, **_: Any) -> Array:
        dtype = inputs[0].dtype
        if dtype.itemsize < 4:  # 16-bit numbers are computed in float32, as in JAX; SciPy does not support bfloat16
            inputs = tuple(x.astype(np.float32) for x in inputs)
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs)).astype(dtype, copy=False)

    return rule


@_elementwise
def erf(x: Array) -> Array:
    return special.erf(x)


@_elementwise
def erfc(x: Array) -> Array:
    return special.erfc(x)


@_elementwise
def erf_inv(x: Array) -> Array:
    return special.erfinv(x)


@_elementwise
def lgamma(x: Array) -> Array:
    """log |gamma(x)|"""
    return np.where(np.isneginf(x), np.inf, special.gammaln(x))


@_elementwise
def digamma(x: Array) -> Array:
    return _digamma(x)


def _digamma(x: Array) -> Array:
    return np.where(x == 0, np.nan, special.psi(x))


@_elementwise
def polygamma(m: Array, x: Array) -> Array:
    """The m-th derivative of digamma: (-1)^(m+1) m! zeta(m+1, x) for m = 1, 2, ...

    The result is NaN if m is negative or not an integer.
    """
    sign = np.where(m % 2 == 0, -1, 1)
    derivative = sign * special.gamma(m + 1) * _zeta(m + 1, x)
    is_count = (m >= 0) & (m == np.floor(m))
    return np.where(m == 0, _digamma(x), np.where(is_count, derivative, np.nan))


@_elementwise
def zeta(x: Array, q: Array) -> Array:
    """Hurwitz's zeta function, the sum of (q + n)^-x over n = 0, 1, ..."""
    return _zeta(x, q)


def _zeta(x: Array, q: Array) -> Array:
    value = special.zeta(x, q)
    at_pole = (q <= 0) & (q == np.floor(q))
    value = np.where(at_pole, np.where(x % 2 == 0, np.inf, np.nan), value)
    value = np.where(np.isposinf(q) | (np.isinf(x) & (q <= 1)), np.nan, value)
    return np.where(x == 1, np.inf, value)


@_elementwise
def igamma(a: Array, x: Array) -> Array:
    """The regularized lower incomplete gamma function P(a, x)."""
    value = np.where(_igamma_is_nan(a, x) | ((a == 0) & (x < 1)), np.nan, special.gammainc(a, x))
    return np.where(np.isposinf(a) & np.isposinf(x), 1, value)


@_elementwise
def igammac(a: Array, x: Array) -> Array:
    """The regularized upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    value = np.where(_igamma_is_nan(a, x), np.nan, special.gammaincc(a, x))
    return np.where(np.isposinf(a) & np.isposinf(x), 0, value)


def _igamma_is_nan(a: Array, x: Array) -> Array:
    """Whether JAX returns NaN, because its formula a log(x) - x - lgamma(a) subtracts infinities."""
    return np.isposinf(a) & (x >= 1)


@_elementwise
def regularized_incomplete_beta(a: Array, b: Array, x: Array) -> Array:
    return special.betainc(a, b, x)


@_elementwise
def bessel_i0e(x: Array) -> Array:
    return special.i0e(x)


@_elementwise
def bessel_i1e(x: Array) -> Array:
    return special.i1e(x)


RULES: dict[str, Rule] = {
    "erf": erf,
    "erfc": erfc,
    "erf_inv": erf_inv,
    "lgamma": lgamma,
    "digamma": digamma,
    "polygamma": polygamma,
    "zeta": zeta,
    "igamma": igamma,
    "igammac": igammac,
    "regularized_incomplete_beta": regularized_incomplete_beta,
    "bessel_i0e": bessel_i0e,
    "bessel_i1e": bessel_i1e,
}

# The relative error of JAX's implementations in float64, for those with an error of more than a few ULPs. Each value is
# the largest error over random arguments, rounded up. The error is relative to |f|. For lgamma and digamma, which have
# zeros, it is relative to max(|f|, 1).
#
# The errors were measured with JAX 0.10.2 on an x86-64 CPU, compared with mpmath 1.3.0 at 60 digits. Results below
# 1e-290 were left out. The arguments were:
#
#   erfc               2,000 uniform in (-10, 10). The error grows as x^2, by the rounding of exp(-x^2): 5e-14 at 25.
#   erf_inv            |x| < 0.999, 2,000 uniform and 1,000 close to 0.999. For larger |x|, the error is about
#                      2e-18 / (1 - |x|) up to 1 - 1e-8, where it is largest: 1.1e-10.
#   lgamma, digamma    3,000 log-uniform in (0.01, 1000), 1,000 uniform in (-20, 0).
#   polygamma          300, m = 1, ..., 10, x log-uniform in (0.01, 100).
#   igamma, igammac    1,500, a log-uniform in (0.1, 100), x / a in (0.2, 4). The error grows with a: 9e-11 at
#                      a = x = 1e5.
#   igamma_grad_a      60 drawn in the same way, compared with mpmath's numerical derivative.
#   regularized_...    1,500, a and b log-uniform in (0.1, 100), x within a factor of 2 of the mean a / (a + b), below
#                      0.99; the median error is 2e-14. The error grows with a and b: 3e-10 at a = b = 1e5.
#
# The errors of erf, zeta (q > 0), bessel_i0e and bessel_i1e, measured in the same way, are below 1e-15.
RELATIVE_ERROR: dict[str, float] = {
    "erfc": 8e-15,
    "erf_inv": 5e-15,
    "lgamma": 4e-15,
    "digamma": 2e-15,
    "polygamma": 6e-15,
    "igamma": 2e-13,
    "igammac": 2e-13,
    "igamma_grad_a": 2e-13,
    "regularized_incomplete_beta": 3e-12,
}


def _log_ndtr_series(x: Array) -> Array:
    """The truncation error of JAX's log(ndtr(x)): for x < -20, its asymptotic series ends before the term 105 x^-8."""
    return np.where(x < -20, 105 / np.where(x < -20, x, -20.0) ** 8, 0.0)


# Functions that JAX composes of other operations, by the names of their calls in a trace, with the absolute error of
# their formulas. This error comes in addition to rounding errors.
INEXACT_FORMULAS: dict[str, Rule] = {"log_ndtr": _log_ndtr_series}

# Functions that JAX composes of other operations without a call in the trace, by the name of the Python function in the
# source information, with the relative error of their results and gradients in float64.
#
#   betaln   JAX 0.10.2 compared with SciPy 1.17.1, for 100,000 draws of a and b, log-uniform in (0.01, 10000). The
#            absolute error is up to 1.3e-6, at b = 8.06, and falls as 1 / b^3. The relative error of the gradient is up
#            to 5e-6. Below b = 8, JAX uses another formula, with errors up to 1.4e-14. The cause is that `algdiv`
#            evaluates its series at h / (1 + h), with h = a / b, instead of 1 / (1 + h) (Didonato and Morris,
#            "Significant digit computation of the incomplete beta function ratios", ACM Transactions on Mathematical
#            Software 18, 1992).
INEXACT_FUNCTIONS: dict[str, float] = {"betaln": 1e-5}
