"""The right numbers in the wrong order: transposed, shifted, permuted, misplaced."""

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from compare.judge.diagnosis.evidence import SLACK, Evidence, in_words
from compare.judge.reports.verdict import Diagnosis


def transpose(e: Evidence) -> Iterator[Diagnosis]:
    if e.right.ndim < 2:
        return
    for axes in list(permutations(range(e.right.ndim)))[1:]:
        if e.explains(e.right.transpose(axes)):
            yield e.says("transpose", f"it is transposed: axes {axes} of what it should be.")
            return
    turned = e.right.T.reshape(e.right.shape)
    if e.explains(turned):
        yield e.says("transpose", "its entries are those of the transpose, reshaped: a reshape where a .T belongs.")


def shift(e: Evidence) -> Iterator[Diagnosis]:
    for axis in range(e.right.ndim):
        n = e.right.shape[axis]
        for k in [k for step in range(1, min(n, 9)) for k in (step, -step)]:
            if e.explains(np.roll(e.right, k, axis)):
                yield e.says("shift", f"it is shifted by {k} along axis {axis} (np.roll of what it should be).")
                return
        if n > 1 and e.explains(np.flip(e.right, axis)):
            yield e.says("permutation", f"axis {axis} is in reverse order.")
            return


def permutation(e: Evidence) -> Iterator[Diagnosis]:
    """The same numbers in another order: whole rows along an axis, or single entries."""
    if e.explains(e.right):
        return
    for axis in range(e.right.ndim):
        came = np.moveaxis(e.came, axis, 0).reshape(e.right.shape[axis], -1)
        right = np.moveaxis(e.right, axis, 0).reshape(came.shape)
        slack = SLACK * np.moveaxis(e.allowed, axis, 0).reshape(came.shape).max(axis=0)
        if len(right) > 512:
            continue
        match = [np.flatnonzero((np.abs(right - row) <= slack).all(axis=1)) for row in came]
        found = [int(m[0]) for m in match if len(m)]
        if len(found) == len(right) and found != sorted(found) == list(range(len(right))):
            yield e.says("permutation", f"the entries along axis {axis} are in another order: {in_words(found)}.")
            return
    order, model = np.argsort(e.came, axis=None), np.argsort(e.right, axis=None)
    difference = np.abs(e.came.ravel()[order] - e.right.ravel()[model])
    if e.right.size > 2 and (difference <= SLACK * e.allowed.ravel()[model]).all():
        yield e.says("permutation", "it holds the right numbers in the wrong places.")


def misplaced(e: Evidence) -> Iterator[Diagnosis]:
    """Sums along some axes are right, and more than noise: what arrives is right, where it arrives is not."""
    for count in range(1, e.right.ndim + 1):
        for axes in combinations(range(e.right.ndim), count):
            right = e.right.sum(axes)
            sizes, slack = np.abs(e.right).sum(axes), SLACK * e.allowed.sum(axes)
            # A sum that cancels, as along the features of a norm, is right for every such gradient.
            if right.size < 2 or not (np.abs(right) > 1e-9 * sizes + slack).all():
                continue
            if (np.abs(e.came.sum(axes) - right) <= slack).all():
                label = f"axis {axes[0]}" if count == 1 else f"axes {axes}"
                yield e.says(
                    "misplaced", f"its sums along {label} are right: the right amounts go to wrong places there."
                )
                return
