"""Bad input is a ValueError, so that callers who know nothing of this project can catch it, and is told as it is."""

import pickle

import pytest

from compare.errors import BadInput
from compare.suite.datasets import load


def test_a_caller_catches_it_as_a_value_error():
    with pytest.raises(ValueError, match="iris") as caught:
        load("iris", seed=0)
    assert type(caught.value) is BadInput


def test_it_comes_through_a_pipe_as_what_it_was():
    """A contestant of a bench, in a process of its own, sends it to the command."""
    sent = pickle.loads(pickle.dumps(BadInput("no such thing.")))
    assert (type(sent), str(sent)) == (BadInput, "no such thing.")
