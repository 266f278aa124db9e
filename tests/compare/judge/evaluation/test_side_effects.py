"""Conduct: each kind of misconduct is noted under its name, and a function that does nothing wrong has none."""

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_gradients
from compare.errors import CodeUnderTestFailed
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs
from compare.pytrees import leaves_by_path
from tests.helpers import network

NAMES = ("parameters", "x")


def clean(parameters, x):
    w = parameters["w"]
    return np.sum(w * x), {"w": x.copy()}


def asked(function):
    """The kinds noted while a function is asked, asked again, asked something else and asked the first again."""
    watched = Watched(function)
    parameters, x = {"w": np.array([1.0, -2.0, 3.0])}, np.array([0.5, 2.0, -1.0])
    inputs = Inputs(parameters, (x,), NAMES)
    first = leaves_by_path(watched(inputs))
    watched.same_again(first, inputs, after="at once")
    watched(Inputs({"w": 10 * parameters["w"]}, (-x,), NAMES))
    watched.same_again(first, inputs, after="after other calls")
    np.testing.assert_array_equal(x, [0.5, 2.0, -1.0])  # whatever it does, the caller's arrays are safe
    np.testing.assert_array_equal(parameters["w"], [1.0, -2.0, 3.0])
    return {note.kind: note for note in watched.diagnoses}


def test_a_clean_function_has_none():
    assert asked(clean) == {}


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.float16, jnp.bfloat16, jnp.float8_e4m3fn])
def test_nan_in_the_same_place_is_the_same_answer(dtype):
    assert asked(lambda parameters, x: (np.nan, {"w": np.full(3, np.nan, dtype)})) == {}


def test_nan_in_another_place_of_a_narrow_answer_is_another_answer():
    turns = iter(range(100))

    def moving(parameters, x):
        gradient = np.zeros(3, jnp.bfloat16)
        gradient[next(turns) % 2] = np.nan
        return np.float32(0), {"w": gradient}

    assert "not-deterministic" in asked(moving) or "depends-on-earlier-calls" in asked(moving)


@pytest.mark.parametrize("other", [None, np.ones(3), (np.float64(0), {})])
def test_a_result_of_another_form_at_some_calls_is_another_result(other):
    turns = iter(range(100))
    kinds = asked(lambda parameters, x: clean(parameters, x) if next(turns) % 3 == 0 else other)
    assert kinds.keys() & {"not-deterministic", "depends-on-earlier-calls"}


def test_nan_in_a_narrow_argument_is_no_change_of_it():
    watched = Watched(lambda parameters, x: (np.float32(0), parameters + 1))
    watched(Inputs(np.array([np.nan, 1], jnp.bfloat16), (np.array([np.nan, 2], jnp.float8_e4m3fn),), NAMES))
    assert watched.diagnoses == []


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
    assert "2 times the first: does the function add to an earlier result" in note.message


def test_results_that_hardly_differ_have_no_factor():
    calls = []

    def function(parameters, x):
        calls.append(1)
        return np.sum(parameters["w"] * x), {"w": x * (1 + 1e-9 * (len(calls) > 1))}

    note = asked(function)["depends-on-earlier-calls"]
    assert "times the first" not in note.message
    assert note.message.endswith("earlier calls or on memory that it does not set.")


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


def test_a_side_effect_makes_right_gradients_a_disagreement_and_comes_first():
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


# --------------------------------------------------------------- memory given out twice, and the last bits

CONSTANT = np.array([0.5, 2.0, -1.0])


def test_the_same_constant_given_out_again_is_no_fault():
    assert asked(lambda parameters, x: (np.sum(parameters["w"] * CONSTANT), {"w": CONSTANT})) == {}
    report = check_gradients(lambda w: (np.sum(w * CONSTANT), CONSTANT), lambda w: jnp.sum(w * CONSTANT), CONSTANT)
    assert report.verdict is Verdict.AGREE, str(report)


def test_a_buffer_is_seen_to_change_without_probes_too():
    buffer = np.empty(3)

    def by_hand(w):
        np.multiply(2, w, out=buffer)
        return np.sum(w**2), buffer

    report = check_gradients(by_hand, lambda w: jnp.sum(w**2), CONSTANT, probes=False)
    assert [diagnosis.kind for diagnosis in report.diagnoses] == ["shared-buffer"]


def test_buffers_that_take_turns_are_seen_to_change():
    """The result before the last is written to: what the caller has kept longest."""
    buffers, calls = [np.empty(3), np.empty(3)], []

    def function(parameters, x):
        calls.append(1)
        buffers[0][:] = x
        buffers[1][:] = x + len(calls)
        return np.sum(x), {"w": buffers[len(calls) % 2]}

    assert "shared-buffer" in asked(function)


def drifting(relative):
    """Answers differ from call to call, as a sum does whose parts are added as they come."""
    calls = []

    def by_hand(w, x):
        calls.append(1)
        return np.sum(x * w**2), 2 * w * x * (1 + relative * len(calls))

    return check_gradients(by_hand, lambda w, x: jnp.sum(x * w**2), CONSTANT, CONSTANT + 1)


def test_repeats_that_differ_in_the_last_bits_are_a_remark():
    report = drifting(2.0**-52)
    assert report.verdict is Verdict.AGREE, str(report)
    assert not report.diagnoses
    assert any("differ by rounding errors" in note for note in report.notes)


def test_repeats_that_differ_by_more_than_rounding_are_a_fault():
    report = drifting(1e-9)
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.parametrize("result", [lambda p: 1 / 0, lambda p: "no tuple", lambda p: (p, "no number")])
def test_a_trial_call_that_fails_in_any_way_is_a_failure_of_the_code_under_test(result):
    inputs = Inputs(np.ones(3), names=("p",))
    with pytest.raises(CodeUnderTestFailed):
        Watched(result).unwatched(inputs)
    value, gradient = Watched(lambda p: (p.sum(), p)).unwatched(inputs)
    assert (value, gradient.tolist()) == (3.0, [1.0, 1.0, 1.0])
