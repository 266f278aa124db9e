"""Where the formula is right and the library is not. An exhibit stands here only where its bug still shows."""

import numpy as np

from compare.museum.exhibit import Exhibit, by_vjp
from compare.museum.workshop import random, trainer


def conjugate(x):
    """x with its first column negated."""
    return x * np.where(np.arange(x.shape[1]) == 0, -1.0, 1.0), None


def conjugate_in_jax(x):
    return x.at[:, 0].multiply(-1.0)


def in_place(dy, cache):
    dx = dy.copy()
    column = dx[:, 0]
    np.negative(column, out=column)
    return dx


def in_new_memory(dy, cache):
    dx = dy.copy()
    dx[:, 0] = -dy[:, 0]
    return dx


def shows() -> bool:
    """Whether this NumPy, on this processor, has the bug."""
    dy = random(5, 24)
    return not np.array_equal(in_place(dy, None), in_new_memory(dy, None))


NEGATED_IN_PLACE = Exhibit(
    title="np.negative reads a column as if it were contiguous, when it writes to it",
    source="NumPy 2.4.6 on x86-64 with AVX-512, as installed: np.negative(view, out=view)",
    wrong="np.negative(dx[:, 0], out=dx[:, 0])",
    right="dx[:, 0] = -dx[:, 0]",
    unseen="It depends on the stride, the processor and the version: most columns are negated as they should be.",
    lesson="A checker that compares numbers trusts no line, nor what a line calls.",
    faulty=in_place,
    sound=in_new_memory,
    judge=by_vjp(conjugate, conjugate_in_jax, random(5, 24)),
    train=trainer(conjugate, shape=(24,)),
)

EXHIBITS = {"negated-in-place": NEGATED_IN_PLACE} if shows() else {}
