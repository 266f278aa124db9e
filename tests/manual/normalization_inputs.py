"""Arrays at random, and the norms that have one row of weights for many places."""

from typing import Any

import numpy as np

ROWWISE: dict[str, Any] = {"batch_norm": {}, "batch_norm_inference": {}, "group_norm": {"groups": 4}}


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]
