"""Data enters standardized, split without a leak, and in good order; bad data stops with a message that says where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compare.errors import BadInput
from compare.suite.problem import Problem

ONES = np.ones((3, 2))
LABELS = np.array([0, 1, 0])


def with_entry(array, index, value):
    changed = array.astype(float)
    changed[index] = value
    return changed


def numbered(examples, features=2):
    """Rows at random. The labels of an example spell its number in binary, so that it can be found again."""
    x = np.random.default_rng(examples).standard_normal((examples, features)) * 7 + 3
    y = np.arange(examples)[:, np.newaxis] >> np.arange(8) & 1
    return x, y


def numbers(y):
    return (y.T @ (1 << np.arange(8))).astype(int)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (ONES, np.array([0, 2, 1]), r"data: labels must be 0 or 1, but y is 2 at example 1, column 0"),
        (ONES, np.array([0, 1, 0.5]), r"labels must be 0 or 1, but y is 0\.5 at example 2"),
        (ONES, np.array([1, -1, 1]), r"labels must be 0 or 1, but y is -1 at example 1"),
        (ONES, with_entry(np.eye(3), (1, 2), 3), r"y is 3 at example 1, column 2.*a column of 0 and 1"),
        (ONES, np.array([0, 1]), r"x has 3 examples \(rows\) and y has 2; give one label row per example"),
        (np.ones((2, 3)), LABELS, r"x has 2 examples \(rows\) and y has 3"),
        (np.empty((0, 2)), np.empty(0), r"no data: x has shape \(0, 2\) and y \(0, 1\)"),
        (np.empty((3, 0)), LABELS, r"no data: x has shape \(3, 0\)"),
        (ONES, np.empty((3, 0)), r"no data: .* y \(3, 0\)"),
        (with_entry(ONES, (2, 1), np.nan), LABELS, r"x is nan at example 2, column 1 \(counted from 0\)"),
        (with_entry(ONES, (1, 0), np.inf), LABELS, r"x is inf at example 1, column 0"),
        (with_entry(ONES, (0, 1), -np.inf), LABELS, r"x is -inf at example 0, column 1"),
        (ONES, with_entry(LABELS, 1, np.nan), r"y is nan at example 1, column 0"),
        (np.array([["a", "b"]] * 3), LABELS, r"x must hold real numbers, its dtype is <U1"),
        (ONES, np.array(["0", "1", "0"]), r"y must hold real numbers, its dtype is <U1"),
        (ONES.astype(complex), LABELS, r"x must hold real numbers, its dtype is complex128"),
        (ONES.astype("datetime64[s]"), LABELS, r"x must hold real numbers, its dtype is datetime64"),
        (ONES.astype(object), LABELS, r"x must hold real numbers, its dtype is object"),
        (np.ones(3), LABELS, r"x must be \(examples, features\).*got shapes \(3,\) and \(3, 1\)"),
        (np.ones((3, 2, 2)), LABELS, r"got shapes \(3, 2, 2\)"),
        (ONES, np.zeros((3, 1, 1)), r"y \(examples,\) or \(examples, outputs\); got .* and \(3, 1, 1\)"),
        (np.array(1.0), np.array(1.0), r"got shapes \(\) and \(\)"),
    ],
)
def test_bad_data_stops_with_its_place(x, y, message):
    with pytest.raises(BadInput, match=message):
        Problem.from_rows("data", x, y, seed=0)


@given(st.integers(1, 200), st.integers(0, 1000))
def test_every_example_is_in_one_split_with_its_own_labels(examples, seed):
    x, y = numbered(examples)
    problem = Problem.from_rows("data", x, y, seed=seed)
    training, held_out = numbers(problem.train_y), numbers(problem.test_y)
    assert sorted([*training, *held_out]) == list(range(examples))
    assert len(held_out) == (-(-examples // 4) if examples >= 8 else 0)
    mean, deviation = x[training].mean(axis=0), x[training].std(axis=0)
    deviation[deviation == 0] = 1
    np.testing.assert_allclose(problem.train_x.T, (x[training] - mean) / deviation, atol=1e-9)
    np.testing.assert_allclose(problem.test_x.T, (x[held_out] - mean) / deviation, atol=1e-9)


def test_what_is_held_out_does_not_touch_the_training_split():
    x, y = numbered(40)
    before = Problem.from_rows("data", x, y, seed=3)
    changed = x.copy()
    changed[numbers(before.test_y)] *= 1000
    after = Problem.from_rows("data", changed, y, seed=3)
    np.testing.assert_array_equal(after.train_x, before.train_x)
    assert not np.allclose(after.test_x, before.test_x)


def assert_standardized(problem):
    for feature in problem.train_x:
        if feature.any():
            assert abs(feature.mean()) <= 1e-9
            assert abs(feature.std() - 1) <= 1e-9


@st.composite
def tables(draw):
    """Any rows, and for each column an offset and a power of two that may be close to where floats end."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 3)))
    entries = st.floats(-1000, 1000, allow_subnormal=False, width=32)
    offsets = draw(arrays(float, shape[1], elements=st.sampled_from([0.0, 0.1, 1e6])))
    powers = draw(arrays(int, shape[1], elements=st.integers(-950, 990)))
    return np.ldexp(draw(arrays(float, shape, elements=entries)) + offsets, powers)


