"""The judge as a whole: the corpus of planted faults, one or two of each kind, and correct networks beside it.

The whole corpus is judged by benchmarks/judge_score.py. Here are the faults that need no compilation of their own:
one shape, one dtype and, but for one, one loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff
import manual
from benchmarks.faults import OBLONG, gradient_faults
from benchmarks.networks import network
from compare import Verdict, check_gradients, tap

CHOSEN = [
    "dZ2 without 1/m", "db2 mean for sum", "dZ2 = y - A2", "reshape for transpose", "db1 shifted by one",
    "dW1 rows permuted", "db2 first column", "last example dropped", "db1 over all axes", "tanh' missing",
    "tanh' = A1 (1 - A1)", "tanh' twice", "dA1 through the updated W2", "labels shifted by one", "weight decay in dW1",
    "dW1 one entry by 1e-11", "db1 zero", "clipped by value", "A2 clipped at 1e-7", "dZ1 masked where Z1 < -4",
    "dZ2 through dA2", "dZ2 in float32", "dW1 in another dtype", "db1 missing", "dW2 flattened",
    "db2 is the parameter itself", "loss without its minus", "by hand a sum, gradients too",
    "JAX's tanh with its own wrong vjp", "gradients accumulated",
]  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", CHOSEN)
def test_a_planted_fault_is_caught_placed_named_and_blamed_on_its_side(name):
    fault = next(fault for fault in gradient_faults() if fault.name == name)
    report = check_gradients(fault.by_hand, fault.loss, *fault.problem(), strict=fault.strict)
    assert report.verdict is Verdict.DISAGREE
    if not fault.conduct:  # what depends on earlier calls shows at the second point, whichever that is
        assert (report.probe is not None) == (fault.saturated and not fault.strict)
    assert report.wrong_side == fault.wrong_side, str(report)
    if fault.place and not fault.strict:
        assert report.first_wrong == fault.place
    if fault.kinds:
        assert fault.kinds & {diagnosis.kind for diagnosis in report.diagnoses}, str(report)


@pytest.mark.sweep
@pytest.mark.parametrize("name", [fault.name for fault in gradient_faults() if fault.strict])
def test_a_fault_of_the_arithmetic_is_none_of_the_derivation(name):
    fault = next(fault for fault in gradient_faults() if fault.name == name)
    report = check_gradients(fault.by_hand, fault.loss, *fault.problem())
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.wrong_side is None
    assert any("at the perturbed point" in words for words in report.arithmetic)


def activated(function):
    """The network's loss with another activation, as JAX differentiates it."""

    def loss(parameters, x, y):
        A1 = tap("A1", function(tap("Z1", parameters["W1"] @ x + parameters["b1"])))
        return autodiff.compute_loss(tap("Z2", parameters["W2"] @ A1 + parameters["b2"]), y)

    return loss


def by_hand(function, derivative):
    def loss_and_gradients(parameters, x, y):
        W1, b1, W2, b2 = (parameters[name] for name in ("W1", "b1", "W2", "b2"))
        Z1 = W1 @ x + b1
        A1 = function(Z1)
        Z2 = W2 @ A1 + b2
        dZ2 = (manual.sigmoid(Z2) - y) / x.shape[1]
        dA1 = W2.T @ dZ2
        dZ1 = dA1 * derivative(Z1, A1)
        gradients = {
            "W1": dZ1 @ x.T,
            "b1": dZ1.sum(1, keepdims=True),
            "W2": dZ2 @ A1.T,
            "b2": dZ2.sum(1, keepdims=True),
        }
        return manual.compute_loss(Z2, y), gradients, {"Z2": dZ2, "A1": dA1, "Z1": dZ1}

    return loss_and_gradients


ACTIVATIONS = {
    "tanh": (by_hand(np.tanh, lambda z, a: 1 - a**2), activated(jnp.tanh)),
    "sigmoid": (by_hand(manual.sigmoid, lambda z, a: a * (1 - a)), activated(jax.nn.sigmoid)),
    "relu": (by_hand(lambda z: np.maximum(z, 0), lambda z, a: z > 0), activated(jax.nn.relu)),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-2, 2))
