"""Gradients that are dropped, cut, or kept from before: each bug is caught, and its repair agrees."""

from compare.museum.accumulation import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "dropout-without-mask": ("x", "missing-mask"),
        "gradient-cut": ("x", "missing-path"),
        "returns-input": ("x", "other-quantity"),
        "first-use-only": ("W", "missing-path"),
        "never-cleared": (None, "depends-on-earlier-calls"),
        "mean-of-means": ("Z2", "line-factors"),
    },
)
