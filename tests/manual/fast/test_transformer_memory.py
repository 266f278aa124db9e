"""The transformer in less memory: the loss in blocks of rows, one table's gradient, caches that are dropped."""

import tracemalloc
import weakref
from functools import partial

import jax
import numpy as np
import pytest

from manual import transformer as by_hand
from manual.fast import transformer as fast
from tests.manual.transformer_inputs import HEADS, SIZES, example, with_intermediates


@pytest.mark.sweep
@pytest.mark.parametrize("rows", [1, 4, 15])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_loss_in_blocks_of_rows_is_the_page_s(dtype, rows, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_BYTES", rows * SIZES["vocabulary"] * np.dtype(dtype).itemsize)
    tolerance = 20 * np.finfo(dtype).eps
    ours, theirs = (with_intermediates(*example(dtype), side=side) for side in (fast, by_hand))
    assert list(ours[2]) == list(theirs[2])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), ours, theirs)


def test_the_gradient_of_the_tied_embedding_takes_the_memory_of_one_table():
    parameters, ids, targets = example(vocabulary=20_000)
    fast.loss_and_gradients(parameters, ids[:1, :2], targets[:1, :2], heads=HEADS)
    tracemalloc.start()
    fast.loss_and_gradients(parameters, ids[:1, :2], targets[:1, :2], heads=HEADS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.9 * parameters["token_embedding"].nbytes


def test_a_cache_is_dropped_when_backward_has_passed_its_block(monkeypatch):
    inner, seen = fast._block_backward, []

    def watched(dx, cache, ops):
        assert [reference() for reference in seen] == [None] * len(seen)
        seen.append(weakref.ref(cache.gelu.Phi))
        return inner(dx, cache, ops)

    monkeypatch.setattr(fast, "_block_backward", watched)
    fast.loss_and_gradients(*example(), heads=HEADS)
    assert len(seen) == SIZES["layers"]
