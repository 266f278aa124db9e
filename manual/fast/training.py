"""Fast accumulation: the gradients of micro-batches are added in place to those of the first."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import manual.fast as ops
from manual import training as page
from manual.fast._blocks import in_blocks
from manual.optimizers import Optimizer
from manual.training import LossAndGradients, _shares
from manual.training import minibatches as minibatches


def accumulate(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    parts: Sequence[tuple[Any, ...]],
    *,
    weights: Iterable[Any] | None = None,
) -> tuple[Any, Any]:
    shares = _shares(parts, weights)
    if len(parts) == 1:
        return loss_and_gradients(parameters, *parts[0])
    loss, total = 0.0, None
    for part, share in zip(parts, shares, strict=True):
        if share == 0:
            continue
        part_loss, gradients = loss_and_gradients(parameters, *part)
        loss = loss + share * part_loss
        total = _scaled(gradients, share) if total is None else _sum(total, gradients, share)
    return loss, total


def train(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    state: Any = None,
    parts: int = 1,
) -> tuple[Any, Any, np.ndarray]:
    return page.train(loss_and_gradients, parameters, batches, optimizer, state=state, parts=parts, ops=ops)


def _scaled(gradients: Any, share: float) -> Any:
    def formula(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        g *= share

    return in_blocks(formula, {"gradients": gradients})[0]


def _sum(total: Any, gradients: Any, share: float) -> Any:
    def formula(total: np.ndarray, g: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        total += np.multiply(g, share, out=a)

    return in_blocks(formula, {"the first part": total}, {"another part": gradients}, donate=True)[0]
