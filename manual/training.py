"""Training: mini-batches, gradients accumulated over micro-batches, and the loop.

`loss_and_gradients(parameters, *batch) -> (loss, gradients)` is any function whose gradients have the structure of the
parameters. A batch, and a part of one, is a tuple of arrays whose first axis counts examples. If there are no batches,
no parts, or fewer examples than parts, or if arrays or weights do not fit, ValueError is raised.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

import manual
from manual._trees import check_alike, leaves_by_path, rebuilt, tree_map
from manual.optimizers import Optimizer

LossAndGradients = Callable[..., tuple[Any, Any]]


def minibatches(
    arrays: tuple[np.ndarray, ...], batch_size: int, *, seed: int = 0, epochs: int = 1, drop_last: bool = False
) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches of `batch_size` examples, drawn without replacement. Every epoch has a new order of all examples.

    The last batch of an epoch holds the remaining examples, or is left out with `drop_last`. The order depends only on
    the seed and the number of examples, and is the same in `manual` and `autodiff`.

    Args:
        arrays: a tuple of arrays with equal first axes.
        batch_size: the number of examples in a batch.
        seed: of the order.
        epochs: the number of passes over the examples.
        drop_last: whether a last batch that is smaller is left out.

    Returns:
        An iterator over batches, each a tuple of arrays.

    Raises:
        ValueError: at the call, if the arrays do not fit together, or if there would be no batch.
    """
    if not isinstance(arrays, tuple | list) or not arrays or any(np.ndim(array) == 0 for array in arrays):
        raise ValueError(
            f"arrays must be a tuple of arrays whose first axis counts examples, got {_kind(arrays)}. "
            "A single one is (x,)."
        )
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"arrays must have equal first axes, got {[np.shape(array) for array in arrays]}.")
    (examples,) = lengths
    if batch_size < 1 or epochs < 1:
        raise ValueError(f"batch_size and epochs must be at least 1, got {batch_size} and {epochs}.")
    if examples < (batch_size if drop_last else 1):
        raise ValueError(
            f"there are {examples} examples and batches have {batch_size}: no batch would be made. "
            "Give more examples, or smaller batches."
        )
    stop = examples - examples % batch_size if drop_last else examples

    def draw() -> Iterator[tuple[np.ndarray, ...]]:
        random = np.random.default_rng(seed)
        for _ in range(epochs):
            order = random.permutation(examples)
            for start in range(0, stop, batch_size):
                chosen = order[start : start + batch_size]
                yield tuple(array[chosen] for array in arrays)

    return draw()


def accumulate(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    parts: Sequence[tuple[Any, ...]],
    *,
    weights: Iterable[Any] | None = None,
) -> tuple[Any, Any]:
    """The loss and gradients of a whole batch, computed part by part, with the memory that one part needs.

        loss = sum_i w_i loss_i / sum_i w_i, and the same for every gradient

    Statistics over the batch (batch norm) are computed for each part separately.

    Args:
        loss_and_gradients: a function of the parameters and a part.
        parameters: any tree.
        parts: tuples of arrays.
        weights: w_i, by default the number of examples in part i, which is right for a loss that is a mean over
            examples, also if parts are unequal. For a mean over something else, pass the numbers of that: for a
            cross-entropy that ignores some targets, the number of targets that are not ignored. For a loss that is a
            sum, pass equal weights and multiply the results by the number of parts. A part of weight 0 is skipped.

    Returns:
        (loss, gradients).

    Raises:
        ValueError: if there are no parts, or if the weights do not fit.
    """
    shares = _shares(parts, weights)
    if len(parts) == 1:
        return loss_and_gradients(parameters, *parts[0])
    loss, total = 0.0, None
    for part, share in zip(parts, shares, strict=True):
        if share == 0:
            continue
        part_loss, gradients = loss_and_gradients(parameters, *part)
        loss = loss + share * part_loss
        weighted = tree_map(lambda g, share=share: share * g, gradients)
        total = weighted if total is None else _sum(total, weighted)
    return loss, total


def train(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    state: Any = None,
    parts: int = 1,
    ops: ModuleType = manual,
) -> tuple[Any, Any, np.ndarray]:
    """Trains with one update per batch.

    Args:
        loss_and_gradients: a function of the parameters and a batch.
        parameters: the initial ones. They are copied.
        batches: tuples of arrays.
        optimizer: from `manual.optimizers` or `manual.fast.optimizers`.
        state: the state of the optimizer, to continue an earlier run. It is copied.
        parts: the number of nearly equal micro-batches that each batch is cut into along its first axis. They are
            weighted as by the default of `accumulate`.
        ops: `manual` or `manual.fast`, whose `training.accumulate` is used.

    Returns:
        (parameters, state, losses), where `losses[i]` is the loss before update i.

    Raises:
        ValueError: if there are no batches, or a batch has fewer examples than parts.
    """
    parameters = tree_map(_copy, parameters)
    state = optimizer.initialize(parameters) if state is None else tree_map(_copy, state)
    losses = []
    for batch in batches:
        loss, gradients = ops.training.accumulate(loss_and_gradients, parameters, _cut(batch, parts))
        parameters, state = optimizer.update(parameters, gradients, state, donate=True)
        losses.append(np.array(loss))
    if not losses:
        raise ValueError("batches is empty: there is nothing to train on. An iterator gives its batches only once.")
    return parameters, state, np.stack(losses)


def _copy(leaf: np.ndarray) -> np.ndarray:
    return np.array(leaf, order="C")


def _cut(batch: Any, parts: int) -> list[tuple[Any, ...]]:
    if not isinstance(batch, tuple | list):
        raise ValueError(f"a batch must be a tuple of arrays, got {_kind(batch)}. A single one is (x,).")
    if parts < 1:
        raise ValueError(f"parts must be at least 1, got {parts}.")
    if parts == 1:
        return [tuple(batch)]
    examples = _examples(batch)
    if examples < parts:
        raise ValueError(f"a batch of {examples} examples cannot be cut into {parts} parts. Give fewer parts.")
    bounds = [examples * i // parts for i in range(parts + 1)]
    return [tuple(array[start:stop] for array in batch) for start, stop in pairwise(bounds)]


def _examples(batch: Sequence[Any]) -> int:
    lengths = {np.shape(array)[:1] for array in batch}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            "the arrays of a batch must have equal first axes, which count examples, to be cut or weighted; "
            f"got shapes {[np.shape(array) for array in batch]}."
        )
    return lengths.pop()[0]


def _shares(parts: Sequence[tuple[Any, ...]], weights: Iterable[Any] | None) -> list[float]:
    """The weights, divided by their sum."""
    if not len(parts):
        raise ValueError("parts is empty: give at least one batch.")
    if weights is None:
        weights = [1] if len(parts) == 1 else [_examples(part) for part in parts]
    numbers = [float(weight) for weight in weights]
    if len(numbers) != len(parts):
        raise ValueError(f"there are {len(parts)} parts and {len(numbers)} weights; give one to each part.")
    if not (min(numbers) >= 0 and 0 < sum(numbers) < np.inf):
        raise ValueError(f"weights must be finite, at least 0, and not all 0; got {numbers}.")
    return [number / sum(numbers) for number in numbers]


def _sum(total: Any, gradients: Any) -> Any:
    """The sum of two trees, leaf by leaf. Raises ValueError unless their structures match."""
    leaves, others = leaves_by_path(total), leaves_by_path(gradients)
    check_alike({"the first part": leaves, "another part": others})
    return rebuilt(total, iter([leaf + others[path] for path, leaf in leaves.items()]))


def _kind(value: Any) -> str:
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else f"{value!r:.60}"
