"""Random rounding: every operation is moved by its own rounding, and by nothing more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.program.interpreter import interpreted
from compare.judge.roundoff.perturbation import Noise, bend_slopes, collect_slopes, draws, rounding_noise, unit_roundoff

UNIT = unit_roundoff(np.float32)


def noisy(function, *args, sample=0):
    return interpreted(function, rounding_noise(Noise(draws(10_000, sample), UNIT)))(*args)


def test_draws_have_variance_one_and_differ_between_samples_and_operations():
    value = jnp.zeros(50_000)
    of_samples = [Noise(draws(50_000, sample), 1.0).like(value) for sample in (0, 1)]
    assert np.var(of_samples[0]) == pytest.approx(1, rel=0.02)
    noise = Noise(draws(50_000, 0), 1.0)
    of_operations = [noise.like(value), noise.like(value)]
    of_turns = [noise.of_a_turn(number).like(value) for number in (0, 1)]
    for pair in (of_samples, of_operations, of_turns):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.02


def test_what_moves_numbers_moves_no_bits():
    x = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(noisy(lambda x: jnp.concatenate([x.T, -x.T])[::2], x), np.concatenate([x.T, -x.T])[::2])


@pytest.mark.parametrize(
    "function", [jnp.exp, jnp.tanh, lambda x: x * 3.7, lambda x: x @ x.T, lambda x: jax.lax.cumsum(x)]
)
def test_other_results_scatter_by_some_units_in_the_last_place(function):
    with jax.enable_x64(True):
        x = np.random.default_rng(0).uniform(0.5, 1, (4, 4))
        scatter = np.std([noisy(function, x, sample=k) / function(x) - 1 for k in range(20)], axis=0)
    assert (scatter > 0.2 * UNIT).all()
    assert (scatter < 20 * UNIT).all()


def test_a_conversion_rounds_only_to_what_is_narrower():
    """Labels are compared with 1, whatever they were before they were numbers."""
    labels = np.array([0, 1, 1])
    with jax.enable_x64(True):
        assert np.array_equal(noisy(lambda t: t.astype(float) == 1, labels), labels == 1)
        assert np.array_equal(noisy(lambda t: t.astype("float32").astype(float), labels), labels)
        assert not np.array_equal(noisy(lambda x: x.astype(jnp.bfloat16), np.full(3, 0.7)), np.full(3, 0.7))


def test_infinity_stays_what_it_is():
    masked = noisy(lambda x: jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)), np.array([1.0, -1.0, 2.0]))
    assert masked[1] == 0
    assert np.isfinite(masked).all()


@pytest.mark.parametrize("loop", [False, True])
def test_bending_moves_derivatives_and_not_values(loop):
    def once(x):
        return jnp.sum(jnp.tanh(x))

    def turns(x):
        return jnp.sum(jax.lax.scan(lambda c, _: (jnp.tanh(c), None), x, length=2)[0])

    function = turns if loop else once
    x = np.array([0.5, 30.0])
    slopes: list = []
    interpreted(function, collect_slopes(slopes))(x)
    assert all((np.asarray(slope) <= 1).all() for slope in jax.tree.leaves(slopes))
    bends = jax.tree.map(lambda slope: 0.25 * slope, slopes)

    def bent(x):
        return interpreted(function, bend_slopes(bends))(x)

    assert bent(x) == pytest.approx(float(function(x)))
    assert jax.grad(function)(x)[1] == pytest.approx(0, abs=1e-6)  # saturated
    assert jax.grad(bent)(x)[1] > 0.01  # but not so far away from there
