"""Normalization in rows that are taken together comes to what single rows do."""

import numpy as np
import pytest

from manual.fast import _batch_norm, _group_norm
from manual.fast.normalization import NORMALIZATION, batch_norm
from tests.manual.normalization_inputs import ROWWISE, drawn


# Many rows are taken as one if a number of them divides all there are, as of the first, and one by one if none does.
@pytest.mark.sweep
@pytest.mark.parametrize("shape", [(8, 64, 96, 12), (3, 37, 151, 8), (2, 40_000, 4)])
@pytest.mark.parametrize("name", ROWWISE)
def test_rows_taken_together_come_to_the_same(monkeypatch, name, shape):
    channels = shape[-1]
    x, dy, weight, bias, mean, variance = drawn(shape, shape, *[(channels,)] * 4, dtype="float32")
    x, variance = 100 + x, np.square(variance)
    x[..., 0] = 0.1  # a constant channel, of which nothing is left
    options = ROWWISE[name] | ({"mean": mean, "variance": variance} if name == "batch_norm_inference" else {})
    forward, backward = NORMALIZATION[name]

    def done():
        y, cache = forward(x, weight, bias, **options)
        return y, *backward(dy, cache)

    together = done()
    for module in (_batch_norm, _group_norm):
        monkeypatch.setattr(module, "repeats", lambda *sizes, **options: 1)
    for one, other in zip(together, done(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())
        assert not np.array_equal(one, np.zeros_like(one))
    if name == "batch_norm":
        np.testing.assert_array_equal(together[0][..., 0], bias[0])


def test_a_vector_repeated_in_another_order_is_noticed(monkeypatch):
    """The planted fault: each channel k times over, and not the vector."""
    x, weight, bias = drawn((8, 64, 96, 12), (12,), (12,), dtype="float32")
    right, _ = batch_norm(x, weight, bias)
    monkeypatch.setattr(_batch_norm, "long_row", lambda vector, k: vector.repeat(k))
    assert not np.allclose(batch_norm(x, weight, bias)[0], right, atol=0.1)
