"""The rules that move numbers are JAX's primitives."""

import operator

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.primitives.indexing import RULES
from tests.compare.judge.program.primitives.against_jax import held_to_jax, numbers

MODES = list(lax.GatherScatterMode)[:3]


class Windows:
    """Dimension numbers of a gather or scatter at random, and indices of which some are outside."""

    def __init__(self, seed, least=0):
        """At least so many dimensions are indexed."""
        rng = np.random.default_rng(seed)
        rank = rng.integers(least, 4)
        self.operand = tuple(rng.integers(1, 4, rank).tolist())
        kinds = rng.choice(["batch", "single", "part", "some", "whole"], rank)
        kinds[:least] = "single"
        self.batch = [d for d in range(rank) if kinds[d] == "batch"]
        self.index_map = [int(d) for d in rng.permutation(rank) if kinds[d] in ("single", "part")]
        self.dropped = [d for d in range(rank) if kinds[d] == "single"]
        kept = [d for d in range(rank) if kinds[d] not in ("batch", "single")]
        self.sizes = tuple(
            1 if kinds[d] in ("batch", "single") else n if kinds[d] == "whole" else int(rng.integers(1, n + 1))
            for d, n in enumerate(self.operand)
        )
        lead = [int(n) for n in rng.integers(1, 4, rng.integers(0, 3))] + [self.operand[d] for d in self.batch]
        order = rng.permutation(len(lead))
        lead = [lead[i] for i in order]
        self.indices_batch = [int(np.flatnonzero(order == len(lead) - len(self.batch) + i)[0]) for i in range(len(self.batch))]
        self.offset_dims = sorted(int(d) for d in rng.permutation(len(lead) + len(kept))[: len(kept)])
        shape, sizes, batch = [], iter([self.sizes[d] for d in kept]), iter(lead)
        for d in range(len(lead) + len(kept)):
            shape.append(next(sizes) if d in self.offset_dims else next(batch))
        self.result = tuple(shape)
        bounds = [self.operand[d] for d in self.index_map]
        self.indices = rng.integers(-1, np.array([*bounds, 0][: len(bounds)], int) + 1, (*lead, len(bounds)))
        self.indices = self.indices.astype(rng.choice([np.int32, np.int64, np.int8]))
        self.mode = MODES[rng.integers(3)]

    def gather(self, x):
        dims = lax.GatherDimensionNumbers(
            tuple(self.offset_dims), tuple(self.dropped), tuple(self.index_map), tuple(self.batch), tuple(self.indices_batch)
        )
        return lax.gather(x, self.indices, dims, self.sizes, mode=self.mode)

    def scatter(self, scatter, x, updates):
        dims = lax.ScatterDimensionNumbers(
            tuple(self.offset_dims), tuple(self.dropped), tuple(self.index_map), tuple(self.batch), tuple(self.indices_batch)
        )
        return scatter(x, self.indices, updates, dims, mode=self.mode)


def gathers(seed):
    windows = Windows(seed)
    yield windows.gather, numbers(seed, *windows.operand)


def scatters(scatter, kind=float):
    def cases(seed):
        windows = Windows(seed, least=1)  # XLA fails to compile some scatters without an index
        x, updates = numbers(seed, *windows.operand), numbers(seed + 1, *windows.result)
        yield lambda *both: windows.scatter(scatter, *both), (10 * x).astype(kind), (10 * updates).astype(kind)

    return cases


def slices(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, 5, rng.integers(0, 4))
    start = [int(rng.integers(0, n + 1)) for n in shape]
    limit = [int(rng.integers(i, n + 1)) for i, n in zip(start, shape, strict=True)]
    yield lambda x: lax.slice(x, start, limit, rng.integers(1, 4, len(shape)).tolist()), numbers(seed, *shape)


