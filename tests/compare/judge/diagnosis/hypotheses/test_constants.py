"""A constant factor: found, named by the sizes it may be made of, and not where it is only near."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.roundoff.whole import Departure
from tests.compare.judge.diagnosis.made_up import RIGHT, SIZES, evidence, named


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1 / 12, "1 / x.shape[1]"),
        (12, "12 = x.shape[1]"),
        (12 / 11, "n / (n - 1) for n = x.shape[1]"),
        (7**-0.5, "1 / the square root of W.shape[0]"),
        (2, "it is 2 times"),
        (-0.5, "-1 / 2"),
        (1 / np.log(2), "1 / log 2"),
        (0.3, "the argument rate"),
        (1 / 0.3, "1 / the argument rate"),
    ],
)
def test_a_constant_factor_is_named(factor, words):
    kind, found, message = named(factor * RIGHT, sizes=SIZES, scalars={"rate": 0.3})
    assert kind == "factor"
    assert found == pytest.approx(factor, rel=1e-12)
    assert words in message


@settings(max_examples=50, deadline=None)
@given(factor=st.floats(1e-3, 1e6).filter(lambda c: abs(c - 1) > 1e-9), negative=st.booleans())
def test_any_constant_factor_is_found_and_a_near_one_is_not(factor, negative):
    c = -factor if negative else factor
    kind, found, _ = named(c * RIGHT)
    assert kind in ("factor", "sign")
    assert found == pytest.approx(c, rel=1e-12)
    spoilt = c * RIGHT
    spoilt[1, 2] *= 1 + 1e-9
    with np.errstate(all="ignore"):
        assert all(diagnosis.kind not in ("factor", "sign") for diagnosis in diagnose(evidence(spoilt)))


def test_the_sign():
    kind, factor, message = named(-RIGHT)
    assert (kind, factor) == ("sign", -1.0)
    assert "exactly minus" in message


def test_a_single_number_is_a_multiple_of_another_only_for_a_reason():
    assert named(np.array([24.0]), np.array([2.0]), sizes=SIZES)[0] == "factor"
    assert diagnose(evidence(np.array([2.6812]), np.array([2.0]), sizes=SIZES)) == []


@pytest.mark.parametrize("n", [30, 60_000])
def test_a_name_of_a_factor_holds_to_rounding(n):
    """In float32 a factor near n / (n - 1) is not that one, and n / (n - 1) itself is."""
    right, allowed = RIGHT.astype(np.float32), 1e-5 * np.abs(RIGHT)
    known = {"sizes": {"x.shape[0]": n}, "dtype": np.dtype(np.float32)}
    exactly, near = (
        Evidence("W", (c * right).astype(np.float32), right, allowed, **known) for c in (n / (n - 1), 1.000728)
    )
    if n == 30:  # for the larger one, it is lost in the rounding
        (diagnosis,) = diagnose(exactly)
        assert "n / (n - 1) for n = x.shape[0]" in diagnosis.message
    (diagnosis,) = diagnose(near)
    assert "n / (n - 1)" not in diagnosis.message


@pytest.mark.parametrize("factor", [1.5, 1.02, 0.25, 1.25, 0.75, 0.02])
def test_a_plain_number_is_not_named_by_a_size(factor):
    """1.5 is 3 / 2, 1.25 is 5 / 4, and 1.02 is 51 / 50: some n / (n - 1), or a root of something, by chance."""
    sizes = {f"x.shape[{i}]": n for i, n in enumerate((3, 5, 16, 51, 4))}
    _, found, message = named(factor * RIGHT, sizes=sizes)
    assert found == pytest.approx(factor)
    assert "shape" not in message


def test_a_factor_that_is_not_known_well_is_not_named():
    """In 16 bits a factor is known to two digits or three, and of many sizes something is always near."""
    right = np.random.default_rng(3).standard_normal((16, 32))
    allowed = 0.05 * np.abs(right)
    sizes = {f"x.shape[{i}]": n for i, n in enumerate((12, 31, 64, 100))}
    for factor in (64 / 63, 31 / 30, 1.02, 100**-0.5):
        (diagnosis,) = diagnose(Evidence("W", factor * right, right, allowed, sizes=sizes))
        assert diagnosis.kind == "factor"
        assert "shape" not in diagnosis.message


def narrow(values):
    return values.astype(ml_dtypes.bfloat16).astype(float)


@pytest.mark.parametrize("factor", [1.02, 0.97, 1.3])
def test_a_factor_on_a_whole_leaf_in_16_bits(factor):
    """No entry is wrong by more than its tolerance."""
    right = np.random.default_rng(3).standard_normal((64, 32))
    departure = Departure(None, 0, factor, 10.0)
    e = Evidence("W", narrow(factor * right), right, 0.4 * np.abs(right) + 0.01, departure=departure)
    (diagnosis,) = diagnose(e)
    assert (diagnosis.kind, diagnosis.factor) == ("factor", pytest.approx(factor, rel=1e-3))
    assert f"{factor:g} times" in diagnosis.message
    mixed = factor * right + (factor - 1) * np.random.default_rng(4).standard_normal(right.shape)
    mixture = Evidence("W", narrow(mixed), right, 0.4 * np.abs(right) + 0.01, departure=departure)
    assert {diagnosis.kind for diagnosis in diagnose(mixture)} <= {"single-entry"}


# For each row.
FACTORS_OF_ROWS = {
    "half of them": np.where(np.arange(64) % 2, 1.02, 1.0),
    "all but one": np.where(np.arange(64) == 7, 1.0, 1.02),
    "each its own": 1.02 + 0.02 * np.random.default_rng(5).standard_normal(64),
}


def in_16_bits(factors, at=None):
    """What came and what is right are rounded by themselves; few entries are beyond what is allowed, if any."""
    random = np.random.default_rng(3)
    right = random.standard_normal((64, 32))
    came = right * np.asarray(factors).reshape(-1, 1) * (1 + 0.002 * random.standard_normal(right.shape))
    if at is not None:
        came[at] *= 1.5
    return Evidence("W", narrow(came), right, 0.024 * np.abs(right) + 1e-4)


def test_one_factor_for_all_in_16_bits_is_no_matter_of_rows_or_entries():
    for factor in (1.02, 0.98):
        e = in_16_bits(factor)
        assert 0 < e.wrong.sum() < 0.9 * e.wrong.size
        (diagnosis,) = diagnose(e)
        assert (diagnosis.kind, diagnosis.factor) == ("factor", pytest.approx(factor, rel=1e-3))
        assert f"as a whole it is {factor} times what it should be." in diagnosis.message


@pytest.mark.parametrize("factors", FACTORS_OF_ROWS.values(), ids=FACTORS_OF_ROWS)
def test_rows_that_have_factors_of_their_own_have_none_in_common(factors):
    assert "factor" not in {cause.kind for cause in diagnose(in_16_bits(factors))}


def test_what_is_rounding_has_no_factor():
    e = in_16_bits(1.0)
    assert not e.departs(np.ones(e.expected.shape, bool))
    assert diagnose(e) == []


def test_one_entry_is_wrong_where_the_rest_is_right_as_a_whole():
    (diagnosis,) = diagnose(in_16_bits(1.0, at=(3, 4)))
    assert diagnosis.kind == "single-entry"
    assert "[3, 4]" in diagnosis.message
    e = in_16_bits(1.01, at=(3, 4))
    assert e.wrong.sum() == 1
    assert diagnose(e) == []


def test_a_factor_on_one_line_in_16_bits():
    right = np.random.default_rng(3).standard_normal((64, 32))
    scales = np.ones((64, 1))
    scales[5] = 1.2
    e = Evidence("W", narrow(scales * right), right, 0.3 * np.abs(right) + 0.01, departure=Departure(0, 5, 1.2, 10.0))
    (diagnosis,) = diagnose(e)
    assert diagnosis.kind == "line-factors"
    assert "at index 5 of axis 0 it is 1.2 times" in diagnosis.message


def test_a_sign_in_16_bits_is_a_sign():
    right = np.random.default_rng(3).standard_normal((16, 8))
    e = Evidence("W", narrow(-right * (1 - 1e-4)), right, 0.05 * np.abs(right), dtype=np.dtype(ml_dtypes.bfloat16))
    (diagnosis,) = diagnose(e)
    assert (diagnosis.kind, diagnosis.factor) == ("sign", -1.0)


PAIRS = np.random.default_rng(6).standard_normal((7, 2))  # real and imaginary parts


def test_complex_numbers_that_are_conjugated():
    assert named(PAIRS * [1, -1], PAIRS, of_complex=True)[0] == "conjugated"
    for near in (PAIRS * [1, -1.001], PAIRS * [-1, 1], PAIRS[::-1] * [1, -1], PAIRS * [1, 0]):
        assert all(d.kind != "conjugated" for d in diagnose(evidence(near, PAIRS, of_complex=True)))
    assert all(d.kind != "conjugated" for d in diagnose(evidence(PAIRS * [1, -1], PAIRS)))
