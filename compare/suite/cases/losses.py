"""Losses: targets are data and stand among the options, so that only predictions are differentiated.

Classes on the last axis, any axes before it; every reduction, smoothing, ignored rows and both kinds of targets.
"""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return 2 * random.standard_normal(shape)

    def distribution(*shape: int) -> np.ndarray:
        return random.dirichlet(np.ones(shape[-1]), shape[:-1])

    def labels(*shape: int) -> np.ndarray:
        return random.integers(0, 2, shape)

    ids = random.integers(0, 5, (2, 3))
    ids[1, 0] = -100
    certain = distribution(4, 3)
    certain[1] = 0, 1, 0
    predictions = {
        "mean": Case((x(7),), {"targets": x(7)}),
        "sum": Case((x(3, 2, 4),), {"targets": x(3, 2, 4), "reduction": "sum"}),
        "none": Case((x(3, 2, 4),), {"targets": x(3, 2, 4), "reduction": "none"}),
    }
    return {
        "binary_cross_entropy": [
            Case((x(7),), {"targets": labels(7)}),
            Case((x(3, 2, 4),), {"targets": random.random((3, 2, 4)), "reduction": "sum"}),
            Case((x(3, 2, 4),), {"targets": labels(3, 2, 4), "reduction": "none"}),
        ],
        "cross_entropy": [
            Case((x(4, 5),), {"targets": random.integers(0, 5, 4)}),
            Case((x(2, 3, 5),), {"targets": ids, "label_smoothing": 0.1}),
            Case((x(2, 3, 5),), {"targets": ids % 5, "ignore_index": int(ids[0, 0]), "reduction": "sum"}),
            Case((x(2, 3, 5),), {"targets": distribution(2, 3, 5), "reduction": "none", "label_smoothing": 0.2}),
        ],
        "mean_squared_error": list(predictions.values()),
        "mean_absolute_error": list(predictions.values()),
        "huber": [
            predictions["mean"],
            Case((x(3, 2, 4),), {"targets": x(3, 2, 4), "delta": 0.7, "reduction": "sum"}),
            predictions["none"],
        ],
        "hinge": [
            Case((x(7),), {"targets": 2 * labels(7) - 1}),
            Case((x(3, 2, 4),), {"targets": 2 * labels(3, 2, 4) - 1, "margin": 0.5, "reduction": "sum"}),
            Case((x(3, 2, 4),), {"targets": 2 * labels(3, 2, 4) - 1, "reduction": "none"}),
        ],
        "kl_divergence": [
            Case((np.log(distribution(4, 3)),), {"targets": certain}),
            Case((np.log(distribution(2, 3, 5)),), {"targets": distribution(2, 3, 5), "reduction": "sum"}),
            Case((np.log(distribution(2, 3, 5)),), {"targets": distribution(2, 3, 5), "reduction": "none"}),
        ],
    }
