"""The arguments with which each op of the catalog is verified, by `verify --op` and by the tests.

Each module of ops has a module here, whose function `cases(random)` returns a list of cases for each op.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MODULES = ("activations", "attention", "layers", "normalization", "recurrent", "convolution", "pooling", "losses")


@dataclass(frozen=True)
class Case:
    """The arguments of one call. Floating-point arrays are in float64, and are cast to the dtype under test.

    Attributes:
        inputs: positional arguments, of which the floating-point arrays are differentiated.
        options: keyword arguments, with data that are not differentiated, such as targets and masks.
    """

    inputs: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def astype(self, dtype: Any) -> "Case":
        def cast(value: Any) -> Any:
            floating = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
            return value.astype(dtype) if floating else value

        return Case(tuple(map(cast, self.inputs)), {name: cast(value) for name, value in self.options.items()})

    def __str__(self) -> str:
        shapes = [str(x.shape) if isinstance(x, np.ndarray) else str(x) for x in self.inputs]
        return ", ".join(shapes + [f"{name}={_short(value)}" for name, value in self.options.items()])


def _short(value: Any) -> str:
    return f"array{value.shape}" if isinstance(value, np.ndarray) else str(value)


def all_cases(seed: int = 0) -> dict[str, list[Case]]:
    """The cases of every op, by name, in the order of the tables. Each module gets its own random generator."""
    found: dict[str, list[Case]] = {}
    for name in MODULES:
        found |= importlib.import_module(f"compare.suite.cases.{name}").cases(np.random.default_rng(seed))
    return found
