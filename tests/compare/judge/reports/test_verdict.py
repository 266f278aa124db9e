"""Trees against trees: structure, shape, dtype, finiteness, then values, each with its own words."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare import check_gradients
from compare.judge.program import blocks
from compare.judge.reports.verdict import Verdict, compare_leaf, compare_leaves, plain
from compare.pytrees import leaves_by_path

GOOD = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([[4.0]])}
TOLERANCE = {"a": np.full(3, 1e-9), "b": np.full((1, 1), 1e-9)}


def judge(manual, reference=GOOD):
    return {row.path: row for row in compare_leaves(manual, GOOD, reference, TOLERANCE)}


def test_equal_trees_agree():
    rows = judge({"b": GOOD["b"], "a": GOOD["a"]})  # in another order: leaves are matched by name
    assert [row.verdict for row in rows.values()] == [Verdict.AGREE, Verdict.AGREE]
    assert rows["a"].error == 0
    assert rows["a"].message == ""


FAULTS = [
    ({"a": GOOD["a"]}, "b", "missing on the manual side"),
    (GOOD | {"c": np.ones(2)}, "c", "no leaf of this name is expected"),
    (GOOD | {"a": GOOD["a"].reshape(3, 1)}, "a", r"shape is (3, 1), expected (3,)"),
    (GOOD | {"a": np.float32(GOOD["a"])}, "a", "dtype is float32, expected float64; its values agree"),
    (GOOD | {"a": np.array([1, 2, 4], np.float32)}, "a", "4 at [2], where 3 is expected"),
    (GOOD | {"a": np.array([1.0, np.nan, 3.0])}, "a", "nan at [1], where 2 is expected"),
    (GOOD | {"a": np.array([1.0, 2.0, -np.inf])}, "a", "-inf at [2], where 3 is expected"),
    (GOOD | {"a": np.array([1.0, 2.5, 3.0])}, "a", "2.5 at [1], where 2 is expected"),
    (
        GOOD | {"b": np.array([[4.0 + 2e-9]])},
        "b",
        "4.000000002 at [0, 0], where 4 is expected (a relative difference of 5.0e-10)",
    ),
]


def test_another_dtype_is_a_fault_though_the_tolerance_is_not_finite():
    zero = np.zeros(2, np.float32)
    unknown = {"w": np.array([np.inf, 1.0])}
    (row,) = compare_leaves({"w": np.zeros(2)}, {"w": zero}, {"w": np.zeros(2)}, unknown)
    assert row.verdict is Verdict.DISAGREE
    assert row.message.startswith("dtype is float64, expected float32; its values cannot be compared, because the")
    (row,) = compare_leaves({"w": zero}, {"w": zero}, {"w": np.zeros(2)}, unknown)
    assert row.verdict is Verdict.INCONCLUSIVE


def test_a_complex_number_in_the_place_of_a_real_one_is_another_dtype():
    right = np.asarray(2.0)
    (row,) = compare_leaves({"loss": np.asarray(2 + 0j)}, {"loss": right}, {"loss": right}, {"loss": np.asarray(0.0)})
    assert (row.verdict, row.message) == (Verdict.DISAGREE, "dtype is complex128, expected float64; its values agree")
    (row,) = compare_leaves({"loss": np.asarray(2 + 1j)}, {"loss": right}, {"loss": right}, {"loss": np.asarray(0.0)})
    assert row.verdict is Verdict.DISAGREE
    assert "2+1j" in row.message


@pytest.mark.parametrize(("manual", "path", "message"), FAULTS)
def test_every_kind_of_difference_has_its_own_words(manual, path, message):
    rows = judge(manual)
    assert rows[path].verdict is Verdict.DISAGREE
    assert rows[path].message == message
    assert all(row.verdict is Verdict.AGREE for name, row in rows.items() if name != path)


def test_the_near_miss_is_let_pass():
    assert judge(GOOD | {"b": np.array([[4.0 + 0.9e-9]])})["b"].verdict is Verdict.AGREE


@pytest.mark.parametrize("manual", [GOOD["a"], np.array([1.0, np.nan, 3.0])])
def test_nan_in_the_reference_decides_nothing_even_if_both_have_it(manual):
    row = judge(GOOD | {"a": manual}, GOOD | {"a": np.array([1.0, np.nan, 3.0])})["a"]
    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.message == "the reference is nan at [1]"


@pytest.mark.parametrize("unknown", [np.inf, np.nan])
def test_a_tolerance_that_is_not_finite_lets_nothing_pass_and_blames_nothing(unknown):
    slack = TOLERANCE | {"a": np.array([1e-9, unknown, 1e-9])}
    for entry, verdict in ((2.0, Verdict.INCONCLUSIVE), (7.0, Verdict.INCONCLUSIVE), (np.nan, Verdict.DISAGREE)):
        row = compare_leaves(GOOD | {"a": np.array([1.0, entry, 3.0])}, GOOD, GOOD, slack)[0]
        assert row.verdict is verdict
    assert compare_leaves(GOOD, GOOD, GOOD, slack)[0].message == f"the rounding tolerance is {unknown} at [1]"
    elsewhere = compare_leaves(GOOD | {"a": np.array([1.0, 2.0, 3.1])}, GOOD, GOOD, slack)[0]
    assert elsewhere.verdict is Verdict.DISAGREE  # at an entry that can be judged


@given(st.integers(0, 2), st.sampled_from([-1, 1]), st.floats(1.01, 1e9))
def test_one_wrong_entry_is_found_and_located(index, sign, times):
    wrong = GOOD["a"].copy()
    wrong[index] += sign * times * 1e-9
    row = judge(GOOD | {"a": wrong})["a"]
    assert row.verdict is Verdict.DISAGREE
    assert row.worst_index == (index,)
    assert row.error == pytest.approx(times * 1e-9, rel=1e-3)


def test_the_worst_entry_is_the_one_furthest_beyond_its_own_tolerance():
    reference = {"a": np.array([1e6, 1.0])}
    rows = compare_leaves({"a": np.array([1e6 + 1, 1.1])}, reference, reference, {"a": np.array([10.0, 0.01])})
    assert rows[0].worst_index == (1,)
    assert rows[0].tolerance == 0.01


@given(seed=st.integers(0, 99), wrong=st.booleans())
def test_a_leaf_that_is_compared_in_blocks_gets_the_same_row(seed, wrong):
    random = np.random.default_rng(seed)
    reference = random.normal(size=(9, 8)) * (random.random((9, 8)) < 0.9)
    tolerance = 1e-9 * random.random((9, 8))
    actual = reference + 0.5 * tolerance * random.choice((-1, 1), (9, 8))
    actual[tuple(random.integers((9, 8)))] += wrong
    row = compare_leaf("W", actual, reference, reference, tolerance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 16)
        assert compare_leaf("W", actual, reference, reference, tolerance) == row
    assert row.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE)


def test_verdicts_combine_and_are_no_truth_values():
    agree, disagree, unknown = Verdict.AGREE, Verdict.DISAGREE, Verdict.INCONCLUSIVE
    assert Verdict.of([agree, unknown, disagree]) is disagree
    assert Verdict.of([agree, unknown]) is unknown
    assert Verdict.of([agree]) is agree
    with pytest.raises(TypeError, match=r"verdict is Verdict\.AGREE"):
        bool(agree)


def test_paths_name_leaves_in_any_tree():
    tree = [{"weight": np.ones(2)}, (np.zeros(1), {"bias": np.ones(3)})]
    assert list(leaves_by_path(tree)) == ["0.weight", "1.0", "1.1.bias"]
    assert list(leaves_by_path(np.ones(2))) == ["value"]


def test_reports_become_plain_json():
    value = {"v": Verdict.AGREE, "n": np.float32(2), "t": (1, float("nan")), "a": np.array([True])}
    assert plain(value) == {"v": "agree", "n": 2.0, "t": [1, "nan"], "a": [True]}


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_a_norm_whose_squares_overflow_or_vanish(scale):
    x = scale * np.linspace(1, 2, 9)
    report = check_gradients(lambda p: (np.sum(p * x), x.copy()), lambda p: jnp.sum(p * x), np.ones(9))
    np.testing.assert_allclose(report.rows[-1].norm / scale, np.linalg.norm(np.linspace(1, 2, 9)))
