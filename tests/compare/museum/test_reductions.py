"""Sums and means that are missing, doubled or taken over the wrong axis: each bug is caught, and its repair agrees."""

from compare.museum.reductions import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "bias-mean": ("b1", "factor"),
        "loss-averaged-alone": ("Z2", "factor"),
        "mse-without-its-two": ("Z2", "factor"),
        "averaged-twice": ("W1", "factor"),
        "one-bias-for-all": ("b1", "broadcast"),
        "bias-from-weights": ("b1", "other-quantity"),
        "bias-unsummed": ("bias", "shape"),
        "k-outputs": ("Z2", "factor"),
    },
)
