"""Every fast op is its page: value, gradients and what either makes of the other's cache, to rounding.

At every case of the catalog, in float64, float32 and float16, in every layout of memory, in parts that are shared among
threads, and without examples and with one.
"""

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

import manual.fast
from compare.suite.cases import MODULES, Case, all_cases
from manual.fast import _correlation, _parts, _threads

PAGES = {name: importlib.import_module(f"manual.{name}") for name in MODULES}
FAST = {name: getattr(manual.fast, name) for name in manual.fast.__all__ if name in MODULES}
MODULE_OF = {op: module for module in FAST for op in getattr(PAGES[module], module.upper())}
CASES = [(op, i) for op in MODULE_OF for i in range(len(all_cases()[op]))]


@dataclass(frozen=True)
class Pair:
    """An op's forward and backward, on its page and made fast."""

    page: tuple[Any, Any]
    fast: tuple[Any, Any]


def pair(op):
    module = MODULE_OF[op]
    page, fast = (getattr(side[module], module.upper())[op] for side in (PAGES, FAST))
    return Pair(page, fast)


def cotangent(value, seed=1):
    """Random, in the structure of the value."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.asarray(random.standard_normal(np.shape(leaf)), np.asarray(leaf).dtype), value)


def assert_same(fast, page, moved=None):
    """The same structure, shapes and dtypes; entries to rounding, as arrays are judged by their largest entry.

    `moved` is what the page makes of inputs that are moved by their own rounding: what is ill-conditioned differs more.
    """
    assert jax.tree.structure(fast) == jax.tree.structure(page)
    leaves = zip(*(jax.tree.leaves(tree) for tree in (fast, page, page if moved is None else moved)), strict=True)
    for ours, theirs, others in leaves:
        ours, theirs, others = map(np.asarray, (ours, theirs, others))
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if ours.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
            continue
        wide = theirs.astype(np.float64)
        finite = np.isfinite(wide)
        scale = np.max(np.abs(wide), where=finite, initial=0)
        tolerance = 30 * np.finfo(ours.dtype).eps
        shift = np.max(np.abs(wide - others), where=finite, initial=0)
        np.testing.assert_allclose(ours.astype(np.float64), wide, rtol=tolerance, atol=tolerance * scale + 30 * shift)


def jittered(x):
    """Moved by up to its rounding."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    signs = np.random.default_rng(2).choice([-1, 1], x.shape)
    return (x * (1 + signs * np.finfo(x.dtype).eps)).astype(x.dtype)


def assert_held_to_its_page(pair, case, layout=lambda x: x):
    """Both sides are called with arrays of this layout, and each backward with the cache of the other."""
    inputs = [layout(x) if isinstance(x, np.ndarray) else x for x in case.inputs]
    before = [np.copy(x) if isinstance(x, np.ndarray) else x for x in inputs]
    value, cache = pair.page[0](*inputs, **case.options)
    moved, moved_cache = pair.page[0](*map(jittered, inputs), **case.options)
    fast_value, fast_cache = pair.fast[0](*inputs, **case.options)
    assert_same(fast_value, value, moved)
    assert type(fast_cache) is type(cache)
    assert_same(fast_cache, cache, moved_cache)
    dy = jax.tree.map(layout, cotangent(value))
    gradients, moved = pair.page[1](dy, cache), pair.page[1](dy, moved_cache)
    for backward, made in ((pair.fast[1], cache), (pair.fast[1], fast_cache), (pair.page[1], fast_cache)):
        assert_same(backward(dy, made), gradients, moved)
    for x, then in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, then)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(("op", "number"), CASES)
def test_at_every_case_and_dtype(op, number, dtype):
    assert_held_to_its_page(pair(op), all_cases()[op][number].astype(dtype))


def transposed(x):
    return np.array(x, order="F")


def strided(x):
    """Equal to x, read-only, and every second entry along each axis of a larger array, from the end."""
    large = np.zeros([2 * n for n in np.shape(x)], np.asarray(x).dtype)
    view = large[(..., *(slice(None, None, -2) for _ in np.shape(x)))]
    view[...] = x
    view.flags.writeable = False
    return view


@pytest.mark.sweep
@pytest.mark.parametrize("layout", [transposed, strided])
@pytest.mark.parametrize(("op", "number"), CASES)
def test_in_every_layout(op, number, layout):
    """Transposed; strided, reversed and read-only."""
    assert_held_to_its_page(pair(op), all_cases()[op][number], layout)


@pytest.mark.sweep
@pytest.mark.parametrize(("op", "number"), CASES)
def test_in_small_parts_by_several_threads(op, number, monkeypatch):
    monkeypatch.setattr(_threads, "PARALLEL", 0)
    monkeypatch.setattr(_parts, "PART_BYTES", 100)
    monkeypatch.setattr(manual.fast.pooling, "PART_BYTES", 100)
    monkeypatch.setattr(_correlation, "TILE_BYTES", 100)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert_held_to_its_page(pair(op), all_cases()[op][number])


