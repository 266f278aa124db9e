"""Pooling in JAX, forward only, with the names, arguments and conventions of `manual.pooling`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from autodiff._windows import Pair, must_fit, pair

Images = Float[Array, "batch height width channels"]
NewImages = Float[Array, "batch new_height new_width channels"]


def max_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> NewImages:
    """y[n, h, w, c] = max over i, j of  x[n, h s + i - p, w s + j - p, c], with -inf outside of x.

    In a tie, XLA's derivative gives all of dy to the first maximum in row-major order of the window. Raises ValueError
    if an option is out of range, or no window fits.
    """
    dimensions, strides, pads = _windows(x, window, stride, padding)
    return lax.reduce_window(x, -jnp.inf, lax.max, dimensions, strides, pads)


def average_pool2d(
    x: Images, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> NewImages:
    """y[n, h, w, c] = sum over i, j of  x[n, h s + i - p, w s + j - p, c] / (window height x window width).

    Padding is zeros, which are counted. Raises ValueError as max_pool2d does.
    """
    dimensions, strides, pads = _windows(x, window, stride, padding)
    accurate = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = lax.reduce_window(accurate, 0.0, lax.add, dimensions, strides, pads)
    return (total / (dimensions[1] * dimensions[2])).astype(x.dtype)


def global_average_pool(x: Float[Array, "batch *size channels"]) -> Float[Array, "batch channels"]:
    """y[n, c] = mean of x[n, ..., c]. Raises ValueError if there is nothing to average."""
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(
            f"x must be (batch, ..., channels) with at least one entry between batch and channels, got {x.shape}."
        )
    return jnp.mean(x, axis=range(1, x.ndim - 1))


def _windows(
    x: Array, window: Any, stride: Any, padding: Any
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """The sizes, strides and padding of the windows along all four axes."""
    if x.ndim != 4:
        raise ValueError(f"x must be (batch, height, width, channels), got {x.shape}.")
    sizes, margins = pair("window", window, 1), pair("padding", padding, 0)
    steps = sizes if stride is None else pair("stride", stride, 1)
    if margins[0] > sizes[0] // 2 or margins[1] > sizes[1] // 2:
        raise ValueError(f"padding must be at most half the window, got {margins} for {sizes}: pad the input instead.")
    pads = [(margin, margin) for margin in margins]
    for length, size, pad in zip(x.shape[1:3], sizes, pads, strict=True):
        must_fit(length, size, 1, pad)
    return (1, *sizes, 1), (1, *steps, 1), [(0, 0), *pads, (0, 0)]


POOLING: dict[str, Callable[..., Array]] = {
    "max_pool2d": max_pool2d,
    "average_pool2d": average_pool2d,
    "global_average_pool": global_average_pool,
}
