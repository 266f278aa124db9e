"""The naming rule of recordings, and what does not follow it."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.check.recording import arguments, recorded_steps
from compare.errors import BadInput
from tests.compare.check.records import steps


def renamed(arrays, change):
    return {change(name): array for name, array in arrays.items()}


@pytest.mark.parametrize("change", [str, lambda name: name.replace("/", "."), lambda n: n.replace("step.", "step/")])
def test_slashes_and_dots_both_separate(change):
    found = recorded_steps(renamed(steps(3), change))
    assert [step.number for step in found] == [1, 2, 3]
    assert all(set(step.parameters) == set(step.gradients) == set(step.next) == {"w", "b"} for step in found)
    assert all(step.loss is not None for step in found)


def test_one_step_needs_no_number_and_leaves_may_be_nested():
    arrays = renamed(steps(1), lambda name: name.replace("/w", "/layers/0/w"))
    (step,) = recorded_steps(arrays)
    assert step.number == 1
    assert set(step.parameters) == {"layers.0.w", "b"}


def test_steps_are_in_their_order_and_not_the_files():
    backwards = dict(reversed(steps(12).items()))
    assert [step.number for step in recorded_steps(backwards)] == list(range(1, 13))


def without(name):
    return {key: array for key, array in steps(3).items() if key != name}


BAD = {
    "nothing": ({}, "holds no arrays"),
    "another name": (steps(1) | {"stuff": np.ones(1)}, "'stuff' is no name of a recording"),
    "a part without a leaf": (steps(1) | {"parameters": np.ones(1)}, "no name of a recording"),
    "a loss with a leaf": (steps(1) | {"loss/a": np.ones(1)}, "no name of a recording"),
    "a folder upwards": (steps(1) | {"step.1/../../x": np.ones(1)}, "no name of a recording"),
    "a number in another script": (steps(1) | {"step.²/loss": np.ones(1)}, "no name of a recording"),
    "no gradients": ({"parameters/w": np.ones(1)}, "step 1 of the recording has no gradients"),
    "no parameters": ({"gradients/w": np.ones(1)}, "step 1 of the recording has no parameters"),
    "a leaf that is missing later": (without("step.2/parameters/w"), "step 2 of the recording has no parameters/w"),
    "a leaf that is new later": (
        steps(3) | {"step.2/parameters/v": np.ones(1)}, "step 2 of the recording has parameters/v, but step 1"),
    "another shape later": (steps(3) | {"step.2/parameters/w": np.ones(4)}, r"of shape \(4,\) at step 2"),
    "another dtype later": (steps(3) | {"step.3/parameters/w": np.ones(3, "f4")}, "is float32 .* at step 3"),
    "an update of nothing": (steps(1) | {"next/v": np.ones(1)}, "has next/v, but no parameters/v"),
    "a step twice": (steps(3) | {"loss": np.ones(1)}, "'loss' is in the recording twice"),
    "a loss that is no number": (steps(1) | {"loss": np.ones(2)}, r"of shape \(2,\), but a loss is one number"),
    "a leaf twice": (steps(1) | {"parameters.w": np.ones(3)}, "twice"),
}  # fmt: skip


WORDS = [
    "step",
    "1",
    "2",
    "/",
    ".",
    "parameters/w",
    "gradients/w",
    "inputs/x",
    "inputs/x/a",
    "loss",
    "next",
    "w",
    "..",
    "",
]
ONE_OR_NONE = st.sampled_from([np.ones(()), np.ones(1), np.zeros((0, 2)), np.ones(3, "f4")])


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_follow_the_rule_is_refused(name):
    arrays, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        recorded_steps(arrays)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map("".join), ONE_OR_NONE, max_size=6))
def test_any_names_are_steps_or_are_refused(arrays):
    with contextlib.suppress(BadInput):
        found = recorded_steps(arrays)
        assert all(step.parameters and step.gradients for step in found)
        parts = [part for step in found for part in vars(step).values() if isinstance(part, dict)]
        assert sum(map(len, parts)) + sum(step.loss is not None for step in found) == len(arrays)


def test_a_loss_of_one_entry_is_a_number():
    (step,) = recorded_steps(steps(1) | {"loss": np.ones((1, 1))})
    assert step.loss is not None
    assert step.loss.shape == ()


def test_inputs_go_by_the_names_of_the_losss_arguments_or_in_order():
    (step,) = recorded_steps(steps(1))
    x, y = step.inputs["x"], step.inputs["y"]

    def taken(loss):
        given, extra = arguments(step, loss)
        return *(None if one is None else "xy"[one is y] for one in given), *extra

    assert {*map(id, arguments(step, lambda parameters, x, y: 0)[0])} == {id(x), id(y)}
    assert taken(lambda parameters, x, y: 0) == ("x", "y")
    assert taken(lambda parameters, y, x: 0) == ("y", "x")
    assert taken(lambda parameters, a, b: 0) == ("x", "y")
    assert taken(lambda *given: 0) == ("x", "y")
    assert taken(lambda parameters, x, mask=None, y=None, *, heads=2: 0) == ("x", None, "y")
    assert taken(lambda parameters, y: 0) == ("y", "x")  # which it does not take
    del step.inputs["x"]
    with pytest.raises(BadInput, match="has no inputs/x, which the loss needs; it has inputs/y"):
        arguments(step, lambda parameters, x, y: 0)


def test_an_input_whose_name_goes_on_is_a_dict():
    arrays = steps(1) | {"inputs/frozen/a.weight": np.ones(2), "inputs.frozen.b": np.zeros(1)}
    (x, y, frozen), extra = arguments(recorded_steps(arrays)[0], lambda parameters, x, y, frozen: 0)
    assert (x.shape, y.shape, extra) == ((4, 3), (4,), [])
    assert {name: leaf.shape for name, leaf in frozen.items()} == {"a.weight": (2,), "b": (1,)}


@pytest.mark.parametrize("turned", [False, True])
def test_an_input_that_is_an_array_and_a_dict_is_refused(turned):
    names = ["inputs/x/a", "inputs/x"][:: -1 if turned else 1]
    arrays = {name: np.ones(1) for name in names} | {name: a for name, a in steps(1).items() if name != "inputs/x"}
    with pytest.raises(BadInput, match="an input is an array or a dict"):
        arguments(recorded_steps(arrays)[0], lambda parameters, x, y: 0)
