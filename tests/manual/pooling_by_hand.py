"""Arrays at random, and what pooling makes of them by hand: on the page, and fast."""

from functools import partial

import numpy as np

import manual.fast
from manual.pooling import POOLING


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def manual_vjp(name, x, dy, *, rules=POOLING, **options):
    forward, backward = rules[name]
    value, cache = forward(x, **options)
    return value, backward(dy, cache)


fast_vjp = partial(manual_vjp, rules=manual.fast.pooling.POOLING)
