"""Conduct: each kind of misconduct is noted under its name, and a function that does nothing wrong has none."""

import numpy as np
import pytest

from compare import Verdict, check_gradients
from compare.conduct import Watched
from tests.helpers import network

NAMES = ["parameters", "x"]


def clean(parameters, x):
    w = parameters["w"]
    return np.sum(w * x), {"w": x.copy()}


def asked(function):
    """The kinds noted while a function is asked, asked again, asked something else and asked the first again."""
    watched = Watched(function, NAMES)
    parameters, x = {"w": np.array([1.0, -2.0, 3.0])}, np.array([0.5, 2.0, -1.0])
    first = watched(parameters, x)
    watched.same_again(first, parameters, x, after="at once")
    watched({"w": 10 * parameters["w"]}, -x)
    watched.same_again(first, parameters, x, after="after other calls")
    np.testing.assert_array_equal(x, [0.5, 2.0, -1.0])  # whatever it does, the caller's arrays are safe
    np.testing.assert_array_equal(parameters["w"], [1.0, -2.0, 3.0])
    return {note.kind: note for note in watched.diagnoses}


def test_a_clean_function_has_none():
    assert asked(clean) == {}


def test_nan_in_the_same_place_is_the_same_answer():
    assert asked(lambda parameters, x: (np.nan, {"w": np.full(3, np.nan)})) == {}


def modifies_data(parameters, x):
    x -= x.mean()
    return clean(parameters, x)


def modifies_parameters(parameters, x):
    result = clean(parameters, x)
    parameters["w"] -= 0.1 * x
    return result


def replaces_parameters(parameters, x):
    result = clean(parameters, x)
    parameters["w"] = parameters["w"] - 0.1 * x
    return result


@pytest.mark.parametrize(
    ("function", "path", "words"),
    [
        (modifies_data, "x", "its argument x; work on a copy"),
        (modifies_parameters, "parameters", "its argument parameters: w; work on a copy"),
        (replaces_parameters, "parameters", "its argument parameters: w; work on a copy"),
    ],
)
def test_changed_arguments_are_named(function, path, words):
    notes = asked(function)
    assert notes.keys() == {"modifies-arguments"}
    assert notes["modifies-arguments"].path == path
    assert words in notes["modifies-arguments"].message


def reusing():
    buffer = np.empty(3)

    def function(parameters, x):
        buffer[:] = x
        return np.sum(parameters["w"] * x), {"w": buffer}

    return function


def test_memory_that_is_handed_out_twice():
    assert asked(reusing()).keys() == {"shared-buffer"}


def accumulating():
    total = np.zeros(3)

    def function(parameters, x):
        nonlocal total
        total = total + x
        return np.sum(parameters["w"] * x), {"w": total}

    return function


def test_accumulated_gradients_are_told_by_their_factor():
    note = asked(accumulating())["depends-on-earlier-calls"]
    assert "2 times the first: does it accumulate?" in note.message


def remembering():
    """Right the first time and at once again, but not after it has seen other data: a cache that is never renewed."""
    seen = []

    def function(parameters, x):
        seen.append(x.copy())
        wrong = len(seen) > 2
        return np.sum(parameters["w"] * x), {"w": x + wrong * np.array([1.0, 0.0, 0.5])}

    return function


def test_what_shows_only_after_other_calls():
    note = asked(remembering())["depends-on-earlier-calls"]
    assert "after other calls" in note.message


def test_randomness_of_its_own():
    random = np.random.default_rng()  # no seed: that is the fault
    notes = asked(lambda parameters, x: (np.sum(parameters["w"] * x), {"w": x * random.random(3)}))
    assert notes.keys() == {"not-deterministic"}


def test_a_view_of_a_parameter():
    notes = asked(lambda parameters, x: (np.sum(x), {"w": parameters["w"][:]}))
    assert notes.keys() == {"view-of-parameters"}
    assert notes["view-of-parameters"].path == "w"


def square(parameters, x):
    return (parameters["w"] ** 2 * x).sum()


def square_by_hand(parameters, x):
    w = parameters["w"]
    return np.sum(w**2 * x), {"w": 2 * w * x}


def test_misconduct_makes_right_gradients_a_disagreement_and_comes_first():
    def spoiling(parameters, x):
        result = square_by_hand(parameters, x)
        x[...] = 0
        return result

    parameters, x, _ = network(0, 3, 2, 1, 4)
    report = check_gradients(spoiling, square, {"w": parameters["W1"]}, x[:, :2].T, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.first_wrong is None
    assert all(row.verdict is Verdict.AGREE for row in report.rows)
    assert str(report).startswith("DISAGREE: it modifies its argument x; work on a copy.")