def test_a_correct_network_is_never_blamed(name, seed, exponent):
    """One shape, so that one compilation serves each activation."""
    problem = network(np.random.default_rng(seed), OBLONG, scale=10**exponent)
    report = check_gradients(*ACTIVATIONS[name], *problem)
    assert report.verdict is Verdict.AGREE, str(report)
    assert not report.diagnoses


# -------------------------------------------------------------------- correct code of other sorts

# Each meets rounding, or infinity, in an operation that the notebook's network does not have.


def attention_loss(q, k, mask):
    return jnp.sum(jax.nn.softmax(jnp.where(mask, q @ k.T, -jnp.inf)) @ k)


def attention_by_hand(q, k, mask):
    scores = np.where(mask, q @ k.T, -np.inf)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    P = e / e.sum(axis=1, keepdims=True)
    dP = np.ones_like(q) @ k.T
    dS = P * (dP - (P * dP).sum(axis=1, keepdims=True))
    return np.sum(P @ k), dS @ k


def embedding_loss(table, ids):
    return jnp.sum(jnp.tanh(table[ids]))


def embedding_by_hand(table, ids):
    """Adds the contributions in reverse order, as right as any other."""
    gradient, values = np.zeros_like(table), np.tanh(table[ids])
    np.add.at(gradient, ids[::-1], (1 - values**2)[::-1])
    return values.sum(), gradient


def recurrent_loss(w, xs):
    def step(h, x):
        h = jnp.tanh(w @ h + x)
        return h, h

    _, hs = jax.lax.scan(step, jnp.zeros_like(xs[0]), xs)
    return jnp.sum(hs**2) / 2


def recurrent_by_hand(w, xs):
    hs = [np.zeros_like(xs[0])]
    for x in xs:
        hs.append(np.tanh(w @ hs[-1] + x))
    dw, dh = np.zeros_like(w), np.zeros_like(hs[0])
    for before, h in zip(hs[-2::-1], hs[:0:-1], strict=True):
        dz = (dh + h) * (1 - h**2)
        dw += np.outer(dz, before)
        dh = w.T @ dz
    return np.sum(np.square(hs)) / 2, dw


def convolution_loss(kernel, x):
    return jnp.sum(jax.lax.conv(x, kernel, (1, 1), "VALID") ** 3)


def convolution_by_hand(kernel, x):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    out = np.einsum("nchwij,ocij->nohw", windows, kernel)
    return np.sum(out**3), np.einsum("nohw,nchwij->ocij", 3 * out**2, windows)


OTHERS = {
    "attention under a mask of -inf": (
        attention_by_hand,
        attention_loss,
        lambda random: (*random.standard_normal((2, 4, 3)), np.tril(np.ones((4, 4), bool))),
    ),
    "an embedding of many repeats in float32": (
        embedding_by_hand,
        embedding_loss,
        lambda random: (random.standard_normal((5, 3)).astype(np.float32), random.integers(0, 5, 2000)),
    ),
    "sixty steps in a loop": (
        recurrent_by_hand,
        recurrent_loss,
        lambda random: (1.5 * random.standard_normal((3, 3)), random.standard_normal((60, 3))),
    ),
    "a convolution in float32": (
        convolution_by_hand,
        convolution_loss,
        lambda random: tuple(random.standard_normal(s).astype(np.float32) for s in ((2, 3, 2, 2), (2, 3, 5, 4))),
    ),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", OTHERS)
def test_correct_code_of_other_sorts_is_not_blamed(name):
    by_hand, loss, draw = OTHERS[name]
    for seed in range(4):
        report = check_gradients(by_hand, loss, *draw(np.random.default_rng(seed)))
        assert report.verdict is Verdict.AGREE, str(report)
