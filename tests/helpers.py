"""A random network with one hidden layer, for the tests of several modules."""

import jax
import numpy as np
from numpy.typing import DTypeLike


def network(seed, n_x, n_h, n_y, m, scale=0.5, dtype: DTypeLike = np.float64):
    """Random parameters, data and labels. Biases are random too, because zeros would hide errors."""
    random = np.random.default_rng(seed)
    shapes = {"W1": (n_h, n_x), "b1": (n_h, 1), "W2": (n_y, n_h), "b2": (n_y, 1)}
    parameters = {name: (scale * random.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    x = random.standard_normal((n_x, m)).astype(dtype)
    y = (random.random((n_y, m)) < 0.5).astype(dtype)
    return parameters, x, y


def on_device(array):
    with jax.enable_x64(True):
        return jax.numpy.asarray(array)
