"""Discrete decisions of the unmoved run are taken again in every other: 5.0 stays on its side of 5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from compare.judge.program.decisions import Decisions
from compare.judge.program.trace import Program
from compare.judge.roundoff.perturbation import Noise, RoundingNoise


def moved(function, *args, steady=True, sample=0, decided=True):
    """A value with the noise of float16 in it, and the decisions of the run without, unless `decided` is false."""
    with jax.enable_x64(True):
        program = Program(function, *args)
        decisions = Decisions(steady)
        program(*args, rule=decisions.recording())
        draws = Noise(64, sample, 2.0**-11)
        return program(*args, rule=RoundingNoise(draws, decisions.repeated() if decided else None))


def still(function, *args):
    with jax.enable_x64(True):
        return Program(function, *args)(*args)


# At each of these, the decision is on a border: 1 is 5 / 5, and 3 is three times 1, computed.
ON_A_BORDER = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def computed(x):
    """Numbers that are what they were but for rounding."""
    return x * 3.0 / 3.0


STEADY = {
    "floor": lambda x: jnp.floor(computed(x)),
    "ceil": lambda x: jnp.ceil(computed(x)),
    "round": lambda x: jnp.round(computed(x + 0.5)),
    "conversion to integers": lambda x: computed(x).astype(int),
    "equality": lambda x: computed(x) == x,
    "whole quotients": lambda x: jnp.floor_divide(computed(x), 1.0),
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("sample", range(3))
@pytest.mark.parametrize("steady", [True, False])
def test_what_is_decided_about_numbers_stays_decided(name, sample, steady):
    function = STEADY[name]
    assert np.array_equal(moved(function, ON_A_BORDER, sample=sample, steady=steady), still(function, ON_A_BORDER))


@pytest.mark.parametrize("name", STEADY)
def test_without_its_decisions_noise_would_move_them(name):
    found = [moved(STEADY[name], ON_A_BORDER, sample=sample, decided=False) for sample in range(20)]
    assert any(not np.array_equal(value, still(STEADY[name], ON_A_BORDER)) for value in found)


COMPARED = {
    "less": lambda x: computed(x) < x,
    "at least": lambda x: computed(x) >= x,
    "sign": lambda x: jnp.sign(computed(x) - x),
    "argmax": lambda x: jnp.argmax(computed(jnp.ones_like(x))),
    "argmin": lambda x: jnp.argmin(computed(jnp.ones_like(x))),
}


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons_are_repeated_if_they_are_to_be_steady_and_taken_anew_if_not(name):
    right = still(COMPARED[name], ON_A_BORDER)
    steady, unsteady = (
        [moved(COMPARED[name], ON_A_BORDER, sample=sample, steady=kind) for sample in range(20)]
        for kind in (True, False)
    )
    assert all(np.array_equal(value, right) for value in steady)
    assert not all(np.array_equal(value, right) for value in unsteady)


@pytest.mark.parametrize("function", [jnp.sort, lambda x: lax.top_k(x, 3)[0]])
def test_the_order_of_a_sort_is_kept_and_its_numbers_are_moved(function):
    equal = np.ones(6)

    def places(x):
        found = computed(x) + 0.0 * jnp.arange(6.0)
        ordered = jnp.argsort(found) if function is jnp.sort else lax.top_k(found, 3)[1]
        return ordered, function(found)

    order, values = moved(places, equal)
    right, _ = still(places, equal)
    assert np.array_equal(order, right)
    assert not np.array_equal(values, np.ones(values.shape))  # only its order is kept
    assert np.max(np.abs(values - 1)) < 0.02


def test_a_sort_of_several_arrays_takes_all_of_them_along():
    keys, along = np.ones(5), np.arange(5.0)

    def function(keys, along):
        return lax.sort((computed(keys), along), num_keys=1)

    _, right = still(function, keys, along)
    _, found = moved(function, keys, along)
    assert np.array_equal(found, right)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_remainder_stays_on_its_side_of_the_jump(sign):
    """6 mod 3 is 0, and -0.01 or 2.99 if 6 is moved first: continuous moves alone are rounding."""

    def function(x):
        return lax.rem(computed(sign * x), 3.0)

    x = np.array([6.0, 7.0, 8.9, 3.0])
    for sample in range(5):
        found = moved(function, x, sample=sample)
        assert np.max(np.abs(found - still(function, x))) < 0.1
        assert not np.array_equal(found, still(function, x))
    jumps = [np.max(np.abs(moved(function, x, sample=k, decided=False) - still(function, x))) for k in range(20)]
    assert max(jumps) > 2.9


def test_a_remainder_by_zero_is_no_error():
    with np.errstate(all="ignore"):
        assert np.isnan(moved(lambda x: lax.rem(computed(x), 0.0), np.array([1.0]))).all()


# ------------------------------------------------------------------------------ loops, which decide many times


def scanned(x):
    def turn(total, value):
        return total + jnp.floor(computed(value)), jnp.floor(computed(total))

    return lax.scan(turn, jnp.zeros((), x.dtype), x)


def looped(x):
    def turn(state):
        i, total = state
        return i + 1, total + jnp.floor(computed(x[i]))

    return lax.while_loop(lambda state: state[0] < len(x), turn, (0, jnp.zeros((), x.dtype)))[1]


def stopped(x):
    """Ends at a number that is computed: with another comparison it would take another turn."""

    def turn(state):
        i, value = state
        return i + 1, computed(value) - 1.0

    return lax.while_loop(lambda state: computed(state[1]) > 0.0, turn, (0, x[2]))[0]


@pytest.mark.parametrize("sample", range(5))
def test_a_loop_ends_when_it_did(sample):
    assert moved(stopped, ON_A_BORDER, sample=sample) == still(stopped, ON_A_BORDER)


@pytest.mark.parametrize("function", [scanned, looped])
@pytest.mark.parametrize("sample", range(3))
def test_each_turn_of_a_loop_has_decisions_of_its_own(function, sample):
    found, right = moved(function, ON_A_BORDER, sample=sample), still(function, ON_A_BORDER)
    for value, true in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(value, true, rtol=0.01)


def test_runs_do_not_use_each_other_s_decisions_up():
    with jax.enable_x64(True):
        program, decisions = Program(scanned, ON_A_BORDER), Decisions()
        right = program(ON_A_BORDER, rule=decisions.recording())
        for _ in range(3):
            again = program(ON_A_BORDER, rule=decisions.repeated().rule)
            assert jax.tree.all(jax.tree.map(np.array_equal, again, right))


def test_what_takes_more_turns_than_were_decided_decides_anew():
    with jax.enable_x64(True):
        program = Program(lambda n: lax.fori_loop(0, n, lambda i, t: t + jnp.floor(i / 2.0), 0.0), np.array(2))
        decisions = Decisions(steady=False)  # or it would end after two, as it did
        program(np.array(2), rule=decisions.recording())
        assert program(np.array(6), rule=decisions.repeated().rule) == 6.0


# ------------------------------------------------------------------------------------- at other arguments


def indexed(at):
    i = jnp.floor(at).astype(int)
    return i, at - i


def test_a_decision_belongs_to_the_point_where_it_was_made():
    """Differences of a loss beside 5.0 look up what 5.0 does."""
    with jax.enable_x64(True):
        program, decisions = Program(indexed, np.array(5.0)), Decisions()
        program(np.array(5.0), rule=decisions.recording())
        index, rest = program(np.array(5.0 - 1e-6), rule=decisions.repeated().rule)
    assert index == 5
    assert rest == pytest.approx(-1e-6)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-50, 50), min_size=1, max_size=8), step=st.floats(-1e-3, 1e-3))
def test_beside_a_point_everything_is_continuous(values, step):
    """x - floor(x), |x| mod 3 and a sort, at a step of any sign from any point, never move by more than the step."""
    x = np.array(values)

    def function(x):
        return x - jnp.floor(x), lax.rem(x, 3.0), jnp.sort(x), jnp.round(x)

    with jax.enable_x64(True):
        program, decisions = Program(function, x), Decisions()
        before = program(x, rule=decisions.recording())
        after = program(x + step, rule=decisions.repeated().rule)
    for old, new in zip(before, after, strict=True):
        assert np.max(np.abs(new - old)) <= abs(step) + 1e-12


def test_random_bits_are_no_decisions():
    """They are drawn again, and are the same."""

    def function(x, key):
        return x * jax.random.normal(key, x.shape)

    key = jax.random.key(0)
    assert np.allclose(moved(function, ON_A_BORDER, key), still(function, ON_A_BORDER, key), rtol=0.05)
