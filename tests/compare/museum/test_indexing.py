"""Indices that repeat, tie and overlap: each bug is caught, and its repair agrees."""

from compare.museum.indexing import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "embedding-repeats": ("W", "lost-repeats"),
        "selected-keys-repeat": ("keys", "lost-repeats"),
        "max-ties": ("x", "ties"),
        "overlapping-windows": ("x", "lost-repeats"),
        "conv-stride": ("x", "misplaced"),
    },
)
