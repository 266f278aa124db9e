"""Parameters, gradients of very different sizes, and the updates of an optimizer one after another."""

import jax
import numpy as np
from numpy.typing import DTypeLike

from manual._trees import tree_map

RATE = 0.03

SCHEDULE = {"warmup_steps": 5, "total_steps": 28}


def gradients_like(tree, steps, dtype, seed=0):
    """Gradients of very different sizes, and an entry that gets none at all."""
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
