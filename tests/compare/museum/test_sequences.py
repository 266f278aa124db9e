"""Heads and time: each bug is caught, and its repair agrees."""

from compare.museum.sequences import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "heads-misassigned": ("k", "misplaced"),
        "averaged-over-time": ("u", "factor"),
    },
)
