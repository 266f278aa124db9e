"""Training steps: each bug is caught, and its repair agrees."""

from compare.museum.optimizers import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "stale-weights": ("W1", "stale-read"),
        "adam-multiplies": ("W1", "bias-correction"),
        "adam-always-first": ("W1", "bias-correction"),
        "adam-one-ahead": ("W1", "bias-correction"),
    },
)
