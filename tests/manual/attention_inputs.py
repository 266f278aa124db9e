"""Inputs of attention at random, and what an op makes of them by hand."""

from typing import Any

import numpy as np

from manual.attention import ATTENTION


def drawn(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape) for shape in shapes]


def by_hand(name, inputs, output_gradient, *, rules=ATTENTION, **options) -> Any:
    forward, backward = rules[name]
    value, cache = forward(*inputs, **options)
    gradients = backward(output_gradient, cache)
    return value, gradients if isinstance(gradients, tuple) else (gradients,)


def shapes(batch=2, queries=3, keys=3, heads=2, key_heads=2, depth=3, value_depth=4):
    """Of query, key, value and the output gradient."""
    q, k = (batch, queries, heads, depth), (batch, keys, key_heads, depth)
    return q, k, (*k[:3], value_depth), (*q[:3], value_depth)


def multi_head(biased):
    """x (2, 3, 4), context (2, 5, 3), 4 heads of depth 2 in groups of 2, values of depth 3, 2 outputs."""
    x, context, *weights = drawn((2, 3, 4), (2, 5, 3), (4, 8), (3, 4), (3, 6), (12, 2))
    return [x, context, *weights, *(drawn(8, 4, 6, 2, seed=1) if biased else [None] * 4)]
