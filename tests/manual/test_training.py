"""Training: the batches, the accumulated gradients, and the loop, on both sides and between them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

import autodiff.optimizers
import autodiff.training
import manual.fast
import manual.optimizers
import manual.training

SIDES = (manual.training, manual.fast.training, autodiff.training)
OPTIMIZERS = dict(zip(SIDES, (manual.optimizers, manual.fast.optimizers, autodiff.optimizers), strict=True))
UNIT = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}

# A linear model with a squared error, averaged over examples: gradients by hand for one side, by JAX for the other.


def by_hand(p, x, y):
    error = x @ p["weight"] + p["bias"] - y
    d = error / len(x)
    return np.sum(error * d) / 2, {"weight": x.T @ d, "bias": d.sum()[()].reshape(1)}


def loss(p, x, y):
    return jnp.mean((x @ p["weight"] + p["bias"] - y) ** 2) / 2


by_jax = jax.value_and_grad(loss)
GRADIENTS = dict(zip(SIDES, (by_hand, by_hand, by_jax), strict=True))


def problem(examples, dtype: DTypeLike = np.float64, seed=0):
    random = np.random.default_rng(seed)
    parameters = {"weight": random.standard_normal(3), "bias": random.standard_normal(1)}
    x, y = random.standard_normal((examples, 3)), random.standard_normal(examples)
    return {name: p.astype(dtype) for name, p in parameters.items()}, x.astype(dtype), y.astype(dtype)


def close(a, b, unit=UNIT[np.float64]):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=50 * unit, atol=50 * unit)


# ------------------------------------------------------------------ minibatches


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 25), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_each_epoch_has_every_example_once_and_pairs_stay_pairs(examples, size, epochs, drop_last, seed):
    if drop_last and size > examples:
        return
    x = np.arange(examples)
    arrays = (x, np.stack([x, -x], axis=1).astype(np.float32))
    options = {"seed": seed, "epochs": epochs, "drop_last": drop_last}
    batches = list(manual.training.minibatches(arrays, size, **options))
    by_epoch = len(batches) // epochs
    assert len(batches) == epochs * (examples // size if drop_last else -(-examples // size))
    for epoch in range(epochs):
        taken = batches[epoch * by_epoch : (epoch + 1) * by_epoch]
        seen = np.concatenate([first for first, _ in taken])
        assert len(set(seen)) == len(seen) == (examples // size * size if drop_last else examples)
        assert all(len(first) == size for first, _ in taken[:-1])
    for first, second in batches:
        np.testing.assert_array_equal(second, np.stack([first, -first], axis=1))
        assert second.dtype == np.float32
    for ours, theirs in zip(batches, autodiff.training.minibatches(arrays, size, **options), strict=True):
        assert all(a.tobytes() == np.asarray(b).tobytes() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("side", SIDES)
def test_epochs_and_seeds_differ(side):
    x = (np.arange(50),)
    first, second = side.minibatches(x, 50, epochs=2)
    (other,) = side.minibatches(x, 50, seed=1)
    orders = {tuple(np.asarray(batch).tolist()) for (batch,) in (first, second, other)}
    assert len(orders) == 3
    assert tuple(range(50)) not in orders


def test_arrays_on_a_device_are_gathered_there_in_their_dtype():
    with jax.enable_x64(True):
        x = jnp.linspace(0, 1, 7)
    assert x.dtype == np.float64
    ((batch,),) = autodiff.training.minibatches((x,), 7)
    assert isinstance(batch, jax.Array)
    assert batch.dtype == np.float64


@pytest.mark.parametrize("side", SIDES)
def test_bad_minibatches_are_refused_before_the_first(side):
    x, y = np.ones((5, 2)), np.ones(4)
    with pytest.raises(ValueError, match=r"arrays must have equal first axes, got \[\(5, 2\), \(4,\)\]"):
        side.minibatches((x, y), 2)
    with pytest.raises(ValueError, match="batch_size and epochs must be at least 1, got 0 and 1"):
        side.minibatches((x,), 0)
    with pytest.raises(ValueError, match="batch_size and epochs must be at least 1, got 1 and 0"):
        side.minibatches((x,), 1, epochs=0)
    with pytest.raises(ValueError, match="there are 5 examples and batches have 6: no batch would be made"):
        side.minibatches((x,), 6, drop_last=True)
    with pytest.raises(ValueError, match="there are 0 examples"):
        side.minibatches((x[:0],), 6)
    with pytest.raises(ValueError, match="must be a tuple of arrays whose first axis counts examples, got \\(\\)"):
        side.minibatches((), 6)
    with pytest.raises(ValueError, match="counts examples"):
        side.minibatches((x, np.array(3.0)), 2)


# ------------------------------------------------------------------ accumulate


def uneven(x, y):
    return [(x[i:j], y[i:j]) for i, j in ((0, 1), (1, 6), (6, 8))]


@pytest.mark.parametrize("side", SIDES)
def test_unequal_parts_give_the_gradient_of_the_whole(side):
    parameters, x, y = problem(8)
    gradients, parts = GRADIENTS[side], uneven(x, y)
    whole = by_hand(parameters, x, y)
    close(side.accumulate(gradients, parameters, parts), whole)
    close(side.accumulate(gradients, parameters, parts, weights=np.array([1, 5, 2])), whole)
    close(side.accumulate(gradients, parameters, [(x, y)]), whole)
    _, plain_mean = side.accumulate(gradients, parameters, parts, weights=[1, 1, 1])  # the fault that weights prevent
    assert np.abs(np.asarray(plain_mean["weight"]) - whole[1]["weight"]).max() > 0.01


@pytest.mark.parametrize("side", SIDES)
def test_a_mean_over_what_counts_is_weighted_by_that(side):
    """The loss is a mean over targets that are not masked; the last part has none, and would be 0 / 0."""
    x = np.arange(1.0, 9.0)
    mask = np.array([1, 1, 1, 0, 0, 1, 0, 0], np.float64)
    parts = [(x[i:j], mask[i:j]) for i, j in ((0, 4), (4, 6), (6, 8))]
    xp = jnp if side is autodiff.training else np

    def masked(p, x, mask):
        return p * xp.sum(mask * x) / mask.sum(), xp.sum(mask * x) / mask.sum()

    expected = (1 + 2 + 3 + 6) / 4
    with np.errstate(invalid="ignore"):
        value, gradient = side.accumulate(masked, np.asarray(2.0), parts, weights=[part[1].sum() for part in parts])
    assert gradient == pytest.approx(expected, rel=1e-15)
    assert value == pytest.approx(2 * expected, rel=1e-15)


@pytest.mark.parametrize("side", SIDES)
def test_float32_stays_float32(side):
    parameters, x, y = problem(8, np.float32)
    close(
        side.accumulate(GRADIENTS[side], parameters, uneven(x, y)),
        by_hand(parameters, x, y),
        unit=UNIT[np.float32],
    )


@pytest.mark.parametrize("side", SIDES[:2])
def test_memory_that_the_function_reuses_is_no_trap(side):
    parameters, x, y = problem(8)
    memory = {name: np.empty_like(p) for name, p in parameters.items()}

    def reusing(parameters, x, y):
        value, gradients = by_hand(parameters, x, y)
        for name, g in gradients.items():
            memory[name][...] = g
        return value, memory

    close(side.accumulate(reusing, parameters, uneven(x, y)), by_hand(parameters, x, y))


def test_traced_weights_whose_sum_is_zero_give_nan():
    parameters, x, y = problem(8, np.float32)

    @jax.jit
    def step(weights):
        return autodiff.training.accumulate(by_jax, parameters, uneven(x, y), weights=list(weights))

    close(step(jnp.array([1, 5, 2])), by_hand(parameters, x, y), unit=UNIT[np.float32])
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(step(jnp.array([0, 0, 0]))))


@pytest.mark.parametrize("side", SIDES)
def test_bad_parts_and_weights(side):
    parameters, x, y = problem(8)
    accumulate = partial(side.accumulate, GRADIENTS[side], parameters)
    with pytest.raises(ValueError, match="parts is empty"):
        accumulate([])
    with pytest.raises(ValueError, match="there are 3 parts and 2 weights; give one to each part"):
        accumulate(uneven(x, y), weights=[1, 2])
    for bad in ([0, 0, 0], [1, -1, 3], [1, np.nan, 1], [1, np.inf, 1]):
        with pytest.raises(ValueError, match="weights must be finite, at least 0, and not all 0; got"):
            accumulate(uneven(x, y), weights=bad)
    with pytest.raises(ValueError, match=r"equal first axes, which count examples.* got shapes \[\(8, 3\), \(7,\)\]"):
        accumulate([(x, y[:7]), (x, y)])
    with pytest.raises(ValueError, match="equal first axes"):
        accumulate([(), ()])


# ------------------------------------------------------------------ train


def trained(side, dtype: DTypeLike = np.float64, name="adamw", **options):
    parameters, x, y = problem(23, dtype)
    batches = side.minibatches((x, y), 5, epochs=4)  # the last of each epoch has 3
    return side.train(GRADIENTS[side], parameters, batches, OPTIMIZERS[side].OPTIMIZERS[name](0.05), **options)


@pytest.mark.sweep
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_sides_train_alike(dtype, parts):
    ours, fast, theirs = (trained(side, dtype, parts=parts) for side in SIDES)
    assert ours[2].shape == fast[2].shape == theirs[2].shape == (20,)
    assert ours[2].dtype == fast[2].dtype == theirs[2].dtype == dtype
    close(ours, theirs, unit=UNIT[dtype])
    close(ours, fast, unit=UNIT[dtype])
    assert ours[2][-5:].mean() < ours[2][:5].mean()


@pytest.mark.sweep
@pytest.mark.parametrize("side", SIDES)
def test_training_is_a_loop_of_updates(side):
    parameters, x, y = problem(23)
    optimizer = OPTIMIZERS[side].momentum(0.05)
    state, losses = optimizer.initialize(parameters), []
    for batch in side.minibatches((x, y), 5, epochs=4):
        value, gradients = by_hand(parameters, *batch)
        parameters, state = optimizer.update(parameters, gradients, state)
        parameters = jax.tree.map(np.asarray, parameters)
        losses.append(value)
    for parts in (1, 3):
        close(trained(side, name="momentum", parts=parts), (parameters, state, np.array(losses)))


@pytest.mark.parametrize("side", SIDES)
def test_training_goes_on_from_a_state_and_leaves_its_arguments_alone(side):
    parameters, x, y = problem(20)
    optimizer = OPTIMIZERS[side].adam(0.05)
    train = partial(side.train, GRADIENTS[side], optimizer=optimizer)
    batches = list(side.minibatches((x, y), 5, epochs=2))
    whole = train(parameters, batches)
    half, state, first = train(parameters, batches[:4])
    kept = jax.tree.map(lambda leaf: np.array(leaf), (parameters, half, state))
    *rest, second = train(half, batches[4:], state=state)
    close((*rest, np.concatenate([first, second])), whole, unit=0.0)
    close((parameters, half, state), kept, unit=0.0)  # and on the device they are still there to be read


def test_each_shape_of_batch_is_compiled_once_and_found_again():
    traced = []

    def counted(p, x, y):
        traced.append(x.shape)
        return by_jax(p, x, y)

    parameters, x, y = problem(13, np.float32)
    optimizer = autodiff.optimizers.sgd(0.1)
    for _ in range(2):
        batches = autodiff.training.minibatches((x, y), 5, epochs=3)
        autodiff.training.train(counted, parameters, batches, optimizer)
    assert sorted(traced) == [(3, 3), (5, 3)]
    traced.clear()
    for _ in range(2):
        autodiff.training.train(counted, parameters, [(x, y)] * 3, optimizer, parts=3)
    assert sorted(traced) == [(4, 3), (5, 3)]


@pytest.mark.parametrize("side", SIDES[:2])
def test_tied_parameters_train_as_two(side):
    """Two leaves in one memory must not be updated twice in it."""
    tied = np.ones(3)
    optimizer = OPTIMIZERS[side].sgd(0.5)
    after, _, _ = side.train(lambda p: (0.0, p), [tied, tied], [()], optimizer)
    close(after, [np.full(3, 0.5)] * 2)


@pytest.mark.parametrize("side", SIDES)
def test_bad_training(side):
    parameters, x, y = problem(8)
    train = partial(side.train, GRADIENTS[side], parameters, optimizer=OPTIMIZERS[side].sgd(0.1))
    with pytest.raises(ValueError, match="batches is empty: there is nothing to train on"):
        train([])
    exhausted = side.minibatches((x, y), 4)
    train(exhausted)
    with pytest.raises(ValueError, match="An iterator gives its batches only once"):
        train(exhausted)
    with pytest.raises(ValueError, match=r"a batch of 8 examples cannot be cut into 9 parts\. Give fewer parts"):
        train([(x, y)], parts=9)
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        train([(x, y)], parts=0)
    with pytest.raises(ValueError, match=r"a batch must be a tuple of arrays, got an array of shape \(8, 3\)"):
        train([x])
    with pytest.raises(ValueError, match="equal first axes"):
        train([(x, y[:7])], parts=2)
