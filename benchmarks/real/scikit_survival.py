"""scikit-survival: Cox's partial likelihood, survival support vector machines, losses of boosting."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase, product


def cases() -> Iterator[RealCase]:
    yield from cox()
    yield from boosting()
    yield from support_vector_machines()


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    n = 20
    return random.standard_normal((n, 3)), random.random(n) < 0.6, np.ceil(5 * random.exponential(1.0, n))


def _partial_likelihood(z: Any, event: np.ndarray, time: np.ndarray, efron: bool) -> Any:
    e = jnp.exp(z)
    total = 0.0
    for t in np.unique(time[event]):
        died = (time == t) & event
        share = np.arange(died.sum()) / died.sum() * efron
        total += jnp.sum(jnp.log(jnp.sum(e[time >= t]) - share * jnp.sum(e[died]))) - jnp.sum(z[died])
    return total / len(time)


def cox() -> Iterator[RealCase]:
    from sksurv.linear_model.coxph import CoxPHOptimizer

    X, event, time = _data()
    w = np.array([0.3, -0.4, 0.2])
    for ties in ("breslow", "efron"):
        optimizer = CoxPHOptimizer(X, event, time, np.full(3, 0.7), ties)

        def loss(w: Any, ties: str = ties) -> Any:
            penalty = 0.7 * jnp.sum(w**2) / (2 * len(X))
            return _partial_likelihood(X @ w, event, time, ties == "efron") + penalty

        def by_hand(w: Any, optimizer: Any = optimizer) -> Any:
            optimizer.update(w)
            return optimizer.nlog_likelihood(w), optimizer.gradient

        def second(w: Any, optimizer: Any = optimizer) -> Any:
            optimizer.update(w)
            hessian = optimizer.hessian
            return optimizer.gradient, lambda v: hessian @ v

        def without(w: Any, both: Any = by_hand) -> Any:
            value, gradient = both(w)
            return value, gradient - 0.7 * w / len(X)

        yield RealCase(f"CoxPHOptimizer({ties}).gradient", by_hand, loss, w, without=without)
        yield product(f"CoxPHOptimizer({ties}).hessian", second, loss, w)


def boosting() -> Iterator[RealCase]:
    """Negative gradients with respect to what the trees predict."""
    from sksurv.ensemble import survival_loss as of
    from sksurv.nonparametric import ipc_weights
    from sksurv.util import Surv

    _, event, time = _data()
    z = np.random.default_rng(1).standard_normal(len(time))
    y = Surv.from_arrays(event, time, name_event="event", name_time="time")
    weights = ipc_weights(event, time)
    table = {
        "CoxPH": (of.CoxPH(), lambda z: len(time) * _partial_likelihood(z, event, time, False), ""),
        "CensoredSquaredLoss": (
            of.CensoredSquaredLoss(),
            lambda z: jnp.sum(jnp.where((time - z > 0) | event, (time - z) ** 2, 0)) / 2,
            "",
        ),
        "IPCWLeastSquaresError": (
            of.IPCWLeastSquaresError(),
            lambda z: jnp.sum(weights * (time - z) ** 2) / weights.sum(),
            "the gradient is the residual alone: neither the weights, nor their sum, nor the 2 of the loss. Any data "
            "with a censored time.",
        ),
    }
    for name, (library, loss, faulty) in table.items():
        yield RealCase(
            f"{name}.gradient",
            lambda z, library=library: (library(y, z), -library.gradient(y, z)),
            loss,
            z,
            faulty=faulty,
        )


def support_vector_machines() -> Iterator[RealCase]:
    """Squared hinge losses of pairs, and of times: by all pairs, by support vectors, by counting."""
    from sksurv.svm import survival_svm as of

    X, event, _ = _data()
    random = np.random.default_rng(2)
    time = random.permutation(len(X)) + 1.0 + random.uniform(0, 0.5, len(X))  # no ties
    order = np.argsort(time)
    X, event, time = X[order], event[order], time[order]
    w = np.array([0.3, -0.4, 0.2])
    earlier, later = np.nonzero(event[:, None] & (time[:, None] < time))
    alpha = 0.7

    def pairs(w: Any) -> Any:
        z = X @ w
        return jnp.sum(jnp.maximum(0, 1 - (z[later] - z[earlier])) ** 2)

    def simple(w: Any) -> Any:
        return jnp.sum(w**2) / 2 + alpha * pairs(w) / 2

    table: dict[str, Any] = {}
    first = of.SimpleOptimizer(X, event, alpha, 1.0)
    second = of.PRSVMOptimizer(X, event, alpha, 1.0)
    table["SimpleOptimizer"], table["PRSVMOptimizer"] = (first, simple, w), (second, simple, w)
    levels = np.arange(len(X))
    plain = of.LargeScaleOptimizer(alpha, 1.0, False, of.SurvivalCounter(X, levels, event, len(X)))
    table["LargeScaleOptimizer(ranks)"] = (plain, simple, w)
    mixed = of.LargeScaleOptimizer(alpha, 0.4, True, of.SurvivalCounter(X, levels, event, len(X), time))

    def with_times(b: Any) -> Any:
        left = time - X @ b[1:] - b[0]
        regression = jnp.sum(jnp.where((left > 0) | event, left**2, 0))
        return jnp.sum(b[1:] ** 2) / 2 + alpha * (0.4 * pairs(b[1:]) + 0.6 * regression) / 2

    table["LargeScaleOptimizer(ranks and times)"] = (mixed, with_times, np.append(1.5, w))
    for name, (optimizer, loss, at) in table.items():

        def by_hand(w: Any, optimizer: Any = optimizer) -> Any:
            optimizer._update_constraints(w)
            return optimizer._objective_func(w), np.asarray(optimizer._gradient_func(w)).ravel()

        def times(w: Any, optimizer: Any = optimizer) -> Any:
            optimizer._update_constraints(w)
            gradient = np.asarray(optimizer._gradient_func(w)).ravel()
            return gradient, lambda v: np.asarray(optimizer._hessian_func(w, v)).ravel()

        yield RealCase(f"{name}._gradient_func", by_hand, loss, at)
        yield product(f"{name}._hessian_func", times, loss, at)
