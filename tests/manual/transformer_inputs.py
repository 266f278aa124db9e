"""A small GPT with a batch, and its loss, gradients and intermediates by hand."""

from typing import Any

import jax
import numpy as np

from manual import transformer as by_hand

SIZES = by_hand.PRESETS["tiny"]
HEADS = SIZES["heads"]


def example(dtype: Any = np.float64, **sizes: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Parameters moved from where they start, so that no bias is 0 and no gain 1; ids; targets, two of them ignored."""
    random = np.random.default_rng(1)
    start = by_hand.initialize_parameters(**(SIZES | sizes))
    parameters = jax.tree.map(lambda leaf: (leaf + 0.3 * random.standard_normal(leaf.shape)).astype(dtype), start)
    ids, targets = random.integers(0, SIZES["vocabulary"], (2, 3, 5))
    targets[1, 2:4] = -100
    return parameters, ids, targets


def with_intermediates(parameters, ids, targets, *, side=by_hand):
    intermediates: dict[str, np.ndarray] = {}
    loss, gradients = side.loss_and_gradients(parameters, ids, targets, heads=HEADS, intermediates=intermediates)
    return loss, gradients, intermediates
