"""Cases of check_jacobian: matrices of SciPy and NumPy, Jacobians by autograd, and operators of PyLops.

PyLops is in the optional group `real`, which needs an environment of its own. Without it, its operators are skipped.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

import importlib.util
import itertools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.interpolate
import scipy.linalg
from scipy.sparse.linalg import LaplacianNd, aslinearoperator

from benchmarks.doors.case import Case, planted, unchanged
from benchmarks.doors.first_order import A
from compare import check_jacobian

C = np.random.default_rng(5).standard_normal(6)
H = np.random.default_rng(6).standard_normal(3)
ROW = np.r_[C[0], H, 0, 0]
AT = np.linspace(0.1, 0.9, 9)
KNOTS = np.array([0, 0, 0, 0, 0.4, 0.7, 1, 1, 1, 1.0])


def _laplacian(x: Any) -> Any:
    """The second difference of a sequence, which is continued by its first and last entry."""
    padded = jnp.concatenate([x[:1], x, x[-1:]])
    return padded[:-2] - 2 * padded[1:-1] + padded[2:]


def _spline(c: Any) -> Any:
    """The basis functions of cubic splines, by de Boor's recurrence."""
    basis = jnp.stack(
        [jnp.where((AT >= low) & (AT < high), 1.0, 0.0) for low, high in itertools.pairwise(KNOTS)]  # noqa: SIM300
    )
    for k in range(1, 4):
        rows = []
        for i in range(len(KNOTS) - 1 - k):
            one, two = KNOTS[i + k] - KNOTS[i], KNOTS[i + k + 1] - KNOTS[i + 1]
            left = (AT - KNOTS[i]) / one * basis[i] if one else 0 * basis[i]
            right = (KNOTS[i + k + 1] - AT) / two * basis[i + 1] if two else 0 * basis[i]
            rows.append(left + right)
        basis = jnp.stack(rows)
    return c @ basis


def jacobians() -> Iterator[Case]:
    design = scipy.interpolate.BSpline.design_matrix(AT, KNOTS, 3)
    table = {
        "convolution_matrix": (scipy.linalg.convolution_matrix(H, 6), lambda x: jnp.convolve(x, H), C),
        "circulant": (
            scipy.linalg.circulant(C), lambda x: jnp.fft.ifft(jnp.fft.fft(C) * jnp.fft.fft(x)).real, C[::-1].copy()
        ),
        "toeplitz": (scipy.linalg.toeplitz(C, ROW), lambda x: jnp.stack(
            [sum((C[i - j] if i >= j else ROW[j - i]) * x[j] for j in range(6)) for i in range(6)]), C),
        "vander": (np.vander(AT, 6), lambda c: jnp.polyval(c, AT), C),
        "chebvander": (np.polynomial.chebyshev.chebvander(AT, 5), lambda c: sum(
            c[k] * jnp.cos(k * jnp.arccos(AT)) for k in range(6)), C),
        "BSpline.design_matrix, sparse": (design, _spline, C),
        "LaplacianNd, an operator": (LaplacianNd((6,), boundary_conditions="neumann", dtype=np.float64), _laplacian, C),
        "LaplacianNd, sparse": (LaplacianNd((6,), boundary_conditions="neumann", dtype=np.float64).tosparse() * 1.0,
                                _laplacian, C),
        "block_diag": (scipy.linalg.block_diag(A, A.T[:2, :2]),
                       lambda x: jnp.concatenate([A @ x[:4], A.T[:2, :2] @ x[4:]]), C),
    }  # fmt: skip
    for name, (matrix, function, x) in table.items():

        def check(change: Any, matrix: Any = matrix, function: Any = function, x: Any = x) -> Any:
            return check_jacobian(lambda x: change(matrix), function, x)

        yield Case(name, "SciPy or NumPy", False, lambda check=check: check(unchanged))
        if isinstance(matrix, np.ndarray):
            yield from planted(name, matrix, check, 1)
    yield from _of_autograd()
    yield from _of_pylops()
    yield from _known(scipy.linalg.circulant(C), table["circulant"][1], C)
    yield Case("an entry beside the pattern", "planted", True, lambda: check_jacobian(
        lambda c: _without(design), _spline, C))  # fmt: skip


def _without(design: Any) -> Any:
    changed = design.copy()
    changed.data[3] = 0
    changed.eliminate_zeros()
    return changed


def _of_autograd() -> Iterator[Case]:
    import autograd
    import autograd.numpy

    formulas = {
        "tanh of a product": lambda np, x: np.tanh(A @ x),
        "softmax": lambda np, x: np.exp(x) / np.sum(np.exp(x)),
        "a cross product": lambda np, x: np.stack([x[1] * x[2], x[0] * x[3], np.sin(x[0] * x[1])]),
    }
    for name, formula in formulas.items():
        jacobian = autograd.jacobian(lambda x, formula=formula: formula(autograd.numpy, x))

        def check(change: Any, jacobian: Any = jacobian, formula: Any = formula) -> Any:
            return check_jacobian(lambda x: change(jacobian(x)), lambda x: formula(jnp, x), C[:4])

        yield Case(name, "HIPS autograd", False, lambda check=check: check(unchanged))
        yield from planted(name, jacobian(C[:4]), check, 2)


def _of_pylops() -> Iterator[Case]:
    """Linear operators: they and their adjoints are products with their Jacobian and its transpose."""
    if importlib.util.find_spec("pylops") is None:
        return
    import pylops

    n = len(C)
    table = {
        "MatrixMult": (pylops.MatrixMult(A), lambda x: A @ x, C[:4]),
        "FirstDerivative": (pylops.FirstDerivative(n, sampling=0.5), lambda x: jnp.concatenate(
            [jnp.zeros(1), (x[2:] - x[:-2]) / 2, jnp.zeros(1)]) / 0.5, C),
        "Restriction": (pylops.Restriction(n, [1, 4]), lambda x: x[np.array([1, 4])], C),
        "Roll": (pylops.Roll(n, shift=2), lambda x: jnp.roll(x, 2), C),
        "Pad": (pylops.Pad(n, (2, 3)), lambda x: jnp.pad(x, (2, 3)), C),
        "Flip": (pylops.Flip(n), lambda x: x[::-1], C),
        "CausalIntegration": (pylops.CausalIntegration(n, kind="full"), jnp.cumsum, C),
    }  # fmt: skip
    for name, (operator, function, x) in table.items():
        wrong = aslinearoperator(operator.todense()[::-1])
        yield Case(
            f"pylops, {name}", "PyLops", False, lambda o=operator, f=function, x=x: check_jacobian(lambda x: o, f, x)
        )
        if name not in ("Roll", "Flip"):
            yield Case(
                f"pylops, {name}, turned",
                "planted",
                True,
                lambda o=wrong, f=function, x=x: check_jacobian(lambda x: o, f, x),
            )


def _known(matrix: np.ndarray, function: Any, x: np.ndarray) -> Iterator[Case]:
    """Faults of Jacobians from public reports."""
    changes = {
        "transposed": ("RALFit #61", matrix.T),
        "one output's row in every row": ("planted", np.tile(matrix[1], (len(matrix), 1))),
        "only its diagonal": ("planted", np.diag(np.diag(matrix))),
        "only its upper triangle": ("planted", np.triu(matrix)),
    }
    for name, (source, wrong) in changes.items():
        yield Case(name, source, True, lambda wrong=wrong: check_jacobian(lambda x: wrong, function, x))
    yield Case("an operator, transposed", "RALFit #61", True, lambda: check_jacobian(
        lambda x: aslinearoperator(matrix.T), function, x))  # fmt: skip
