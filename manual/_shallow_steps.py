"""The training loop of `shallow`, with the formulas of its `backpropagation` on memory that is there already.

What makes it faster than the page of formulas:

- Nothing of the size of the data is allocated in the loop, and what was allocated before lies in one piece.
- A bias is one more weight, of an input that is 1, so that it takes no pass over memory of its own.
- exp(-|Z2|) is computed once, for the loss and for the sigmoid. With it, for logits of either sign,

      sigmoid(Z2) - y = (1/2 + sign(Z2) / 2 - y)  -  sign(Z2) exp(-|Z2|) / (1 + exp(-|Z2|)),

  whose first term is exactly 0 for a label that is right, so that small derivatives are not lost beside 1.
- With one output, dA1 = W2^T dZ2 is an outer product, which is multiplied in where it is needed and never stored.
- Large networks are trained by several threads, each with its own examples and a BLAS of one thread: what lies between
  the products, which NumPy leaves to one core, is shared as well, and no product waits for the threads of another.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

# Operations of a thread and step from which threads share the work. Below, waiting for each other (about 0.1 ms) and
# what Python does between two calls of NumPy, for one thread at a time, cost more than is saved.
SHARED = 10**8
NARROWEST = 128  # examples of a thread: of fewer, products are slow
HUGE = 1 << 22  # bytes from which NumPy asks for huge pages
LINE = 64  # bytes of a line of the cache


class _Sizes(NamedTuple):
    n_x: int
    n_h: int
    n_y: int

    def views(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(W1 b1) and (W2 b2) in flat memory. The first lies transposed, as BLAS likes it for these shapes."""
        first = self.n_h * (self.n_x + 1)
        return flat[:first].reshape(self.n_x + 1, self.n_h).T, flat[first:].reshape(self.n_y, self.n_h + 1)


