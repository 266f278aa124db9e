"""A check owns what it makes: after it, neither the caller's functions nor data are kept, nor programs of its own."""

import gc
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compare import Verdict, check_gradients, check_trajectory, check_vjp, tap

X, W = np.random.default_rng(0).normal(size=(7, 3)), np.random.default_rng(1).normal(size=3)


class Data:
    """Something large that a loss closes over."""

    def __init__(self):
        self.scale = np.linspace(1.0, 2.0, 3)


def gradients_checked(factor, data):
    @jax.custom_jvp
    def smoothed(z):
        return jnp.tanh(z)

    smoothed.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), (1 - jnp.tanh(primals[0]) ** 2) * tangents[0]))

    def loss(w, x):
        z = tap("z", x @ (w * data.scale))
        count = lax.fori_loop(0, 2, lambda i, c: c + 0.5, jnp.zeros((), w.dtype))
        return jnp.sum(smoothed(z) ** 2) * count

    def by_hand(w, x):
        z = x @ (w * data.scale)
        dz = 2 * np.tanh(z) * (1 - np.tanh(z) ** 2)
        return np.sum(np.tanh(z) ** 2), factor * data.scale * (x.T @ dz), {"z": dz}

    return check_gradients(by_hand, loss, W, X), (loss, by_hand, smoothed)


def vjp_checked(factor, data):
    def forward(w):
        return np.sin(w * data.scale), w

    def backward(dy, w):
        return factor * dy * np.cos(w * data.scale) * data.scale

    def function(w):
        return jnp.sin(w * data.scale)

    return check_vjp(forward, backward, function, W), (forward, backward, function)


def trajectory_checked(factor, data):
    def by_hand(w, x):
        return w - 0.01 * factor * data.scale * (x.T @ (x @ (w * data.scale)))

    def by_jax(w, x):
        return w - 0.01 * jax.grad(lambda w: 0.5 * jnp.sum((x @ (w * data.scale)) ** 2))(w)

    return check_trajectory(by_hand, by_jax, W, [(X,)] * 3), (by_hand, by_jax)


@pytest.mark.sweep
@pytest.mark.parametrize("factor", [1.0, 1.01], ids=["right", "wrong"])
@pytest.mark.parametrize("check", [gradients_checked, vjp_checked, trajectory_checked])
def test_a_report_outlives_the_functions_and_the_data(check, factor):
    data = Data()
    report, functions = check(factor, data)
    references = [weakref.ref(data), weakref.ref(data.scale), *map(weakref.ref, functions)]
    del data, functions
    gc.collect()
    assert [reference() for reference in references if reference() is not None] == []
    assert report.verdict is (Verdict.AGREE if factor == 1 else Verdict.DISAGREE)
    assert str(report)


def refused(data):
    def loss(w):
        return jnp.sum(w * data.scale)

    def refusing(w):
        raise ValueError(f"no {data.scale}")

    with pytest.raises(ValueError, match="no "):
        check_gradients(refusing, loss, W)
    return loss, refusing


def test_a_check_that_ends_in_an_error_keeps_nothing_either():
    data = Data()
    references = [weakref.ref(data), *map(weakref.ref, refused(data))]
    del data
    gc.collect()
    assert [reference() for reference in references if reference() is not None] == []


@pytest.mark.parametrize("factor", [1.0, 1.01], ids=["right", "wrong"])
def test_what_the_caller_compiled_stays_compiled(factor):
    traces = []

    @jax.jit
    def theirs(x):
        traces.append(x.shape)
        return jnp.sum(jnp.sin(x) ** 2)

    theirs(X)
    for check in (gradients_checked, vjp_checked, trajectory_checked):
        check(factor, Data())
    theirs(X)
    assert traces == [X.shape]
    theirs(X[:2])
    assert traces == [X.shape, (2, 3)]


def different(number):
    """Functions of one shape that JAX has not seen before, a third of them with a wrong gradient."""
    factor, wrong = 1.0 + number / 7, number % 3 == 0
    functions = [
        (jnp.sin, np.sin, np.cos),
        (jnp.tanh, np.tanh, lambda z: 1 - np.tanh(z) ** 2),
        (jnp.exp, np.exp, np.exp),
    ]
    theirs, ours, slope = functions[number % 2]

    def loss(w, x):
        return jnp.mean(theirs(x @ w) ** 2) * factor + number * jnp.sum(w)

    def by_hand(w, x):
        z = x @ w
        gradient = factor * 2 / len(x) * x.T @ (ours(z) * slope(z)) + number
        return np.mean(ours(z) ** 2) * factor + number * np.sum(w), gradient * (1.5 if wrong else 1)

    return by_hand, loss, Verdict.DISAGREE if wrong else Verdict.AGREE


@pytest.mark.skipif(sys.platform != "linux", reason="memory maps are read from /proc")
def test_different_functions_in_one_process_leave_no_memory_maps():
    counts = []
    for number in range(30):
        by_hand, loss, verdict = different(number)
        assert check_gradients(by_hand, loss, W, X).verdict is verdict
        counts.append(len(Path("/proc/self/maps").read_text().splitlines()))
    assert max(counts[10:]) <= counts[10] + 5, counts
