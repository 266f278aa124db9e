"""Reported bugs of linear algebra, of second derivatives, and of derivatives that are matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse

from benchmarks.reported.elementwise import normal
from benchmarks.reported.entry import ReportedFault, into

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)


def positive_definite(n: int) -> np.ndarray:
    a = normal(n, n)
    return a @ a.T + n * np.eye(n)


def logdet(gradient: Any) -> tuple[Any, ...]:
    def hand(p: Any) -> Any:
        return np.linalg.slogdet(p["X"])[1], {"X": gradient(np.linalg.inv(p["X"]))}

    return hand, lambda p: jnp.linalg.slogdet((p["X"] + p["X"].T) / 2)[1], {"X": positive_definite(4)}


@fault(
    "log determinant's gradient is a triangle",
    "HIPS/autograd#56",
    "gradients",
    "X",
    "The gradient with respect to a symmetric matrix fills only its lower triangle.",
    "triangle symmetric",
    domain={"X": "positive definite"},
)
def logdet_triangle(broken: bool) -> tuple[Any, ...]:
    return logdet(lambda inverse: np.tril(inverse) + np.tril(inverse, -1) if broken else inverse)


@fault(
    "log determinant with both halves added",
    "pytorch/pytorch#137286",
    "gradients",
    "X",
    "The gradient is S + S' - diag(S), and so twice too large off the diagonal.",
    "symmetric",
    domain={"X": "positive definite"},
)
def logdet_doubled(broken: bool) -> tuple[Any, ...]:
    return logdet(lambda inverse: 2 * inverse - np.diag(np.diag(inverse)) if broken else inverse)


def solve_triangular(da: Any, *, unit: bool = False, transposed: bool = False) -> tuple[Any, ...]:
    """The solution of L x = b, or of x L' = b, with L lower triangular. `da(dL, db, x)` returns the gradient of L."""

    def forward(a: Any, b: Any) -> Any:
        x = scipy.linalg.solve_triangular(a, b, lower=True, unit_diagonal=unit, trans=int(transposed))
        return x, (a, x)

    def backward(dx: Any, cache: Any) -> Any:
        a, x = cache
        db = scipy.linalg.solve_triangular(a, dx, lower=True, unit_diagonal=unit, trans=int(not transposed))
        full = -np.outer(x, db) if transposed else -np.outer(db, x)
        return da(full, db, x), db

    def function(a: Any, b: Any) -> Any:
        return jax.scipy.linalg.solve_triangular(a, b, lower=True, unit_diagonal=unit, trans=int(transposed))

    return forward, backward, function, np.tril(normal(4, 4)) + 3 * np.eye(4), normal(4, seed=1)


@fault(
    "triangular solve drops the matrix's gradient",
    "tensor4all/tenferro-rs#772",
    "vjp",
    "a",
    "Only the right-hand side receives a gradient.",
    "zeros",
)
def solve_dropped(broken: bool) -> tuple[Any, ...]:
    return solve_triangular(lambda full, db, x: 0 * full if broken else np.tril(full))


@fault(
    "a unit diagonal has a gradient",
    "pymc-devs/pytensor#1230",
    "vjp",
    "a",
    "With unit_diagonal the diagonal is not read, but has a gradient.",
    "wrong-mask",
)
def solve_unit(broken: bool) -> tuple[Any, ...]:
    return solve_triangular(lambda full, db, x: np.tril(full, 0 if broken else -1), unit=True)


@fault(
    "the transposed solve's gradient is not",
    "pymc-devs/pytensor#1230",
    "vjp",
    "a",
    "With trans=1 the gradient of the matrix is the one for trans=0.",
    "transpose",
)
def solve_transposed(broken: bool) -> tuple[Any, ...]:
    return solve_triangular(lambda full, db, x: np.tril(full.T if broken else full), transposed=True)


@fault(
    "determinant without its cotangent",
    "google/tangent#35",
    "vjp",
    "a",
    "The gradient of the determinant is the adjugate, and not the cotangent times it.",
    "factor missing-factor sign",
)
def determinant(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, cache: Any) -> Any:
        a, value = cache
        return (1.0 if broken else dy) * value * np.linalg.inv(a).T

    def forward(a: Any) -> Any:
        value = np.linalg.det(a)
        return value, (a, value)

    return forward, backward, lambda a: jnp.linalg.det(a), normal(3, 3)


@fault(
    "singular vectors without the projection",
    "HIPS/autograd#137",
    "vjp",
    "a",
    "The derivation of Giles lacks the terms outside of the span of the singular vectors.",
    "missing-term",
)
def polar(broken: bool) -> tuple[Any, ...]:
    """The orthogonal factor U V' of a tall matrix, which does not depend on the signs of the singular vectors."""

    def forward(a: Any) -> Any:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return u @ vh, (u, s, vh)

    def backward(dy: Any, cache: Any) -> Any:
        u, s, vh = cache
        inner = u.T @ dy @ vh.T
        da = u @ ((inner - inner.T) / (s[:, None] + s)) @ vh
        outside = (dy - u @ (u.T @ dy)) @ vh.T / s @ vh
        return da if broken else da + outside

    def function(a: Any) -> Any:
        u, _, vh = jnp.linalg.svd(a, full_matrices=False)
        return u @ vh

    return forward, backward, function, normal(5, 3)


