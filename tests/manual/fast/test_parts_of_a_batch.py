"""Pooling in parts of a batch."""

import numpy as np
import pytest

from manual.fast import pooling
from tests.manual.pooling_by_hand import drawn, fast_vjp


@pytest.mark.parametrize("name", ["max_pool2d", "average_pool2d"])
def test_parts_of_a_batch_make_the_same_whole(monkeypatch, name):
    options = {"window": 3, "stride": 2, "padding": 1}
    x, dy = drawn((7, 5, 4, 3), (7, 3, 2, 3))
    whole = fast_vjp(name, x, dy, **options)
    for examples in (1, 3):
        monkeypatch.setattr(pooling, "PART_BYTES", examples * x[0].nbytes)
        for ours, theirs in zip(fast_vjp(name, x, dy, **options), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