def arrays(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal(shape) for shape in shapes)


def elementwise(**options):
    return lambda n: Case(arrays((n, 3)), options)


def loss(targets):
    return lambda n: Case(arrays((n, 3)), {"targets": targets(n)})


def norm(*vectors, **options):
    return lambda n: Case(arrays((n, 3, 4), *[(4,)] * len(vectors)), options)


def heads(n, *heads_and_depths):
    return arrays(*[(n, 3, *each) for each in heads_and_depths])


def recurrent(gates, *states, biases=1):
    def case(n):
        shapes = [(3, gates * 2), (2, gates * 2), *[(gates * 2,)] * biases]
        return Case(arrays((n, 4, 3), *[(n, 2)] * len(states), *shapes))

    return case


# Of n examples.
EDGES: dict[str, Any] = {
    **{name: elementwise() for name in PAGES["activations"].ACTIVATIONS},
    "gelu": elementwise(approximate=True),
    "swiglu": lambda n: Case(arrays((n, 3), (n, 3))),
    **{name: loss(lambda n: np.ones((n, 3))) for name in PAGES["losses"].LOSSES},
    "cross_entropy": loss(lambda n: np.arange(n)),
    "attention": lambda n: Case(heads(n, (4, 2), (2, 2), (2, 3)), {"causal": True}),
    "rotary_embedding": lambda n: Case((*heads(n, (2, 4)), np.arange(3))),
    "multi_head_attention": lambda n: Case(
        (*arrays((n, 3, 4)), None, *arrays(*[(4, 4)] * 4, *[(4,)] * 4)), {"heads": 2}
    ),
    "rnn": recurrent(1, "h"),
    "lstm": recurrent(4, "h", "c"),
    "gru": recurrent(3, "h", biases=2),
    "conv1d": lambda n: Case(arrays((n, 6, 4), (3, 4, 5), (5,)), {"padding": 1}),
    "conv2d": lambda n: Case(arrays((n, 5, 6, 4), (3, 2, 2, 6), (6,)), {"stride": (2, 1), "groups": 2}),
    "conv_transpose2d": lambda n: Case(arrays((n, 3, 4, 4), (2, 3, 2, 4), (2,)), {"stride": 2}),
    "max_pool2d": lambda n: Case(arrays((n, 5, 6, 2)), {"window": 3, "stride": 2, "padding": 1}),
    "average_pool2d": lambda n: Case(arrays((n, 5, 6, 2)), {"window": 2}),
    "global_average_pool": lambda n: Case(arrays((n, 5, 6, 2))),
    **{name: norm("weight", "bias") for name in ("layer_norm", "batch_norm")},
    "rms_norm": norm("weight"),
    "batch_norm_inference": norm("weight", "bias", mean=np.ones(4), variance=np.ones(4)),
    "group_norm": norm("weight", "bias", groups=2),
    "dense": lambda n: Case(arrays((n, 3), (3, 4), (4,))),
    "embedding": lambda n: Case((*arrays((5, 3)), np.arange(n))),
    "dropout": lambda n: Case((*arrays((n, 3)), np.ones((n, 3), bool)), {"rate": 0.3}),
    "flatten": lambda n: Case(arrays((n, 3, 2))),
}


@pytest.mark.sweep
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("op", MODULE_OF)
def test_without_examples_and_with_one(op, count):
    if op != "batch_norm" or count:  # which has nothing to average over then
        assert_held_to_its_page(pair(op), EDGES[op](count))


def arguments(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(inspect.unwrap(function)).parameters.values()]


@pytest.mark.parametrize("name", FAST)
def test_the_names_and_arguments_are_those_of_the_page(name):
    page, fast = PAGES[name], FAST[name]
    rules, fast_rules = getattr(page, name.upper()), getattr(fast, name.upper())
    assert list(rules) == list(fast_rules)
    for op in rules:
        assert fast_rules[op] == (getattr(fast, op), getattr(fast, f"{op}_backward"))
        for function, fast_function in zip(rules[op], fast_rules[op], strict=True):
            assert arguments(fast_function) == arguments(function)


def test_a_fault_of_a_thousandth_is_noticed_and_rounding_is_not():
    right = pair("layer_norm")
    case = all_cases()["layer_norm"][0]

    def with_backward(change):
        def backward(dy, cache):
            dx, *others = right.fast[1](dy, cache)
            return change(dx), *others

        return Pair(right.page, (right.fast[0], backward))

    assert_held_to_its_page(with_backward(lambda dx: dx * (1 + 2 * np.finfo(dx.dtype).eps)), case)
    for change in (lambda dx: 1.001 * dx, lambda dx: dx.astype(np.float32), lambda dx: dx[::-1]):
        with pytest.raises(AssertionError):
            assert_held_to_its_page(with_backward(change), case)


def test_a_cache_of_another_kind_is_noticed():
    right, other = pair("tanh"), pair("softmax")
    with pytest.raises(AssertionError):
        assert_held_to_its_page(Pair(right.page, other.fast), all_cases()["tanh"][0])