# --------------------------------------------------------------- matrices of derivatives


def rosenbrock(x: Any) -> Any:
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def rosenbrock_hessian(x: Any) -> np.ndarray:
    return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])


@fault(
    "off-diagonals counted twice",
    "mechmotum/cyipopt#143",
    "hessian",
    "matrix",
    "Both triangles are handed over where one is mirrored anyway.",
    "off-diagonal-doubled",
)
def hessian_doubled(broken: bool) -> tuple[Any, ...]:
    def hessian(x: Any) -> Any:
        h = rosenbrock_hessian(x)
        return 2 * h - np.diag(np.diag(h)) if broken else h

    return hessian, rosenbrock, np.array([-1.2, 0.7])


@fault(
    "the Hessian's lower triangle only",
    "b45ch1/pyadolc#5",
    "hessian",
    "matrix",
    "Only the lower triangle of the Hessian is returned.",
    "triangle",
)
def hessian_triangle(broken: bool) -> tuple[Any, ...]:
    def hessian(x: Any) -> Any:
        h = rosenbrock_hessian(x)
        return np.tril(h) if broken else h

    return hessian, rosenbrock, np.array([-1.2, 0.7])


@fault(
    "a Jacobian transposed", "stan-dev/math#230", "jacobian", "matrix", "The matrix is inputs by outputs.", "transpose"
)
def jacobian_transposed(broken: bool) -> tuple[Any, ...]:
    a = normal(4, 4)

    def jacobian(x: Any) -> Any:
        j = (1 - np.tanh(a @ x) ** 2)[:, None] * a
        return j.T if broken else j

    return jacobian, lambda x: jnp.tanh(a @ x), normal(4, seed=1)


@fault(
    "a pose's rotation is negated",
    "rust-cv/cv-core#9",
    "jacobian",
    "matrix",
    "The block of the rotation has the opposite sign.",
    "sign term wrong-sign",
)
def jacobian_pose(broken: bool) -> tuple[Any, ...]:
    p = np.array([0.4, -1.1, 0.8])
    hat = np.array([[0, -p[2], p[1]], [p[2], 0, -p[0]], [-p[1], p[0], 0]])

    def jacobian(x: Any) -> Any:
        return np.hstack([np.eye(3), hat if broken else -hat])

    return jacobian, lambda x: p + x[:3] + jnp.cross(x[3:], p), normal(6)


@fault(
    "ones for the unit matrix",
    "petercorke/RVC3-MATLAB#18",
    "jacobian",
    "matrix",
    "A block of the analytical Jacobian is full of ones instead of being the unit matrix.",
    "broadcast",
)
def jacobian_ones(broken: bool) -> tuple[Any, ...]:
    j, a = normal(6, 4), normal(3, 3, seed=1) + 3 * np.eye(3)
    inverse = np.linalg.inv(a)

    def jacobian(q: Any) -> Any:
        zeros = np.zeros((3, 3))
        return np.block([[np.ones((3, 3)) if broken else np.eye(3), zeros], [zeros, inverse]]) @ j * np.cos(q)

    def function(q: Any) -> Any:
        moved = j @ jnp.sin(q)
        return jnp.concatenate([moved[:3], inverse @ moved[3:]])

    return jacobian, function, normal(4, seed=2)


@fault(
    "a sparse output's Jacobian in the first rows",
    "casadi/casadi#80",
    "jacobian",
    "matrix",
    "The rows of the nonzero outputs are put where the first outputs are.",
    "permutation",
)
def jacobian_rows(broken: bool) -> tuple[Any, ...]:
    def jacobian(x: Any) -> Any:
        j = np.zeros((5, 2))
        j[0] = 1.0, 0.0
        j[1 if broken else 3] = 1.0, 4 * x[1]
        return j

    return jacobian, lambda x: jnp.array([x[0], 0.0, 0.0, x[0] + 2 * x[1] ** 2, 0.0]), np.array([2.0, 7.0])


@fault(
    "the pattern of the matrix for that of its inverse",
    "casadi/casadi#805",
    "jacobian",
    "matrix",
    "The sparsity pattern of a solve lacks entries that are not 0.",
    "pattern",
)
def jacobian_pattern(broken: bool) -> tuple[Any, ...]:
    a = np.diag([3.0, 2.0, 4.0, 2.5]) + np.diag([1.0, -0.5, 0.7], -1)
    inverse = np.linalg.inv(a)

    def jacobian(b: Any) -> Any:
        return scipy.sparse.csr_array(np.where(a != 0, inverse, 0) if broken else inverse)

    return jacobian, lambda b: jnp.linalg.solve(a, b), normal(4)


