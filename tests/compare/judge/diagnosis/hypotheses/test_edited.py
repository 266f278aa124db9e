"""Faults that are one edit of the program have its name and place; what is near to them has not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import check_gradients, check_vjp

RANDOM = np.random.default_rng(3)
X, A, B = RANDOM.uniform(0.5, 2.0, (3, 4, 3))
W = RANDOM.standard_normal((3, 3))
SQUARE = RANDOM.standard_normal((3, 3)) + 3 * np.eye(3)
MASK = RANDOM.random((4, 3)) < 0.6
PLACES = np.arange(4)[:, None] * 2 + np.arange(3)  # windows of 3, 2 apart
SEQUENCE = RANDOM.standard_normal(9)


def at_places(lib, x, places):
    return x[places] if lib is jnp else np.asarray(x)[places]


def back_to(places, values):
    total = np.zeros(9)
    np.add.at(total, places, values)
    return total


# kind: (function of lib and x, x, the right gradient, the faulty one, each of x and of the output gradient, words)
FAULTS = {
    "missing-term": (
        lambda lib, x: A / (A * x + B),
        X,
        lambda x, g: -g * A * A / (A * x + B) ** 2,
        lambda x, g: -g * A * A / (A * x) ** 2,
        "is left out",
    ),
    "wrong-sign": (
        lambda lib, x: A / (A * x + B),
        X,
        lambda x, g: -g * A * A / (A * x + B) ** 2,
        lambda x, g: -g * A * A / (A * x - B) ** 2,
        "has the wrong sign",
    ),
    "missing-factor": (
        lambda lib, x: lib.sin(x) / B + A * x,
        X,
        lambda x, g: g * (np.cos(x) / B + A),
        lambda x, g: g * (np.cos(x) + A),
        "the division by a constant of shape (4, 3) is left out",
    ),
    "wrong-factor": (
        lambda lib, x: lib.sin(x) / B + A * x,
        X,
        lambda x, g: g * (np.cos(x) / B + A),
        lambda x, g: g * (np.cos(x) * B + A),
        "should be divided by it",
    ),
    "wrong-order": (
        lambda lib, x: A / lib.sqrt(x * x + B),
        X,
        lambda x, g: -g * A * x / (x * x + B) ** 1.5,
        lambda x, g: -g * A * x / (x + B) ** 3,
        "is applied before",
    ),
    "missing-operation": (
        lambda lib, x: lib.sin(x * A) * B,
        X,
        lambda x, g: g * A * B * np.cos(x * A),
        lambda x, g: g * A * B * (x * A),
        "cos is left out",
    ),
    "wrong-power": (
        lambda lib, x: B * x**3 + A * x,
        X,
        lambda x, g: g * (3 * B * x**2 + A),
        lambda x, g: g * (3 * B * x**3 + A),
        "and should be 2",
    ),
    "wrong-operand": (
        lambda lib, x: lib.sin(x) * lib.exp(-x),
        X,
        lambda x, g: g * (np.cos(x) - np.sin(x)) * np.exp(-x),
        lambda x, g: g * (np.cos(x) * np.sin(x) - np.sin(x) * np.exp(-x)),
        "is used instead of exp(-x)",
    ),
    "missing-mask": (
        lambda lib, x: lib.where(MASK, x, 0.0) * A + x * B,
        X,
        lambda x, g: g * (MASK * A + B),
        lambda x, g: g * (A + B),
        "is left out",
    ),
    "wrong-mask": (
        lambda lib, x: lib.where(MASK, x, 0.0) * A + x * B,
        X,
        lambda x, g: g * (MASK * A + B),
        lambda x, g: g * (~MASK * A + B),
        "is inverted",
    ),
    "transpose": (
        lambda lib, x: (x @ W) @ W + x * 2.0,
        SQUARE,
        lambda x, g: g @ W.T @ W.T + 2 * g,
        lambda x, g: (g @ W.T @ W.T).T + 2 * g,
        "is transposed",
    ),
    "wrong-axis": (
        lambda lib, x: x * lib.sum(lib.sin(x), axis=1, keepdims=True) / 3.0,
        X,
        lambda x, g: g * np.sin(x).sum(1, keepdims=True) / 3 + np.cos(x) * (g * x).sum(1, keepdims=True) / 3,
        lambda x, g: g * np.sin(x).sum(1, keepdims=True) / 3 + np.cos(x) * (g * x).sum((0, 1), keepdims=True) / 3,
        "is also taken over axis 0",
    ),
    "wrong-stride": (
        lambda lib, x: at_places(lib, x, PLACES) @ W[0] + 0.5 * x[:4],
        SEQUENCE,
        lambda x, g: back_to(PLACES, np.outer(g, W[0])) + 0.5 * np.pad(g, (0, 5)),
        lambda x, g: back_to(np.arange(4)[:, None] + np.arange(3), np.outer(g, W[0])) + 0.5 * np.pad(g, (0, 5)),
        "with strides 1, 1, and should be written with strides 2, 1",
    ),
    "wrong-number": (
        lambda lib, x: 0.4 * lib.sin(x) + A * x,
        X,
        lambda x, g: g * (0.4 * np.cos(x) + A),
        lambda x, g: g * (0.37 * np.cos(x) + A),
        "0.37 is used instead of 0.4",
    ),
}
KINDS = set(FAULTS) | {"copied"}


def causes(name, gradient):
    function, x, *_ = FAULTS[name]
    report = check_vjp(
        lambda x: (function(np, x), x),
        lambda g, x: gradient(x, g),
        functools.partial(function, jnp),
        x,
        probes=False,
        references=False,
    )
    return report.diagnoses


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_one_edit_is_named_with_the_line_that_it_is_of(name):
    _, _, right, faulty, words = FAULTS[name]
    assert causes(name, right) == []
    (cause,) = causes(name, faulty)
    assert cause.kind == name
    assert words in cause.message
    assert "test_edited.py:" in cause.message or "constant" in cause.message


NEAR = {
    "and an error of another kind": lambda right, faulty: (
        faulty + 1e-6 * np.sin(7 * np.arange(faulty.size)).reshape(faulty.shape)
    ),
    "to a part": lambda right, faulty: right + 0.7137 * (faulty - right),
    "and squared": lambda right, faulty: right + (faulty - right) * np.abs(faulty - right),
    "in a few rows, and half in others": lambda right, faulty: np.where(
        np.arange(len(right)).reshape(-1, *[1] * (right.ndim - 1)) % 2, faulty, (right + faulty) / 2
    ),
}


@pytest.mark.sweep
@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("name", FAULTS)
def test_what_is_near_to_an_edit_is_not_called_one(name, near):
    """But for a number that is another to a part, which is another number again."""
    _, _, right, faulty, _ = FAULTS[name]
    found = causes(name, lambda x, g: NEAR[near](right(x, g), faulty(x, g)))
    kinds = {cause.kind for cause in found}
    assert not kinds & (KINDS - {"wrong-number"} if near == "to a part" else KINDS), found


def test_an_edit_that_holds_at_this_point_only_is_none():
    """Where x is 1, x**3 is x**2; and where it is not, the faulty gradient is no edit's."""

    def backward(g, x):
        return g * np.where(np.abs(x - X) < 1e-12, x**2, 3.3 * x**2)

    report = check_vjp(lambda x: (x**3 / 3, x), backward, lambda x: x**3 / 3, np.ones((4, 3)), probes=False)
    assert not {cause.kind for cause in report.diagnoses} & {"wrong-power", "missing-operation"}


