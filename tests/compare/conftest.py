"""What the tests of several rooms take."""

import pytest

from compare.lesson import lesson
from compare.museum import tour
from tests.compare.lesson.taught import brief
from tests.compare.museum.exhibits import seen, stand_in


@pytest.fixture
def remembered(monkeypatch):
    """Of the museum two exhibits are run: one with a check of its own and one with a side effect."""
    real = ("bias-mean", "never-cleared")
    monkeypatch.setattr(tour, "visit", lambda name: seen(name) if name in real else stand_in(name))


@pytest.fixture(scope="module")
def brief_lessons():
    with brief():
        yield


@pytest.fixture(scope="session")
def found():
    """The brief lesson on the notebook's network; whoever changes it changes a copy."""
    with brief():
        return lesson()
