"""Recordings of a linear model's training, with places for faults, and .safetensors files of any arrays."""

import json
from typing import Any

import numpy as np

from compare.check.arrays import DTYPES

X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.random.default_rng(1).normal(size=4)
LOSS = """
import jax.numpy as jnp
from compare import tap

def loss(parameters, x, y):
    r = tap("r", x @ parameters["w"] + parameters["b"] - y)
    return jnp.mean(r**2)
"""


def steps(count, dtype: Any = np.float64, gradient=None, update=None, at=1, rate=0.1):
    """A recording of `count` steps; at step `at`, `gradient` changes the gradients, and `update` what comes after."""
    arrays, p = {}, {"w": np.ones(3), "b": np.array(0.5)}
    x, y = X.astype(dtype), Y.astype(dtype)
    for k in range(1, count + 1):
        p = {name: np.asarray(leaf, dtype) for name, leaf in p.items()}
        wide = {name: leaf.astype(float) for name, leaf in p.items()}
        r = x.astype(float) @ wide["w"] + wide["b"] - y.astype(float)
        g = {"w": 2 * x.astype(float).T @ r / 4, "b": np.asarray(2 * r.mean())}
        g = gradient(g) if gradient and k == at else g
        after = {name: wide[name] - rate * g[name].astype(dtype).astype(float) for name in p}
        after = update(after) if update and k == at else after
        before = f"step.{k}/" if count > 1 else ""
        parts = {"parameters": p, "inputs": {"x": x, "y": y}, "gradients": g, "next": after}
        for part, leaves in parts.items():
            arrays |= {f"{before}{part}/{name}": np.asarray(leaf, dtype) for name, leaf in leaves.items()}
        arrays[f"{before}loss"] = np.asarray(np.mean(r**2), dtype)
        p = after
    return arrays


def safetensors(path, header, numbers=bytes(64)):
    """A file with this header, as bytes or to become JSON, and these numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def write_safetensors(path, arrays):
    """Arrays by any names; recordings are written by `compare.check.writers`."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header, numbers = {}, b""
    for name, array in arrays.items():
        begin, numbers = len(numbers), numbers + array.tobytes()
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [begin, len(numbers)]}
    safetensors(path, header, numbers)