def test_a_mask_by_closeness_lets_through_what_is_near():
    a = np.array([[1.0, 0.995, -0.3], [0.2, 0.9, 0.5], [2.0, 1.0, 1.994]])

    def backward(near, dy, a):
        return (np.abs(a - a.max(axis=1, keepdims=True)) < near) * dy[:, None]

    def kinds(backward):
        report = check_vjp(lambda a: (a.max(axis=1), a), backward, lambda a: a.max(axis=1), a, probes=False)
        return [(cause.kind, cause.message) for cause in report.diagnoses]

    ((kind, message),) = kinds(functools.partial(backward, 1e-2))
    assert kind == "wrong-mask"
    assert "is 1 in 2 of 9 entries, where it should be 0" in message
    assert not kinds(functools.partial(backward, 1e-12))
    for factor in (0.5, 1.001, -1.0):  # what comes there is not what the mask would let through
        found = kinds(lambda dy, a, factor=factor: np.where(backward(1e-12, 1 + 0 * dy, a) > 0, 1.0, factor)
                      * backward(1e-2, dy, a))  # fmt: skip
        assert "wrong-mask" not in [kind for kind, _ in found]


def test_an_operation_in_a_loop_is_named_too():
    """A recurrent step whose state is handed back without its factor, in every turn."""
    x = RANDOM.standard_normal((5, 3))
    u = 0.4 * W

    def run(x, factor=None):
        states = [np.zeros(3)]
        for row in x:
            states.append(np.tanh(row + 0.5 * (states[-1] @ u)))
        return np.array(states)

    def backward(share, g, states):
        dx, later = np.zeros_like(g), np.zeros(3)
        for t in reversed(range(len(g))):
            dx[t] = (g[t] + later) * (1 - states[t + 1] ** 2)
            later = share * (dx[t] @ u.T)
        return dx

    def function(x):
        def turn(state, row):
            state = jnp.tanh(row + 0.5 * (state @ u))
            return state, state

        return jax.lax.scan(turn, jnp.zeros(3), x)[1]

    def found(share):
        report = check_vjp(
            lambda x: (run(x)[1:], run(x)), functools.partial(backward, share), function, x, probes=False
        )
        return [(cause.kind, cause.message) for cause in report.diagnoses]

    assert found(0.5) == []
    ((kind, message),) = found(1.0)
    assert kind == "missing-factor"
    assert "the factor 0.5 is left out" in message
    for share in (0.51, 0.25, -0.3):
        assert not {kind for kind, _ in found(share)} & KINDS


