"""PyLops: the adjoint of a linear operator is its vector-Jacobian product."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import FLOAT32, RealCase

PROMOTED = (
    "LinearRegression(taxis, dtype='float32').rmatvec of a float32 vector is float64: the matrix of powers of taxis "
    "keeps the dtype of taxis"
)


def cases() -> Iterator[RealCase]:
    for dtype in (np.float64, np.float32):
        yield from operators(dtype, FLOAT32 if dtype is np.float32 else "")


def operators(dtype: Any, end: str) -> Iterator[RealCase]:
    import pylops as of

    random = np.random.default_rng(0)
    n = 12
    x, plane = random.standard_normal(n).astype(dtype), random.standard_normal((6, 5)).astype(dtype)
    h, A = random.standard_normal(5).astype(dtype), random.standard_normal((7, n)).astype(dtype)
    rows = np.array([1, 4, 4, 9])
    at = np.array([0.5, 3.2, 7.75])

    def second(x: Any) -> Any:
        return jnp.concatenate([jnp.zeros(1), x[:-2] - 2 * x[1:-1] + x[2:], jnp.zeros(1)]) / 0.25

    def centered(x: Any) -> Any:
        return jnp.concatenate([jnp.zeros(1), (x[2:] - x[:-2]) / 2, jnp.zeros(1)]) / 0.5

    def laplacian(x: Any) -> Any:
        p = x.reshape(6, 5)
        down = jnp.pad(p[:-2] - 2 * p[1:-1] + p[2:], ((1, 1), (0, 0)))
        across = jnp.pad(p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:], ((0, 0), (1, 1)))
        return (down + across).ravel()

    def interpolated(x: Any) -> Any:
        whole = np.floor(at).astype(int)
        part = at - whole
        return x[whole] * (1 - part) + x[whole + 1] * part

    def smoothed(x: Any) -> Any:
        return jnp.convolve(x, jnp.full(3, 1 / 3), mode="same")

    def stacked(x: Any) -> Any:
        return jnp.concatenate([A @ x, x[rows]])

    table = [
        ("MatrixMult", of.MatrixMult(A, dtype=dtype), lambda x: A @ x, x),
        ("Diagonal", of.Diagonal(x, dtype=dtype), lambda v: x * v, x[::-1]),
        ("FirstDerivative", of.FirstDerivative(n, sampling=0.5, dtype=dtype), centered, x),
        ("SecondDerivative", of.SecondDerivative(n, sampling=0.5, dtype=dtype), second, x),
        ("Laplacian", of.Laplacian((6, 5), dtype=dtype), laplacian, plane.ravel()),
        (
            "CausalIntegration",
            of.CausalIntegration(n, sampling=0.5, kind="full", dtype=dtype),
            lambda x: jnp.cumsum(x) / 2,
            x,
        ),
        (
            "Convolve1D",
            of.signalprocessing.Convolve1D(n, h, offset=2, dtype=dtype),
            lambda x: jnp.convolve(x, h, mode="same"),
            x,
        ),
        ("Restriction", of.Restriction(n, rows[[0, 1, 3]], dtype=dtype), lambda x: x[rows[[0, 1, 3]]], x),
        ("Smoothing1D", of.Smoothing1D(3, n, dtype=dtype), smoothed, x),
        ("Flip", of.Flip(n, dtype=dtype), lambda x: x[::-1], x),
        ("Roll", of.Roll(n, shift=3, dtype=dtype), lambda x: jnp.roll(x, 3), x),
        ("Pad", of.Pad(n, (2, 3), dtype=dtype), lambda x: jnp.pad(x, (2, 3)), x),
        ("Sum", of.Sum((6, 5), axis=0, dtype=dtype), lambda x: x.reshape(6, 5).sum(axis=0), plane.ravel()),
        ("Symmetrize", of.Symmetrize(n, dtype=dtype), lambda x: jnp.concatenate([x[:0:-1], x]), x),
        (
            "Transpose",
            of.Transpose((6, 5), axes=(1, 0), dtype=dtype),
            lambda x: x.reshape(6, 5).T.ravel(),
            plane.ravel(),
        ),
        (
            "Interp(linear)",
            of.signalprocessing.Interp(n, at, kind="linear", dtype=dtype)[0],
            interpolated,
            x,
        ),
        (
            "VStack",
            of.VStack([of.MatrixMult(A, dtype=dtype), of.Restriction(n, np.array([1, 4, 9]), dtype=dtype)]),
            lambda x: jnp.concatenate([A @ x, x[np.array([1, 4, 9])]]),
            x,
        ),
        (
            "LinearRegression",
            of.LinearRegression(np.linspace(0, 1, n), dtype=dtype),
            lambda c: c[0] + c[1] * np.linspace(0, 1, n),
            x[:2],
        ),
        (
            "DCT",
            of.signalprocessing.DCT(n, type=2, dtype=dtype),
            lambda x: _dct_matrix(n) @ x,
            x,
        ),
    ]
    del stacked
    for name, operator, in_jax, at_point in table:

        def forward(x: Any, operator: Any = operator) -> Any:
            return operator.matvec(x), None

        def backward(output_gradient: Any, cache: Any, operator: Any = operator) -> Any:
            return operator.rmatvec(output_gradient)

        def reference(x: Any, in_jax: Any = in_jax) -> Any:
            return jnp.asarray(in_jax(x), x.dtype)

        faulty = PROMOTED if end and name == "LinearRegression" else ""
        yield RealCase(f"{name}.rmatvec{end}", (forward, backward), reference, (at_point,), kind="vjp", faulty=faulty)


def _dct_matrix(n: int) -> np.ndarray:
    k, i = np.mgrid[:n, :n]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * i + 1) / (2 * n))
    matrix[0] /= np.sqrt(2)
    return matrix