def descend(
    parameters: Mapping[str, np.ndarray], x: np.ndarray, y: np.ndarray, iterations: int, learning_rate: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Full-batch gradient descent: the parameters after, and the loss before each update."""
    (n_h, n_x), (n_y, m) = parameters["W1"].shape, y.shape
    sizes = _Sizes(n_x, n_h, n_y)
    first, second = (np.concatenate([parameters[f"W{i}"], parameters[f"b{i}"]], axis=1) for i in (1, 2))
    weights = np.concatenate([first.T.ravel(), second.ravel()])
    rate = np.array(learning_rate, weights.dtype)
    with _threads(4 * n_x * n_h * m, m) as threads:
        examples, entries = ([end * size // threads for end in range(threads + 1)] for size in (m, weights.size))
        shares = [_Share(sizes, weights, x[:, a:b], y[:, a:b], m) for a, b in pairwise(examples)]
        losses = np.empty((threads, iterations), weights.dtype)

        def train(number: int, wait: Callable[[], object]) -> None:
            own = slice(entries[number], entries[number + 1])
            total, *others = (share.gradient[own] for share in shares)
            share, value, loss = shares[number], weights[own], losses[number]
            for i in range(iterations):
                loss[i] = share.differentiate()
                wait()
                for other in others:
                    total += other
                np.multiply(total, rate, out=total)
                np.subtract(value, total, out=value)
                wait()

        _together(train, threads)
    V1, V2 = sizes.views(weights)
    trained = {"W1": V1[:, :-1], "b1": V1[:, -1:], "W2": V2[:, :-1], "b2": V2[:, -1:]}
    return {name: np.array(value, order="C") for name, value in trained.items()}, np.sum(losses, axis=0)


class _Share:
    """Some of the examples, and the gradient of their part of the loss at the weights that all share."""

    def __init__(self, sizes: _Sizes, weights: np.ndarray, x: np.ndarray, y: np.ndarray, m: int) -> None:
        (n_x, n_h, n_y), columns, dtype = sizes, x.shape[1], x.dtype
        self.V1, self.V2 = sizes.views(weights)
        self.gradient = np.empty_like(weights)
        self.dV1, self.dV2 = sizes.views(self.gradient)
        rows = (n_x + 1, n_h + 1, n_h, n_h)
        self.x, self.A1, self.dZ1, self.slope = _room([(row, columns) for row in rows], dtype)
        self.x[:-1], self.x[-1], self.A1[-1] = x, 1, 1
        self.Z2, self.dZ2, self.t, self.terms = (np.empty((n_y, columns), dtype) for _ in range(4))
        self.one, self.minus, self.m = (np.array(value, dtype) for value in (1, -1, m))
        self.half = np.array(0.5, dtype) / self.m
        self.rest = self.half - y / self.m
        self.weight = np.full(n_y * columns, 1 / m, dtype)

    def differentiate(self) -> np.floating:
        """Fill `gradient`; returns the loss."""
        A1, Z2, dZ2, t, terms, dZ1, slope = self.A1, self.Z2, self.dZ2, self.t, self.terms, self.dZ1, self.slope
        hidden, W2 = A1[:-1], self.V2[:, :-1]
        np.matmul(self.V1, self.x, out=hidden)
        np.tanh(hidden, out=hidden)
        np.matmul(self.V2, A1, out=Z2)

        np.copysign(Z2, self.minus, out=t)
        np.exp(t, out=t)  # exp(-|Z2|)
        np.copysign(self.half, Z2, out=dZ2)
        np.add(dZ2, self.rest, out=dZ2)
        np.log1p(t, out=terms)
        # max(Z2, 0) - y Z2 is Z2 times the first term above; divided by m before it is summed, lest it overflow.
        loss = np.dot(terms.ravel(), self.weight) + np.dot(Z2.ravel(), dZ2.ravel())
        np.multiply(t, self.m, out=terms)
        np.add(terms, self.m, out=terms)
        np.divide(t, terms, out=t)
        np.copysign(t, Z2, out=t)
        np.subtract(dZ2, t, out=dZ2)

        np.multiply(hidden, hidden, out=slope)
        np.subtract(self.one, slope, out=slope)
        if len(dZ2) == 1:
            np.multiply(slope, W2.T, out=slope)
            np.multiply(slope, dZ2, out=dZ1)
        else:
            np.matmul(W2.T, dZ2, out=dZ1)
            np.multiply(dZ1, slope, out=dZ1)
        np.matmul(dZ2, A1.T, out=self.dV2)
        np.matmul(dZ1, self.x.T, out=self.dV1)
        return loss


def _room(shapes: list[tuple[int, int]], dtype: np.dtype) -> list[np.ndarray]:
    """Arrays in one piece of memory, each from a line of the cache on; in huge pages if that is nearly due."""
    line = LINE // dtype.itemsize
    ends = np.cumsum([-(-rows * columns // line) * line for rows, columns in shapes])
    size = int(ends[-1])
    nearly = HUGE // 4 <= size * dtype.itemsize < HUGE
    memory = np.empty(HUGE // dtype.itemsize if nearly else size, dtype)
    starts = [0, *map(int, ends[:-1])]
    return [
        memory[a : a + rows * columns].reshape(rows, columns) for a, (rows, columns) in zip(starts, shapes, strict=True)
    ]


_sharing = threading.Lock()


@contextlib.contextmanager
def _threads(operations: int, examples: int) -> Iterator[int]:
    """How many threads share the work: as many as BLAS would use, or one, which leaves them to BLAS.

    If they share it, BLAS has one thread inside. That is a setting of the whole process, so only one training
    at a time may change it; another leaves it alone.
    """
    if operations < 2 * SHARED or not _sharing.acquire(blocking=False):
        yield 1
        return
    try:
        libraries = _blas()
        threads = max((library["num_threads"] for library in libraries.info()), default=1)
        if threads == 1 or operations < SHARED * threads or examples < NARROWEST * threads:
            yield 1
        else:
            with libraries.limit(limits=1):
                yield threads
    finally:
        _sharing.release()


@functools.cache
def _blas() -> Any:
    """Every BLAS of the process, NumPy's among them. Looking for it takes milliseconds, and so does the import."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _together(work: Callable[[int, Callable[[], object]], None], threads: int) -> None:
    """Run `work(number, wait)` in so many threads, this one among them. All of them wait for each other in `wait`."""
    if threads == 1:
        work(0, lambda: None)
        return
    barrier = threading.Barrier(threads)
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number, barrier.wait)
        except threading.BrokenBarrierError:  # another has failed, and says why
            pass
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    with ThreadPoolExecutor(threads - 1) as pool:  # in copies of the caller's context: np.errstate lives there
        try:
            for number in range(1, threads):
                pool.submit(contextvars.copy_context().run, guarded, number)
        except BaseException:  # those that have begun wait for the others
            barrier.abort()
            raise
        guarded(0)
    if errors:
        raise errors[0]
