"""Activations: elementwise at any rank; along an axis at the last and at another."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return 2 * random.standard_normal(shape)

    return {
        "tanh": [Case((x(7),)), Case((x(3, 2, 4),))],
        "sigmoid": [Case((x(7),)), Case((x(3, 2, 4),))],
        "relu": [Case((x(7),)), Case((x(3, 2, 4),))],
        "leaky_relu": [Case((x(7),)), Case((x(3, 2, 4),), {"negative_slope": 0.3})],
        "elu": [Case((x(7),)), Case((x(3, 2, 4),), {"alpha": 0.3})],
        "selu": [Case((x(7),)), Case((x(3, 2, 4),))],
        "softplus": [Case((x(7),)), Case((x(3, 2, 4),))],
        "gelu": [Case((x(7),)), Case((x(3, 2, 4),), {"approximate": True})],
        "silu": [Case((x(7),)), Case((x(3, 2, 4),))],
        "softmax": [Case((x(7),)), Case((x(3, 2, 4),)), Case((x(3, 2, 4),), {"axis": 1})],
        "log_softmax": [Case((x(7),)), Case((x(3, 2, 4),)), Case((x(3, 2, 4),), {"axis": 0})],
        "swiglu": [Case((x(7), x(7))), Case((x(3, 2, 4), x(3, 2, 4)))],
    }
