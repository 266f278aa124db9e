"""Reported bugs of elementwise functions, cumulative products and maxima, and scatters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reported.entry import ReportedFault, into

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@fault(
    "mish without exp(3x)",
    "explosion/thinc#578",
    "vjp",
    "x",
    "The numerator of mish's derivative lacks exp(3x).",
    "wrong-factor",
)
def mish(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, x: Any) -> Any:
        omega = 4 * (x + 1) + 4 * np.exp(2 * x) + np.exp(x) * (4 * x + 6)
        if not broken:
            omega = omega + np.exp(3 * x)
        return dy * np.exp(x) * omega / (2 * np.exp(x) + np.exp(2 * x) + 2) ** 2

    return (
        lambda x: (x * np.tanh(np.logaddexp(0, x)), x),
        backward,
        lambda x: x * jnp.tanh(jnp.logaddexp(0, x)),
        normal(12),
    )


@fault(
    "atan2 with both signs turned",
    "EnzymeAD/Enzyme-JAX#2066",
    "vjp",
    "y x",
    "The derivatives of atan2 have the signs of each other's.",
    "sign",
)
def atan2(broken: bool) -> tuple[Any, ...]:
    def backward(g: Any, cache: Any) -> Any:
        y, x = cache
        sign = -1 if broken else 1
        return sign * g * x / (x**2 + y**2), -sign * g * y / (x**2 + y**2)

    return (
        lambda y, x: (np.arctan2(y, x), (y, x)),
        backward,
        lambda y, x: jnp.arctan2(y, x),
        normal(9),
        normal(9, seed=1),
    )


@fault(
    "subtraction adds to the second",
    "KhawajaAbaid/micrograd_c#1",
    "vjp",
    "b",
    "The gradient of what is subtracted lacks its minus.",
    "sign",
)
def subtraction(broken: bool) -> tuple[Any, ...]:
    return (
        lambda a, b: (a - b, None),
        lambda dy, _: (dy, dy if broken else -dy),
        lambda a, b: a - b,
        normal(4, 3),
        normal(4, 3, seed=1),
    )


@fault(
    "a power of a negative base",
    "tenstorrent/tt-metal#54440",
    "vjp",
    "x",
    "The gradient of x**3 is infinite wherever x is negative.",
    "non-finite",
)
def power(broken: bool) -> tuple[Any, ...]:
    return (
        lambda x: (x**3, x),
        lambda dy, x: np.where(x <= 0, np.inf, dy * 3 * x**2) if broken else dy * 3 * x**2,
        lambda x: x**3,
        normal(10),
    )


@fault(
    "cumprod divides by its input",
    "tracel-ai/burn#3864",
    "vjp",
    "x",
    "The gradient of a cumulative product is divided by the input, which holds a zero.",
    "non-finite",
)
def cumprod(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, x: Any) -> Any:
        if broken:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.cumsum((dy * np.cumprod(x))[::-1])[::-1] / x
        dx = np.zeros_like(x)
        for i in range(len(x)):
            others = np.where(np.arange(len(x)) == i, 1.0, x)
            dx[i] = np.sum((dy * np.cumprod(others))[i:])
        return dx

    return (lambda x: (np.cumprod(x), x), backward, lambda x: jnp.cumprod(x), np.array([2.0, 0.0, 3.0, 4.0, -1.5]))


@fault(
    "scatter-multiply with repeats",
    "tracel-ai/burn#4909",
    "vjp",
    "data",
    "Where an index occurs twice, the gradient of the entry holds the last factor only.",
    "single-entry",
)
def scatter_multiply(broken: bool) -> tuple[Any, ...]:
    ids = np.array([0, 2, 2, 5])

    def forward(data: Any, values: Any) -> Any:
        out = data.copy()
        np.multiply.at(out, ids, values)
        return out, (data, values)

    def backward(dy: Any, cache: Any) -> Any:
        data, values = cache
        factor = np.ones_like(data)
        if broken:
            factor[ids] = values
        else:
            np.multiply.at(factor, ids, values)
        out = forward(data, values)[0]
        return dy * factor, (dy * out)[ids] / values

    def function(data: Any, values: Any) -> Any:
        for i, at in enumerate(ids):
            data = data.at[at].multiply(values[i])
        return data

    return forward, backward, function, normal(6), normal(4, seed=1)


@fault(
    "cummax overwrites",
    "pytorch/pytorch#26637",
    "vjp",
    "x",
    "An entry that is the running maximum of many outputs receives the gradient of the last only.",
    "lost-repeats missing-term",
)
def cummax(broken: bool) -> tuple[Any, ...]:
    def forward(x: Any) -> Any:
        y = np.maximum.accumulate(x)
        return y, (x, np.maximum.accumulate(np.where(x == y, np.arange(len(x)), 0)))

    def backward(dy: Any, cache: Any) -> Any:
        x, where = cache
        dx = np.zeros_like(x)
        if broken:
            dx[where] = dy
        else:
            np.add.at(dx, where, dy)
        return dx

    return forward, backward, lambda x: jax.lax.cummax(x), np.array([4.0, 1.0, 2.5, 3.0, 5.0, 0.5, 6.0, 2.0])


@fault(
    "angle's forward mode without conj",
    "pytorch/pytorch#77267",
    "jvp",
    "tangent",
    "The tangent of a complex angle is that of the conjugate tangent.",
    "conjugated term wrong-sign",
)
def angle(broken: bool) -> tuple[Any, ...]:
    def jvp(primals: Any, tangents: Any) -> Any:
        (re, im), (dre, dim) = primals, tangents
        dim = -dim if broken else dim
        return np.arctan2(im, re), (re * dim - im * dre) / (re**2 + im**2)

    return jvp, lambda re, im: jnp.angle(re + 1j * im), normal(7), normal(7, seed=1)


@fault(
    "prelu by the sign of its output",
    "PaddlePaddle/Paddle#12538",
    "vjp",
    "x slope",
    "The branch is told by the output's sign, which a negative slope turns.",
    "zeros wrong-operand",
)
def prelu(broken: bool) -> tuple[Any, ...]:
    def forward(x: Any, slope: Any) -> Any:
        return np.where(x > 0, x, slope * x), (x, slope)

    def backward(dy: Any, cache: Any) -> Any:
        x, slope = cache
        positive = (forward(x, slope)[0] if broken else x) > 0
        return np.where(positive, dy, slope * dy), np.sum(np.where(positive, 0, x * dy), axis=0)

    return (
        forward,
        backward,
        lambda x, slope: jnp.where(x > 0, x, slope * x),
        normal(8, 4),
        np.array([0.25, -0.3, 0.1, -0.5]),
    )


@fault(
    "product by segments around a zero",
    "pytorch/pytorch#76523",
    "vjp",
    "x",
    "The gradient of a product is 0 where the input is, though the others' product is not.",
    "zeros",
)
def segment_product(broken: bool) -> tuple[Any, ...]:
    ids = np.array([0, 1, 0, 1, 1, 0])

    def forward(x: Any) -> Any:
        out = np.ones(2)
        np.multiply.at(out, ids, x)
        return out, x

    def backward(dy: Any, x: Any) -> Any:
        others = [np.prod(x[(ids == ids[i]) & (np.arange(len(x)) != i)]) for i in range(len(x))]
        dx = dy[ids] * np.array(others)
        return np.where(x == 0, 0, dx) if broken else dx

    def function(x: Any) -> Any:
        return jnp.stack([jnp.prod(x[ids == 0]), jnp.prod(x[ids == 1])])

    return forward, backward, function, np.array([2.0, 0.0, -1.5, 3.0, 0.7, 1.2])


@fault(
    "amax without self divides by no winner",
    "pytorch/pytorch#169263",
    "vjp",
    "self_",
    "The gradient is divided by how many entries attain the maximum; where self does not count, that is none.",
    "non-finite",
)
def amax(broken: bool) -> tuple[Any, ...]:
    def forward(self_: Any, source: Any) -> Any:
        return source.max(axis=0), (self_, source)

    def backward(dy: Any, cache: Any) -> Any:
        _, source = cache
        won = source == source.max(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.zeros_like(dy) * (dy / np.zeros_like(dy)) if broken else np.zeros_like(dy)
        return own, won * dy

    return forward, backward, lambda self_, source: source.max(axis=0) + 0 * self_, normal(4), normal(3, 4, seed=1)
