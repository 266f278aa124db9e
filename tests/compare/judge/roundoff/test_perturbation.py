"""Random rounding: every operation is moved by its own rounding, and by nothing more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compare import tap
from compare.judge.program.trace import Program, Taps, traced
from compare.judge.roundoff.perturbation import Noise, RoundingNoise, unit_roundoff

UNIT = unit_roundoff(np.float32)


def noise(sample=0, unit=UNIT, size=10_000):
    return RoundingNoise(Noise(size, sample, unit))


def noisy(function, *args, **kinds):
    with jax.enable_x64(True):
        return Program(function, *args)(*args, rule=noise(**kinds))


def still(function, *args):
    with jax.enable_x64(True):
        return Program(function, *args)(*args)


def test_draws_have_variance_one_and_differ_between_samples_and_operations():
    value = np.zeros(50_000)
    of_samples = [Noise(50_000, sample, 1.0).like(value) for sample in (0, 1)]
    assert np.var(of_samples[0]) == pytest.approx(1, rel=0.02)
    draws = Noise(50_000, 0, 1.0)
    of_operations = [draws.like(value), draws.like(value)]
    for pair in (of_samples, of_operations):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.02


def test_complex_draws_have_as_much_in_either_part():
    draw = Noise(50_000, 0, 1.0).like(np.zeros(50_000, complex))
    assert np.var(draw.real) == pytest.approx(0.5, rel=0.02)
    assert np.var(draw.imag) == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(draw.real, draw.imag)[0, 1]) < 0.02


def test_every_turn_of_a_loop_rounds_by_itself():
    turns = noisy(lambda x: lax.scan(lambda c, _: (c, c * 3.7), x, length=40)[1], np.ones(30))
    assert len(np.unique(turns[:, 0])) == 40
    assert np.abs(np.corrcoef(turns)[0, 1:]).mean() < 0.3


def test_what_moves_numbers_moves_no_bits():
    x = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(noisy(lambda x: jnp.concatenate([x.T, -x.T])[::2], x), np.concatenate([x.T, -x.T])[::2])
    assert np.array_equal(noisy(lambda x: jnp.max(jnp.sort(x), axis=0), x), x.max(axis=0))


@pytest.mark.parametrize(
    "function", [jnp.exp, jnp.tanh, lambda x: x * 3.7, lambda x: x @ x.T, lambda x: lax.cumsum(x), jnp.linalg.inv]
)
def test_other_results_scatter_by_some_units_in_the_last_place(function):
    x = np.random.default_rng(0).uniform(0.5, 1, (4, 4)) + 3 * np.eye(4)
    scatter = np.std([noisy(function, x, sample=k) / still(function, x) - 1 for k in range(20)], axis=0)
    assert (scatter > 0.2 * UNIT).all()
    assert (scatter < 200 * UNIT).all()


@pytest.mark.parametrize("function", [jnp.exp, lambda x: x * 3.7, lambda x: x @ x.T, lambda x: jnp.sum(x * x)])
def test_complex_results_scatter_in_both_parts(function):
    x = np.random.default_rng(0).uniform(0.5, 1, (4, 4)) * np.exp(1j)
    right = still(function, x)
    scatter = np.array([(noisy(function, x, sample=k) - right) / np.abs(right) for k in range(20)])
    for part in (np.real(scatter), np.imag(scatter)):
        assert (np.std(part, axis=0) > 0.1 * UNIT).all()
        assert (np.std(part, axis=0) < 30 * UNIT).all()


def test_a_conversion_rounds_only_to_what_is_narrower():
    """Labels are compared with 1, whatever they were before they were numbers."""
    labels = np.array([0, 1, 1])
    assert np.array_equal(noisy(lambda t: t.astype(float) == 1, labels), labels == 1)
    assert np.array_equal(noisy(lambda t: t.astype("float32").astype(float), labels), labels)
    for narrow in (jnp.bfloat16, np.float32):
        x = np.full(3, 0.7)
        assert not np.array_equal(noisy(lambda x, n=narrow: x.astype(n), x), still(lambda x, n=narrow: x.astype(n), x))
    narrow = np.full(3, 0.7, np.float32)
    with jax.enable_x64(True):
        program = Program(lambda x, y: (x.astype(float), y), narrow, np.float64(1), narrow_stays=True)
        np.testing.assert_array_equal(program(narrow, np.float64(1), rule=noise())[0], narrow)


@pytest.mark.parametrize("narrow", [jnp.bfloat16, np.float16])
def test_work_in_fewer_bits_on_purpose_rounds_as_coarsely_as_it_does(narrow):
    x = np.random.default_rng(0).uniform(0.5, 1, 400)

    def function(x):
        return (x.astype(narrow) * jnp.asarray(3, narrow)).astype(x.dtype)

    scatter = np.std([noisy(function, x, sample=k) / still(function, x) - 1 for k in range(10)], axis=0)
    assert 0.5 * unit_roundoff(narrow) < np.mean(scatter) < 4 * unit_roundoff(narrow)


@pytest.mark.parametrize("narrow", [jnp.bfloat16, np.float16])
def test_intermediate_results_may_be_stored_in_16_bits_whatever_the_trace_says(narrow):
    x = np.random.default_rng(0).uniform(0.5, 1, 400).astype(narrow)
    program = Program(lambda x: x.astype(np.float32) * 3, x)

    def scatter(intermediates):
        draws = [Noise(400, sample, unit_roundoff(np.float32)) for sample in range(10)]
        rules = [RoundingNoise(each, intermediates=intermediates) for each in draws]
        return np.mean(np.std([program(x, rule=rule) / program(x) - 1 for rule in rules], axis=0))

    assert scatter(None) < 4 * unit_roundoff(np.float32)
    assert 0.5 * unit_roundoff(narrow) < scatter(narrow) < 4 * unit_roundoff(narrow)


def test_infinity_stays_what_it_is():
    masked = noisy(lambda x: jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)), np.array([1.0, -1.0, 2.0]))
    assert masked[1] == 0
    assert np.isfinite(masked).all()


def test_random_bits_and_keys_do_not_round():
    def draws(x):
        keys = jax.random.split(jax.random.key(3))
        return jax.random.bits(keys[0], (4,)), jax.random.randint(keys[1], (4,), 0, 100), x

    moved, right = noisy(draws, np.ones(2)), still(draws, np.ones(2))
    np.testing.assert_array_equal(moved[0], right[0])
    np.testing.assert_array_equal(moved[1], right[1])


# ----------------------------------------------------------------- derivatives that round away from saturation


def losses():
    @jax.custom_jvp
    def saturating(x):
        return jnp.tanh(x)

    saturating.defjvp(lambda p, t: (jnp.tanh(p[0]), (1 - jnp.tanh(p[0]) ** 2) * t[0]))
    tanh = jnp.tanh
    return {
        "tanh": lambda x: jnp.sum(tanh(x)),
        "in a call": lambda x: jnp.sum(jax.jit(tanh)(x)),
        "in a loop": lambda x: jnp.sum(lax.scan(lambda c, _: (tanh(c), None), x, length=2)[0]),
        "in a branch": lambda x: jnp.sum(lax.cond(x[0] > 0, tanh, jnp.sin, x)),
        "a rule of its own": lambda x: jnp.sum(saturating(x)),
        "logistic": lambda x: jnp.sum(jax.nn.sigmoid(x)),
        "log of it": lambda x: jnp.sum(jax.nn.log_sigmoid(x)),
    }


@pytest.mark.parametrize("name", losses())
def test_a_saturated_derivative_moves_by_the_rounding_of_its_size_elsewhere(name):
    x = np.array([0.5, 30.0])
    with jax.enable_x64(True):
        program = traced(losses()[name], x)
        loss, right = program.gradient(x)
        found = [program.gradient(x, rule=noise(sample=k, unit=2.0**-53)) for k in range(16)]
    assert abs(right["value"][1]) < 1e-12  # saturated
    scatter = np.std([gradient["value"][1] for _, gradient in found])
    assert 0.05 * 2.0**-53 < scatter < 40 * 2.0**-53
    assert np.std([value for value, _ in found]) < 200 * 2.0**-53 * max(1, abs(loss))


def test_the_derivative_away_from_saturation_moves_by_its_own_rounding():
    x = np.array([0.5, 1.0, 2.0])
    with jax.enable_x64(True):
        program = traced(losses()["tanh"], x)
        right = program.gradient(x)[1]["value"]
        found = [program.gradient(x, rule=noise(sample=k))[1]["value"] for k in range(20)]
    scatter = np.std(np.array(found) / right - 1, axis=0)
    assert (scatter > 0.2 * UNIT).all()
    assert (scatter < 200 * UNIT).all()


def test_the_noise_reaches_what_arrives_at_a_tap():
    x = np.linspace(0.1, 1, 5)
    with jax.enable_x64(True):
        program = traced(lambda x: jnp.sum(jnp.sin(3 * tap("h", jnp.exp(x)))), x)
        quiet, loud = Taps(), Taps()
        program.gradient(x, taps=quiet)
        program.gradient(x, taps=loud, rule=noise())
    assert not np.array_equal(quiet.gradients["h"], loud.gradients["h"])
    np.testing.assert_allclose(quiet.gradients["h"], loud.gradients["h"], rtol=1e-4)
