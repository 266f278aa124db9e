"""Dense at several ranks, with a bias and without; ids that repeat; masks; shapes to flatten."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return random.standard_normal(shape)

    def mask(*shape: int) -> np.ndarray:
        return random.random(shape) < 0.6

    return {
        "dense": [
            Case((x(5, 3), x(3, 4), x(4))),
            Case((x(2, 3, 4), x(4, 4), None)),  # square: a transpose would not show in the shapes
            Case((x(3), x(3, 2), x(2))),
        ],
        "embedding": [
            Case((x(7, 3), np.array([5, 0, 5, 2, 5]))),
            Case((x(4, 5), np.array([[3, 1, 1], [0, 3, 3]], np.int32))),
            Case((x(4, 2), np.array(2))),
        ],
        "dropout": [
            Case((x(7), mask(7)), {"rate": 0.25}),
            Case((x(3, 2, 4), mask(3, 2, 4).astype(np.int64)), {"rate": 0.9}),
            Case((x(5, 2), np.ones((5, 2), bool)), {"rate": 0.0}),
        ],
        "flatten": [Case((x(3, 2, 4),)), Case((x(5),))],
    }
