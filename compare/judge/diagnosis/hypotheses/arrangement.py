"""The expected values in a wrong order: transposed, shifted, permuted, copied; and matrices made symmetric."""

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from compare.judge.diagnosis.evidence import MARGIN, Evidence, in_words
from compare.judge.reports.verdict import Diagnosis


def transpose(e: Evidence) -> Iterator[Diagnosis]:
    """The axes are permuted; or the array is the transpose, reshaped to the expected shape."""
    if e.expected.ndim < 2:
        return
    for axes in list(permutations(range(e.expected.ndim)))[1:]:
        if e.explains(e.expected.transpose(axes)):
            yield e.says("transpose", f"it is transposed: the expected array with its axes in the order {axes}.")
            return
    turned = e.expected.T.reshape(e.expected.shape)
    if e.explains(turned):
        yield e.says("transpose", "its entries are those of the transpose, reshaped: use .T instead of reshape.")


def symmetric(e: Evidence) -> Iterator[Diagnosis]:
    """The gradient of a symmetric matrix distributes the derivatives of [i, j] and [j, i] in a wrong way."""
    if e.expected.ndim < 2 or e.expected.shape[-1] != e.expected.shape[-2] or e.expected.shape[-1] < 2:
        return
    turned = np.swapaxes(e.expected, -1, -2)
    lower, upper = np.tril(e.expected), np.triu(e.expected)
    diagonal = lower + upper - e.expected
    itself = (np.abs(e.expected - turned) <= 2 * e.tolerance).all()
    pairs = "off its diagonal, as if [i, j] and [j, i] of a symmetric parameter were one variable"
    ways = [
        *(
            (2 * half - diagonal, f"its {words} triangle is doubled, as if it stood for both, and the other one is 0.")
            for half, words in ((lower, "lower"), (upper, "upper"))
        ),
        (2 * e.expected - diagonal, f"it is exactly twice the expected value {pairs} (2 G - diag G)."),
        ((e.expected + diagonal) / 2, "it is exactly half the expected value off its diagonal ((G + diag G) / 2)."),
    ]
    if not itself:
        ways += [
            (e.expected + turned, "its transpose is added to it (G + G^T), and should not be."),
            ((e.expected + turned) / 2, "it is made symmetric ((G + G^T) / 2), and should not be."),
            (e.expected + turned - diagonal, f"its transpose is added to it {pairs} (G + G^T - diag G)."),
        ]
    for prediction, message in ways:
        if e.explains(prediction, 2.0):
            yield e.says("symmetric", message)
            return


def triangle(e: Evidence) -> Iterator[Diagnosis]:
    """One triangle of a square matrix is 0 and should not be, or should be 0 and is not."""
    if e.expected.ndim < 2 or e.expected.shape[-1] != e.expected.shape[-2] or e.expected.shape[-1] < 2:
        return
    lower, upper = np.tril(e.expected), np.triu(e.expected)
    diagonal = lower + upper - e.expected
    for kept, gone, words in ((lower, upper - diagonal, "lower"), (upper, lower - diagonal, "upper")):
        other = "upper" if words == "lower" else "lower"
        if np.count_nonzero(np.abs(gone) > e.tolerance) > 1 and e.explains(kept):
            yield e.says("triangle", f"only its {words} triangle is right: the {other} one is 0, and should not be.")
            return
        strictly = np.triu(np.ones(e.expected.shape), 1) if words == "lower" else np.tril(np.ones(e.expected.shape), -1)
        if not gone.any() and (e.wrong <= (strictly > 0)).all() and e.wrong.sum() > 1:
            yield e.says("triangle", f"its {other} triangle should be 0, and is not; the rest is right.")
            return


def shift(e: Evidence) -> Iterator[Diagnosis]:
    """The entries are shifted along an axis by up to 8 places, or in reverse order."""
    for axis in range(e.expected.ndim):
        n = e.expected.shape[axis]
        for k in [k for step in range(1, min(n, 9)) for k in (step, -step)]:
            if e.explains(np.roll(e.expected, k, axis)):
                yield e.says("shift", f"it is shifted by {k} along axis {axis} (np.roll of the expected array).")
                return
        if n > 1 and e.explains(np.flip(e.expected, axis)):
            yield e.says("permutation", f"axis {axis} is in reverse order.")
            return


