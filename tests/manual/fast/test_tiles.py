"""Convolutions in tiles of any size, and by any number of threads."""

import numpy as np
import pytest

from manual.fast import _correlation, _threads
from manual.fast.convolution import conv2d, conv2d_backward
from tests.convolutions import EDGES, drawn


@pytest.mark.parametrize("name", ["groups", "truncated windows", "many outputs of one input", "an even kernel, same"])
@pytest.mark.parametrize(("bytes_", "rows"), [(1, 0), (800, 1), (1 << 20, 1)])
def test_tiles_of_any_size_make_the_same_whole(monkeypatch, name, bytes_, rows):
    """One row at a time, some rows, some examples, everything."""
    x_shape, weight_shape, windows, options, _ = EDGES[name]
    x, weight, dy = drawn((5, *x_shape[1:]), weight_shape, (5, *windows, weight_shape[3]))
    value, cache = conv2d(x, weight, None, **options)
    expected = value, *conv2d_backward(dy, cache)[:2]
    monkeypatch.setattr(_correlation, "TILE_BYTES", bytes_)
    monkeypatch.setattr(_correlation, "TILE_ROWS", rows)
    value, cache = conv2d(x, weight, None, **options)
    for ours, theirs in zip((value, *conv2d_backward(dy, cache)[:2]), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_any_number_of_threads_makes_the_same_whole(monkeypatch, threads):
    x, weight, dy = drawn((5, 4, 6, 3), (2, 3, 1, 3), (5, 3, 4, 3))
    value, cache = conv2d(x, weight, None, groups=3)
    expected = value, *conv2d_backward(dy, cache)[:2]
    monkeypatch.setattr(_threads, "PARALLEL", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    value, cache = conv2d(x, weight, None, groups=3)
    for ours, theirs in zip((value, *conv2d_backward(dy, cache)[:2]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
