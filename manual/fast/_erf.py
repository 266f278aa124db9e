"""The error function: SciPy's, or in float32 the tanh of a polynomial, which is many times as fast in NumPy."""

import numpy as np

# erf(x) = tanh(x P(x^2)) with a relative error of 1e-7 for |x| <= END; beyond END, erf(x) is 1 in float32. P is a least
# squares fit of artanh(erf(x)) / x, reweighted until the errors of erf are about equal (Lawson's algorithm). Including
# the rounding error of tanh, the error is at most 5 ULP.
END = 4.2
P = (1.1283792742, 0.1027690563, -1.9183187005e-4, -6.1978380009e-4, 8.7637024917e-5, -5.6684291544e-6)
P = (*P, 1.4184971229e-7)


def erf(x: np.ndarray, result: np.ndarray, scale: float = 1.0) -> None:
    """Writes erf(scale x) to `result`, of x's shape and dtype; erf(z) = 2 / sqrt(pi) int_0^z exp(-t^2) dt."""
    if x.dtype != np.float32:
        from scipy.special import erf as exact  # imported here, because the import takes long

        result[...] = exact(x * scale)
        return
    first, *others, last = (p * scale ** (2 * k + 1) for k, p in enumerate(P))
    t = np.clip(x, -END / scale, END / scale)
    u = t * t
    np.multiply(u, last, out=result)
    for coefficient in reversed(others):  # Horner's rule
        result += coefficient
        result *= u
    result += first
    result *= t
    np.tanh(result, out=result)
