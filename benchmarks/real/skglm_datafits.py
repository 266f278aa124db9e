"""skglm: datafits and penalties, as plain Python (its solvers compile them)."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import FLOAT32, RealCase, elementwise


def cases() -> Iterator[RealCase]:
    for dtype in (np.float64, np.float32):
        end = FLOAT32 if dtype is np.float32 else ""
        yield from datafits(dtype, end)
    yield from cox()
    yield from groups_and_tasks()
    yield from penalties()


def datafits(dtype: Any, end: str) -> Iterator[RealCase]:
    from skglm import datafits as of

    random = np.random.default_rng(0)
    n = 25
    X = random.standard_normal((n, 4)).astype(dtype)
    real, signs = random.standard_normal(n).astype(dtype), random.choice([-1.0, 1.0], n).astype(dtype)
    counts, positive = random.poisson(2.0, n).astype(dtype), random.uniform(0.3, 3, n).astype(dtype)
    weights = random.uniform(0.5, 2, n).astype(dtype)
    w = (0.5 * random.standard_normal(4)).astype(dtype)

    def huber(z: Any, y: Any) -> Any:
        away = jnp.abs(y - z)
        return jnp.where(away < 0.8, away**2 / 2, 0.8 * away - 0.32)

    table = {
        "Quadratic": (of.Quadratic(), real, lambda z, y: jnp.mean((z - y) ** 2) / 2),
        "WeightedQuadratic": (
            of.WeightedQuadratic(weights),
            real,
            lambda z, y: jnp.sum(weights * (z - y) ** 2) / 2 / np.sum(weights),
        ),
        "Logistic": (of.Logistic(), signs, lambda z, y: jnp.mean(jnp.logaddexp(0, -y * z))),
        "Huber": (of.Huber(dtype(0.8)), real, lambda z, y: jnp.mean(huber(z, y))),
        "Poisson": (of.Poisson(), counts, lambda z, y: jnp.mean(jnp.exp(z) - y * z)),
        "Gamma": (
            of.Gamma(),
            positive,
            lambda z, y: jnp.mean(z + y * jnp.exp(-z) - jnp.log(y)) - 1 / n,
        ),
    }
    for name, (library, y, in_jax) in table.items():
        if hasattr(library, "initialize"):
            library.initialize(X, y)

        def one_by_one(w: Any, library: Any = library, y: Any = y) -> Any:
            Xw = X @ w
            gradient = np.array([library.gradient_scalar(X, y, w, Xw, j) for j in range(len(w))])
            return library.value(y, w, Xw), gradient.astype(dtype)

        yield RealCase(
            f"{name}.gradient_scalar{end}",
            one_by_one,
            lambda w, in_jax=in_jax, y=y: in_jax(jnp.asarray(X) @ w, y),
            w,
        )
        if hasattr(library, "raw_grad"):
            z = (X @ w).astype(dtype)
            yield RealCase(
                f"{name}.raw_grad{end}",
                lambda z, y, library=library: (library.value(y, w, z), library.raw_grad(y, z)),
                in_jax,
                z,
                (y,),
            )
    if dtype is np.float64:
        for name in ("Quadratic", "WeightedQuadratic", "Logistic", "Poisson", "Gamma"):
            library, y, in_jax = table[name]
            v = random.standard_normal(n)
            yield RealCase(
                f"{name}.raw_hessian",
                lambda z, library=library, y=y, v=v: (library.raw_grad(y, z) @ v, library.raw_hessian(y, z) * v),
                lambda z, in_jax=in_jax, y=y, v=v: jax.jvp(lambda z: in_jax(z, y), (z,), (v,))[1],
                X @ w,
                kind="product",
            )


def cox() -> Iterator[RealCase]:
    from skglm.datafits import Cox

    random = np.random.default_rng(1)
    n = 20
    X, w = random.standard_normal((n, 3)), np.array([0.3, -0.4, 0.2])
    time, status = np.ceil(5 * random.exponential(1.0, n)), random.integers(0, 2, n).astype(float)
    y = np.column_stack([time, status])

    def loss(w: Any, efron: bool) -> Any:
        z = X @ w
        e = jnp.exp(z)
        total = 0.0
        for t in np.unique(time[status == 1]):
            died = (time == t) & (status == 1)
            share = np.arange(died.sum()) / died.sum() * efron
            total += jnp.sum(jnp.log(jnp.sum(e[time >= t]) - share * jnp.sum(e[died]))) - jnp.sum(z[died])
        return total / n

    for efron in (False, True):
        library = Cox(use_efron=efron)
        library.initialize(X, y)

        def by_hand(w: Any, library: Any = library) -> Any:
            return library.value(y, w, X @ w), library.gradient(X, y, X @ w)

        yield RealCase(f"Cox(use_efron={efron}).gradient", by_hand, lambda w, efron=efron: loss(w, efron), w)


def groups_and_tasks() -> Iterator[RealCase]:
    from skglm import datafits as of

    random = np.random.default_rng(2)
    n = 20
    X, w, signs = random.standard_normal((n, 6)), random.standard_normal(6), random.choice([-1.0, 1.0], n)
    y, counts = random.standard_normal(n), random.poisson(2.0, n).astype(float)
    pointer, indices = np.array([0, 2, 4, 6], np.int32), np.arange(6, dtype=np.int32)
    table = {
        "QuadraticGroup": (of.QuadraticGroup(pointer, indices), y, lambda w: jnp.mean((y - X @ w) ** 2) / 2),
        "LogisticGroup": (
            of.LogisticGroup(pointer, indices),
            signs,
            lambda w: jnp.mean(jnp.logaddexp(0, -signs * (X @ w))),
        ),
        "PoissonGroup": (
            of.PoissonGroup(pointer, indices),
            counts,
            lambda w: jnp.mean(jnp.exp(X @ w) - counts * (X @ w)),
        ),
    }
    for name, (library, target, in_jax) in table.items():

        def by_hand(w: Any, library: Any = library, target: Any = target) -> Any:
            Xw = X @ w
            parts = [library.gradient_g(X, target, w, Xw, g) for g in range(3)]
            return library.value(target, w, Xw), np.concatenate(parts)

        yield RealCase(f"{name}.gradient_g", by_hand, in_jax, 0.3 * w)
    Y, W = random.standard_normal((n, 3)), random.standard_normal((6, 3))
    tasks = of.QuadraticMultiTask()
    tasks.initialize(X, Y)

    def multi(W: Any) -> Any:
        XW = X @ W
        return tasks.value(Y, W, XW), np.array([tasks.gradient_j(X, Y, W, XW, j) for j in range(6)])

    yield RealCase("QuadraticMultiTask.gradient_j", multi, lambda W: jnp.sum((Y - X @ W) ** 2) / (2 * n), W)
    signed = signs[:, None] * X
    svc = of.QuadraticSVC()

    def dual(a: Any) -> Any:
        z = signed.T @ a
        return svc.value(signs, a, z), np.array([svc.gradient_scalar(signed.T, signs, a, z, j) for j in range(n)])

    yield RealCase(
        "QuadraticSVC.gradient_scalar",
        dual,
        lambda a: jnp.sum((signed.T @ a) ** 2) / 2 - jnp.sum(a),
        random.uniform(0, 1, n),
    )
    A = X.T @ X
    quadratic = of.QuadraticHessian()
    yield RealCase(
        "QuadraticHessian.gradient_scalar",
        lambda w: (
            quadratic.value(w * 0 + 0.3, w, A @ w),
            np.array([quadratic.gradient_scalar(A, w * 0 + 0.3, w, A @ w, j) for j in range(6)]),
        ),
        lambda w: w @ A @ w / 2 + 0.3 * jnp.sum(w),
        w,
    )


def penalties() -> Iterator[RealCase]:
    """Derivatives of concave penalties, for weights of 1 and positive entries (what reweighting asks for)."""
    from skglm import penalties as of

    w = np.random.default_rng(3).uniform(0.2, 3, 8)
    table = {
        "L0_5": (of.L0_5(1.0), jnp.sqrt),
        "L2_3": (of.L2_3(1.0), lambda w: w ** (2 / 3)),
        "LogSumPenalty": (of.LogSumPenalty(1.0, 0.4), lambda w: jnp.log1p(w / 0.4)),
    }
    for name, (library, in_jax) in table.items():
        at_least = 1e-11 if name != "LogSumPenalty" else 0.0  # 1e-12 is added to the denominator
        yield elementwise(
            f"{name}.derivative",
            lambda w, library=library: np.array([library.value(entry) for entry in w]),
            library.derivative,
            in_jax,
            w,
            domain={"value": "positive"},
            at_least=at_least,
        )
    yield RealCase(
        "L2.gradient",
        lambda w: (of.L2(0.7).value(w), of.L2(0.7).gradient(w)),
        lambda w: 0.7 * jnp.sum(w**2) / 2,
        w - 1,
    )
