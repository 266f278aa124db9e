"""Normalization at ranks 1 to 4: ordinary data, a constant row and a constant channel, a batch of one."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    def x(*shape: int) -> np.ndarray:
        return 1 + 2 * random.standard_normal(shape)

    def constant_row(*shape: int) -> np.ndarray:
        values = x(*shape)
        values[0] = 1.7
        return values

    def constant_channel(*shape: int) -> np.ndarray:
        values = x(*shape)
        values[..., 1] = -0.3
        return values

    def statistics(channels: int) -> dict[str, np.ndarray]:
        return {"mean": random.standard_normal(channels), "variance": 0.1 + random.random(channels)}

    return {
        "layer_norm": [
            Case((constant_row(5, 7), x(7), x(7))),
            Case((x(2, 3, 4), x(4), x(4)), {"epsilon": 0.1}),
            Case((x(6), x(6), x(6))),
        ],
        "rms_norm": [
            Case((x(5, 7), x(7))),
            Case((x(2, 3, 4), x(4)), {"epsilon": 0.1}),
            Case((x(6), x(6))),
        ],
        "batch_norm": [
            Case((constant_channel(6, 4), x(4), x(4))),
            Case((x(2, 3, 2, 5), x(5), x(5)), {"epsilon": 0.1}),
            Case((x(1, 4), x(4), x(4))),
        ],
        "batch_norm_inference": [
            Case((x(5, 4), x(4), x(4)), statistics(4)),
            Case((x(2, 3, 2, 5), x(5), x(5)), statistics(5) | {"epsilon": 0.1}),
        ],
        "group_norm": [
            Case((x(2, 3, 2, 6), x(6), x(6)), {"groups": 3}),
            Case((constant_row(3, 5, 4), x(4), x(4)), {"groups": 1}),
            Case((x(3, 5, 4), x(4), x(4)), {"groups": 4, "epsilon": 0.1}),
            Case((x(3, 6), x(6), x(6)), {"groups": 2}),
        ],
    }
