"""A constant factor: found, named by the sizes it may be made of, and not where it is only near."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence
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
