"""A loop of training is called as it is used: what is wrong only within a call, or only in what it records, is seen."""

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict
from compare.platform import precise
from compare.verify.fast_training import CALLS, STEPS, check_fast_training

RATE = 0.1
START = {"w": np.array([1.5, -0.5, 0.25])}


def batches(count):
    random = np.random.default_rng(0)
    return [(random.standard_normal(3),) for _ in range(count)]


def step_by_jax(parameters, state, x):
    loss = jnp.sum((parameters["w"] - x) ** 2)
    return {"w": parameters["w"] - RATE * 2 * (parameters["w"] - x)}, state, loss


def loop(fault=None):
    def train(parameters, state, batches):
        w, losses = np.copy(parameters["w"]), []
        for number, (x,) in enumerate(batches):
            slope = 2 * (w - x)
            losses.append(np.sum((w - x) ** 2))
            if not (fault == "second step" and number):
                w -= RATE * (0.7 if fault == "rate" else 1) * slope
        if fault == "losses":
            losses = losses[::-1]
        return {"w": w + (1e-17 if fault == "rounding" else 0)}, state, np.array(losses)

    return train


def checked(fault, count):
    with precise(START):
        return check_fast_training(loop(fault), step_by_jax, START, batches(count), {})


@pytest.mark.parametrize("fault", [None, "rounding"])
@pytest.mark.parametrize(("count", "calls"), [(1, 1), (2, 1), (5, 2), (100, CALLS)])
def test_the_right_loop_agrees_however_many_batches_there_are(fault, count, calls):
    report = checked(fault, count)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.steps == calls
    (losses,) = (row for row in report.rows if row.path == "state.losses")
    assert losses.shape == (min(count, STEPS),)


@pytest.mark.parametrize(("fault", "path"), [("rate", "w"), ("second step", "w"), ("losses", "state.losses")])
def test_a_fault_is_caught_in_the_first_call(fault, path):
    report = checked(fault, 6)
    assert report.verdict is Verdict.DISAGREE
    assert (report.wrong_step, report.first_wrong) == (1, path)