def permutation(e: Evidence) -> Iterator[Diagnosis]:
    """The expected values in another order: whole lines along an axis, or single entries."""
    for axis in range(e.expected.ndim):
        actual = np.moveaxis(e.actual, axis, 0).reshape(e.expected.shape[axis], -1)
        expected = np.moveaxis(e.expected, axis, 0).reshape(actual.shape)
        slack = MARGIN * np.moveaxis(e.tolerance, axis, 0).reshape(actual.shape).max(axis=0)
        if len(expected) > 512:
            continue
        match = [np.flatnonzero((np.abs(expected - row) <= slack).all(axis=1)) for row in actual]
        found = [int(m[0]) for m in match if len(m)]
        if len(found) == len(expected) and found != sorted(found) == list(range(len(expected))):
            moved = sum(i != j for i, j in enumerate(found))
            if e.explains(np.take(e.expected, found, axis), log_tried=moved * np.log(len(expected))):
                yield e.says("permutation", f"the entries along axis {axis} are in another order: {in_words(found)}.")
                return
    order, model = np.argsort(e.actual, axis=None), np.argsort(e.expected, axis=None)
    prediction = np.empty(e.expected.size)
    prediction[order] = e.expected.ravel()[model]
    moved = np.count_nonzero(e.wrong)
    if e.expected.size > 2 and e.explains(
        prediction.reshape(e.expected.shape), log_tried=moved * np.log(e.expected.size)
    ):
        yield e.says("permutation", "its entries are the expected values in another order.")


def copied(e: Evidence) -> Iterator[Diagnosis]:
    """The wrong lines along an axis have the expected values of other lines."""
    for axis, n in enumerate(e.expected.shape):
        actual, expected, allowed, wrong = (
            np.moveaxis(a, axis, 0).reshape(n, -1) for a in (e.actual, e.expected, e.tolerance, e.wrong)
        )
        lines = np.flatnonzero(wrong.any(axis=1))
        if not 0 < len(lines) < n or n > 512 or not np.ptp(actual, axis=0).any():
            continue  # if all lines are equal, `broadcast` describes it
        slack = MARGIN * allowed.max(axis=0)
        source = [np.flatnonzero((np.abs(expected - actual[i]) <= slack).all(axis=1)) for i in lines]
        if not all(len(some) and expected[some[0]].any() for some in source):
            continue
        index = np.arange(n)
        index[lines] = [some[0] for some in source]
        if e.explains(np.take(e.expected, index, axis), log_tried=len(lines) * np.log(n) + np.log(100)):
            pairs = [f"{i} has those of {index[i]}" for i in lines.tolist()]
            listed = "; ".join(pairs[:3]) + ("; ..." if len(pairs) > 3 else "")
            yield e.says("copied", f"along axis {axis}, some lines have the expected values of others: {listed}.")
            return


def misplaced(e: Evidence) -> Iterator[Diagnosis]:
    """The entries are wrong, but their sums along some axes are right."""
    for count in range(1, e.expected.ndim + 1):
        for axes in combinations(range(e.expected.ndim), count):
            expected = e.expected.sum(axes)
            sizes, slack = np.abs(e.expected).sum(axes), MARGIN * e.tolerance.sum(axes)
            # Sums that are 0 by construction, such as those along the axis of a normalization, prove nothing.
            if expected.size < 2 or not (np.abs(expected) > 1e-9 * sizes + slack).all():
                continue
            # The size that the sum of the errors would have if they were independent.
            independent = np.sqrt(np.square(e.error).sum(axes))
            if e.decides(e.actual.sum(axes) - expected, slack, independent):
                label = f"axis {axes[0]}" if count == 1 else f"axes {axes}"
                message = f"its sums along {label} are right: contributions are added to wrong entries along {label}."
                yield e.says("misplaced", message)
                return
