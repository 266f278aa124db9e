"""Leaves as a whole: many small errors that point one way are no rounding, and many that do not are."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import Verdict
from compare.judge.reports.verdict import compare_leaf
from compare.judge.roundoff.tolerance import Scatter
from compare.judge.roundoff.whole import SHORTEST, Part, axes_of, components, departures, summed

NOISE = 2.0**-8  # of each entry: the unit roundoff of bfloat16
SHAPE = (64, 64)


def drawn(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape)


def rounded(value, seed):
    """With independent errors in every entry."""
    return value * (1 + NOISE * np.random.default_rng([seed, 1]).standard_normal(value.shape))


def measured(value, samples=4, seed=0):
    scatter = Scatter(value)
    for sample in range(samples):
        scatter.add(rounded(value, seed=[seed, 2 + sample]))
    return scatter


def found(actual, value, **options):
    return departures(actual - value, value, measured(value, **options).parts(np.float64))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([SHAPE, (4096,), (2, 3, 40), (8, 1), (1, 200)]))
def test_independent_errors_of_any_leaf_are_no_departure(seed, shape):
    value = drawn(seed, shape)
    assert found(rounded(value, seed), value, seed=seed) == []
    assert found(value, value, seed=seed) == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([0.99, 1.01, 1.5, -1.0, 0.0]))
def test_a_factor_on_4096_noisy_entries_departs_and_is_named_by_its_number(seed, factor):
    value = drawn(seed)
    first = found(factor * rounded(value, seed), value, seed=seed)[0]
    whole = next(d for d in found(factor * rounded(value, seed), value, seed=seed) if d.axis is None)
    assert first.excess >= whole.excess > 1
    assert whole.place == "as a whole"
    assert whole.factor == pytest.approx(factor, abs=0.002)


def test_one_part_in_a_hundred_is_within_what_each_entry_may_be_off_by():
    """So that entries alone would pass it."""
    value, scatter = drawn(0), measured(drawn(0))
    parts, tolerance = scatter.parts(np.float64), scatter.tolerance(np.float64)
    wrong = 1.01 * rounded(value, 0)
    assert compare_leaf("W", wrong, value, value, tolerance).verdict is Verdict.AGREE
    row = compare_leaf("W", wrong, value, value, tolerance, parts)
    assert row.verdict is Verdict.DISAGREE
    assert row.departure is not None
    assert "times what is expected, though no single entry exceeds its tolerance" in row.message
    assert compare_leaf("W", rounded(value, 0), value, value, tolerance, parts).verdict is Verdict.AGREE


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), line=st.integers(0, 63), axis=st.integers(0, 1))
def test_a_dropped_line_is_found_in_its_place(seed, line, axis):
    """An example that is left out, where no entry could be told from its rounding."""
    value = drawn(seed)
    scatter = Scatter(value)
    for sample in range(4):  # every entry may be off by what the largest is
        scatter.add(value + np.random.default_rng([seed, sample]).standard_normal(SHAPE) / 16)
    wrong = value.copy()
    np.moveaxis(wrong, axis, 0)[line] = 0
    first = departures(wrong - value, value, scatter.parts(np.float64))[0]
    assert (first.axis, first.line) == (axis, line)
    assert first.factor == pytest.approx(0, abs=1e-9)
    assert first.place == f"at index {line} of axis {axis}"


def test_errors_that_are_too_large_depart_though_they_point_nowhere():
    value = drawn(0)
    random = np.random.default_rng(5)
    error = 0.3 * np.abs(value) * random.standard_normal(SHAPE)
    error -= value * np.sum(error * value) / np.sum(value * value)  # nothing of it is along the reference
    left = found(value + error, value)
    assert left
    assert left[0].excess > 1
    assert found(value + error / 30, value) == []


def test_a_leaf_of_zeros_has_no_component_and_departs_by_its_errors():
    zero = np.zeros(SHAPE)
    scatter = Scatter(zero)
    scatter.add(1e-12 * drawn(1))
    parts = scatter.parts(np.float64)
    np.testing.assert_array_equal(components(drawn(2), zero, [None], [np.asarray(0.0)]), [0.0])
    assert departures(1e-12 * drawn(2), zero, parts) == []
    assert departures(1e-9 * drawn(2), zero, parts)[0].excess > 1
    assert np.isnan(departures(1e-9 * drawn(2), zero, parts)[0].factor)
    assert all(part.visible() == np.inf for part in parts)


def test_an_exact_leaf_may_be_off_by_its_last_places_alone():
    """Truncation instead of rounding is the worst that a kernel does."""
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        value = np.abs(drawn(3)).astype(dtype).astype(float)
        scatter = Scatter(value)
        scatter.add(value)
        parts = scatter.parts(dtype)
        eps = float(ml_dtypes.finfo(dtype).eps)
        assert departures(-eps / 2 * value, value, parts) == []
        assert departures(-4 * eps * value, value, parts)


def test_what_entries_have_in_common_in_the_runs_is_tolerated():
    """A factor that rounds, such as 1/m, moves every entry by the same share."""
    value = drawn(0)
    scatter, random = Scatter(value), np.random.default_rng(1)
    for _ in range(16):
        scatter.add(value * (1 + 0.01 * random.standard_normal()))
    assert departures(0.02 * value, value, scatter.parts(np.float64)) == []
    assert departures(0.5 * value, value, scatter.parts(np.float64))


@pytest.mark.parametrize(
    ("value", "axes"),
    [
        (np.ones(SHORTEST - 1), []),
        (np.ones(SHORTEST), [None]),
        (np.ones((3, SHORTEST)), [None, 0]),
        (np.ones((SHORTEST, SHORTEST)), [None, 0, 1]),
        (np.ones((1, SHORTEST)), [None]),
        (np.ones((2, 3, 4)), [None, 0, 1]),
        (np.ones(20, int), []),
        (np.ones(20, complex), []),
        (np.float64(1), []),
    ],
)
def test_lines_are_looked_at_where_they_are_long_enough(value, axes):
    assert axes_of(np.asarray(value)) == axes


@given(axes=st.lists(st.sampled_from([None, 0, 1, 2]), unique=True))
def test_sums_are_over_everything_but_the_axis(axes):
    value, other = drawn(0, (2, 3, 4)), drawn(1, (2, 3, 4))
    for axis, found in zip(axes, summed(axes, value, other), strict=True):
        product = value * other
        right = product.sum() if axis is None else np.array([line.sum() for line in np.moveaxis(product, axis, 0)])
        np.testing.assert_allclose(found, right)


def test_what_would_be_seen_is_seen_and_what_would_not_is_not():
    """`visible` is the smallest factor: above it a whole departs, and below none of its lines does."""
    value, scatter = drawn(7), measured(drawn(7))
    parts = scatter.parts(np.float64)
    least = min(part.visible() for part in parts)
    assert 1e-4 < least < 0.02
    assert departures(1.01 * least * value, value, parts)
    assert departures(0.99 * least * value, value, parts) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_hide_no_other_line(bad):
    value = drawn(0)
    error = np.zeros(SHAPE)
    error[3] = value[3]
    part = Part(0, np.linalg.norm(value, axis=1), np.full(64, 1e-3), np.full(64, 1e-3))
    error[9, 2] = bad
    assert departures(error, value, [part])[0].line == 3


def test_a_leaf_that_is_not_finite_has_no_parts():
    scatter = Scatter(np.array([np.nan] * 20))
    scatter.add(np.ones(20))
    assert scatter.parts(np.float64) == []


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_entries_do_alone_is_no_part_of_what_they_have_in_common(seed):
    """Else a sum over 4,096 independent errors would be counted twice, and be held to twice as many deviations."""
    value = drawn(seed)
    whole = measured(value, samples=64, seed=seed).parts(np.float64)[0]
    alone = NOISE * np.sqrt(np.sum(value**4)) / np.sum(value**2)
    assert 7 * alone < whole.along / whole.norm < 20 * alone


@pytest.mark.parametrize("scale", [1e-158, 1e80])
def test_lines_are_compared_at_any_scale(scale):
    value = scale * drawn(0)
    scatter = Scatter(value)
    scatter.add(value)
    assert departures(value, value, scatter.parts(np.float64))[0].factor == 2.0
