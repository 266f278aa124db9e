"""The notebook's network as a table of lines, each of which can be replaced by a faulty one.

Each line is a function of the values computed before it: `v.x`, `v.W1`, ..., `v.m`, `v.n_y`. `dQ` is dJ/dQ.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import manual
from compare import tap

Values = Any  # a namespace whose attributes are the values computed so far
Line = Callable[[Values], Any]
ByHand = Callable[..., tuple[Any, dict[str, Any], dict[str, Any]]]

LINES: dict[str, Line] = {
    "Z1": lambda v: v.W1 @ v.x + v.b1,
    "A1": lambda v: np.tanh(v.Z1),
    "Z2": lambda v: v.W2 @ v.A1 + v.b2,
    "A2": lambda v: manual.sigmoid(v.Z2),
    "J": lambda v: manual.compute_loss(v.Z2, v.y),
    "dZ2": lambda v: (v.A2 - v.y) / v.m,
    "dW2": lambda v: v.dZ2 @ v.A1.T,
    "db2": lambda v: np.sum(v.dZ2, axis=1, keepdims=True),
    "dA1": lambda v: v.W2.T @ v.dZ2,
    "dZ1": lambda v: v.dA1 * (1 - v.A1**2),
    "dW1": lambda v: v.dZ1 @ v.x.T,
    "db1": lambda v: np.sum(v.dZ1, axis=1, keepdims=True),
    "gradients": lambda v: {"W1": v.dW1, "b1": v.db1, "W2": v.dW2, "b2": v.db2},
}

MARKED = (
    "Z1",
    "A1",
    "Z2",
)  # marked by `tap`, as in the loss in JAX, for checks whose reference is the hand-written loss

# The order of the backward pass: each quantity is computed from earlier ones only.
BACKWARD_ORDER = ("loss", "Z2", "W2", "b2", "A1", "Z1", "W1", "b1")


def by_hand(**replaced: Line) -> ByHand:
    """The network with some lines replaced.

    Args:
        **replaced: lines by their names in LINES.

    Returns:
        A function `(parameters, x, y) -> (loss, gradients, gradients of intermediate values)`.
    """
    unknown = replaced.keys() - LINES.keys()
    if unknown:
        raise ValueError(f"there is no line {', '.join(sorted(unknown))}; the lines are {', '.join(LINES)}.")
    lines = LINES | replaced

    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        v = SimpleNamespace(**parameters, x=x, y=y, m=x.shape[1], n_y=y.shape[0])
        with np.errstate(all="ignore"):  # some faults overflow on purpose
            for name, line in lines.items():
                value = line(v)
                setattr(v, name, tap(name, value) if name in MARKED else value)
        return v.J, v.gradients, {"Z2": v.dZ2, "A1": v.dA1, "Z1": v.dZ1}

    return loss_and_gradients


correct = by_hand()
