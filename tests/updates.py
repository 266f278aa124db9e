"""Parameters, gradients of very different sizes, and successive updates of an optimizer."""

import jax
import numpy as np
from numpy.typing import DTypeLike

from manual._trees import tree_map

RATE = 0.03

SCHEDULE = {"warmup_steps": 5, "total_steps": 28}


def gradients_like(tree, steps, dtype, seed=0):
    """Gradients of very different sizes. The first entry of each leaf is always 0."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        g = random.standard_normal(leaf.shape) * 10.0 ** random.integers(-3, 3, leaf.shape)
        g.flat[:1] = 0
        return g.astype(dtype)

    return [tree_map(draw, tree) for _ in range(steps)]


def start(dtype: DTypeLike = np.float64, seed=0):
    random = np.random.default_rng(seed)
    return {
        "layers": [
            {"weight": random.standard_normal((3, 4)).astype(dtype)},
            (random.standard_normal(5).astype(dtype),),
        ],
        "scale": np.asarray(random.standard_normal(), dtype),
        "none": None,
        "empty": np.zeros((0, 2), dtype),
    }


def run(optimizer, parameters, gradients, update=None):
    state = optimizer.initialize(parameters)
    for g in gradients:
        parameters, state = (update or optimizer.update)(parameters, g, state)
    return parameters, state


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def big(seed=0, dtype: DTypeLike = np.float32):
    """Leaves that are empty, scalar, smaller and larger than a block of 1000 bytes, not contiguous, or read-only."""
    random = np.random.default_rng(seed)
    tree = {
        "scalar": np.asarray(random.standard_normal(), dtype),
        "empty": np.zeros((3, 0), dtype),
        "small": random.standard_normal(7).astype(dtype),
        "long": random.standard_normal(1003).astype(dtype),
        "transposed": random.standard_normal((31, 29)).astype(dtype).T,
        "strided": random.standard_normal((40, 3, 10)).astype(dtype)[::2, :, ::-1],
        "frozen": random.standard_normal((20, 20)).astype(dtype),
    }
    tree["frozen"].flags.writeable = False
    return tree


def same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()