@given(tables(), st.integers(0, 3))
def test_training_features_have_mean_0_and_deviation_1_at_any_scale(x, seed):
    labels = np.arange(len(x)) % 2
    assert_standardized(Problem.from_rows("data", x, labels, seed=seed))


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-9, 1.0, 1e9, 1e160, 1e308])
def test_scales_far_from_1_neither_overflow_nor_vanish(scale):
    x = scale * np.array([[-1.0], [1.0], [1.0], [-1.0], [-1.0], [1.0]])
    problem = Problem.from_rows("data", x, np.array([0, 1, 1, 0, 0, 1]), seed=0)
    np.testing.assert_allclose(problem.train_x, 2 * problem.train_y - 1, rtol=1e-12)


@pytest.mark.parametrize("tiny", [np.full(9, 1e-308), np.linspace(1, 2, 9) * 1e-308])
@pytest.mark.parametrize("row", range(9))
def test_one_value_beyond_all_others_gives_no_infinity(tiny, row):
    """In the training split it sets the scale. Held out, it may be too many deviations away for a float."""
    tiny = tiny.copy()
    tiny[row] = 4.0
    try:
        problem = Problem.from_rows("data", tiny[:, np.newaxis], np.arange(9) % 2, seed=0)
    except BadInput:
        return
    assert np.isfinite(problem.train_x).all()
    assert np.isfinite(problem.test_x).all()


def test_a_difference_in_the_last_place_is_still_a_difference():
    x = np.array([[1.0], [np.nextafter(1, 2)]] * 3)
    assert_standardized(problem := Problem.from_rows("data", x, np.array([0, 1] * 3), seed=0))
    np.testing.assert_allclose(problem.train_x, 2 * problem.train_y - 1)


# The mean of seven times 0.1 is not 0.1, so that rounding alone gives such a column a deviation.
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 0.1, 1 / 3, 1e300, 1e-300])
@pytest.mark.parametrize("examples", [1, 5, 7, 100])
def test_a_constant_feature_becomes_0(value, examples):
    x = np.stack([np.full(examples, value), np.arange(examples)], axis=1)
    problem = Problem.from_rows("data", x, np.arange(examples) % 2, seed=0)
    np.testing.assert_array_equal(problem.train_x[0], 0)
    np.testing.assert_array_equal(problem.test_x[0], 0)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float32, np.longdouble])
def test_every_real_dtype_is_welcome_and_becomes_float64(dtype):
    x = np.arange(20).reshape(10, 2) % 3
    problem = Problem.from_rows("data", x.astype(dtype), (np.arange(10) % 2).astype(dtype), seed=0)
    expected = Problem.from_rows("data", x.astype(dtype).astype(float), np.arange(10) % 2, seed=0)
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert getattr(problem, name).dtype == np.float64
        np.testing.assert_array_equal(getattr(problem, name), getattr(expected, name))


def test_labels_may_be_a_list_of_examples_or_a_table_of_outputs():
    x, y = numbered(20)
    one, table = (Problem.from_rows("data", x, labels, seed=0) for labels in (y[:, 0], y[:, :1]))
    np.testing.assert_array_equal(one.train_y, table.train_y)
    assert one.train_y.shape == (1, 15)
    assert Problem.from_rows("data", x, y, seed=0).train_y.shape == (8, 15)


def test_the_seed_decides_the_split():
    x, y = numbered(40)
    first, again, other = (Problem.from_rows("data", x, y, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.train_x, again.train_x)
    np.testing.assert_array_equal(first.test_y, again.test_y)
    assert set(numbers(first.test_y)) != set(numbers(other.test_y))


def test_what_is_given_is_not_modified():
    x, y = numbered(20)
    copies = x.copy(), y.copy()
    problem = Problem.from_rows("data", x, y.astype(float), seed=0)
    problem.train_x[:] = problem.train_y[:] = -1
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])


def test_astype_casts_everything_and_leaves_the_original():
    problem = Problem.from_rows("data", *numbered(20), seed=0)
    narrow = problem.astype(np.dtype(np.float32))
    assert narrow.name == problem.name
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert getattr(problem, name).dtype == np.float64
        assert getattr(narrow, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(narrow, name), getattr(problem, name).astype(np.float32))


def test_columns_are_examples_and_lie_in_order_in_memory():
    problem = Problem.from_rows("data", *numbered(20), seed=0)
    assert [part.shape for part in (problem.train_x, problem.test_x)] == [(2, 15), (2, 5)]
    assert problem.train_x.flags.c_contiguous
    assert problem.test_x.flags.c_contiguous


@pytest.mark.parametrize(
    ("examples", "outputs", "text"),
    [
        (20, 1, "data: 2 features, 1 output, 15 examples to train on, 5 held out"),
        (3, 8, "data: 2 features, 8 outputs, 3 examples to train on, 0 held out"),
        (1, 1, "data: 2 features, 1 output, 1 example to train on, 0 held out"),
    ],
)
def test_a_problem_says_what_it_is(examples, outputs, text):
    x, y = numbered(examples)
    assert str(Problem.from_rows("data", x, y[:, :outputs], seed=0)) == text
