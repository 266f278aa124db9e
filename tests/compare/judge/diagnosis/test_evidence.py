"""What is gathered about a wrong quantity, and when a prediction counts as an explanation."""

import jax
import numpy as np

from benchmarks.backward import by_hand
from benchmarks.faults import OBLONG
from compare.judge.diagnosis.evidence import Evidence, gather, in_words
from compare.judge.evaluation.intermediates import backward_order, find_taps
from compare.judge.evaluation.point import Check
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import traced
from compare.suite.shallow import shallow_loss
from tests.helpers import network

RIGHT = np.array([[1.0, -2.0, 3.0], [4.0, 0.5, -6.0]])
ALLOWED = 1e-12 * np.abs(RIGHT)


def evidence(came, **known):
    return Evidence("W", np.asarray(came), RIGHT, ALLOWED, **known)


def test_a_prediction_explains_what_came_only_to_rounding():
    e = evidence(2 * RIGHT)
    assert e.explains(2 * RIGHT * (1 + 1e-12))
    assert not e.explains(2 * RIGHT * (1 + 1e-11))
    assert not e.explains(RIGHT)


def test_what_enlarges_right_values_enlarges_their_rounding():
    e = evidence(1e6 * RIGHT * (1 + 1e-12))
    assert e.explains(1e6 * RIGHT, strength=1e6)
    assert not e.explains(1e3 * RIGHT, strength=1e6)


def test_predictions_of_another_shape_or_not_finite_explain_nothing():
    assert not evidence(RIGHT).explains(RIGHT.T)
    assert not evidence(RIGHT).explains(RIGHT[0])
    assert not evidence(RIGHT).explains(np.full(RIGHT.shape, np.nan))
    assert not evidence(np.full(RIGHT.shape, np.nan)).explains(RIGHT)


def test_wrong_entries_are_those_beyond_the_tolerance_and_nan():
    came = RIGHT.copy()
    came[0, 0], came[1, 2] = np.nan, -6.1
    assert np.argwhere(evidence(came).wrong).tolist() == [[0, 0], [1, 2]]


def test_a_diagnosis_is_about_the_quantity():
    diagnosis = evidence(RIGHT).says("sign", "the sign is wrong.", -1.0)
    assert (diagnosis.path, diagnosis.kind, diagnosis.factor) == ("W", "sign", -1.0)


def test_indices_in_words():
    assert in_words([2]) == "2"
    assert in_words([0, 2, 3]) == "0, 2, 3"
    assert in_words([4, 5, 6, 7]) == "4 to 7"
    assert in_words(list(range(0, 40, 2))) == "0, 2, 4, 6, 8, 10, 12, 14, ..."


def test_what_is_known_of_a_network():
    parameters, x, y = network(0, *OBLONG)
    n_x, n_h, n_y, m = OBLONG
    function, args = by_hand(dZ1=lambda v: v.dA1), (x, y)
    with jax.enable_x64(True):
        program = traced(shallow_loss, parameters, *args)
        taps, order = find_taps(program), backward_order(program)
        check = Check(Watched(function), program, np.dtype("float64"), order, taps, seed=0)
        point = check.at(Inputs(parameters, args, ("parameters", "x", "y")))
        came = np.asarray(point.actual["W1"])
        e = gather(check, point, "W1", came, np.asarray(point.expected["W1"]), np.full(came.shape, 1e-15))
    assert set(e.sizes.values()) == {n_x, n_h, n_y, m, 1}
    assert e.sizes["x.shape[1]"] == m
    assert e.summands.keys() == {"Z2", "A1", "Z1"}
    assert e.thresholds.keys() == {"Z1", "A1", "Z2"}
    np.testing.assert_allclose(e.factors["1 - A1**2"], 1 - np.tanh(e.thresholds["Z1"]) ** 2, atol=1e-14)
    assert e.parameter is not None
    np.testing.assert_array_equal(e.parameter, parameters["W1"])
    # What W1's gradient would be if it came from dA1 in place of dZ1, which here is what did come.
    other = e.alternatives["wrong-factor", "it is computed from dA1, and should be computed from dZ1."]
    np.testing.assert_allclose(other, point.intermediates["A1"] @ x.T, atol=1e-13)
    # All of W1's gradient comes back through Z1, and nothing by another way; the others are cut off by it.
    assert e.paths.keys() == {"Z1"}
    np.testing.assert_allclose(e.paths["Z1"], point.intermediates["Z1"] @ x.T, atol=1e-13)
    assert {"x", "parameters.W2", "dZ1", "dW2", "A1"} <= e.known.keys()
    assert not {"dW1", "parameters.W1"} & e.known.keys()
