"""The criteria by which other projects test low-precision kernels, each as `accepts(seen) -> bool`.

All of them use one run: the output and the gradients of the kernel; those of the reference in float32, rounded to the
kernel's dtype; and those of the reference evaluated in the kernel's dtype, operation by operation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.low_precision.kernels import Kernel, upcast

Array = np.ndarray


@dataclass(frozen=True)
class Seen:
    """The output and all gradients: of the kernel, of the reference in float32, and of the reference in 16 bits."""

    actual: list[Array]
    expected: list[Array]
    eager: list[Array]


def seen(kernel: Kernel, pair: Any, inputs: Sequence[Array], output_gradient: Array) -> Seen:
    forward, backward = pair
    value, cache = forward(*inputs)
    actual = [value, *backward(output_gradient, cache)]
    floating = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]

    def run(reference: Callable[..., Any]) -> list[Array]:
        def alone(*leaves: Any) -> Any:
            given: list[Any] = list(inputs)
            for i, leaf in zip(floating, leaves, strict=True):
                given[i] = leaf
            return reference(*map(jnp.asarray, given))

        value, pullback = jax.vjp(alone, *(jnp.asarray(inputs[i]) for i in floating))
        return [np.asarray(value), *map(np.asarray, pullback(jnp.asarray(output_gradient)))]

    return Seen(actual, run(upcast(kernel.reference)), run(kernel.reference))


def flash_attention(seen: Seen) -> bool:
    """The largest error is at most twice that of the reference in 16 bits, plus 1e-5.

    Dao-AILab/flash-attention, tests/test_flash_attn.py (765fbd9): "Check that FlashAttention's numerical error is at
    most twice the numerical error of a Pytorch implementation". Some of its tests add 1e-5, some 2e-4 or nothing.
    """

    def error(one: Array, other: Array) -> float:
        return float(np.max(np.abs(one.astype(np.float32) - other.astype(np.float32))))

    triples = zip(seen.actual, seen.expected, seen.eager, strict=True)
    return all(error(actual, right) <= 2 * error(eager, right) + 1e-5 for actual, right, eager in triples)


def torch_assert_close(seen: Seen) -> bool:
    """`torch.testing.assert_close` with its defaults: rtol=1.6e-2 for bfloat16, 1e-3 for float16, and atol=1e-5."""
    torch: Any = import_module("torch")
    dtype = getattr(torch, str(seen.actual[0].dtype))
    try:
        for actual, expected in zip(seen.actual, seen.expected, strict=True):
            pair = [torch.from_numpy(side.astype(np.float32)).to(dtype) for side in (actual, expected)]
            torch.testing.assert_close(*pair)
    except AssertionError:
        return False
    return True


def numpy_allclose(rtol: float) -> Callable[[Seen], bool]:
    """`numpy.testing.assert_allclose` with an rtol, and its default atol=0."""

    def accepts(seen: Seen) -> bool:
        try:
            for actual, expected in zip(seen.actual, seen.expected, strict=True):
                np.testing.assert_allclose(actual.astype(np.float32), expected.astype(np.float32), rtol=rtol)
        except AssertionError:
            return False
        return True

    return accepts


PEERS: dict[str, tuple[str, Callable[[Seen], bool]]] = {
    "FlashAttention's rule": ("jax", flash_attention),
    "torch assert_close": ("torch", torch_assert_close),
    "numpy rtol 1e-2": ("numpy", numpy_allclose(1e-2)),
    "numpy rtol 1e-3": ("numpy", numpy_allclose(1e-3)),
}
