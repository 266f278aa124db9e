"""Bad input is a ValueError, so that callers who know nothing of this project can catch it, and is told as it is."""

import pickle

import pytest

from compare.errors import BadInput, unknown
from compare.suite.datasets import load


def test_a_caller_catches_it_as_a_value_error():
    with pytest.raises(ValueError, match="iris") as caught:
        load("iris", seed=0)
    assert type(caught.value) is BadInput


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moon", "no dataset is called 'moon'. Did you mean moons? There are digits, moons, or a path."),
        ("Digits", "no dataset is called 'Digits'. Did you mean digits? There are digits, moons, or a path."),
        ("iris", "no dataset is called 'iris'; there are digits, moons, or a path."),
    ],
)
def test_a_mistyped_name_is_told_what_may_be_meant_and_what_there_is(name, message):
    error = unknown("dataset", name, ["digits", "moons"], ", or a path")
    assert (type(error), str(error)) == (BadInput, message)


def test_it_comes_through_a_pipe_as_what_it_was():
    """A contestant of a bench, in a process of its own, sends it to the command."""
    sent = pickle.loads(pickle.dumps(BadInput("no such thing.")))
    assert (type(sent), str(sent)) == (BadInput, "no such thing.")