# ----------------------------------------------------------------------------------------- running statistics

MEAN, VARIANCE = RANDOM.normal(size=3), RANDOM.uniform(0.5, 2.0, 3)


def batch_norm(statistics):
    """Of the batch, by the statistics that a function of (x, running mean, running variance) gives."""

    def forward(x, w, mean, variance):
        m, v = statistics(x, mean, variance)
        s = np.sqrt(v + 1e-5)
        return (x - m) / s * w, (x, w, m, s)

    def backward(dy, cache):
        x, w, m, s = cache
        return dy * w / s, ((x - m) / s * dy).sum(0), np.zeros(3), np.zeros(3)

    def function(x, w, mean, variance):
        m = x.mean(0)
        return (x - m) / jnp.sqrt(((x - m) ** 2).mean(0) + 1e-5) * w

    x = RANDOM.normal(size=(8, 3))
    report = check_vjp(forward, backward, function, x, A[0], MEAN, VARIANCE, probes=False, references=False)
    assert report.first_wrong == "output"
    return [(cause.kind, cause.message) for cause in report.diagnoses]


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        (lambda x, m, v: (m, v), "mean is used instead of sum(x) / 8 and variance is used instead of"),
        (lambda x, m, v: (x.mean(0), v), "variance is used instead of sum("),
    ],
)
def test_running_statistics_in_the_place_of_the_batchs(statistics, words):
    found = batch_norm(statistics)
    assert found[0][0] == "running-statistics"
    assert words in found[0][1]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "statistics",
    [
        lambda x, m, v: (0.9 * m + 0.1 * x.mean(0), v),
        lambda x, m, v: (m, x.var(0, ddof=1)),
        lambda x, m, v: (m, np.sqrt(v)),
        lambda x, m, v: (m + 1e-6, v),
    ],
)
def test_other_statistics_are_no_running_ones(statistics):
    assert "running-statistics" not in {kind for kind, _ in batch_norm(statistics)}


V = RANDOM.standard_normal((3, 5))


def hidden(x, function):
    return jnp.sum(function(x @ V) * jnp.arange(1.0, 6.0))


@pytest.mark.parametrize(
    ("function", "wrong", "words"),
    [
        (
            jnp.tanh,
            lambda z, g: g,
            "the factor 1 - tanh(value @ a constant of shape (3, 5))**2, the derivative of tanh(",
        ),
        (jnp.cos, lambda z, g: g, "the derivative of cos(value @ a constant of shape (3, 5)) is left out"),
        (lambda z: jnp.exp(z) / jnp.exp(z).sum(1, keepdims=True), lambda z, g: g, "the derivative of exp("),
    ],
)
def test_a_derivative_that_is_left_out_is_named(function, wrong, words):
    """Two gradients without names are not told apart as "the gradient" and "the gradient"."""

    def backward(x):
        return hidden(x, function), (wrong(x @ V, np.broadcast_to(np.arange(1.0, 6.0), (4, 5)))) @ V.T

    (cause,) = check_gradients(backward, lambda x: hidden(x, function), X, probes=False).diagnoses
    assert cause.kind == "missing-factor"
    assert words in cause.message
    assert "the gradient is used" not in cause.message
    assert "instead of the gradient" not in cause.message


LABELS = np.eye(5)[[0, 2, 2, 4]]


def cross_entropy(z):
    e = jnp.exp(z - z.max(1, keepdims=True))
    return -jnp.sum(LABELS * jnp.log(e / e.sum(1, keepdims=True)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda o: o, ["the term that flows back through "]),
        (lambda o: o - np.eye(5)[o.argmax(1)], ["a constant mask of shape (4, 5) is inverted in "]),
    ],
)
def test_the_gradient_of_a_subtracted_maximum_stays_0(wrong, words):
    """Without the term of the labels, JAX's gradient through the maximum would subtract the one-hot of the argmax."""

    def by_hand(z):
        e = np.exp(z)
        return cross_entropy(z), wrong(e / e.sum(1, keepdims=True))

    report = check_gradients(by_hand, cross_entropy, 2 * np.random.default_rng(5).standard_normal((4, 5)), probes=False)
    assert len(report.diagnoses) == len(words)
    for cause, start in zip(report.diagnoses, words, strict=True):
        assert cause.message.startswith(start)
        assert "in the backward pass of the reference, hypotheses/test_edited.py:" in cause.message


def test_a_line_of_ones_own_code_is_not_called_the_references():
    def by_hand(x):
        return np.sum(np.sin(x) / B + A * x), np.cos(x) + A

    (cause,) = check_gradients(by_hand, None, X, probes=False).diagnoses
    assert "hypotheses/test_edited.py:" in cause.message
    assert "reference" not in cause.message
