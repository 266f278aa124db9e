"""A bug of a library, shown only where it still has it."""

import numpy as np

from compare.museum import libraries
from compare.museum.libraries import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "negated-in-place": ("x", "single-entry"),
    },
)


def test_it_is_shown_where_the_bug_is_and_nowhere_else(monkeypatch):
    assert ("negated-in-place" in EXHIBITS) == libraries.shows()
    monkeypatch.setattr(libraries, "in_place", libraries.in_new_memory)  # as where NumPy is right
    assert not libraries.shows()


def test_the_repair_is_right_and_changes_no_input():
    dy = libraries.random(4, 5, 8)
    before = dy.copy()
    dx = libraries.in_new_memory(dy, None)
    np.testing.assert_array_equal(dy, before)
    np.testing.assert_array_equal(dx[0, :, 0], -dy[0, :, 0])
    np.testing.assert_array_equal(dx[1:], dy[1:])
