"""Convolutions: every option alone and together; images that no window covers; narrow and depthwise groups."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return random.standard_normal(shape)

    return {
        "conv1d": [
            Case((x(2, 7, 3), x(3, 3, 4), x(4))),
            Case((x(2, 8, 4), x(2, 2, 6), None), {"stride": 2, "padding": 3, "dilation": 3, "groups": 2}),
            Case((x(1, 6, 2), x(4, 2, 3), x(3)), {"padding": "same"}),
        ],
        "conv2d": [
            Case((x(2, 5, 6, 3), x(3, 2, 3, 4), x(4)), {"padding": 1}),
            Case((x(1, 8, 6, 4), x(2, 3, 2, 6), x(6)), {"stride": (3, 2), "dilation": (2, 1), "groups": 2}),
            Case((x(2, 5, 4, 3), x(2, 3, 1, 3), None), {"padding": (2, 0), "groups": 3}),  # depthwise
            Case((x(1, 6, 7, 1), x(2, 4, 1, 5), x(5)), {"padding": "same", "stride": (1, 2)}),
        ],
        "conv_transpose2d": [
            Case((x(2, 3, 4, 3), x(3, 2, 4, 3), x(4))),
            Case(
                (x(1, 2, 3, 4), x(2, 3, 1, 4), x(2)),
                {"stride": (3, 2), "padding": (1, 2), "output_padding": (2, 1), "dilation": (1, 2), "groups": 2},
            ),
            Case((x(2, 3, 2, 3), x(3, 3, 1, 3), None), {"stride": 2, "padding": 1, "groups": 3}),
        ],
    }
