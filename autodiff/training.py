"""Training in JAX: mini-batches, gradients accumulated over micro-batches, and the loop.

Names and arguments are those of `manual.training`. `loss_and_gradients(parameters, *batch)` is a traceable function
such as `jax.value_and_grad(loss)`. A program is compiled once for each function and shape of a batch, and reused in
later calls with the same function object. So pass the same function and optimizer each time, and not a new lambda.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from autodiff._dtype import keeps_dtype
from autodiff.optimizers import Optimizer

LossAndGradients = Callable[..., tuple[Any, Any]]


def minibatches(
    arrays: tuple[Any, ...], batch_size: int, *, seed: int = 0, epochs: int = 1, drop_last: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Batches of `batch_size` examples, drawn without replacement. Every epoch has a new order of all examples.

    NumPy's generator draws the order, so that the batches are those of `manual`. Arrays on a device are indexed there;
    NumPy arrays stay on the host until a compiled step takes them. Raises ValueError as `manual.training.minibatches`.
    """
    if not isinstance(arrays, tuple | list) or not arrays or any(np.ndim(array) == 0 for array in arrays):
        raise ValueError(
            f"arrays must be a tuple of arrays whose first axis counts examples, got {_kind(arrays)}. "
            "A single one is (x,)."
        )
    examples = np.shape(arrays[0])[0]
    if any(np.shape(array)[0] != examples for array in arrays):
        raise ValueError(f"arrays must have equal first axes, got {[np.shape(array) for array in arrays]}.")
    if batch_size < 1 or epochs < 1:
        raise ValueError(f"batch_size and epochs must be at least 1, got {batch_size} and {epochs}.")
    if (batches := examples // batch_size if drop_last else math.ceil(examples / batch_size)) == 0:
        raise ValueError(
            f"there are {examples} examples and batches have {batch_size}: no batch would be made. "
            "Give more examples, or smaller batches."
        )
    return _draw(tuple(arrays), examples, batch_size, batches, seed, epochs)


def _draw(arrays: Any, examples: int, size: int, batches: int, seed: int, epochs: int) -> Iterator[tuple[Any, ...]]:
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(examples)
        for number in range(batches):
            yield _gathered(arrays, order[number * size :][:size])


@keeps_dtype
def _gathered(arrays: Any, chosen: np.ndarray) -> tuple[Any, ...]:
    return tuple(array[chosen] for array in arrays)


@keeps_dtype
def accumulate(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    parts: Sequence[tuple[Any, ...]],
    *,
    weights: Iterable[Any] | None = None,
) -> tuple[Any, Any]:
    """The loss and gradients of a whole batch from its parts, with the memory that one part needs.

    Parts are weighted by their numbers of examples, or by `weights`; `manual.training.accumulate` describes when each
    is right. One compiled program runs each part, and another one adds the results. A loop on the device would be
    slower, because XLA runs its body on one core of a CPU. Weights may be traced. Then their sum is not checked, and if
    it is 0, all results are NaN.
    """
    shares = _shares(parts, weights)
    if len(parts) == 1:
        return _share_of(loss_and_gradients, parameters, 1.0, *parts[0])
    total = None
    for part, share in zip(parts, shares, strict=True):
        if isinstance(share, float) and share == 0:
            continue
        more = _share_of(loss_and_gradients, parameters, share, *part)
        total = more if total is None else _sum(total, more)
    assert total is not None  # because at least one share is positive
    return total


@partial(jax.jit, static_argnums=0)
def _share_of(loss_and_gradients: LossAndGradients, parameters: Any, share: Any, *part: Any) -> Any:
    def times(value: Array) -> Array:
        value = jnp.asarray(value)
        return jnp.where(share == 0, 0, jnp.asarray(share, value.dtype) * value)

    return jax.tree.map(times, loss_and_gradients(parameters, *part))


@partial(jax.jit, donate_argnums=0)
def _sum(total: Any, more: Any) -> Any:
    return jax.tree.map(jnp.add, total, more)


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 3))
def _update(update: Callable[..., Any], parameters: Any, gradients: Any, state: Any) -> Any:
    return update(parameters, gradients, state)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _whole_step(
    loss_and_gradients: LossAndGradients, update: Callable[..., Any], parameters: Any, state: Any, *batch: Any
) -> Any:
    loss, gradients = loss_and_gradients(parameters, *batch)
    return *update(parameters, gradients, state), loss


def train(
    loss_and_gradients: LossAndGradients,
    parameters: Any,
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    state: Any = None,
    parts: int = 1,
) -> tuple[Any, Any, Float[Array, " updates"]]:
    """Trains with one update per batch, which is a tuple of arrays. Returns (parameters, state, losses).

    `losses[i]` is the loss before update i. With one part, the loss, its gradients and the update are one program. Each
    program donates the memory of parameters and state to the next ones; the caller's arrays are copied and stay valid.
    Losses stay on the device until the end, so that the host prepares batches while the device computes. Raises
    ValueError as `manual.training.train`.
    """

    @keeps_dtype  # decides by parameters and state, because it cannot look into an iterator of batches
    def run(parameters: Any, state: Any) -> tuple[Any, Any, Any]:
        parameters, state = jax.tree.map(_copy, (parameters, state))
        state = optimizer.initialize(parameters) if state is None else state
        losses = []
        for batch in batches:
            pieces = _cut(batch, parts)
            if len(pieces) == 1:
                parameters, state, loss = _whole_step(loss_and_gradients, optimizer.update, parameters, state, *batch)
            else:
                loss, gradients = accumulate(loss_and_gradients, parameters, pieces)
                parameters, state = _update(optimizer.update, parameters, gradients, state)
            losses.append(loss)
        if not losses:
            raise ValueError("batches is empty: there is nothing to train on. An iterator gives its batches only once.")
        # Joined on the host, because on the device every new length would be a new program to compile.
        return parameters, state, jnp.asarray(np.stack(jax.device_get(losses)))

    return run(parameters, state)


def _copy(leaf: Any) -> Array:
    return jnp.array(leaf, copy=True)


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
    # There are at most two sizes of parts, the larger first, and so at most two programs.
    ends = np.cumsum([len(piece) for piece in np.array_split(np.empty(examples), parts)])
    return [tuple(array[start:stop] for array in batch) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]


def _examples(batch: Sequence[Any]) -> int:
    shapes = [np.shape(array) for array in batch]
    if not shapes or () in shapes or any(shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            "the arrays of a batch must have equal first axes, which count examples, to be cut or weighted; "
            f"got shapes {shapes}."
        )
    return shapes[0][0]


def _shares(parts: Sequence[tuple[Any, ...]], weights: Iterable[Any] | None) -> list[Any]:
    """The weights, divided by their sum."""
    if not len(parts):
        raise ValueError("parts is empty: give at least one batch.")
    if weights is None:
        weights = [1] if len(parts) == 1 else [_examples(part) for part in parts]
    weights = list(weights)
    if len(weights) != len(parts):
        raise ValueError(f"there are {len(parts)} parts and {len(weights)} weights; give one to each part.")
    if any(isinstance(weight, Tracer) for weight in weights):
        total = sum(weights)
        return [weight / total for weight in weights]
    numbers = [float(weight) for weight in weights]
    if not (min(numbers) >= 0 and 0 < sum(numbers) < math.inf):
        raise ValueError(f"weights must be finite, at least 0, and not all 0; got {numbers}.")
    return [number / sum(numbers) for number in numbers]


def _kind(value: Any) -> str:
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else f"{value!r:.60}"
