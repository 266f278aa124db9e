"""Inputs of recurrent layers at random."""

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def drawn(name, batch=2, time=3, inputs=3, hidden=2, seed=0, scale=1.0) -> list[np.ndarray]:
    """The inputs of an op, scaled, and two output gradients: of the outputs and of a final cell."""
    random, columns = np.random.default_rng(seed), GATES[name] * hidden
    states = [(batch, hidden)] * (2 if name == "lstm" else 1)
    biases = [(columns,)] * (2 if name == "gru" else 1)
    shapes = [(batch, time, inputs), *states, (inputs, columns), (hidden, columns), *biases]
    drawn = [scale * random.standard_normal(shape) for shape in shapes]
    return [*drawn, random.standard_normal((batch, time, hidden)), random.standard_normal((batch, hidden))]
