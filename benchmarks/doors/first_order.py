"""Cases of check_vjp and check_jvp: HIPS autograd in reverse and forward mode, compared with JAX."""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from benchmarks.doors.case import Case, planted, unchanged
from benchmarks.doors.second_order import rosenbrock
from compare import check_jvp, check_vjp

A = np.random.default_rng(1).standard_normal((4, 4)) + 3 * np.eye(4)
X = np.random.default_rng(2).standard_normal((4, 4))

# By name: a formula in terms of a module like NumPy, autograd's or JAX's, and whether autograd has forward mode for it.
FORMULAS: dict[str, tuple[Any, bool]] = {
    "tanh": (lambda np, x: np.tanh(x), True),
    "logaddexp": (lambda np, x: np.logaddexp(x, 0.3), True),
    "arctan2": (lambda np, x: np.arctan2(x, A), True),
    "sinc": (lambda np, x: np.sinc(x), True),
    "power": (lambda np, x: np.abs(x) ** 2.5, True),
    "cumsum": (lambda np, x: np.cumsum(x, axis=0), True),
    "var": (lambda np, x: np.var(x, axis=0), True),
    "std": (lambda np, x: np.std(x, axis=1), True),
    "max": (lambda np, x: np.max(x, axis=1), True),
    "prod": (lambda np, x: np.prod(x, axis=1), True),
    "inv": (lambda np, x: np.linalg.inv(x + 3 * np.eye(4)), False),
    "det": (lambda np, x: np.linalg.det(x), False),
    "solve": (lambda np, x: np.linalg.solve(A, x), False),
    "einsum": (lambda np, x: np.einsum("ij,kj->ik", x, A), True),
    "kron": (lambda np, x: np.kron(x, A[:2]), True),
    "cholesky": (lambda np, x: np.linalg.cholesky(x @ x.T + np.eye(4)), False),
    "concatenate": (lambda np, x: np.concatenate([x, np.sin(x)], axis=1), True),
}


def vjps() -> Iterator[Case]:
    import autograd
    import autograd.numpy

    for name, (formula, _) in FORMULAS.items():

        def forward(x: Any, formula: Any = formula) -> Any:
            pull, value = autograd.make_vjp(lambda x: formula(autograd.numpy, x))(x)  # pyright: ignore[reportGeneralTypeIssues]  # it does return
            return value, pull

        def check(change: Any, forward: Any = forward, formula: Any = formula) -> Any:
            return check_vjp(forward, lambda dy, back: change(back(dy)), lambda x: formula(jnp, x), X)

        yield Case(name, "HIPS autograd", False, lambda check=check: check(unchanged))
        value, pull = forward(X)  # pyright: ignore[reportGeneralTypeIssues]  # autograd says that it never returns
        yield from planted(name, np.asarray(pull(np.ones_like(value))), check, 1)


def jvps() -> Iterator[Case]:
    import autograd
    import autograd.numpy

    for name, (formula, has_rule) in FORMULAS.items():
        if not has_rule:
            continue

        def jvp(primals: Any, tangents: Any, formula: Any = formula) -> Any:
            return autograd.make_jvp(lambda x: formula(autograd.numpy, x))(primals[0])(tangents[0])

        def check(change: Any, jvp: Any = jvp, formula: Any = formula) -> Any:
            def changed(primals: Any, tangents: Any) -> Any:
                value, tangent = jvp(primals, tangents)
                return value, change(tangent)

            return check_jvp(changed, lambda x: formula(jnp, x), X)

        yield Case(name, "HIPS autograd", False, lambda check=check: check(unchanged))
        yield from planted(name, np.asarray(jvp((X,), (A,))[1]), check, 1)
    x = np.array([0.5, -1.0, 2.0, 0.1])
    rosen = scipy.optimize.rosen, scipy.optimize.rosen_der

    def of_scipy(factor: float) -> Any:
        return check_jvp(lambda p, t: (rosen[0](p[0]), factor * rosen[1](p[0]) @ t[0]), rosenbrock, x)

    yield Case("rosen_der", "SciPy", False, lambda: of_scipy(1))
    yield Case("rosen_der, 1% too large", "planted", True, lambda: of_scipy(1.01))
