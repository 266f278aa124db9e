"""The judge's checks, put to a learner's functions."""

import numpy as np

from compare import Verdict
from compare.exercise import EXERCISES
from compare.exercise.judging import report_on


def test_a_forward_pass_that_was_changed_is_noticed():
    report = report_on("tanh", {"tanh": lambda x: (np.sin(x), np.sin(x)), "tanh_backward": lambda dy, y: dy})
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "output"


def test_gradients_of_intermediates_tell_where_it_begins():
    def backward(parameters, cache):
        x, y, A1, A2 = cache
        dZ2 = (A2 - y) / x.shape[1]
        dA1 = parameters["W2"].T @ dZ2
        wrong = dA1  # without the slope of tanh
        sums = {"b1": wrong.sum(axis=1, keepdims=True), "b2": dZ2.sum(axis=1, keepdims=True)}
        return {"W1": wrong @ x.T, "W2": dZ2 @ A1.T, **sums}, {"Z2": dZ2, "A1": dA1, "Z1": wrong}

    functions = {"two_layer": EXERCISES["two_layer"].given, "two_layer_backward": backward}
    assert report_on("two_layer", functions).first_wrong == "Z1"
    functions["two_layer_backward"] = lambda *args: backward(*args)[0]
    assert report_on("two_layer", functions).first_wrong in ("W1", "b1")
