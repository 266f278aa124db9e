"""Sums over axes that are missing, incomplete, or over the wrong axes; and one value in the place of several."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from compare.judge.diagnosis.evidence import MARGIN, Evidence, at_indices
from compare.judge.reports.verdict import Diagnosis


def missing_sum(e: Evidence) -> Iterator[Diagnosis]:
    """The quantity should be the sum of a known array over some axes, and is one entry of it, or an incomplete sum."""
    for name, terms in e.summands.items():
        axes = _summed_axes(terms, e)
        if not axes:
            continue
        label = f"axis {axes[0]}" if len(axes) == 1 else f"axes {axes}"
        for place, take in (("first", 0), ("last", -1)):
            one = terms
            for axis in axes:
                one = np.take(one, [take], axis)
            if e.explains(one.reshape(e.expected.shape)):
                yield e.says("missing-sum", f"it is the {place} entry of d{name} along {label}, not the sum over it.")
                return
        short = terms
        for axis in axes:
            short = np.take(short, range(terms.shape[axis] - 1), axis)
        if e.explains(short.sum(axes).reshape(e.expected.shape)):
            yield e.says("missing-sum", f"the last entry of d{name} along {label} is left out of the sum.")
            return
        total = np.full(e.expected.shape, terms.sum())
        if e.expected.size > 1 and e.explains(total, terms.size / e.expected.size):
            message = f"every entry is the sum of d{name} over all axes, and should be its sum over {label} only."
            yield e.says("broadcast", message)
            return


def wrong_axis(e: Evidence) -> Iterator[Diagnosis]:
    """The quantity should be the sum of a known array over some axes, and is its sum over another axis."""
    for name, terms in e.summands.items():
        axes = _summed_axes(terms, e)
        for axis in set(range(terms.ndim)) - set(axes) if axes else ():
            total = terms.sum(axis)
            if total.size == e.expected.size and e.explains(total.reshape(e.expected.shape)):
                label = axes[0] if len(axes) == 1 else axes
                message = f"d{name} is summed over axis {axis}, and should be summed over axis {label}."
                yield e.says("missing-sum", message)
                return


def _summed_axes(terms: np.ndarray, e: Evidence) -> tuple[int, ...]:
    """The axes over which an array has to be summed to get the expected values; empty if there are none."""
    for axes in [(0,), (1,), (0, 1), (0, 1, 2)]:
        if terms.ndim > max(axes) and terms.sum(axes).size == e.expected.size:
            slack = MARGIN * e.tolerance.ravel()
            if (np.abs(terms.sum(axes).ravel() - e.expected.ravel()) <= slack).all():
                return axes
    return ()


def broadcast(e: Evidence) -> Iterator[Diagnosis]:
    """Every entry, or every entry along an axis, is the sum or the mean of the expected ones."""
    for axis, place in _of_one_value(e):
        for word, function in (("sum", np.sum), ("mean", np.mean)):
            value = function(e.expected, axis=axis, keepdims=True)
            if e.explains(np.broadcast_to(value, e.expected.shape), e.expected.size):
                yield e.says("broadcast", f"it has the same value {place}: the {word} of the expected values.")
                return


def one_value(e: Evidence) -> Iterator[Diagnosis]:
    """Every entry, or every entry along an axis, has the same value, where different ones are expected."""
    for _, place in _of_one_value(e):
        yield e.says("broadcast", f"it has the same value {place}, and the expected values differ.")
        return


def _of_one_value(e: Evidence) -> Iterator[tuple[int | None, str]]:
    """The axes along which all actual values are equal and the expected ones are not, each with its description.

    The axis is None if all entries of the array are equal.
    """
    if e.expected.size < 2 or not e.actual.any():
        return
    axes = [None, *range(e.expected.ndim)] if e.expected.ndim > 1 else [None]
    for axis in axes:
        if axis is not None and e.expected.shape[axis] < 2:
            continue
        if not (np.ptp(e.actual, axis=axis) <= 4 * np.finfo(e.actual.dtype).eps * np.abs(e.actual).max()).all():
            continue
        if (np.ptp(e.expected, axis=axis) <= 2 * MARGIN * e.tolerance.max(axis=axis)).all():
            continue  # the expected values are equal, too
        yield axis, "in every entry" if axis is None else f"everywhere along axis {axis}"


def broadcast_in_part(e: Evidence) -> Iterator[Diagnosis]:
    """The wrong lines along an axis all equal the sum or the mean of the expected lines."""
    for axis, n in enumerate(e.expected.shape):
        others = tuple(i for i in range(e.expected.ndim) if i != axis)
        lines = np.flatnonzero(e.wrong.any(axis=others)) if others else np.flatnonzero(e.wrong)
        if not 1 < len(lines) < n:
            continue
        expected = np.take(e.expected, lines, axis)
        for word, function in (("sum", np.sum), ("mean", np.mean)):
            prediction = e.expected.copy()
            part = (slice(None),) * axis + (lines,)
            prediction[part] = function(expected, axis=axis, keepdims=True)
            if e.explains(prediction, len(lines)):
                where = at_indices(lines.tolist(), axis)
                yield e.says("broadcast", f"it has the same values {where}: the {word} of the expected values there.")
                return


def accumulator(e: Evidence) -> Iterator[Diagnosis]:
    """A sum is accumulated in 16 bits and stops growing: 256 + 1 is rounded to 256 in bfloat16."""
    if e.accumulated is None:
        return
    value, count = e.accumulated
    rounding = 4 * float(jnp.finfo(e.dtype).eps) * np.abs(value)  # the hand-written sum may have another order
    if e.decides(e.actual - value, rounding, e.error, log_tried=np.log(10)):
        worst = np.unravel_index(np.argmax(np.abs(e.error)), e.error.shape)
        yield e.says(
            "accumulator",
            f"its sum of {count} terms is accumulated in {e.dtype} and stops growing (at {e.actual[worst]:.6g}, "
            f"where {e.expected[worst]:.6g} is expected): accumulate in float32, and round once.",
        )
