"""Recurrent layers: several steps from states that are not zero, one step, and one example."""

import numpy as np

from compare.suite.cases import Case


def cases(random: np.random.Generator) -> dict[str, list[Case]]:
    x = random.standard_normal

    def weights(inputs: int, columns: int, hidden: int, biases: int = 1) -> list[np.ndarray]:
        return [x((inputs, columns)), x((hidden, columns)), *(x(columns) for _ in range(biases))]

    return {
        "rnn": [
            Case((x((2, 4, 3)), x((2, 5)), *weights(3, 5, 5))),
            Case((x((3, 2, 1)), x((3, 4)), *weights(1, 4, 4)), {"activation": "relu"}),
        ],
        "lstm": [
            Case((x((2, 4, 3)), x((2, 5)), x((2, 5)), *weights(3, 20, 5))),
            Case((x((3, 1, 2)), x((3, 1)), x((3, 1)), *weights(2, 4, 1))),
        ],
        "gru": [
            Case((x((2, 4, 3)), x((2, 5)), *weights(3, 15, 5, biases=2))),
            Case((x((1, 2, 4)), x((1, 2)), *weights(4, 6, 2, biases=2))),
        ],
    }
