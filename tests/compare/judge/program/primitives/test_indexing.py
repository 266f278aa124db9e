"""The rules that move numbers are JAX's primitives."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.primitives.indexing import RULES
from tests.compare.judge.program.primitives.against_jax import (
    first_output,
    held_to_jax,
    keeps_dtype,
    numbers,
    traced_equation,
)

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

        def dims(*which):
            return tuple(d for d in range(rank) if kinds[d] in which)

        batch, kept = dims("batch"), dims("part", "some", "whole")
        index_map = tuple(rng.permutation(dims("single", "part")).astype(int).tolist())
        limits = [1 if kinds[d] in ("batch", "single") else n for d, n in enumerate(self.operand)]
        self.sizes = tuple(n if kinds[d] == "whole" else int(rng.integers(1, n + 1)) for d, n in enumerate(limits))

        lead = [None] * rng.integers(0, 3) + list(batch)
        rng.shuffle(lead)
        shape = [int(rng.integers(1, 4)) if d is None else self.operand[d] for d in lead]
        offsets = sorted(rng.permutation(len(lead) + len(kept))[: len(kept)].tolist())
        self.result = list(shape)
        for place, d in zip(offsets, kept, strict=True):
            self.result.insert(place, self.sizes[d])
        bounds = np.array([self.operand[d] for d in index_map], int)
        self.indices = rng.integers(-1, bounds + 1, (*shape, len(bounds)))
        self.indices = self.indices.astype(rng.choice(["int32", "int64", "int8"]))
        self.mode = MODES[rng.integers(3)]
        self.numbers = (tuple(offsets), dims("single"), index_map, batch, tuple(map(lead.index, batch)))

    def gather(self, x):
        dims = lax.GatherDimensionNumbers(*self.numbers)
        return lax.gather(x, self.indices, dims, self.sizes, mode=self.mode)

    def scatter(self, scatter, x, updates):
        dims = lax.ScatterDimensionNumbers(*self.numbers)
        return scatter(x, self.indices, updates, dims, mode=self.mode)


def gathers(seed):
    windows = Windows(seed)
    yield windows.gather, numbers(seed, *windows.operand)


def scatters(scatter, kind: type = float):
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


def dynamic_slices(seed, update=False):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, 2)
    starts = rng.integers(-3, 6, 2).astype(rng.choice(["int32", "int64"]))
    x = numbers(seed, 4, 3)
    if update:
        yield lax.dynamic_update_slice, x, numbers(seed + 1, *sizes), list(starts)
    else:
        yield partial(lax.dynamic_slice, slice_sizes=sizes.tolist()), x, list(starts)


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
    places = np.arange(12).reshape(4, 3)
    yield partial(lax.sort, dimension=axis), x
    yield lambda *all: lax.sort(all, axis, num_keys=2), x, y, places
    yield lambda *all: lax.sort(all, axis), x.astype(ml_dtypes.bfloat16), places
    yield lambda *all: lax.sort(all, axis), x + 1j * np.where(np.isinf(y), 0, y), places


def largest(seed):
    rng = np.random.default_rng(seed)
    x, axis, k = numbers(seed, 4, 3, special=True), int(rng.integers(2)), int(rng.integers(0, 4))
    for values in (
        x,
        x.astype(ml_dtypes.bfloat16),
        rng.integers(0, 4, (4, 3)).astype((np.uint8, np.int32, bool)[seed % 3]),
    ):
        yield partial(lax.top_k, k=k, axis=axis), values


def extrema(search):
    def cases(seed):
        x = numbers(seed, 4, 3, special=True)
        for dtype in (np.float64, ml_dtypes.bfloat16, bool):
            yield partial(search, axis=seed % 2, index_dtype=np.int32), x.astype(dtype)

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
    "dynamic_update_slice": partial(dynamic_slices, update=True),
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


@pytest.mark.sweep
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_rule_is_its_primitive(name, seed):
    used = set()
    for function, *arguments in CASES[name](seed):
        used |= held_to_jax(RULES, function, *arguments, signs=True)
    assert name in used


def jnp_functions():
    """What users write, and its derivatives."""
    rows, columns = np.array([2, 0, 2]), np.array([[0], [1], [1], [3]])
    return {
        "rows": lambda x: x[rows],
        "elements": lambda x: x[rows, rows],
        "filled": lambda x: x.at[np.array([1, 7])].get(mode="fill", fill_value=-1.0),
        "boolean": lambda x: jnp.where(x > 0, x, 0)[:, ::-2],
        "along": lambda x: jnp.take_along_axis(x, columns, 1),
        "sorted": lambda x: jnp.sort(x, axis=0),
        "set": lambda x: x.at[rows].set(x[1]),
        "vmapped": jax.vmap(lambda row, i: lax.dynamic_slice(row, i, (2,)), (0, 0)),
    }


@pytest.mark.sweep
@pytest.mark.parametrize("name", jnp_functions())
def test_functions_of_jnp_and_their_derivatives_are_jax_s(name):
    function = jnp_functions()[name]
    x = numbers(0, 4, 4)
    others = [np.array([[0], [1], [2], [9]])] if name == "vmapped" else []

    def both(x):
        y, backward = jax.vjp(lambda x: function(x, *others), x)
        return y, backward(jnp.cos(y))

    assert held_to_jax(RULES, both, x, signs=False)


OF_ANOTHER_DTYPE = {"argmax", "argmin", "iota"}
CHOOSE = {"scatter-max", "scatter-min", "sort", "top_k"}
PRODUCTS = {"scatter-mul"}


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.longdouble, np.complex128])
@pytest.mark.parametrize("name", sorted(RULES.keys() - OF_ANOTHER_DTYPE))
def test_a_result_has_the_dtype_of_the_inputs(name, dtype):
    """Whatever was traced: programs traced in float32 are run in float64, and with complex steps."""
    if dtype is np.complex128 and name in CHOOSE:
        return
    equation, inputs = traced_equation(name, CASES[name] if name != "scatter-min" else scatters(lax.scatter_min))
    keeps_dtype(RULES[name], equation, inputs, dtype)


@pytest.mark.parametrize("name", sorted(RULES.keys() - OF_ANOTHER_DTYPE - CHOOSE - PRODUCTS))
def test_a_complex_step_is_moved_as_the_number_is(name):
    equation, inputs = traced_equation(name, CASES[name], seed=3)
    steps = [value * 1e-30 if value.dtype == float else value for value in inputs]
    stepped = [x + 1j * dx if x.dtype == float else x for x, dx in zip(inputs, steps, strict=True)]
    result = first_output(RULES[name], equation, stepped, complex)
    np.testing.assert_array_equal(result.real, first_output(RULES[name], equation, inputs, float))
    np.testing.assert_array_equal(result.imag, first_output(RULES[name], equation, steps, float))


def test_16_bit_numbers_are_added_in_32_bits():
    """1 + 1/1024 a thousand times; in bfloat16 each sum would be 1 again."""
    updates = np.full(1024, 1 / 1024, ml_dtypes.bfloat16)
    equation = jax.make_jaxpr(lambda x, u: x.at[jnp.zeros(1024, int)].add(u))(updates[:1], updates).eqns[-1]
    indices = np.zeros((1024, 1), int)
    assert RULES["scatter-add"](np.ones(1, ml_dtypes.bfloat16), indices, updates, **equation.params) == 2


def test_a_function_that_is_applied_by_a_scatter_is_refused():
    x = np.ones(3, np.float32)
    equation = jax.make_jaxpr(lambda x: x.at[1].apply(jnp.sin))(x).eqns[-1]
    with pytest.raises(NotImplementedError, match="not if it applies a function"):
        RULES["scatter"](x, np.array([1]), np.ones((), np.float32), **equation.params)


def first_stays(operand, indices, updates, **params):
    return RULES["scatter"](operand, indices[::-1], updates[::-1], **params)


def clips(operand, indices, **params):
    return RULES["gather"](operand, indices, **params | {"mode": lax.GatherScatterMode.CLIP})


def nan_first(operand, **params):
    return [np.roll(result, 1) for result in RULES["sort"](operand, **params)]


def set_twice(x):
    return x.at[np.array([1, 2, 1])].set(np.arange(3.0))


WRONG = {
    "scatter": (first_stays, set_twice, [1.0, 2.0, 3.0]),
    "gather": (clips, lambda x: x.at[np.array([0, 5])].get(mode="fill"), [1.0, 2.0]),
    "sort": (nan_first, lax.sort, [2.0, np.nan, 1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_caught(name):
    rule, function, x = WRONG[name]
    assert held_to_jax(RULES, function, np.array(x), signs=True) >= {name}
    with pytest.raises(AssertionError, match=r"(?i)not equal"):
        held_to_jax(RULES | {name: rule}, function, np.array(x), signs=True)
