"""Every row of the table is held to what JAX compiles; one without a function here that holds its operation fails."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.random import threefry_2x32
from jax.lax import linalg
from jax.sharding import SingleDeviceSharding

from compare.judge.program.line import along
from compare.judge.program.plan import as_it_is, inner_programs, quietly
from compare.judge.program.primitives import TABLE, markers
from compare.judge.program.trace import Program, traced

# What inputs are: one letter for each.
DRAWS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "x": lambda r: r.normal(size=(2, 3)),
    "p": lambda r: r.uniform(0.5, 2, (2, 3)),
    "q": lambda r: r.uniform(1.1, 3, (2, 3)),
    "u": lambda r: r.uniform(0.1, 0.9, (2, 3)),
    "v": lambda r: r.normal(size=3),
    "c": lambda r: r.normal(size=6),
    "m": lambda r: r.normal(size=(3, 3)) + 3 * np.eye(3),
    "s": lambda r: (lambda a: a @ a.T + np.diag([1.0, 3.0, 7.0]))(r.normal(size=(3, 3))),
    "t": lambda r: r.normal(size=(4, 3)),
    "a": lambda r: r.normal(size=(1, 2, 5, 6)),
    "k": lambda r: r.normal(size=(3, 2, 2, 3)),
    "i": lambda r: r.integers(1, 7, (2, 3), np.int32),
    "j": lambda r: r.integers(-9, 10, (2, 3), np.int32) | 1,
    "w": lambda r: r.integers(0, 2**32, (2, 3), np.uint32),
    "b": lambda r: r.random((2, 3)) < 0.5,
    "n": lambda r: r.integers(0, 3, (2,), np.int32),
}


@dataclass(frozen=True)
class Case:
    """A function of inputs of these kinds. `differentiated` by those that are numbers, if it has a derivative.

    `error`: how far JAX's own implementation may be off, relative to the largest entry. `also`: the other dtypes in
    which it is compared, c for complex numbers and b for bfloat16.
    """

    function: Callable[..., Any]
    inputs: str
    also: str = ""
    differentiated: bool = True
    error: float = 1e-12


def discrete(function, inputs, also=""):
    return Case(function, inputs, also, differentiated=False)


def special(function, inputs, differentiated=True):
    return Case(function, inputs, "", differentiated, error=1e-8)


POOL = ((1, 1, 2, 2), (1, 1, 1, 2), ((0, 0), (0, 0), (0, 1), (1, 0)))
HERE = SingleDeviceSharding(jax.devices("cpu")[0])


def windows(combine, start):
    return lambda x: lax.reduce_window(x, start, combine, *POOL)


def key():
    return jax.random.key(3)


def chosen(key):
    return jax.random.bernoulli(key, np.float32(0.5), (2, 3))


@jax.custom_jvp
def steep(x):
    return jnp.sin(x)


steep.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), 7 * tangents[0]))


@jax.custom_vjp
def steeper(x, y):
    return x * y


steeper.defvjp(lambda x, y: (x * y, (x, y)), lambda kept, g: (5 * g * kept[1], g * kept[0]))


def solved_by_rows(m, v):
    return lax.custom_linear_solve(
        lambda x: m @ x, v, lambda _, b: jnp.linalg.inv(m) @ b, transpose_solve=lambda _, b: jnp.linalg.inv(m).T @ b
    )


def counted(x):
    def turns(c):
        return lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * 1.5 + jnp.sin(s[1])), (0, c))[1]

    return jax.jvp(turns, (x,), (jnp.cos(x),))


ELEMENTWISE = {
    "add": Case(lambda x, p: x + p, "xp", "cb"),
    "add_any": Case(lambda x: jnp.sin(x) * jnp.cos(x) * x, "x"),
    "sub": Case(lambda x, p: x - p, "xp", "cb"),
    "mul": Case(lambda x, p: x * p, "xp", "cb"),
    "div": Case(lambda x, p: x / p, "xp", "cb"),
    "rem": Case(lambda x, p: lax.rem(x, p), "xp", "b"),
    "neg": Case(lambda x: -x, "x", "cb"),
    "integer_pow": Case(lambda x, p: (x**3, p**-2, x**5), "xp", "cb"),
    "pow": Case(lambda p, x: p**x, "px", "c"),
    "square": Case(jnp.square, "x", "cb"),
    "sqrt": Case(jnp.sqrt, "p", "cb"),
    "rsqrt": Case(lax.rsqrt, "p", "cb"),
    "cbrt": Case(jnp.cbrt, "x", "b", error=1e-9),  # JAX's derivative has a third in it, of the dtype
    "exp": Case(jnp.exp, "x", "cb"),
    "exp2": Case(jnp.exp2, "x", "b"),
    "expm1": Case(jnp.expm1, "x", "cb"),
    "log": Case(jnp.log, "p", "cb"),
    "log1p": Case(jnp.log1p, "p", "cb"),
    "logistic": Case(jax.nn.sigmoid, "x", "cb"),
    "tanh": Case(jnp.tanh, "x", "cb"),
    "sin": Case(jnp.sin, "x", "cb"),
    "cos": Case(jnp.cos, "x", "cb"),
    "tan": Case(jnp.tan, "x", "cb"),
    "asin": Case(jnp.arcsin, "u", "c"),
    "acos": Case(jnp.arccos, "u", "c"),
    "atan": Case(jnp.arctan, "x", "c"),
    "atan2": Case(lax.atan2, "xp", "b"),
    "sinh": Case(jnp.sinh, "x", "cb"),
    "cosh": Case(jnp.cosh, "x", "cb"),
    "asinh": Case(jnp.arcsinh, "x", "c"),
    "acosh": Case(jnp.arccosh, "q", "c"),
    "atanh": Case(jnp.arctanh, "u", "c"),
    "abs": Case(jnp.abs, "x", "cb"),
    "max": Case(jnp.maximum, "xp", "b"),
    "min": Case(jnp.minimum, "xp", "b"),
    "clamp": Case(lambda u, x, q: lax.clamp(u, x, q), "uxq", "b"),
    "select_n": Case(lambda b, i, x, p: (jnp.where(b, x, p), lax.select_n(i // 3, x, p, x * p)), "bixp", "cb"),
    "sign": discrete(jnp.sign, "x", "cb"),
    "floor": discrete(lambda x: jnp.floor(3 * x), "x", "b"),
    "ceil": discrete(lambda x: jnp.ceil(3 * x), "x", "b"),
    "round": discrete(lambda x: (jnp.round(3 * x), lax.round(6 * x), jnp.round(jnp.round(6 * x) / 2)), "x", "b"),
    "is_finite": discrete(lambda x, b: jnp.isfinite(jnp.where(b, x, x / 0)), "xb", "b"),
    "eq": discrete(lambda i, j: (i == j, jnp.sin(i) == jnp.sin(j)), "ij"),
    "ne": discrete(lambda i, j: (i != j, jnp.sin(i) != jnp.sin(j)), "ij"),
    "lt": discrete(lambda x, p, i, j: (x < p, i < j), "xpij", "b"),
    "le": discrete(lambda x, p, i, j: (x <= p, i <= j), "xpij", "b"),
    "gt": discrete(lambda x, p, i, j: (x > p, i > j), "xpij", "b"),
    "ge": discrete(lambda x, p, i, j: (x >= p, i >= j), "xpij", "b"),
    "eq_to": discrete(lambda x, b: lax.eq_to_p.bind(x, jnp.where(b, x, 1 + x)), "xb"),
    "le_to": discrete(lambda x, p: lax.le_to_p.bind(x, p), "xp"),
    "lt_to": discrete(lambda x, p: lax.lt_to_p.bind(x, p), "xp"),
    "nextafter": discrete(lambda x, p: jnp.sign(jnp.nextafter(x, p) - x), "xp"),
    "and": discrete(lambda i, j, b: (i & j, b & (i > 3)), "ijb"),
    "or": discrete(lambda i, j, b: (i | j, b | (i > 3)), "ijb"),
    "xor": discrete(lambda i, j, b: (i ^ j, b ^ (i > 3)), "ijb"),
    "not": discrete(lambda i, b: (~i, ~b), "ib"),
    "shift_left": discrete(lambda j, i: j << i, "ji"),
    "shift_right_logical": discrete(lambda j, i: lax.shift_right_logical(j, i), "ji"),
    "shift_right_arithmetic": discrete(lambda j, i: j >> i, "ji"),
    "population_count": discrete(lax.population_count, "j"),
    "clz": discrete(lax.clz, "j"),
    "complex": Case(lambda x, p: lax.complex(x, p) ** 2, "xp"),
    "real": Case(lambda x, p: jnp.real(jnp.exp(lax.complex(x, p))), "xp", ""),
    "imag": Case(lambda x, p: jnp.imag(jnp.exp(lax.complex(x, p))), "xp", ""),
    "conj": Case(lambda x, p: jnp.conj(lax.complex(x, p)) * jnp.exp(lax.complex(p, x)), "xp"),
    "convert_element_type": Case(lambda x, i: (i.astype(x.dtype) * x, x.astype(np.int32), x.astype(bool)), "xi"),
    "reduce_precision": Case(lambda x: (lax.reduce_precision(x, 8, 7), lax.reduce_precision(x, 11, 3)), "x"),
    "copy": Case(jnp.copy, "x", "cb"),
    "name": Case(lambda x: checkpoint_name(jnp.sin(x), "h") ** 2, "x", "b"),
    "stop_gradient": Case(lambda x: lax.stop_gradient(jnp.sin(x)) * x, "x", "b"),
    "device_put": Case(lambda x, p: sum(jax.device_put((x * p, p))), "xp", "b"),
    "optimization_barrier": Case(lambda x, p: sum(lax.optimization_barrier((x * p, p))), "xp", "b"),
    "sharding_constraint": Case(lambda x: lax.with_sharding_constraint(jnp.sin(x), HERE), "x", "b"),
}

ARRAYS = {
    "broadcast_in_dim": Case(lambda v: jnp.broadcast_to(v[:, None], (2, 3, 4)) ** 2, "v", "cb"),
    "reshape": Case(lambda x: (x.reshape(3, 2) ** 2, lax.reshape(x, (6,), (1, 0)), x.ravel("F")), "x", "cb"),
    "squeeze": Case(lambda a: jnp.squeeze(a, 0) ** 2, "a", "cb"),
    "transpose": Case(lambda a: a.transpose(2, 0, 3, 1) ** 2, "a", "cb"),
    "stack": Case(lambda x, p: jnp.stack([x, p, x], axis=1) ** 2, "xp", "cb"),
    "unstack": Case(lambda a: jnp.unstack(a**2, axis=2), "a", "cb"),
    "tile": Case(lambda x: jnp.tile(x, (2, 1, 3)) ** 2, "x", "cb"),
    "reduce_sum": Case(lambda a, b: (jnp.sum(a, (1, 3)), jnp.sum(b)), "ab", "cb"),
    "reduce_prod": Case(lambda x: jnp.prod(x, axis=1), "x", "c"),
    "reduce_max": Case(lambda a, i: (jnp.max(a, (1, 3)), jnp.max(i)), "ai", "b"),
    "reduce_min": Case(lambda a, i: (jnp.min(a, (0, 2)), jnp.min(i)), "ai", "b"),
    "reduce_and": discrete(lambda b, i: (jnp.all(b, 0), lax.reduce_and(i, (1,))), "bi"),
    "reduce_or": discrete(lambda b, i: (jnp.any(b, 0), lax.reduce_or(i, (1,))), "bi"),
    "reduce_xor": discrete(lambda b, i: (lax.reduce_xor(b, (0,)), lax.reduce_xor(i, (1,))), "bi"),
    "dot_general": Case(lambda a, k, v: (jnp.einsum("bchw,ocij->hbiwo", a, k), v @ v, v[None] @ v), "akv", "cb"),
    "argmax": discrete(lambda x, i: (jnp.argmax(x, 1), jnp.argmax(i)), "xi", "b"),
    "argmin": discrete(lambda x, i: (jnp.argmin(x, 1), jnp.argmin(i)), "xi", "b"),
    "concatenate": Case(lambda x, p: jnp.concatenate([x, p, x], 1) ** 2, "xp", "cb"),
    "dynamic_slice": Case(lambda c, n: lax.dynamic_slice(c, (n[0] + 3,), (2,)) ** 2, "cn", "cb"),
    "dynamic_update_slice": Case(lambda c, v, n: lax.dynamic_update_slice(c, v, (n[0] + 2,)) ** 2, "cvn", "cb"),
    "gather": Case(lambda x, n: (x[n - 1] ** 2, jnp.take(x, n, axis=1)), "xn", "cb"),
    "iota": Case(lambda x: x * lax.broadcasted_iota(x.dtype, (2, 3), 1), "x", "b"),
    "pad": Case(lambda x, p: lax.pad(x, p[0, 0], ((1, 0, 2), (-1, 2, 0))) ** 2, "xp", "cb"),
    "rev": Case(lambda x: x[:, ::-1] ** 2 * x, "x", "cb"),
    "scatter": Case(lambda c, v: c.at[jnp.array([4, 0, 2])].set(v) ** 2, "cv", "cb"),
    "scatter-add": Case(lambda c, n, x: c.at[n].add(x[:, 0]) ** 2, "cnx", "cb"),
    "scatter-max": Case(lambda c, n, x: c.at[n].max(x[:, 0]) ** 2, "cnx", "b"),
    "scatter-min": Case(lambda c, n, x: c.at[n].min(x[:, 0]) ** 2, "cnx", "b"),
    "scatter-mul": Case(lambda c, v: c.at[jnp.array([4, 0, 2])].multiply(v, unique_indices=True), "cv", "c"),
    "scatter-sub": Case(lambda c, n, x: c.at[n].subtract(x[:, 0]) ** 2, "cnx", "cb"),
    "slice": Case(lambda c: c[1:6:2] ** 2, "c", "cb"),
    "sort": Case(lambda c, x: (jnp.sort(c) ** 2, jnp.argsort(x, axis=0)), "cx", "b"),
    "split": Case(lambda c: jnp.split(c**2, [1, 3]), "c", "cb"),
    "top_k": Case(lambda c: lax.top_k(c, 3), "c", "b"),
}

CONTROL = {
    "scan": Case(lambda v, x: lax.scan(lambda c, r: (jnp.sin(c + r), c * r), v, x, reverse=True), "vx", "b"),
    "while": discrete(counted, "v"),
    "cond": Case(lambda n, v: lax.switch(n[0], [jnp.sin, jnp.cos, lambda v: v * v], v), "nv", "b"),
    "custom_linear_solve": Case(solved_by_rows, "mv"),
    "custom_jvp_call": Case(lambda x: (steep(x), jax.nn.relu(x), jax.nn.silu(x)), "x", "b"),
    "custom_vjp_call": Case(steeper, "xp", "b"),
    "random_seed": discrete(lambda n: jax.random.key_data(jax.random.key(n[0])), "n"),
    "random_wrap": discrete(lambda w: jax.random.bits(jax.random.wrap_key_data(w[0, :2]), (), np.uint32), "w"),
    "random_unwrap": discrete(lambda n: jax.random.key_data(jax.random.fold_in(key(), n[0])), "n"),
    "random_clone": Case(lambda x: x * chosen(jax.random.clone(key())), "x"),
    "random_split": Case(lambda x: x * chosen(jax.random.split(key())[1]), "x"),
    "random_fold_in": Case(lambda x, n: x * chosen(jax.random.fold_in(key(), n[1])), "xn"),
    "random_bits": Case(lambda x: x * chosen(key()), "x"),
    "threefry2x32": discrete(lambda w: threefry_2x32(w[0, :2], w[1]), "w"),
    "bitcast_convert_type": discrete(lambda w: lax.bitcast_convert_type(w >> 2, np.float32), "w"),
    "platform_index": Case(lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos), "x"),
}

WINDOWS = {
    "conv_general_dilated": Case(lambda a, k: lax.conv(a, k, (1, 2), "SAME"), "ak", "cb"),
    "cumlogsumexp": Case(lambda x: lax.cumlogsumexp(x, 1), "x"),
    "cummax": Case(lambda c: lax.cummax(c) ** 2, "c", "b"),
    "cummin": Case(lambda c: lax.cummin(c, reverse=True) ** 2, "c", "b"),
    "cumprod": Case(lambda c: lax.cumprod(c), "c", "c"),
    "cumsum": Case(lambda x: lax.cumsum(x, 1, reverse=True) ** 2, "x", "cb"),
    "reduce_window_max": Case(windows(lax.max, -np.inf), "a", "b"),
    "reduce_window_min": Case(windows(lax.min, np.inf), "a", "b"),
    "reduce_window_sum": Case(windows(lax.add, 0.0), "a", "b"),
    "select_and_gather_add": discrete(lambda a: jax.jvp(windows(lax.max, -np.inf), (a,), (jnp.cos(a),))[1], "a"),
    "select_and_scatter_add": Case(windows(lax.max, -np.inf), "a"),
}

LINEAR_ALGEBRA = {
    "cholesky": Case(lambda s: jnp.linalg.cholesky(s), "s", error=1e-10),
    "cholesky_update": discrete(lambda s, v: linalg.cholesky_update(jnp.linalg.cholesky(s).T, v), "sv"),
    "symmetric_product": discrete(lambda m, s: linalg.symmetric_product(m, s, alpha=2.0, beta=0.5), "ms"),
    "triangular_solve": Case(lambda m, t: linalg.triangular_solve(m, t, lower=True, transpose_a=True), "mt", "c"),
    "tridiagonal_solve": Case(lambda v, t: linalg.tridiagonal_solve(v, 9 + v, 2 * v, t.T), "vt"),
    "lu": Case(lambda m: linalg.lu(m)[0], "m", "c", error=1e-10),
    "lu_pivots_to_permutation": discrete(lambda m: linalg.lu_pivots_to_permutation(linalg.lu(m)[1], 3), "m"),
    "geqrf": discrete(lambda t: jnp.linalg.qr(t, mode="raw"), "t", "c"),
    "geqp3": discrete(lambda t: jax.scipy.linalg.qr_multiply(t, t.T, pivoting=True), "t"),
    "householder_product": discrete(lambda t, v: linalg.householder_product(t, v), "tv", "c"),
    "ormqr": discrete(lambda t, v: linalg.ormqr(t, v, t), "tv"),
    "qr": Case(lambda t: jnp.linalg.qr(t), "t", error=1e-9),
    "eigh": Case(lambda s: jnp.linalg.eigh(s), "s", error=1e-9),
    "eig": discrete(lambda m: jnp.linalg.eig(m), "m", "c"),
    "svd": Case(lambda t: jnp.linalg.svd(t, full_matrices=False), "t", error=1e-7),
    "schur": discrete(lambda m: linalg.schur(m), "m", "c"),
    "hessenberg": discrete(lambda m: linalg.hessenberg(m), "m", "c"),
    "tridiagonal": discrete(lambda s: linalg.tridiagonal(s), "s"),
    "fft": Case(lambda x: (jnp.fft.fft(x).real, jnp.fft.irfft(jnp.fft.rfft(x) ** 2)), "x"),
}

SPECIAL_FUNCTIONS = {
    "erf": special(lax.erf, "x"),
    "erfc": special(lax.erfc, "x"),
    "erf_inv": special(lax.erf_inv, "u"),
    "lgamma": special(lax.lgamma, "p"),
    "digamma": special(lax.digamma, "p"),
    "polygamma": special(lambda n, p: lax.polygamma(jnp.broadcast_to(1.0 + n[0], p.shape).astype(p.dtype), p), "np"),
    "zeta": special(lax.zeta, "qp", differentiated=False),
    "igamma": special(lambda p, q: lax.igamma(lax.stop_gradient(p), q), "pq"),
    "igammac": special(lambda p, q: lax.igammac(lax.stop_gradient(p), q), "pq"),
    "regularized_incomplete_beta": special(
        lambda p, q, u: lax.betainc(lax.stop_gradient(p), lax.stop_gradient(q), u), "pqu"
    ),
    "bessel_i0e": special(lax.bessel_i0e, "x"),
    "bessel_i1e": special(lax.bessel_i1e, "x"),
}

GROUPS = [ELEMENTWISE, ARRAYS, CONTROL, WINDOWS, LINEAR_ALGEBRA, SPECIAL_FUNCTIONS]
CASES = {name: case for group in GROUPS for name, case in group.items()}
FLOATING = set("xpquvcmstak")


def drawn(case, seed, kind):
    """Its inputs, of this seed: the numbers in float32, so that they are the same in each dtype."""
    random = np.random.default_rng(seed)
    arguments = [DRAWS[letter](random) for letter in case.inputs]
    if kind == "complex128":
        turned = [a * np.exp(1j * random.uniform(-1, 1, a.shape)) for a in arguments]
        return [t if c in FLOATING else a for t, a, c in zip(turned, arguments, case.inputs, strict=True)]
    floating = np.float32 if kind == "float32" else np.float64
    return [
        a.astype(np.float32).astype(floating) if c in FLOATING else a
        for a, c in zip(arguments, case.inputs, strict=True)
    ]


def cotangent(value):
    return np.cos(1.0 + np.arange(value.size)).reshape(value.shape)


def as_loss(case):
    """(numbers, other inputs) -> the inner product of what floats in the results with numbers of either sign."""

    def loss(floating, others):
        given, rest = iter(floating), iter(others)
        values = case.function(*(next(given) if letter in FLOATING else next(rest) for letter in case.inputs))
        floats = [value for value in jax.tree.leaves(values) if jnp.issubdtype(value.dtype, jnp.inexact)]
        return sum(
            jnp.sum((value.real + 2 * value.imag if jnp.iscomplexobj(value) else value) * cotangent(value).astype("f4"))
            for value in floats
        )

    return loss


def separated(case, arguments):
    pairs = list(zip(arguments, case.inputs, strict=True))
    return [a for a, letter in pairs if letter in FLOATING], [a for a, letter in pairs if letter not in FLOATING]


def narrowed(case):
    """The function in bfloat16, of arguments and with results in float64."""

    def function(*arguments):
        narrow = [
            a.astype(jnp.bfloat16) if letter in FLOATING else a
            for a, letter in zip(arguments, case.inputs, strict=True)
        ]
        return jax.tree.map(lambda v: v.astype(float) if v.dtype == jnp.bfloat16 else v, case.function(*narrow))

    return function


@functools.cache
def program(name, kind):
    """The value's program, and the gradient's if it has one."""
    case = CASES[name]
    arguments = drawn(case, 0, kind)
    with jax.enable_x64(kind != "float32"):
        value = Program(narrowed(case) if kind == "bfloat16" else case.function, *arguments)
        loss = None
        if case.differentiated and kind in ("float64", "float32"):
            loss = traced(as_loss(case), *separated(case, arguments))
            assert loss.gradient_plan.steps
    return value, loss


@functools.cache
def compiled(index, kind):
    """What JAX compiles of all functions of a group at once, and quickly, because it runs a few times only."""
    cases = {
        name: case
        for name, case in GROUPS[index].items()
        if kind == "float64" or {"complex128": "c", "bfloat16": "b"}[kind] in case.also
    }

    def everything(arguments):
        results = {}
        for name, case in cases.items():
            value = (narrowed(case) if kind == "bfloat16" else case.function)(*arguments[name])
            gradient = ()
            if kind == "float64" and case.differentiated:
                gradient = jax.value_and_grad(as_loss(case))(*separated(case, arguments[name]))
            results[name] = value, gradient
        return results

    run = jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})

    @functools.lru_cache(maxsize=64)
    def of_seed(seed):
        with jax.enable_x64(True):
            arguments = {name: drawn(case, seed, kind) for name, case in cases.items()}
            return jax.tree.map(np.asarray, run(arguments))

    return of_seed


def names(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inside in inner_programs(equation):
            yield from names(inside)


def assert_equal(actual, expected, error):
    for value, right in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.shape(value) == right.shape
        if right.dtype.kind in "iub":
            np.testing.assert_array_equal(value, right)
        else:
            np.testing.assert_allclose(value, right, rtol=error, atol=error * max(1, np.abs(right).max(initial=0)))


def index_of(name):
    return next(index for index, group in enumerate(GROUPS) if name in group)


ROWS = sorted(TABLE.keys() - markers.ROWS.keys())
STEPS = (0.0, 0.5, -0.25)


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(CASES))
def test_what_a_row_calls_linear_is_known_between_two_points(name):
    """Along a line, operations that are linear are evaluated at its ends only: all inputs move, then each alone."""
    case, (value, _) = CASES[name], program(name, "float64")
    start = drawn(case, 1, "float64")
    directions = [
        np.cos(np.arange(a.size)).reshape(a.shape) if c in FLOATING else None
        for a, c in zip(start, case.inputs, strict=True)
    ]
    alone = [[d if i == k else None for i, d in enumerate(directions)] for k in range(len(directions))]
    for moving in [directions, *alone]:
        points = along(value.plan, start, moving, STEPS)
        for step, actual in zip(STEPS, points, strict=True):
            here = [a if d is None else step * d + a for a, d in zip(start, moving, strict=True)]
            assert_equal(actual, list(map(np.asarray, quietly(value.plan, here, as_it_is))), 1e-10)


def in_the_traced_shape(step, inputs):
    """The step as it is, with its results in the very shapes that JAX traced."""
    assert [np.shape(x) for x in inputs] == [atom.aval.shape for atom in step.equation.invars], step.name
    results = step.run(inputs, in_the_traced_shape)
    assert [np.shape(x) for x in results] == [atom.aval.shape for atom in step.equation.outvars], step.name
    return results


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_result_has_the_shape_that_was_traced(name):
    """Rank 0 too: a scalar stays one, where NumPy has functions that give it an axis."""
    case, (value, loss) = CASES[name], program(name, "float64")
    arguments = drawn(case, 0, "float64")
    value(*arguments, rule=in_the_traced_shape)
    if loss is not None:
        loss.gradient(*separated(case, arguments), rule=in_the_traced_shape)
    if name in ELEMENTWISE:
        scalars = [np.asarray(argument.ravel()[0]) for argument in arguments]
        with jax.enable_x64(True):
            alone = Program(case.function, *scalars)
        for result in jax.tree.leaves(alone(*scalars, rule=in_the_traced_shape)):
            assert np.shape(result) == ()


@pytest.mark.sweep
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_jax_compiles(name):
    assert name in CASES, f"the row {name!r} has no function in this test: give it one"
    case = CASES[name]

    @settings(max_examples=3, deadline=None, database=None)
    @given(seed=st.integers(0, 7), kind=st.sampled_from(["float64", "float32"]))
    def held_to_jax(seed, kind):
        value, loss = program(name, kind)
        found = set(names(value.closed.jaxpr))
        if loss is not None:
            found |= {step.name for step in loss.gradient_plan}
        assert name in found, f"the function that stands for {name!r} does not hold it, but {sorted(found)}"
        assert not value.unknown
        arguments = drawn(case, seed, kind)
        expected, gradient = compiled(index_of(name), "float64")(seed)[name]
        assert_equal(value(*arguments), expected, case.error)
        if loss is not None:
            assert_equal(loss.gradient(*separated(case, arguments)), gradient, 100 * case.error)

    held_to_jax()


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["complex128", "bfloat16"])
@pytest.mark.parametrize("index", range(5))
def test_rows_are_what_jax_compiles_in_other_dtypes(index, kind):
    chosen = [name for name, case in GROUPS[index].items() if {"complex128": "c", "bfloat16": "b"}[kind] in case.also]

    @settings(max_examples=3, deadline=None, database=None)
    @given(seed=st.integers(0, 2**20))
    def held_to_jax(seed):
        expected = compiled(index, kind)(seed)
        for name in chosen:
            actual = program(name, kind)[0](*drawn(CASES[name], seed, kind))
            try:
                assert_equal(actual, expected[name][0], 2.0**-6 if kind == "bfloat16" else 1e-11)
            except AssertionError as error:
                error.add_note(f"This is {name}.")
                raise

    if chosen:
        held_to_jax()


def test_no_function_stands_for_a_row_that_is_not_there():
    assert CASES.keys() == set(ROWS)
