"""Norms whose statistics are forgotten or counted twice: each bug is caught, and its repair agrees."""

import numpy as np

from compare.museum.normalization import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests, seen

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "batch-norm-constants": ("x", "missing-path"),
        "batch-norm-summed": ("x", "path"),
        "layer-norm-mean-twice": ("x", "path"),
        "layer-norm-constant-deviation": ("x", "missing-path"),
        "layer-norm-rows": ("mean", "broadcast"),
        "layer-norm-overwrites": ("bias", "missing-sum"),
    },
)


def test_the_mean_that_a_norm_takes_out_changes_no_training():
    """As the exhibit says of its curves."""
    with_bug, without = seen("layer-norm-mean-twice").curves
    np.testing.assert_allclose(with_bug, without, rtol=1e-9)
