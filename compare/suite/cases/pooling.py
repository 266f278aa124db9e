"""Pooling: windows that overlap, leave gaps, stop short of the end and hang over the border; ties."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return random.standard_normal(shape)

    windows = [
        Case((x(2, 5, 6, 3),), {"window": 2}),
        Case((x(1, 7, 6, 2),), {"window": (3, 2), "stride": (2, 1), "padding": (1, 1)}),
        Case((x(2, 7, 5, 2),), {"window": 2, "stride": 3}),
    ]
    return {
        "max_pool2d": windows,
        "average_pool2d": windows,
        "global_average_pool": [Case((x(3, 4, 5, 2),)), Case((x(2, 3, 4),)), Case((x(1, 2, 3, 2, 3),))],
    }
