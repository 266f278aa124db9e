"""How each op of the catalog is called when it is verified: shapes and options, for `verify --op` and for the tests.

One module here for each module of ops, with `cases(random)`: a list of cases for each row of the module's table.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MODULES = ("activations", "attention", "layers", "normalization", "recurrent", "convolution", "pooling", "losses")


@dataclass(frozen=True)
class Case:
    """One call. `inputs` are positional: floating-point arrays are differentiated, other things pass through.

    `options` are keyword arguments; what belongs to the data and is not differentiated (targets, masks) stands
    there too. Floating-point arrays are given in float64 and cast to the dtype under test.
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
    """The cases of every op, by name, in the order of the tables. Each module draws from a generator of its own."""
    found: dict[str, list[Case]] = {}
    for name in MODULES:
        found |= importlib.import_module(f"compare.suite.cases.{name}").cases(np.random.default_rng(seed))
    return found
