"""The error function: SciPy's, and in float32 the tanh of a polynomial, which NumPy does many times as fast."""

import numpy as np

# erf(x) = tanh(x P(x^2)) to 1e-7 of it for |x| <= END, beyond which it is 1 in float32. Fitted to artanh(erf(x)) / x by
# least squares, weighted until the errors of erf are about equal (Lawson's algorithm). With the rounding of tanh it is
# within 5 units in the last place.
END = 4.2
P = (1.1283792742, 0.1027690563, -1.9183187005e-4, -6.1978380009e-4, 8.7637024917e-5, -5.6684291544e-6)
P = (*P, 1.4184971229e-7)


def erf(x: np.ndarray, result: np.ndarray) -> None:
    """Write erf(x) = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x into `result`, of x's shape and dtype."""
    if x.dtype != np.float32:
        from scipy.special import erf as exact  # here, because it is slow to import

        result[...] = exact(x)
        return
    t = np.clip(x, -END, END)
    u = t * t
    np.multiply(u, P[-1], out=result)
    for coefficient in P[-2:0:-1]:  # Horner's rule
        result += coefficient
        result *= u
    result += P[0]
    result *= t
    np.tanh(result, out=result)
