"""Primitives that slide a window over an array: convolution, pooling and its derivatives, and cumulative sums.

Each rule computes in NumPy what JAX computes on a CPU for the primitive of the same name. Its arguments are the inputs
and the parameters of the traced equation. A result has the dtype of the inputs, which may be wider than that of the
trace. It may be a view of an input, but inputs are never modified. 16-bit floating-point numbers are summed in float32,
and the sum is rounded once.

Sums and products are not evaluated in XLA's order, so that results may differ from XLA's by rounding errors and zeros
in their sign. Maxima and minima are the same as XLA's, including the choice between equal elements and the treatment of
NaN. The exception is complex numbers with NaN in one part: JAX's maximum of these depends on its order of evaluation.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compare.judge.program.primitives.indexing import (
    PLANS,
    Array,
    Shape,
    accumulator_dtype,
    common_dtype,
    pad,
    padding_sections,
)

Padding = tuple[tuple[int, int], ...]

# The largest number of elements in a convolution's matrix of windows, which bounds its memory. A single example may
# have more.
ROWS = 1 << 20
# Windows of up to TAPS elements are processed by one NumPy call for each element, larger ones by one call for all.
TAPS = 32


def _window_count(padded: int, window: int, dilation: int, stride: int) -> int:
    span = (window - 1) * dilation + 1 if window else 0
    return (padded - span) // stride + 1 if padded >= span else 0


class _Sliding(NamedTuple):
    """The windows over a padded, contiguous array.

    Attributes:
        padding: the padding, as the argument of `pad`.
        out: the number of windows along each dimension.
        shape: the shape of the view of all windows: `out`, followed by the shape of a window.
        steps: the strides of that view, in elements.
    """

    padding: tuple[tuple[int, int, int], ...]
    out: Shape
    shape: Shape
    steps: Shape


@lru_cache(PLANS)
def _sliding(
    shape: Shape, window: Shape, strides: Shape, padding: Padding, base_dilation: Shape, window_dilation: Shape
) -> _Sliding:
    dilated = [d * (n - 1) + 1 if n else 0 for n, d in zip(shape, base_dilation, strict=True)]
    padded = [max(0, n + low + high) for n, (low, high) in zip(dilated, padding, strict=True)]
    out = tuple(map(_window_count, padded, window, window_dilation, strides))
    steps = [math.prod(padded[d + 1 :]) for d in range(len(padded))]
    between = [step * s for step, s in zip(steps, strides, strict=True)]
    within = [step * d for step, d in zip(steps, window_dilation, strict=True)]
    config = tuple((low, high, d - 1) for (low, high), d in zip(padding, base_dilation, strict=True))
    return _Sliding(config, out, (*out, *window), (*between, *within))


def _windows(array: Array, plan: _Sliding) -> Array:
    """A view of all windows over a padded array, of shape `plan.shape`."""
    steps = tuple(step * array.itemsize for step in plan.steps)
    return np.ndarray(plan.shape, array.dtype, array, strides=steps)  # ten times as fast as `as_strided`


# --- convolution


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    *,
    window_strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type: Any = None,
    **_: Any,
) -> Array:
    """A convolution with all of JAX's options, computed as one matrix product for each group."""
    dtype = common_dtype(lhs, rhs)
    if preferred_element_type is not None:  # it may widen the result, such as that of 8-bit integers
        dtype = np.promote_types(dtype, preferred_element_type)
    working = accumulator_dtype(dtype)

    lhs_order, rhs_order, out_order = dimension_numbers
    lhs = lhs.transpose(lhs_order[0], *lhs_order[2:], lhs_order[1]).astype(working, copy=False)
    rhs = rhs.transpose(*rhs_order[2:], rhs_order[1], rhs_order[0]).astype(working, copy=False)
    batch, *space, features = lhs.shape
    *kernel, rhs_features, outputs = rhs.shape
    taps = math.prod(kernel)

    groups = max(feature_group_count, batch_group_count)
    depthwise = 1 < feature_group_count == features and taps <= TAPS
    if depthwise:  # each group has one feature, so that matrix products would be products of numbers
        groups = 1
    elif feature_group_count > 1:
        lhs = np.moveaxis(lhs.reshape(batch, *space, groups, rhs_features), -2, 0)
    batch //= batch_group_count
    lhs = lhs.reshape(groups, batch, *space, lhs.shape[-1])

    plan = _sliding(  # along the features, there is one window that contains all of them
        lhs.shape,
        (1, 1, *kernel, lhs.shape[-1]),
        (1, 1, *window_strides, 1),
        ((0, 0), (0, 0), *padding, (0, 0)),
        (1, 1, *lhs_dilation, 1),
        (1, 1, *rhs_dilation, 1),
    )
    out = plan.out[2:-1]
    if 0 in plan.shape or outputs == 0:
        result = np.zeros((groups, batch, *out, outputs // groups), working)
    elif depthwise:
        weights = rhs.reshape(taps, features, outputs // features)
        result = _depthwise_product(lhs, weights, kernel, window_strides, rhs_dilation, plan)
    else:
        weights = rhs.reshape(taps, rhs_features, groups, outputs // groups).transpose(2, 0, 1, 3)
        if any(d > 1 for d in lhs_dilation) and all(s == 1 for s in window_strides) and taps <= TAPS:
            result = _dilated_product(lhs, weights, kernel, rhs_dilation, plan)
        else:
            result = _window_product(lhs, weights, plan)
    if groups > 1:
        result = np.moveaxis(result, 0, -2)
    result = result.reshape(batch, *out, outputs)
    place = {d: i for i, d in enumerate((out_order[0], *out_order[2:], out_order[1]))}
    return result.transpose([place[d] for d in range(result.ndim)]).astype(dtype, copy=False)


def _padded(array: Array, plan: _Sliding, value: Any = 0) -> Array:
    return np.ascontiguousarray(pad(array, np.asarray(value, array.dtype), padding_config=plan.padding))


def _window_product(lhs: Array, weights: Array, plan: _Sliding) -> Array:
    """The product of the matrix that has one row for each window and the weights."""
    groups, taps, features, outputs = weights.shape
    weights = weights.reshape(groups, taps * features, outputs)
    windows = _windows(_padded(lhs, plan), plan)
    batch, out = plan.out[1], plan.out[2:-1]
    examples = max(1, ROWS // (groups * math.prod(out) * taps * features))
    if examples >= batch:
        return (windows.reshape(groups, -1, taps * features) @ weights).reshape(groups, batch, *out, outputs)
    result = np.empty((groups, batch, *out, outputs), lhs.dtype)
    for first in range(0, batch, examples):
        part = result[:, first : first + examples]
        rows = windows[:, first : first + examples].reshape(groups, -1, taps * features)
        part[...] = (rows @ weights).reshape(part.shape)
    return result


def _dilated_product(lhs: Array, weights: Array, kernel: list[int], dilation: Shape, plan: _Sliding) -> Array:
    """The convolution of a dilated array with strides of 1.

    The product of each element with the weights is added to every window that contains the element. So the zeros
    between the elements are not multiplied.
    """
    groups, taps, features, outputs = weights.shape
    batch, out, space = plan.out[1], plan.out[2:-1], lhs.shape[2:-1]
    columns = weights.transpose(0, 2, 1, 3).reshape(groups, features, taps * outputs)
    products = (lhs.reshape(groups, -1, features) @ columns).reshape(groups, batch, *space, taps, outputs)
    result = np.zeros((groups, batch, *out, outputs), lhs.dtype)
    for tap, place in enumerate(np.ndindex(*kernel)):
        config = []
        for k, d, (low, _, interior), n, size in zip(place, dilation, plan.padding[2:-1], space, out, strict=True):
            start = low - k * d  # the first element is at position k of the window with this number
            config.append((start, size - start - (n + interior * (n - 1)), interior))
        _, target, source = padding_sections(products.shape[:-2], ((0, 0, 0), (0, 0, 0), *config))
        result[target] += products[..., tap, :][source]
    return result


def _depthwise_product(
    lhs: Array, weights: Array, kernel: list[int], strides: Shape, dilation: Shape, plan: _Sliding
) -> Array:
    """The convolution of each feature by itself: for each position in the kernel, a product with its weights."""
    padded = _padded(lhs, plan)
    out = plan.out[2:-1]
    _, features, outputs = weights.shape
    result = np.zeros((*plan.out[:-1], features, outputs), lhs.dtype)
    for tap, place in enumerate(np.ndindex(*kernel)):
        which = [
            slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in zip(place, dilation, out, strides, strict=True)
        ]
        result += padded[(slice(None), slice(None), *which)][..., None] * weights[tap]
    return result


# --- pooling


@lru_cache(PLANS)
def _least(dtype: np.dtype[Any]) -> Any:
    """The smallest value of a dtype: -inf, False or the smallest integer."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return np.array(-np.inf, dtype)
    return np.array(False if dtype.kind == "b" else jnp.iinfo(dtype).min, dtype)


@lru_cache(PLANS)
def _greatest(dtype: np.dtype[Any]) -> Any:
    """The largest value of a dtype: inf, True or the largest integer."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return np.array(np.inf, dtype)
    return np.array(True if dtype.kind == "b" else jnp.iinfo(dtype).max, dtype)


def _reduced_windows(
    combine: np.ufunc,
    identity: Any,
    operand: Array,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Array:
    """Reduces each window to one number, along one dimension after the other.

    Args:
        combine: the reduction as a ufunc of two arguments.
        identity: the value of the padding, which does not change a reduction.
        operand: the array.
        window_dimensions: the shape of a window.
        window_strides: the distance of neighboring windows.
        padding: the padding at both ends of each dimension.
        base_dilation: the distance of neighboring elements after padding between them.
        window_dilation: the distance of neighboring elements of a window.
    """
    config = [(low, high, d - 1) for (low, high), d in zip(padding, base_dilation, strict=True)]
    result = pad(operand, identity, padding_config=tuple(config))
    options = zip(window_dimensions, window_strides, window_dilation, strict=True)
    for axis, (window, stride, dilation) in enumerate(options):
        if window == stride == 1:
            continue
        count = _window_count(result.shape[axis], window, dilation, stride)
        before = (slice(None),) * axis
        span = (count - 1) * stride + 1 if count else 0
        if window > TAPS and count:
            every = np.lib.stride_tricks.sliding_window_view(result, (window - 1) * dilation + 1, axis)
            result = combine.reduce(
                every[(*before, slice(None, None, stride))][..., ::dilation], axis=-1, dtype=result.dtype
            )
            continue
        taps = [result[(*before, slice(k, k + span, stride))] for k in range(0, window * dilation, dilation)]
        result = taps[0] if window == 1 else combine(taps[0], taps[1])
        for tap in taps[2:]:
            combine(result, tap, out=result)
    return result


def reduce_window_sum(operand: Array, **windows: Any) -> Array:
    working = operand.astype(accumulator_dtype(operand.dtype), copy=False)
    result = _reduced_windows(np.add, np.zeros((), working.dtype), working, **windows)
    return result.astype(operand.dtype, copy=False)


def reduce_window_max(operand: Array, **windows: Any) -> Array:
    return _reduced_windows(np.maximum, _least(operand.dtype), operand, **windows)


def reduce_window_min(operand: Array, **windows: Any) -> Array:
    return _reduced_windows(np.minimum, _greatest(operand.dtype), operand, **windows)


# --- the maximum or minimum of each window, and its position


def _numbers(shape: Shape, steps: Shape) -> Array:
    """The positions of a view's elements in the flattened array, in the order of the view."""
    numbers = np.zeros(1, np.intp)
    for n, step in zip(shape, steps, strict=True):
        if n != 1:
            numbers = np.add.outer(numbers, np.arange(n) * step)
    return numbers.reshape(-1)


class _Choice(NamedTuple):
    """The element that each window selects.

    Attributes:
        padded: the shape of the padded operand.
        positions: the position of each window's element in the flattened padded operand.
        nothing: whether a window selects no element, because no element is preferred to the value of the padding.
    """

    padded: Shape
    positions: Array
    nothing: Array


def _choice(
    operand: Array,
    select_prim: Any,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
    only_inside: bool,
) -> _Choice:
    """The first maximum of each window for `ge`, and the first minimum for `le`.

    JAX goes through the elements of a window in order and replaces the current element by the next one, unless
    `select_prim(current, next)` is true. It is false if one of them is NaN. The padding is part of a window for
    `select_and_scatter_add`. With `only_inside`, for `select_and_gather_add`, it is skipped, and JAX starts with the
    padding's value as the current element.
    """
    if select_prim.name not in ("ge", "le"):
        raise NotImplementedError(f"a window selects its element by ge or le, not by {select_prim.name}.")
    largest = select_prim.name == "ge"
    plan = _sliding(operand.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation)
    fill = (_least if largest else _greatest)(operand.dtype)
    padded = _padded(operand, plan, fill).astype(accumulator_dtype(operand.dtype), copy=False)
    count = math.prod(plan.out)
    values = _windows(padded, plan).reshape(count, math.prod(window_dimensions))
    chosen = values.argmax(axis=1) if largest else values.argmin(axis=1)
    best = values[np.arange(count), chosen]
    prefers = np.greater_equal if largest else np.less_equal
    if only_inside:
        chosen[best == fill] = -1
        if (best != best).any():
            inside = _windows(_padded(np.ones(operand.shape, bool), plan), plan).reshape(values.shape)
            chosen = _chosen_in_turn(values, prefers, np.full(count, fill, values.dtype), -1, inside)
    elif (best != best).any():
        chosen = _chosen_in_turn(values, prefers, values[:, 0], 0, np.ones(values.shape, bool))
    rank = operand.ndim
    elements = _numbers(plan.shape[rank:], plan.steps[rank:])
    windows = _numbers(plan.shape[:rank], plan.steps[:rank])
    return _Choice(padded.shape, windows + elements[chosen], chosen < 0)


def _chosen_in_turn(values: Array, prefers: np.ufunc, best: Array, number: int, inside: Array) -> Array:
    """The number of the selected element of each window, found by JAX's loop, which matters only for NaN.

    Args:
        values: the elements of each window, one window in each row.
        prefers: `select_prim` as a ufunc.
        best: the element that each window starts with.
        number: the number of that element, or -1 if it is the padding's value.
        inside: whether an element belongs to the operand and not to skipped padding.
    """
    chosen = np.full(len(values), number)
    for k, (candidate, counts) in enumerate(zip(values.T, inside.T, strict=True)):
        keeps = prefers(best, candidate) | ~counts | (k == number)
        best = np.where(keeps, best, candidate)
        chosen = np.where(keeps, chosen, k)
    return chosen


def select_and_scatter_add(
    source: Array,
    operand: Array,
    *,
    select_prim: Any,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    **_: Any,
) -> Array:
    """An array of the operand's shape, to which each window's number is added at the element that it selects."""
    if source.size == 0:
        return np.zeros(operand.shape, source.dtype)
    ones = (1,) * operand.ndim
    choice = _choice(operand, select_prim, window_dimensions, window_strides, padding, ones, ones, only_inside=False)
    sums = np.zeros(math.prod(choice.padded), accumulator_dtype(source.dtype))
    np.add.at(sums, choice.positions, source.reshape(-1).astype(sums.dtype, copy=False))
    back = tuple((-low, -high, 0) for low, high in padding)
    result = pad(sums.reshape(choice.padded), np.zeros((), sums.dtype), padding_config=back)
    return result.astype(source.dtype, copy=False)


def select_and_gather_add(
    tangents: Array,
    operand: Array,
    *,
    select_prim: Any,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
    **_: Any,
) -> Array:
    """The tangent of the element that each window selects; 0 if it selects the padding."""
    windows = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    plan = _sliding(operand.shape, *windows)
    if 0 in plan.shape:
        return np.zeros(plan.out, tangents.dtype)
    choice = _choice(operand, select_prim, *windows, only_inside=True)
    result = _padded(tangents, plan).reshape(-1)[choice.positions]
    result[choice.nothing] = 0
    return result.reshape(plan.out)


# --- cumulative reductions


def _accumulated(combine: Callable[[Array, int], Array], operand: Array, axis: int, reverse: bool) -> Array:
    order = (*(slice(None),) * axis, slice(None, None, -1 if reverse else 1))
    working = operand.astype(accumulator_dtype(operand.dtype), copy=False)
    return combine(working[order], axis)[order].astype(operand.dtype, copy=False)


def cumsum(operand: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    return _accumulated(lambda x, axis: np.add.accumulate(x, axis, x.dtype), operand, axis, reverse)


def cumprod(operand: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    return _accumulated(lambda x, axis: np.multiply.accumulate(x, axis, x.dtype), operand, axis, reverse)


def cummax(operand: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    return _accumulated(np.maximum.accumulate, operand, axis, reverse)


def cummin(operand: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    return _accumulated(np.minimum.accumulate, operand, axis, reverse)


def cumlogsumexp(operand: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    return _accumulated(_log_sums if operand.dtype.kind == "c" else np.logaddexp.accumulate, operand, axis, reverse)


def _log_sums(operand: Array, axis: int) -> Array:
    """The complex logarithms of the cumulative sums of exponentials, with imaginary parts between -π and π."""
    result = np.moveaxis(operand, axis, 0)
    shift = 1
    while shift < len(result):
        earlier, later = result[:-shift], result[shift:]
        larger = np.maximum(earlier, later)
        sums = larger + np.log1p(np.exp(earlier + later - 2 * larger))
        wrapped = np.remainder(np.imag(sums) + np.pi, 2 * np.pi) - np.pi
        result = np.concatenate([result[:shift], np.real(sums) + 1j * wrapped])
        shift *= 2
    return np.moveaxis(result, 0, axis)


RULES: dict[str, Callable[..., Any]] = {
    "conv_general_dilated": conv_general_dilated,
    "cumlogsumexp": cumlogsumexp,
    "cummax": cummax,
    "cummin": cummin,
    "cumprod": cumprod,
    "cumsum": cumsum,
    "reduce_window_max": reduce_window_max,
    "reduce_window_min": reduce_window_min,
    "reduce_window_sum": reduce_window_sum,
    "select_and_gather_add": select_and_gather_add,
    "select_and_scatter_add": select_and_scatter_add,
}
