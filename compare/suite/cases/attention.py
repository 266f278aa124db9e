"""Attention: cross attention with grouped heads, masks and causality; both pairings of rotary embedding."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    x = random.standard_normal
    mask = random.random((2, 1, 3, 5)) < 0.6
    mask[1, :, 2] = False  # a query that may attend to nothing
    keys = np.array([True, False, True, True])

    self_weights = [x((6, 4)), x((6, 4)), x((6, 10)), x((10, 3))]
    cross_weights = [x((3, 8)), x((5, 4)), x((5, 6)), x((12, 2))]
    biases = [x(8), x(4), x(6), x(2)]
    return {
        "attention": [
            Case((x((2, 3, 4, 2)), x((2, 5, 2, 2)), x((2, 5, 2, 3)), mask)),
            Case((x((2, 3, 2, 4)), x((2, 4, 1, 4)), x((2, 4, 1, 3))), {"causal": True, "mask": keys}),
            Case((x((1, 4, 3, 5)), x((1, 2, 3, 5)), x((1, 2, 3, 1))), {"causal": True}),
        ],
        "rotary_embedding": [
            Case((x((2, 3, 2, 6)), np.array([0, 4, 1]))),
            Case((x((2, 3, 1, 4)), np.array([[0, 1, 2], [7, 3, 40]])), {"interleaved": True, "base": 50.0}),
        ],
        "multi_head_attention": [
            Case((x((2, 4, 6)), None, *self_weights, None, None, None, None), {"heads": 2, "causal": True}),
            Case((x((2, 3, 3)), x((2, 5, 5)), *cross_weights, *biases), {"heads": 4, "key_heads": 2, "mask": mask}),
        ],
    }
