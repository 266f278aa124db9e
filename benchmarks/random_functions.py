"""Random small functions, all different: a chain of blocks and a loss, in JAX and by hand in NumPy.

`random_function(seed, number, faulty)` creates one. Its data are in closures of its own. In a faulty function, one line
of the backward pass of one block is wrong. The fault is chosen so that it changes the gradient of some parameter, which
is tested by running the correct and the faulty NumPy code.

A block maps `x (n, d)` to `y (n, e)`, and a head maps it to a number. Their backward passes take the output gradient
and the name of a fault, or None.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = Any
Gradients = dict[str, np.ndarray]

SEEN = 1e-3  # the least relative change of a gradient by a planted fault, and the least norm of a gradient


class Drawing:
    """Draws random arrays of one dtype from one generator."""

    def __init__(self, random: np.random.Generator, dtype: Any) -> None:
        self.random, self.dtype = random, dtype

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * self.random.standard_normal(shape)).astype(self.dtype)

    def size(self, low: int, high: int) -> int:
        """A random integer from `low` to `high`, both included."""
        return int(self.random.integers(low, high + 1))

    def ids(self, count: int, below: int) -> np.ndarray:
        """Random indices. The first two are equal, because some faults show at repeated indices only."""
        ids = self.random.integers(0, below, count)
        ids[1] = ids[0]
        return ids


@dataclass(frozen=True)
class Block:
    """A block or a head.

    Attributes:
        name: a description.
        apply: `apply(p, x) -> y`, in JAX.
        forward: `forward(p, x) -> (y, cache)`, in NumPy.
        backward: `backward(p, dy, cache, fault) -> (dx, gradients)`, in NumPy.
        faults: the names of the faults that `backward` can have.
        parameters: the initial parameters.
    """

    name: str
    apply: Callable[[Any, Array], Array]
    forward: Callable[[Any, np.ndarray], tuple[Any, Any]]
    backward: Callable[[Any, Any, Any, str | None], tuple[np.ndarray, Gradients]]
    faults: tuple[str, ...]
    parameters: dict[str, np.ndarray] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------- blocks


def dense(draw: Drawing, n: int, d: int) -> Block:
    e = d if draw.size(0, 1) else draw.size(2, 6)

    def backward(p: Any, dy: Any, x: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        dW = x.T @ dy * (2 if fault == "twice dW" else 1)
        db = dy.mean(axis=0) if fault == "mean for sum in db" else dy.sum(axis=0)
        return dy @ (p["W"] if fault == "weight not transposed" else p["W"].T), {"W": dW, "b": db}

    return Block(
        "dense",
        lambda p, x: x @ p["W"] + p["b"],
        lambda p, x: (x @ p["W"] + p["b"], x),
        backward,
        ("twice dW", "mean for sum in db", *(("weight not transposed",) if e == d else ())),
        {"W": draw.normal(d, e, scale=d**-0.5), "b": draw.normal(e, scale=0.1)},
    )


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


# For each activation: in JAX, in NumPy, and its derivative as a function of its input z and its value y.
ELEMENTWISE: dict[str, tuple[Callable[[Array], Array], Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (jnp.tanh, np.tanh, lambda z, y: 1 - y**2),
    "sigmoid": (jax.nn.sigmoid, _sigmoid, lambda z, y: y * (1 - y)),
    "relu": (jax.nn.relu, lambda z: np.maximum(z, 0), lambda z, y: (z > 0).astype(z.dtype)),
    "softplus": (jax.nn.softplus, lambda z: np.logaddexp(0, z).astype(z.dtype), lambda z, y: _sigmoid(z)),
    "sin": (jnp.sin, np.sin, lambda z, y: np.cos(z)),
    "arctan": (jnp.arctan, np.arctan, lambda z, y: 1 / (1 + z**2)),
    "bell": (lambda z: jnp.exp(-(z**2) / 2), lambda z: np.exp(-(z**2) / 2), lambda z, y: -z * y),
    "silu": (jax.nn.silu, lambda z: z * _sigmoid(z), lambda z, y: _sigmoid(z) * (1 + z * (1 - _sigmoid(z)))),
    "cube": (lambda z: z**3 / 3, lambda z: z**3 / 3, lambda z, y: z**2),
}


def elementwise(draw: Drawing, n: int, d: int) -> Block:
    name = list(ELEMENTWISE)[draw.size(0, len(ELEMENTWISE) - 1)]
    by_jax, by_numpy, slope = ELEMENTWISE[name]

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        z = p["gain"] * x
        y = by_numpy(z)
        return y, (x, z, y)

    def backward(p: Any, dy: Any, cache: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        x, z, y = cache
        dz = dy if fault == "no slope" else dy * slope(z, y)
        return dz * (1 if fault == "no gain in dx" else p["gain"]), {"gain": np.sum(dz * x, axis=0)}

    parameters = {"gain": 1 + draw.normal(d, scale=0.3)}
    return Block(name, lambda p, x: by_jax(p["gain"] * x), forward, backward, ("no slope", "no gain in dx"), parameters)


def softmax(draw: Drawing, n: int, d: int) -> Block:
    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)
        return d * y, y

    def backward(p: Any, dy: Any, y: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        inner = 0 if fault == "sum dropped" else np.sum(dy * y, axis=1, keepdims=True)
        return d * y * (dy - inner), {}

    return Block("softmax", lambda p, x: d * jax.nn.softmax(x, axis=1), forward, backward, ("sum dropped",))


def layer_norm(draw: Drawing, n: int, d: int) -> Block:
    epsilon = 0.01

    def apply(p: Any, x: Array) -> Array:
        centered = x - jnp.mean(x, axis=1, keepdims=True)
        return p["gain"] * centered / jnp.sqrt(jnp.mean(centered**2, axis=1, keepdims=True) + epsilon) + p["bias"]

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        centered = x - x.mean(axis=1, keepdims=True)
        s = np.sqrt(np.mean(centered**2, axis=1, keepdims=True) + epsilon)
        return p["gain"] * (centered / s) + p["bias"], (centered / s, s)

    def backward(p: Any, dy: Any, cache: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        x_hat, s = cache
        g = dy * p["gain"]
        mean = 0 if fault == "mean dropped" else g.mean(axis=1, keepdims=True)
        along = 0 if fault == "x_hat dropped" else x_hat * np.mean(g * x_hat, axis=1, keepdims=True)
        return (g - mean - along) / s, {"gain": np.sum(dy * x_hat, axis=0), "bias": dy.sum(axis=0)}

    parameters = {"gain": 1 + draw.normal(d, scale=0.3), "bias": draw.normal(d, scale=0.1)}
    return Block("layer norm", apply, forward, backward, ("mean dropped", "x_hat dropped"), parameters)


def loop(draw: Drawing, n: int, d: int) -> Block:
    """h_t = tanh(h_{t-1} U + c_t), with h_0 = x."""
    steps = draw.size(2, 5)
    c = draw.normal(steps, n, d)

    def apply(p: Any, x: Array) -> Array:
        return lax.scan(lambda h, c_t: (jnp.tanh(h @ p["U"] + c_t), None), x, c)[0]

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        h = [x]
        for c_t in c:
            h.append(np.tanh(h[-1] @ p["U"] + c_t))
        return h[-1], h

    def backward(p: Any, dy: Any, h: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        dh, dU = dy, np.zeros_like(p["U"])
        for t in reversed(range(steps)):
            da = dh * (1 - h[t + 1] ** 2)
            if fault != "dU of the last step alone" or t == steps - 1:
                dU += h[t].T @ da
            dh = da @ (p["U"] if fault == "weight not transposed" else p["U"].T)
        return dh, {"U": dU}

    faults = ("dU of the last step alone", "weight not transposed")
    return Block("loop", apply, forward, backward, faults, {"U": draw.normal(d, d, scale=d**-0.5)})


def indexing(draw: Drawing, n: int, d: int) -> Block:
    """Selected rows of x, some of them repeated, and rows of a table."""
    rows, codes = draw.ids(n, n), draw.ids(n, 4)

    def backward(p: Any, dy: Any, cache: None, fault: str | None) -> tuple[np.ndarray, Gradients]:
        dx, dtable = np.zeros_like(dy), np.zeros_like(p["table"])
        if fault == "repeats overwrite":
            dx[rows], dtable[codes] = dy, dy
        else:
            np.add.at(dx, rows, dy)
            np.add.at(dtable, codes, dy)
        return dx, {"table": dtable}

    return Block(
        "indexing",
        lambda p, x: x[rows] + p["table"][codes],
        lambda p, x: (x[rows] + p["table"][codes], None),
        backward,
        ("repeats overwrite",),
        {"table": draw.normal(4, d)},
    )


def solve(draw: Drawing, n: int, d: int) -> Block:
    """y^T = A^-1 x^T with A = d I + tanh(M), which is regular for all M."""

    def apply(p: Any, x: Array) -> Array:
        return d * jnp.linalg.solve(d * jnp.eye(d, dtype=x.dtype) + jnp.tanh(p["M"]), x.T).T

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        tanh = np.tanh(p["M"])
        A = d * np.eye(d, dtype=x.dtype) + tanh
        y = np.linalg.solve(A, x.T).T
        return d * y, (A, tanh, y)

    def backward(p: Any, dy: Any, cache: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        A, tanh, y = cache
        G = d * np.linalg.solve(A if fault == "matrix not transposed" else A.T, dy.T)
        dA = G @ y * (1 if fault == "sign of dA" else -1)
        return G.T, {"M": dA * (1 - tanh**2)}

    faults = ("matrix not transposed", "sign of dA")
    return Block("solve", apply, forward, backward, faults, {"M": draw.normal(d, d)})


def convolution(draw: Drawing, n: int, d: int) -> Block:
    """A convolution along the features of x, with a kernel of three and one or two output channels."""
    channels = draw.size(1, 2)

    def apply(p: Any, x: Array) -> Array:
        y = lax.conv_general_dilated(x[:, :, None], p["W"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        return y.reshape(n, d * channels)

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        padded = np.pad(x, ((0, 0), (1, 1)))
        windows = np.stack([padded[:, i : i + d] for i in range(3)], axis=2)
        return (windows @ p["W"][:, 0]).reshape(n, d * channels), padded

    def backward(p: Any, dy: Any, padded: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        dy = dy.reshape(n, d, channels)
        dW, d_padded = np.zeros_like(p["W"]), np.zeros_like(padded)
        for i in range(3):
            dW[i, 0] = np.einsum("nd,ndc->c", padded[:, i : i + d], dy)
            d_padded[:, i : i + d] += dy @ p["W"][2 - i if fault == "kernel the other way round" else i, 0]
        if fault == "mean over examples in dW":
            dW = dW / n
        return d_padded[:, 1:-1], {"W": dW}

    faults = ("kernel the other way round", "mean over examples in dW")
    return Block("convolution", apply, forward, backward, faults, {"W": draw.normal(3, 1, channels, scale=0.6)})


def centered(draw: Drawing, n: int, d: int) -> Block:
    def backward(p: Any, dy: Any, cache: None, fault: str | None) -> tuple[np.ndarray, Gradients]:
        return dy if fault == "mean dropped" else dy - dy.mean(axis=0), {}

    return Block(
        "centered",
        lambda p, x: x - jnp.mean(x, axis=0),
        lambda p, x: (x - x.mean(axis=0), None),
        backward,
        ("mean dropped",),
    )


def sums_so_far(draw: Drawing, n: int, d: int) -> Block:
    def backward(p: Any, dy: Any, cache: None, fault: str | None) -> tuple[np.ndarray, Gradients]:
        return np.cumsum(dy, axis=1) if fault == "not backward" else np.cumsum(dy[:, ::-1], axis=1)[:, ::-1], {}

    return Block(
        "cumsum",
        lambda p, x: jnp.cumsum(x, axis=1),
        lambda p, x: (np.cumsum(x, axis=1), None),
        backward,
        ("not backward",),
    )


def directions(draw: Drawing, n: int, d: int) -> Block:
    """y = x / sqrt(1 + |x|^2) for each row."""

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        r = np.sqrt(1 + np.sum(x**2, axis=1, keepdims=True))
        return x / r, (x / r, r)

    def backward(p: Any, dy: Any, cache: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        y, r = cache
        along = 0 if fault == "length held constant" else y * np.sum(dy * y, axis=1, keepdims=True)
        return (dy - along) / r, {}

    return Block(
        "directions",
        lambda p, x: x / jnp.sqrt(1 + jnp.sum(x**2, axis=1, keepdims=True)),
        forward,
        backward,
        ("length held constant",),
    )


def rearranged(draw: Drawing, n: int, d: int) -> Block:
    def backward(p: Any, dy: Any, cache: None, fault: str | None) -> tuple[np.ndarray, Gradients]:
        return dy if fault == "left as it is" else dy.reshape(d, n).T, {}

    return Block(
        "rearranged",
        lambda p, x: x.T.reshape(n, d),
        lambda p, x: (x.T.reshape(n, d), None),
        backward,
        ("left as it is",),
    )


def masked(draw: Drawing, n: int, d: int) -> Block:
    mask = draw.random.random((n, d)) < 0.6
    other = draw.normal(n, d)

    def backward(p: Any, dy: Any, cache: None, fault: str | None) -> tuple[np.ndarray, Gradients]:
        kept = dy if fault == "no mask in dx" else np.where(mask, dy, 0)
        return kept, {"shift": np.where(mask, 0, dy * other).sum(axis=0)}

    return Block(
        "masked",
        lambda p, x: jnp.where(mask, x, p["shift"] * other),
        lambda p, x: (np.where(mask, x, p["shift"] * other), None),
        backward,
        ("no mask in dx",),
        {"shift": draw.normal(d)},
    )


# ----------------------------------------------------------------------------------------- heads


def squares(draw: Drawing, n: int, d: int) -> Block:
    target = draw.normal(n, d)

    def backward(p: Any, dy: Any, error: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        factor = 1 if fault == "no factor 2" else 2
        return dy * factor * error / (1 if fault == "sum for mean" else n * d), {}

    return Block(
        "squares",
        lambda p, x: jnp.mean((x - target) ** 2),
        lambda p, x: (np.mean((x - target) ** 2), x - target),
        backward,
        ("no factor 2", "sum for mean"),
    )


def cross_entropy(draw: Drawing, n: int, d: int) -> Block:
    labels = draw.random.integers(0, d, n)
    each = np.arange(n)

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        z = x - x.max(axis=1, keepdims=True)
        logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -np.mean(logs[each, labels]), np.exp(logs)

    def backward(p: Any, dy: Any, probabilities: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        dx = probabilities.copy()
        dx[each, (labels + 1) % d if fault == "label one off" else labels] -= 1
        return dy * dx / (1 if fault == "sum for mean" else n), {}

    return Block(
        "cross-entropy",
        lambda p, x: -jnp.mean(jax.nn.log_softmax(x, axis=1)[each, labels]),
        forward,
        backward,
        ("label one off", "sum for mean"),
    )


def log_sum_exp(draw: Drawing, n: int, d: int) -> Block:
    weight = draw.normal(n)

    def forward(p: Any, x: Any) -> tuple[Any, Any]:
        top = x.max(axis=1)
        e = np.exp(x - top[:, None])
        return np.sum(weight * (top + np.log(e.sum(axis=1)))), e

    def backward(p: Any, dy: Any, e: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        share = e / (e.max(axis=1, keepdims=True) if fault == "not normalized" else e.sum(axis=1, keepdims=True))
        return dy * weight[:, None] * share, {}

    return Block(
        "log-sum-exp",
        lambda p, x: jnp.sum(weight * jax.scipy.special.logsumexp(x, axis=1)),
        forward,
        backward,
        ("not normalized",),
    )


def quadratic_form(draw: Drawing, n: int, d: int) -> Block:
    Q = draw.normal(d, d)

    def backward(p: Any, dy: Any, x: Any, fault: str | None) -> tuple[np.ndarray, Gradients]:
        return dy * x @ (2 * Q if fault == "Q for its symmetric part" else Q + Q.T) / n, {}

    return Block(
        "quadratic form",
        lambda p, x: jnp.sum((x @ Q) * x) / n,
        lambda p, x: (np.sum((x @ Q) * x) / n, x),
        backward,
        ("Q for its symmetric part",),
    )


Make = Callable[[Drawing, int, int], Block]
BLOCKS: tuple[Make, ...] = (
    dense,
    elementwise,
    softmax,
    layer_norm,
    loop,
    indexing,
    solve,
    convolution,
    centered,
    sums_so_far,
    directions,
    rearranged,
    masked,
)
HEADS: tuple[Make, ...] = (squares, cross_entropy, log_sum_exp, quadratic_form)


# ------------------------------------------------------------------------------------- functions


@dataclass(frozen=True)
class RandomFunction:
    """A chain of blocks, of which the last is the head. `fault` is the number of a block and the name of its fault."""

    x: np.ndarray
    blocks: tuple[Block, ...]
    fault: tuple[int, str] | None = None

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        return {f"{i}.{name}": leaf for i, block in enumerate(self.blocks) for name, leaf in block.parameters.items()}

    def __str__(self) -> str:
        chain = " -> ".join(block.name for block in self.blocks)
        fault = f", fault in block {self.fault[0]}: {self.fault[1]}" if self.fault else ""
        return f"{chain} ({self.x.dtype}, {len(self.x)} examples{fault})"

    def loss(self) -> Callable[[Any], Array]:
        """The loss in JAX, as a function of the parameters. The data are in its closure."""
        x, blocks = self.x, self.blocks

        def loss(parameters: Any) -> Array:
            y = x
            for i, block in enumerate(blocks):
                y = block.apply(_own(parameters, i, block), y)
            return y

        return loss

    def loss_and_gradients(self) -> Callable[[Any], tuple[Any, Gradients]]:
        x, blocks, fault = self.x, self.blocks, self.fault

        def loss_and_gradients(parameters: Any) -> tuple[Any, Gradients]:
            y, caches = x, []
            for i, block in enumerate(blocks):
                y, cache = block.forward(_own(parameters, i, block), y)
                caches.append(cache)
            gradients, dy = {}, np.ones_like(y)
            for i, block in reversed(list(enumerate(blocks))):
                wrong = fault[1] if fault is not None and fault[0] == i else None
                dy, own = block.backward(_own(parameters, i, block), dy, caches[i], wrong)
                gradients |= {f"{i}.{name}": gradient for name, gradient in own.items()}
            return y, {name: gradients[name] for name in parameters}

        return loss_and_gradients


def _own(parameters: Any, i: int, block: Block) -> dict[str, Any]:
    return {name: parameters[f"{i}.{name}"] for name in block.parameters}


def random_function(seed: int, number: int, faulty: bool) -> RandomFunction:
    """A random function.

    Args:
        seed: the seed of a sequence of functions.
        number: the number of the function in the sequence. Odd numbers are in float32, even ones in float64.
        faulty: whether the function has a fault.

    Returns:
        The function, which is the same for the same arguments. Functions with other numbers have other data.
    """
    random = np.random.default_rng([seed, number])
    draw = Drawing(random, ("float64", "float32")[number % 2])
    while True:
        function = _sound(draw)
        if not faulty:
            return function
        places = [(i, fault) for i, block in enumerate(function.blocks) for fault in block.faults]
        for i in random.permutation(len(places)):
            wrong = RandomFunction(function.x, function.blocks, places[i])
            if is_seen(function, wrong):
                return wrong


def _sound(draw: Drawing) -> RandomFunction:
    while True:
        n, width = draw.size(3, 8), draw.size(2, 6)
        x, blocks = draw.normal(n, width), []
        value = x
        for i in range(draw.size(1, 4) + 1):
            makers = BLOCKS if i else (dense, elementwise, layer_norm, loop, indexing, solve, convolution, masked)
            blocks.append(makers[draw.size(0, len(makers) - 1)](draw, *value.shape))
            value, _ = blocks[-1].forward(blocks[-1].parameters, value)
        blocks.append(HEADS[draw.size(0, len(HEADS) - 1)](draw, *value.shape))
        function = RandomFunction(x, tuple(blocks))
        _, gradients = function.loss_and_gradients()(function.parameters)
        if all(np.linalg.norm(gradient) > SEEN for gradient in gradients.values()):
            return function


def is_seen(sound: RandomFunction, wrong: RandomFunction) -> bool:
    """Whether some gradient of the wrong function differs from that of the correct one by more than SEEN."""
    _, right = sound.loss_and_gradients()(sound.parameters)
    _, found = wrong.loss_and_gradients()(sound.parameters)
    return any(np.linalg.norm(found[name] - right[name]) > SEEN * np.linalg.norm(right[name]) for name in right)