def dynamic_slices(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, 2)
    starts = rng.integers(-3, 6, 2).astype(rng.choice([np.int32, np.int64]))
    x, update = numbers(seed, 4, 3), numbers(seed + 1, *sizes)
    yield lambda x, i: lax.dynamic_slice(x, list(i), sizes.tolist()), x, starts
    yield lambda x, u, i: lax.dynamic_update_slice(x, u, list(i)), x, update, starts


def pads(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, 5, rng.integers(0, 4))
    config = []
    for n in shape.tolist():
        interior = int(rng.integers(0, 3))
        whole = n + interior * max(n - 1, 0)
        low = int(rng.integers(-whole, 4))
        config.append((low, int(rng.integers(-whole - min(low, 0), 4)), interior))
    yield lambda x, value: lax.pad(x, value, config), numbers(seed, *shape), np.array(7.0)


def sorts(seed):
    rng = np.random.default_rng(seed)
    x, y, axis = numbers(seed, 4, 3, special=True), numbers(seed + 1, 4, 3, special=True), int(rng.integers(2))
    yield lambda x: lax.sort(x, axis), x
    yield lambda x, y: lax.sort((x, y, np.arange(12).reshape(4, 3)), axis, num_keys=2), x, y
    yield lambda x: lax.sort((x, np.arange(12).reshape(4, 3)), axis), x.astype(ml_dtypes.bfloat16)
    yield lambda z: lax.sort((z, np.arange(12).reshape(4, 3)), axis), x + 1j * np.where(np.isinf(y), 0, y)


def largest(seed):
    rng = np.random.default_rng(seed)
    x, axis, k = numbers(seed, 4, 3, special=True), int(rng.integers(2)), int(rng.integers(0, 4))
    for dtype in (np.float64, ml_dtypes.bfloat16):
        yield lambda x: lax.top_k(x, k, axis=axis), x.astype(dtype)
    for dtype in (np.uint8, np.int32, bool):
        yield lambda x: lax.top_k(x, k, axis=axis), rng.integers(0, 2**7, (4, 3)).astype(dtype)


def extrema(search):
    def cases(seed):
        x = numbers(seed, 4, 3, special=True)
        for dtype in (np.float64, ml_dtypes.bfloat16, bool):
            yield lambda x: search(x, seed % 2, np.int32), x.astype(dtype)

    return cases


def joined(seed):
    yield lambda *all: lax.concatenate(all, 1), numbers(seed, 2, 3), numbers(seed, 2, 0), numbers(seed, 2, 1)


def parted(seed):
    yield lambda x: lax.split(x, (3, 0, 2), axis=1), numbers(seed, 2, 5)


def reversed_(seed):
    yield lambda x: lax.rev(x, ((), (0,), (0, 2))[seed % 3]), numbers(seed, 2, 3, 2)


def counted(seed):
    dtype = (np.int32, np.float64, ml_dtypes.bfloat16)[seed % 3]
    yield lambda x: x + lax.broadcasted_iota(dtype, (2, 3, 2), seed % 3), np.zeros((2, 3, 2), dtype)


CASES = {
    "argmax": extrema(lax.argmax),
    "argmin": extrema(lax.argmin),
    "concatenate": joined,
    "dynamic_slice": dynamic_slices,
    "dynamic_update_slice": dynamic_slices,
    "gather": gathers,
    "iota": counted,
    "pad": pads,
    "rev": reversed_,
    "scatter": scatters(lax.scatter),
    "scatter-add": scatters(lax.scatter_add),
    "scatter-max": scatters(lax.scatter_max),
    "scatter-min": scatters(lax.scatter_min, int),
    "scatter-mul": scatters(lax.scatter_mul, complex),
    "scatter-sub": scatters(lax.scatter_sub),
    "slice": slices,
    "sort": sorts,
    "split": parted,
    "top_k": largest,
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_rule_is_its_primitive(name, seed):
    used = set()
    for function, *arguments in CASES[name](seed):
        used |= held_to_jax(RULES, function, *arguments, signs=True)
    assert name in used
