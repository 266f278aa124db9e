"""A right formula that calls a faulty library function. The exhibit exists only if the installed library is faulty."""

import numpy as np

from compare.museum.exhibit import Exhibit, by_vjp
from compare.museum.workshop import random, trainer


def turned(x):
    """x (examples, time, features) with the first feature of the first example negated."""
    y = x.copy()
    y[:1, :, 0] *= -1.0
    return y, None


def turned_in_jax(x):
    return x.at[:1, :, 0].multiply(-1.0)


def in_place(dy, cache):
    dx = dy.copy()
    column = dx[0, :, 0]
    np.negative(column, out=column)
    return dx


def in_new_memory(dy, cache):
    dx = dy.copy()
    dx[0, :, 0] = -dy[0, :, 0]
    return dx


def shows() -> bool:
    """Whether the installed NumPy has the bug on this processor."""
    dy = random(4, 5, 8)
    return not np.array_equal(in_place(dy, None), in_new_memory(dy, None))


NEGATED_IN_PLACE = Exhibit(
    title="np.negative reads a column as if it were contiguous, if it also writes to that column",
    op="activation",
    source="NumPy 2.4.6 on x86-64 with AVX-512, as installed: np.negative(view, out=view)",
    wrong="np.negative(dx[0, :, 0], out=dx[0, :, 0])",
    right="dx[0, :, 0] = -dx[0, :, 0]",
    unseen="The bug depends on the stride of the column, the processor and the version of NumPy. Most columns are "
    "negated correctly.",
    lesson="A check that compares numbers also detects mistakes in the libraries that the code calls.",
    faulty=in_place,
    sound=in_new_memory,
    judge=by_vjp(turned, turned_in_jax, random(4, 5, 8)),
    train=trainer(turned, shape=(4, 8)),
)

EXHIBITS = {"negated-in-place": NEGATED_IN_PLACE} if shows() else {}
