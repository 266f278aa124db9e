"""Schedules: the values at the corners, on both sides, in either precision, traced and not."""

import math

import jax
import numpy as np
import pytest

import autodiff.schedules
import manual.schedules

SIDES = (manual.schedules, autodiff.schedules)


def both(name, *args, **options):
    return [side.SCHEDULES[name](*args, **options) for side in SIDES]


def test_the_tables_are_alike():
    assert list(SIDES[0].SCHEDULES) == list(SIDES[1].SCHEDULES) == ["constant", "cosine_with_warmup", "step_decay"]


def test_constant():
    for rate in both("constant", 0.3):
        assert rate(0) == rate(10**6) == 0.3


@pytest.mark.parametrize(
    ("count", "value"),
    [
        (0, 0.0),
        (1, 0.5),
        (3, 1.5),
        (4, 2.0),  # the peak
        (5, 0.1 + 1.9 * (1 + math.cos(math.pi / 8)) / 2),
        (8, 0.1 + 1.9 / 2),  # half way down
        (11, 0.1 + 1.9 * (1 + math.cos(7 * math.pi / 8)) / 2),
        (12, 0.1),  # the end
        (13, 0.1),
        (10**6, 0.1),
    ],
)
def test_cosine_with_warmup_at_its_corners(count, value):
    for rate in both("cosine_with_warmup", 2.0, warmup_steps=4, total_steps=12, final=0.1):
        assert float(rate(count)) == pytest.approx(value, rel=3e-7, abs=0)


def test_cosine_without_warmup_starts_at_the_peak_and_ends_at_zero():
    for rate in both("cosine_with_warmup", 2.0, warmup_steps=0, total_steps=10):
        assert float(rate(0)) == pytest.approx(2.0, rel=1e-7)
        assert float(rate(10)) == 0


def test_the_last_rates_are_accurate_in_float32():
    """(1 + cos) / 2 one update before the end is 2.5e-11 here: in float32 that form would say 0."""
    by_hand, by_jax = both("cosine_with_warmup", 1.0, warmup_steps=10, total_steps=10**5)
    assert float(by_jax(np.int32(10**5 - 1))) == pytest.approx(by_hand(10**5 - 1), rel=1e-5)


@pytest.mark.parametrize(("count", "value"), [(0, 0.8), (2, 0.8), (3, 0.4), (5, 0.4), (6, 0.2), (30, 0.8 / 1024)])
def test_step_decay_at_its_corners(count, value):
    for rate in both("step_decay", 0.8, every=3, factor=0.5):
        assert float(rate(count)) == pytest.approx(value, rel=1e-6)


def test_in_float64_jax_has_no_float32_inside():
    """JAX divides an int32 in float32, with 64-bit types too."""
    with jax.enable_x64(True):
        for name, options in (
            ("cosine_with_warmup", {"warmup_steps": 7, "total_steps": 29, "final": 0.01}),
            ("step_decay", {"every": 3, "factor": 0.7}),
        ):
            by_hand, by_jax = both(name, 0.3, **options)
            compiled = jax.jit(by_jax)
            for count in (1, 3, 7, 11, 28):
                assert float(compiled(np.int32(count))) == pytest.approx(by_hand(count), rel=1e-14)


@pytest.mark.parametrize("side", SIDES)
def test_bad_input(side):
    with pytest.raises(ValueError, match=r"learning_rate must be a finite number and at least 0, got -1"):
        side.constant(-1.0)
    with pytest.raises(ValueError, match="peak must be a finite number and at least 0, got nan"):
        side.cosine_with_warmup(math.nan, warmup_steps=1, total_steps=2)
    with pytest.raises(ValueError, match="warmup_steps must be at least 0 and less than total_steps, got 5 and 5"):
        side.cosine_with_warmup(1.0, warmup_steps=5, total_steps=5)
    with pytest.raises(ValueError, match="every must be at least 1, got 0; it is the number of updates at one rate"):
        side.step_decay(1.0, every=0, factor=0.5)
