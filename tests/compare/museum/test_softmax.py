"""Softmax, likelihoods and an activation: each bug is caught, and its repair agrees."""

from compare.museum.softmax import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "softmax-diagonal": ("z", "other-quantity"),
        "softmax-copied": ("z", "other-quantity"),
        "log-softmax": ("normalizer", "broadcast"),
        "first-weight-for-all": ("z", "line-factors"),
        "gelu-mixed": ("x", "other-quantity"),
        "lost-minus": ("loss", "sign"),
    },
)
