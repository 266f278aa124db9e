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


@pytest.mark.parametrize("name", CHOSEN)
def test_a_planted_fault_is_caught_placed_named_and_blamed_on_its_side(name):
    fault = next(fault for fault in gradient_faults() if fault.name == name)
    report = check_gradients(fault.by_hand, fault.loss, *fault.problem())
    assert report.verdict is Verdict.DISAGREE
    if not fault.conduct:  # what depends on earlier calls shows at the second point, whichever that is
        assert (report.probe is not None) == fault.saturated
    assert report.wrong_side == fault.wrong_side, str(report)
    if fault.place:
        assert report.first_wrong == fault.place
    if fault.kinds:
        assert fault.kinds & {diagnosis.kind for diagnosis in report.diagnoses}, str(report)


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


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-2, 2))
def test_a_correct_network_is_never_blamed(name, seed, exponent):
    """One shape, so that one compilation serves each activation."""
    problem = network(np.random.default_rng(seed), OBLONG, scale=10**exponent)
    report = check_gradients(*ACTIVATIONS[name], *problem)
    assert report.verdict is Verdict.AGREE, str(report)
    assert not report.diagnoses
