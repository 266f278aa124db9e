"""A function of single entries gives the same by the block as of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.program import blocks
from compare.judge.program.blocks import blockwise


@settings(deadline=None, max_examples=50)
@given(shape=st.lists(st.integers(1, 40), min_size=1, max_size=4), turned=st.booleans(), seed=st.integers(0, 99))
def test_blocks_together_are_the_whole(shape, turned, seed):
    random = np.random.default_rng(seed)
    a = random.normal(size=shape)
    a = a.T if turned else a
    b = random.normal(size=[n if random.random() < 0.5 else 1 for n in a.shape])

    def function(x, y, z, w):
        return x * y + z * w

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 16)
        actual = blockwise(function, a, b, 3.0, np.array(2.0))
    assert np.array_equal(actual, function(a, b, 3.0, 2.0))


def test_a_large_result_may_take_the_place_of_an_operand():
    a = np.linspace(0, 1, 3 * blocks.BLOCK)
    right = 2 * a
    assert blockwise(lambda x: 2 * x, a, into=a) is a
    assert np.array_equal(a, right)


def test_what_is_small_is_done_at_once():
    seen = []
    blockwise(lambda x: seen.append(x.size) or x, np.zeros((3, 5)))
    blockwise(lambda x: seen.append(x.size) or x, np.zeros((4 * blocks.BLOCK, 1)))
    assert seen == [15, *[blocks.BLOCK] * 4]


@given(shape=st.lists(st.integers(1, 9), max_size=4).map(tuple))
def test_every_entry_is_in_one_block(shape):
    seen = np.zeros(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 16)
        for block in blocks.blocks(shape):
            seen[block] += 1
    assert (seen == 1).all()
