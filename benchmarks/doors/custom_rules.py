"""Cases of check_custom_rules: correct and wrong rules for functions from textbooks and from JAX's documentation."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.doors.case import Case
from compare import check_custom_rules

X = np.random.default_rng(0).standard_normal((5, 4))
DOCS = "JAX's documentation, Custom derivative rules"


def _vjp(function: Callable[..., Any], forward: Any, backward: Any) -> Callable[..., Any]:
    ruled = jax.custom_vjp(function)
    ruled.defvjp(forward, backward)
    return ruled


def _jvp(function: Callable[..., Any], rule: Any) -> Callable[..., Any]:
    ruled = jax.custom_jvp(function)
    ruled.defjvp(rule)
    return ruled


def _softmax_rule(p: Any, g: Any) -> Any:
    return (p * (g - jnp.sum(p * g, axis=-1, keepdims=True)),)


def _norm(x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def _norm_rule(x: Any, g: Any) -> Any:
    s = jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    return (s * (g - x * s**2 * jnp.mean(g * x, axis=-1, keepdims=True)),)


def _solve(a: Any, b: Any) -> Any:
    return jnp.linalg.solve(a, b)


def _solve_rule(kept: Any, g: Any) -> Any:
    a, x = kept
    u = jnp.linalg.solve(a.T, g)
    return -jnp.outer(u, x), u


def _same(x: Any) -> tuple[Any, Any]:
    return x, None


A, B = X[:4] + 3 * np.eye(4), X[4]
# By name: the source, a function that makes the rule with a change of its results (the identity in a correct one), and
# the inputs.
RULES: dict[str, tuple[str, Callable[[Any], Callable[..., Any]], tuple[Any, ...]]] = {
    "log(1 + exp x)": (DOCS, lambda c: _jvp(lambda x: jnp.log(1 + jnp.exp(x)), lambda p, t: (
        jnp.log(1 + jnp.exp(p[0])), c((1 - 1 / (1 + jnp.exp(p[0]))) * t[0]))), (X,)),
    "sin(x) y": (DOCS, lambda c: _vjp(lambda x, y: jnp.sin(x) * y, lambda x, y: (jnp.sin(x) * y, (x, y)),
                 lambda k, g: (jnp.cos(k[0]) * k[1] * g, c(jnp.sin(k[0]) * g))), (X, X[::-1].copy())),
    "sin(x) y, forward": (DOCS, lambda c: _jvp(lambda x, y: jnp.sin(x) * y, lambda p, t: (
        jnp.sin(p[0]) * p[1], c(jnp.cos(p[0]) * t[0] * p[1] + jnp.sin(p[0]) * t[1]))), (X, X[::-1].copy())),
    "softmax": ("Goodfellow et al., Deep learning", lambda c: _vjp(
        lambda x: jnp.exp(x - jax.scipy.special.logsumexp(x, axis=-1, keepdims=True)),
        lambda x: (jax.nn.softmax(x), jax.nn.softmax(x)), lambda p, g: (c(_softmax_rule(p, g)[0]),)), (X,)),
    "log-sum-exp": ("Boyd and Vandenberghe, Convex optimization", lambda c: _vjp(
        lambda x: jnp.log(jnp.sum(jnp.exp(x), axis=-1)), lambda x: (jax.scipy.special.logsumexp(x, axis=-1), x),
        lambda x, g: (c(jax.nn.softmax(x) * g[..., None]),)), (X,)),
    "RMS norm": ("Zhang and Sennrich, 2019", lambda c: _vjp(
        _norm, lambda x: (_norm(x), x), lambda x, g: (c(_norm_rule(x, g)[0]),)), (X,)),
    "SiLU": ("Elfwing et al., 2018", lambda c: _vjp(
        lambda x: x / (1 + jnp.exp(-x)), lambda x: (x / (1 + jnp.exp(-x)), x),
        lambda x, g: (c(g * (s := 1 / (1 + jnp.exp(-x))) * (1 + x * (1 - s))),)), (X,)),
    "a linear system": ("Giles, 2008", lambda c: _vjp(_solve, lambda a, b: ((x := _solve(a, b)), (a, x)),
        lambda k, g: (c(_solve_rule(k, g)[0]), _solve_rule(k, g)[1])), (A, B)),
    "an inverse": ("Giles, 2008", lambda c: _vjp(jnp.linalg.inv, lambda a: ((i := jnp.linalg.inv(a)), i),
        lambda i, g: (c(-i.T @ g @ i.T),)), (A,)),
    "a log determinant": ("Giles, 2008", lambda c: _jvp(lambda a: jnp.linalg.slogdet(a)[1], lambda p, t: (
        jnp.linalg.slogdet(p[0])[1], c(jnp.trace(jnp.linalg.solve(p[0], t[0]))))), (A,)),
    "logistic loss": ("Bishop, Pattern recognition and machine learning", lambda c: _vjp(
        lambda z: jnp.sum(jnp.logaddexp(0, z)), lambda z: (jnp.sum(jnp.logaddexp(0, z)), z),
        lambda z, g: (c(g / (1 + jnp.exp(-z))),)), (X,)),
    "an inverse hyperbolic tangent": ("Abramowitz and Stegun, 4.6", lambda c: _jvp(
        jnp.arctanh, lambda p, t: (jnp.arctanh(p[0]), c(t[0] / (1 - p[0] ** 2)))), (X / 4,)),
}  # fmt: skip
CHANGES: dict[str, Callable[[Any], Any]] = {
    "negated": lambda g: -g,
    "1% too large": lambda g: 1.01 * g,
}


def custom_rules() -> Iterator[Case]:
    def check(rule: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        return check_custom_rules(lambda *inputs: jnp.sum(jnp.cos(rule(*inputs))), *inputs)

    for number, (name, (source, make, inputs)) in enumerate(RULES.items()):
        yield Case(name, source, False, lambda make=make, inputs=inputs: check(make(lambda g: g), inputs))
        what, change = list(CHANGES.items())[number % 2]
        planted = "jax #3213" if name == "sin(x) y" else "planted"
        yield Case(f"{name}, {what}", planted, True, lambda m=make, i=inputs, c=change: check(m(c), i))
    others = {
        "a clipped gradient": (DOCS, _vjp(lambda x: x * 1, _same, lambda _, g: (jnp.clip(g, -0.1, 0.1),)), (X,)),
        "straight through a rounding": ("Bengio et al., 2013", _vjp(
            lambda x: jnp.round(x), lambda x: (jnp.round(x), None),
                                        lambda _, g: (g,)), (X,)),
        "a value for its derivative": ("jax #28805", _jvp(lambda x: jnp.ones_like(x), lambda p, t: (
            jnp.ones_like(p[0]), p[0] * t[0])), (X,)),
        "softmax by its diagonal": ("planted", _vjp(
            lambda x: jax.nn.softmax(x), lambda x: ((p := jax.nn.softmax(x)), p),
                                    lambda p, g: (p * (1 - p) * g,)), (X,)),
        "a forward pass of another function": ("planted", _vjp(jnp.sinh, lambda x: (jnp.tanh(x), x),
                                               lambda x, g: (g * jnp.cosh(x),)), (X / 2,)),
        "a solve with the matrix untransposed": ("planted", _vjp(_solve, lambda a, b: ((x := _solve(a, b)), (a, x)),
            lambda k, g: (-jnp.outer(u := jnp.linalg.solve(k[0], g), k[1]), u)), (A, B)),
    }  # fmt: skip
    for name, (source, rule, inputs) in others.items():
        yield Case(name, source, True, lambda rule=rule, inputs=inputs: check(rule, inputs))
