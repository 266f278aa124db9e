"""Random correct networks, which the judge must accept."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Problem = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]  # parameters, x, y

NETWORKS_PER_SHAPE = 20


def network(
    random: np.random.Generator, sizes: tuple[int, int, int, int], *, scale: float = 0.5, dtype: Any = "float64"
) -> Problem:
    """Random parameters, data and labels.

    Biases are random as well, because biases of zero would hide faults.

    Args:
        random: the generator.
        sizes: (n_x, n_h, n_y, m).
        scale: the standard deviation of the parameters; that of the data is 1.
        dtype: the dtype of all arrays.

    Returns:
        (parameters, x, y).
    """
    n_x, n_h, n_y, m = sizes
    shapes = {"W1": (n_h, n_x), "b1": (n_h, 1), "W2": (n_y, n_h), "b2": (n_y, 1)}
    parameters = {name: (scale * random.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    x = random.standard_normal((n_x, m)).astype(dtype)
    y = (random.random((n_y, m)) < 0.5).astype(dtype)
    return parameters, x, y


def random_networks(count: int, seed: int = 0) -> Iterator[Problem]:
    """Random networks with 1 to 64 features, hidden units and outputs, and 1 to 500 examples, in both dtypes.

    The sizes and the standard deviation of the parameters, between 0.01 and 100, are uniform in their logarithms.
    Sizes and dtype change after NETWORKS_PER_SHAPE networks only, because JAX compiles a program for every shape and
    dtype, which takes far longer than a check. Values and scales are new for each network.
    """
    random = np.random.default_rng(seed)
    sizes = (1, 1, 1, 1)
    for i in range(count):
        if i % NETWORKS_PER_SHAPE == 0:
            n_x, n_h, n_y, m = np.exp(random.uniform(0, np.log([65, 65, 65, 501]))).astype(int).tolist()
            sizes = n_x, n_h, n_y, m
        dtype = ("float64", "float32")[i // NETWORKS_PER_SHAPE % 2]
        yield network(random, sizes, scale=10 ** random.uniform(-2, 2), dtype=dtype)