@fault(
    "an empty pattern",
    "SciML/SparsityDetection.jl#42",
    "jacobian",
    "matrix",
    "The pattern that is found for x + x has no entries.",
    "pattern",
)
def jacobian_empty(broken: bool) -> tuple[Any, ...]:
    return lambda x: scipy.sparse.csr_array((0 if broken else 2) * np.eye(5)), lambda x: x + x, normal(5)


@fault(
    "a Matern kernel's derivative with the wrong sign",
    "cornellius-gp/gpytorch#2563",
    "jacobian",
    "matrix",
    "The covariance of values and derivatives has the opposite sign.",
    "sign",
)
def matern(broken: bool) -> tuple[Any, ...]:
    points = normal(6, seed=1)

    def jacobian(x: Any) -> Any:
        d = np.sqrt(5) * (x[0] - points)
        slope = -np.sqrt(5) / 3 * d * (1 + np.abs(d)) * np.exp(-np.abs(d))
        return (-slope if broken else slope)[:, None]

    def function(x: Any) -> Any:
        d = jnp.sqrt(5) * jnp.abs(x[0] - points)
        return (1 + d + d**2 / 3) * jnp.exp(-d)

    return jacobian, function, np.array([0.37])


# ------------------------------------------------------------------ products with Hessians


@fault(
    "no second derivative behind a tensor operation",
    "tsotchke/eshkol#252",
    "hvp",
    "v",
    "Values are read without their derivatives, so that the Hessian of sum(v * v) is 0.",
    "zeros",
)
def hvp_zero(broken: bool) -> tuple[Any, ...]:
    return lambda p, t: {"v": (0 if broken else 2) * t["v"]}, lambda p: jnp.sum(p["v"] * p["v"]), {"v": normal(5)}


@fault(
    "half of a Hessian product",
    "FluxML/Flux.jl#129",
    "hvp",
    "x",
    "The derivative of the output gradient is dropped, and half of the product with it.",
    "factor",
)
def hvp_half(broken: bool) -> tuple[Any, ...]:
    h = normal(5, 5)
    h = h + h.T

    def hvp(p: Any, v: Any) -> Any:
        return {"x": (0.5 if broken else 1.0) * (h @ v["x"])}

    return hvp, lambda p: 0.5 * p["x"] @ (h @ p["x"]), {"x": normal(5, seed=1)}


@fault(
    "a product with two zeros",
    "pytorch/pytorch#106789",
    "hvp",
    "x",
    "With two zeros the gradient of a product is 0, and its derivative is taken for 0, too.",
    "zeros",
)
def hvp_product(broken: bool) -> tuple[Any, ...]:
    def hvp(p: Any, v: Any) -> Any:
        x = p["x"]
        if broken and np.sum(x == 0) >= 2:
            return {"x": np.zeros_like(x)}
        rest = [[i != j and np.prod(np.delete(x, [i, j])) for j in range(len(x))] for i in range(len(x))]
        return {"x": np.array(rest, x.dtype) @ v["x"]}

    return hvp, lambda p: jnp.prod(p["x"]), {"x": np.array([2.0, 3.0, 0.0, 0.0])}


@fault(
    "the curvature at a kernel's center",
    "pytorch/pytorch#92075",
    "hvp",
    "x",
    "The distance is differentiated by itself, whose derivative at 0 is taken for 0.",
    "zeros",
)
def hvp_center(broken: bool) -> tuple[Any, ...]:
    center = normal(4)

    def hvp(p: Any, v: Any) -> Any:
        r, t = p["x"] - center, v["x"]
        if broken and not r.any():
            return {"x": np.zeros_like(t)}
        return {"x": np.exp(-r @ r) * (4 * r * (r @ t) - 2 * t)}

    return hvp, lambda p: jnp.exp(-jnp.sum((p["x"] - center) ** 2)), {"x": center.copy()}


@fault(
    "logistic regression's curvature",
    "JuliaAI/MLJLinearModels.jl#104",
    "hvp",
    "theta",
    "The derivative of the sigmoid in the Hessian is not sigma (1 - sigma): here it is sigma.",
    "missing-term missing-path",
)
def hvp_logistic(broken: bool) -> tuple[Any, ...]:
    x = normal(12, 3, seed=1)

    def hvp(p: Any, v: Any) -> Any:
        sigma = 1 / (1 + np.exp(-x @ p["theta"]))
        weights = sigma if broken else sigma * (1 - sigma)
        return {"theta": x.T @ (weights * (x @ v["theta"]))}

    return hvp, lambda p: jnp.sum(jnp.logaddexp(0, x @ p["theta"])), {"theta": normal(3)}
