"""check_gradients, on our network and on somebody else's."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import compare
import manual
from compare import GradientMismatch, Verdict, assert_gradients_agree, check_gradients
from compare.verify import shallow_loss
from tests.helpers import network


def faulty(change):
    """The network's loss and gradients with `change` applied to the gradients."""

    def loss_and_gradients(parameters, x, y):
        loss, gradients = manual.loss_and_gradients(parameters, x, y)
        return loss, gradients | change(gradients, parameters)

    return loss_and_gradients


def last_place(array, relative):
    moved = array.copy()
    moved[-1, -1] *= 1 + relative
    return moved


FAULTS = {
    "sum for mean": lambda g, p: {"b1": g["b1"] * 12},
    "sign": lambda g, p: {"W2": -g["W2"]},
    "transpose": lambda g, p: {"W1": g["W1"].T},
    "zero": lambda g, p: {"b2": np.zeros_like(g["b2"])},
    "weight decay": lambda g, p: {"W1": g["W1"] + 1e-6 * p["W1"]},
    "one entry by 1e-11": lambda g, p: {"W1": last_place(g["W1"], 1e-11)},
    "float32 inside": lambda g, p: {"W2": g["W2"].astype(np.float32).astype(np.float64)},
    "wrong dtype": lambda g, p: {"b2": g["b2"].astype(np.float32)},
    "nan": lambda g, p: {"b2": g["b2"] * np.nan},
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught_in_the_leaf_that_has_them(name):
    parameters, x, y = network(0, 4, 4, 2, 12)
    report = check_gradients(faulty(FAULTS[name]), shallow_loss, parameters, x, y)
    assert report.verdict is Verdict.DISAGREE
    _, gradients = manual.loss_and_gradients(parameters, x, y)
    (leaf,) = FAULTS[name](gradients, parameters)
    assert report.first_wrong == leaf
    assert [row.path for row in report.rows if row.verdict is not Verdict.AGREE] == [leaf]


def test_a_wrong_loss_is_seen_though_its_gradients_are_right():
    def lost_minus(parameters, x, y):
        loss, gradients = manual.loss_and_gradients(parameters, x, y)
        return -loss, gradients

    report = check_gradients(lost_minus, shallow_loss, *network(0, 4, 3, 2, 12))
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "loss"


def test_a_loss_that_is_not_finite_leaves_the_verdict_open():
    def loss(parameters):
        return jnp.log(parameters["w"][0])

    def by_hand(parameters):
        return -np.inf, {"w": np.array([np.inf])}

    report = check_gradients(by_hand, loss, {"w": np.zeros(1)})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the reference is -inf" in str(report)


def test_any_pytree_of_parameters_and_other_arguments():
    def loss(parameters, ids):
        table, scale = parameters[0], parameters[1]["scale"]
        return jnp.sum(table[ids] ** 2) * scale

    def by_hand(parameters, ids):
        table, scale = parameters[0], parameters[1]["scale"]
        gradient = np.zeros_like(table)
        np.add.at(gradient, ids, 2 * table[ids] * scale)
        return np.sum(table[ids] ** 2) * scale, (gradient, {"scale": np.sum(table[ids] ** 2)})

    parameters = (np.random.default_rng(0).standard_normal((5, 2)), {"scale": np.float64(3)})
    report = check_gradients(by_hand, loss, parameters, np.array([0, 3, 3]))
    assert report.verdict is Verdict.AGREE, str(report)
    assert [row.path for row in report.rows] == ["loss", "0", "1.scale"]


def test_the_report_for_people_and_for_machines():
    report = check_gradients(faulty(FAULTS["sign"]), shallow_loss, *network(0, 4, 3, 2, 12))
    assert "W2" in str(report).splitlines()[0]
    assert report.to_dict()["verdict"] == "disagree"
    assert report.to_dict()["first_wrong"] == "W2"
    assert "<table>" in report._repr_html_()
    with pytest.raises(TypeError, match=r"look at report\.verdict"):
        bool(report)


def test_the_assertion():
    problem = network(0, 4, 3, 2, 12)
    assert_gradients_agree(manual.loss_and_gradients, shallow_loss, *problem)
    with pytest.raises(GradientMismatch, match="W2") as caught:
        assert_gradients_agree(faulty(FAULTS["sign"]), shallow_loss, *problem)
    assert caught.value.report.verdict is Verdict.DISAGREE
    assert isinstance(caught.value, AssertionError)


def test_jax_is_left_as_it_was():
    before = dict(jax.config.values)
    compare.check_gradients(manual.loss_and_gradients, shallow_loss, *network(0, 4, 3, 2, 12))
    assert dict(jax.config.values) == before


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_fault_in_a_short_dtype_is_named(dtype):
    p, x = np.linspace(1, 2, 6).astype(dtype), np.linspace(-1, 1, 6).astype(dtype)

    def by_hand(p, x):
        return np.sum(p * p * x).astype(dtype), (3 * p * x).astype(dtype)

    report = check_gradients(by_hand, lambda p, x: jnp.sum(p * p * x), p, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "factor"
