"""Optimizers' manners with dtypes, memory, threads and trees, and what they refuse."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.optimizers
import autodiff.schedules
import manual.fast
import manual.optimizers
from manual._trees import leaves_by_path, rebuilt
from tests.updates import RATE, SCHEDULE, big, flat, gradients_like, run, same_bits

SIDES = (manual.optimizers, manual.fast.optimizers, autodiff.optimizers)
NAMES = list(manual.optimizers.OPTIMIZERS)

# ------------------------------------------------------------------ dtypes, purity, memory


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("side", SIDES)
def test_work_keeps_its_dtype_whatever_the_constants(side, dtype):
    wide = np.float64(0.01)
    parameters = {"p": np.linspace(-1, 1, 12).reshape(3, 4).astype(dtype)}
    optimizer = side.adamw(lambda count: wide, beta1=np.float64(0.9), epsilon=np.float64(1e-5), weight_decay=wide)
    optimizer = side.clipped(optimizer, 1.0)
    update = jax.jit(optimizer.update) if side is autodiff.optimizers and dtype != np.float64 else optimizer.update
    after = run(optimizer, parameters, gradients_like(parameters, 2, dtype), update)
    dtypes = {np.asarray(leaf).dtype for leaf in jax.tree.leaves(after)}
    assert dtypes == {np.dtype(dtype), np.dtype(np.int32)}
    assert np.isfinite(flat(after[0])).all()


def test_float32_stays_float32_where_jax_has_64_bits():
    with jax.enable_x64(True):
        rate = autodiff.schedules.cosine_with_warmup(RATE, **SCHEDULE)
        optimizer = autodiff.optimizers.clipped(autodiff.optimizers.adamw(rate), 1.0)
        parameters = {"p": jax.numpy.ones((3, 4), np.float32)}
        after = jax.jit(optimizer.update)(parameters, parameters, optimizer.initialize(parameters))
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {np.dtype(np.float32), np.dtype(np.int32)}


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_pure(name, donate):
    """It may be allowed to write to what it is given, and makes no use of it."""
    optimizer = manual.optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1)
    parameters, gradients = big(), big(1)
    _, state = optimizer.update(parameters, gradients, optimizer.initialize(parameters))
    before = jax.tree.map(np.copy, (parameters, gradients, state))
    after = optimizer.update(parameters, gradients, state, donate=donate)
    same_bits((parameters, gradients, state), before)
    for ours in jax.tree.leaves(after):
        assert not any(np.shares_memory(ours, theirs) for theirs in jax.tree.leaves((parameters, gradients, state)))


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_fast_is_the_page_to_rounding(name):
    """In every layout, with fields that have a history, clipped and not, in any order of the keys."""
    for dtype in (np.float64, np.float32):
        for maximum in (1e-3, 1e3):
            found = []
            for side in SIDES[:2]:
                optimizer = side.clipped(side.OPTIMIZERS[name](RATE, weight_decay=0.1), maximum)
                parameters, state = big(dtype=dtype), optimizer.initialize(big(dtype=dtype))
                for seed in (1, 2, 3):
                    gradients = dict(reversed(big(seed, dtype).items()))
                    parameters, state = optimizer.update(parameters, gradients, state)
                found.append((parameters, state))
            assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
            for page, fast in zip(*map(jax.tree.leaves, found), strict=True):
                assert (page.shape, page.dtype) == (fast.shape, fast.dtype)
                unit = float(np.finfo(dtype).eps)
                np.testing.assert_allclose(fast, page, rtol=50 * unit, atol=50 * unit)


@pytest.mark.parametrize("side", SIDES)
def test_leaves_are_matched_by_path_and_not_by_position(side):
    """JAX sorts the keys of dicts; NumPy code has them as they were written."""
    optimizer = side.momentum(1.0)
    p, g = {"b": np.zeros(1), "a": np.zeros(2)}, {"a": np.ones(2), "b": np.full(1, 2.0)}
    state = optimizer.initialize(p)._replace(velocity={"a": np.full(2, 30.0), "b": np.full(1, 40.0)})
    p, state = optimizer.update(p, g, state)
    for tree, sign in ((p, -1), (state.velocity, 1)):
        np.testing.assert_array_equal(tree["a"], sign * np.full(2, 28.0))
        np.testing.assert_array_equal(tree["b"], sign * np.full(1, 38.0))


def test_jax_can_donate_what_initialize_gives():
    """Two fields of the state in one buffer could not be."""
    for name in NAMES:
        optimizer = autodiff.optimizers.OPTIMIZERS[name](RATE)
        parameters = jax.tree.map(jax.numpy.array, {"p": np.ones(3, np.float32)})
        state = optimizer.initialize(parameters)
        jax.jit(optimizer.update, donate_argnums=(0, 2))(parameters, {"p": np.ones(3, np.float32)}, state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((parameters, state)))


# ------------------------------------------------------------------ trees

LEAF = st.integers(0, 3).map(lambda size: np.arange(float(size)))
TREES = st.recursive(
    LEAF | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab", max_size=2), children, max_size=3)
        | children.map(lambda child: manual.optimizers.MomentumState(np.zeros((), np.int32), child))
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(TREES)
def test_trees_are_taken_apart_and_put_together(tree):
    leaves = leaves_by_path(tree)
    assert len(leaves) == len(jax.tree.leaves(tree))
    again = rebuilt(tree, iter(leaves.values()))
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    for path, leaf in leaves.items():
        found = again
        for key in path:
            found = getattr(found, key) if hasattr(found, "_fields") else found[key]
        assert found is leaf


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("side", SIDES)
def test_bad_constants(side):
    with pytest.raises(ValueError, match=r"learning_rate must be a finite number and at least 0, got -0\.1"):
        side.sgd(-0.1)
    with pytest.raises(ValueError, match="weight_decay must be a finite number and at least 0, got inf"):
        side.momentum(0.1, weight_decay=math.inf)
    with pytest.raises(ValueError, match=r"beta2 must be at least 0 and below 1, got 1\.0; it is the weight of"):
        side.adam(0.1, beta2=1.0)
    with pytest.raises(ValueError, match="epsilon must be a finite number and at least 0, got nan"):
        side.rmsprop(0.1, epsilon=math.nan)
    for bad in (0.0, math.nan):
        with pytest.raises(ValueError, match="maximum must be a positive number, got"):
            side.clipped(side.sgd(0.1), bad)
    with pytest.raises(ValueError, match="maximum must be a positive number, got"):
        side.clip_by_global_norm([np.ones(2)], -1.0)


@pytest.mark.parametrize("side", SIDES)
def test_bad_trees(side):
    optimizer = side.momentum(0.1)
    parameters = {"layers": [{"weight": np.ones((2, 3))}, {"bias": np.ones(3)}]}
    state = optimizer.initialize(parameters)

    def update_with(weight, bias):
        return optimizer.update(parameters, {"layers": [weight, bias]}, state)

    with pytest.raises(ValueError, match=r"parameters has a leaf layers\.1\.bias and gradients has none"):
        update_with({"weight": np.ones((2, 3))}, {})
    with pytest.raises(ValueError, match=r"gradients has a leaf layers\.1\.gain and parameters has none"):
        update_with({"weight": np.ones((2, 3))}, {"bias": np.ones(3), "gain": np.ones(3)})
    with pytest.raises(
        ValueError, match=r"layers\.0\.weight: parameters has float64 \(2, 3\) and gradients has float64 "
    ):
        update_with({"weight": np.ones((3, 2))}, {"bias": np.ones(3)})
    with pytest.raises(ValueError, match=r"gradients has float32 \(3,\); shapes and dtypes must be equal\. Cast or"):
        update_with({"weight": np.ones((2, 3))}, {"bias": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"layers\.0 is int64; leaves must be floating-point arrays"):
        optimizer.initialize({"layers": [np.arange(3)]} if side is not autodiff.optimizers else jax_integers())
    with pytest.raises(ValueError, match="the state has 2 fields; this optimizer's has step, first_moment, second_m"):
        side.adam(0.1).update(parameters, parameters, state)


def jax_integers():
    with jax.enable_x64(True):
        return {"layers": [jax.numpy.arange(3)]}


@pytest.mark.parametrize("side", SIDES)
def test_an_epsilon_that_rounds_to_zero_is_refused(side):
    """In float16 it would leave 0 / 0 where no gradient has come yet."""
    with pytest.raises(ValueError, match=r"epsilon is 1e-08, which float16 \(a\) rounds to 0\. Give a larger one"):
        side.adam(0.1).initialize({"a": np.ones(2, np.float16)})
    side.adam(0.1, epsilon=0.0).initialize({"a": np.ones(2, np.float16)})
    side.adam(0.1, epsilon=1e-7).initialize({"a": np.ones(2, np.float16)})
