"""The code under test in a wider dtype: lost digits are gone there, and a wrong derivation is not."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import Verdict, check_gradients
from compare.judge.evaluation.wider import decided, widened_once
from compare.judge.program.inputs import Inputs
from compare.judge.reports.verdict import Row

# ----------------------------------------------------------------------------- which code is right, and which is not


def survival(times):
    """sum exp(w x), by 1 - (1 - exp(-exp(w x))): digits are lost where the survival is small."""

    def by_hand(w, x):
        e = np.exp(w * x)
        p = 1 - np.exp(-e)
        return np.sum(e), times * np.sum(-np.log(1 - p) * x)

    return by_hand


def survival_loss(w, x):
    return jnp.sum(jnp.exp(w * x))


def distances(times):
    """A kernel of |a|^2 + |b|^2 - 2 a.b, of points far from 0."""

    def by_hand(x):
        d2 = (x * x).sum(1)[:, None] + (x * x).sum(1)[None] - 2 * x @ x.T
        k = np.exp(-d2 / 2)
        return k.sum(), times * -2 * (k.sum(1)[:, None] * x - k @ x)

    return by_hand


def distances_loss(x):
    return jnp.exp(-jnp.sum((x[:, None] - x[None]) ** 2, -1) / 2).sum()


def variance(times):
    """mean(x^2) - mean(x)^2."""

    def by_hand(x):
        return np.mean(x * x) - np.mean(x) ** 2, x.dtype.type(times) * 2 * (x - np.mean(x)) / x.dtype.type(x.size)

    return by_hand


def variance_loss(x):
    return jnp.var(x)


POINTS = np.random.default_rng(3).normal(size=(30, 5)) + 40
CANCELS = {
    "1 - p": (survival, survival_loss, (np.array(0.7233333333333333), np.array([1.0, -2.0, 3.0]))),
    "|a|^2 + |b|^2 - 2 a.b": (distances, distances_loss, (POINTS,)),
    "in float32": (distances, distances_loss, ((POINTS - 35).astype(np.float32),)),
    "mean of squares less square of mean": (variance, variance_loss, (np.linspace(1e4, 1e4 + 1, 20),)),
}


@pytest.mark.parametrize("name", CANCELS)
def test_code_that_loses_digits_agrees_with_a_remark_and_fails_if_judged_strictly(name):
    by_hand, loss, point = CANCELS[name]
    report = check_gradients(by_hand(1.0), loss, *point, probes=False)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.arithmetic
    assert all("loses digits in float" in words for words in report.arithmetic)
    assert "It is correct in a wider dtype." in str(report).replace("\n", " ")
    strict = check_gradients(by_hand(1.0), loss, *point, probes=False, strict=True)
    assert strict.verdict is Verdict.DISAGREE
    assert strict.wrong_side == "manual"
    assert {diagnosis.kind for diagnosis in strict.diagnoses} == {"arithmetic"}


@pytest.mark.sweep
@pytest.mark.parametrize("name", CANCELS)
@pytest.mark.parametrize("times", [1 + 1e-3, 2.0, -1.0])
def test_a_wrong_factor_is_as_wrong_in_a_wider_dtype(name, times):
    by_hand, loss, point = CANCELS[name]
    report = check_gradients(by_hand(times), loss, *point, probes=False)
    assert report.verdict is Verdict.DISAGREE, str(report)
    assert report.wrong_side == "manual"


def test_code_that_loses_nothing_has_no_remark():
    report = check_gradients(
        lambda x: (np.var(x), 2 * (x - x.mean()) / x.size),
        variance_loss,
        np.linspace(1, 2, 20),
        probes=False,
        strict=True,
    )
    assert report.verdict is Verdict.AGREE
    assert report.arithmetic == []


REFUSE = {
    "an error for longdouble": lambda x: np.asarray(x).dtype != np.longdouble or 1 / 0,
    "a type of its own": lambda x: x.dtype.char in "fd" or int("no"),
}


@pytest.mark.parametrize("name", REFUSE)
@pytest.mark.parametrize("times", [1.0, 1.001])
def test_code_that_refuses_a_wider_dtype_is_not_blamed_for_digits_but_for_errors(name, times):
    by_hand, loss, point = CANCELS["|a|^2 + |b|^2 - 2 a.b"]

    def refusing(x):
        assert REFUSE[name](x)
        return by_hand(times)(x)

    report = check_gradients(refusing, loss, *point, probes=False)
    assert report.verdict is (Verdict.INCONCLUSIVE if times == 1 else Verdict.DISAGREE)
    assert report.arithmetic == []


@pytest.mark.parametrize(
    ("times", "verdict"), [(1.0, Verdict.INCONCLUSIVE), (1 + 1e-9, Verdict.DISAGREE), (1.001, Verdict.DISAGREE)]
)
def test_code_that_works_in_float64_whatever_it_gets_is_not_blamed_for_digits(times, verdict):
    """As `check_array` of scikit-learn does. Of what is wrong by more than a third of the digits, none is excused."""
    by_hand, loss, point = CANCELS["|a|^2 + |b|^2 - 2 a.b"]
    report = check_gradients(lambda x: by_hand(times)(np.asarray(x, np.float64)), loss, *point, probes=False)
    assert report.verdict is verdict


def test_the_softmax_of_a_cast_array_far_from_zero_is_not_blamed():
    def by_hand(x):
        x = np.asarray(x, np.float64)
        loss = np.asarray(scipy.special.logsumexp(x))
        return loss, np.exp(x - loss)

    x = 1000 + np.random.default_rng(0).normal(size=8)
    report = check_gradients(by_hand, jax.scipy.special.logsumexp, x, probes=False)
    assert report.verdict is not Verdict.DISAGREE


def test_the_caller_s_own_arrays_are_not_those_that_are_widened():
    seen = []
    by_hand, loss, (points,) = CANCELS["|a|^2 + |b|^2 - 2 a.b"]

    def overwriting(x):
        seen.append(x.dtype)
        result = by_hand(1.0)(x)
        if x.dtype == np.longdouble:
            x[...] = 0
        return result

    before = points.copy()
    assert check_gradients(overwriting, loss, points, probes=False).verdict is Verdict.AGREE
    assert np.dtype(np.longdouble) in seen
    np.testing.assert_array_equal(points, before)


# ------------------------------------------------------------------------------------------------------ its parts


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (np.float16, np.float32),
        (ml_dtypes.bfloat16, np.float32),
        (ml_dtypes.float8_e4m3fn, np.float32),
        (np.float32, np.float64),
        (np.float64, np.longdouble),
        (np.complex64, np.complex128),
        (np.complex128, np.clongdouble),
        (np.int64, np.int64),
        (np.bool_, np.bool_),
    ],
)
def test_each_dtype_has_a_wider_one(dtype, wide):
    tree = {"a": np.ones(3, dtype), "n": 2, "none": None}
    found = widened_once(Inputs(tree)).parameters
    assert found["a"].dtype == wide
    np.testing.assert_array_equal(found["a"].astype(dtype), tree["a"])
    assert (found["n"], found["none"]) == (2, None)


def row(path="w", verdict=Verdict.DISAGREE, dtype="float64"):
    return Row(path, verdict, (3,), dtype, 1.0, digits=5.0, available=15.0, worst_index=(0,), message="wrong")


RIGHT = np.array([1.0, 2.0, 3.0])


def settled(
    error, wide_error, *, actual_dtype=np.float64, wide_dtype=np.longdouble, right=RIGHT, verdict=Verdict.DISAGREE
):
    actual, wide = (RIGHT + error).astype(actual_dtype), (RIGHT.astype(np.longdouble) + wide_error).astype(wide_dtype)
    return decided([row(verdict=verdict)], {"w": actual}, {"w": right}, {"w": wide})


@settings(max_examples=50, deadline=None)
@given(error=st.floats(1e-9, 1e3), left=st.floats(0, 1))
def test_a_row_is_settled_if_its_error_is_gone(error, left):
    rows, words = settled(error, left * error)
    if left < 1 / 17:
        assert rows[0].verdict is Verdict.AGREE
        assert rows[0].message == ""
        assert words["w"] == (
            "w loses digits in float64: 5 digits are correct, and 15 are possible. It is correct in a wider dtype."
        )
    elif left > 1 / 15:
        assert rows == [row()]
        assert words == {}


@pytest.mark.parametrize(
    "given",
    [
        {"wide_dtype": np.float32},  # it was narrower
        {"actual_dtype": np.float32},  # another dtype than it should have is a fault of its own
        {"right": np.array([1.0, np.nan, 3.0])},
        {"right": RIGHT[:2]},
        {"verdict": Verdict.INCONCLUSIVE},
        {"verdict": Verdict.AGREE},
    ],
)
def test_what_says_nothing_of_digits_settles_nothing(given):
    rows, words = settled(1e-3, 0.0, **given)
    assert rows == [row(verdict=given.get("verdict", Verdict.DISAGREE))]
    assert words == {}


def test_what_is_missing_on_either_side_settles_nothing():
    rows = [row()]
    assert decided(rows, {}, {"w": RIGHT}, {"w": RIGHT}) == (rows, {})
    assert decided(rows, {"w": RIGHT + 1}, {}, {"w": RIGHT}) == (rows, {})
    assert decided(rows, {"w": RIGHT + 1}, {"w": RIGHT}, {}) == (rows, {})
    assert decided(rows, {"w": RIGHT + 1}, {"w": RIGHT}, {"w": RIGHT[:1].astype(np.longdouble)}) == (rows, {})


@pytest.mark.parametrize("dtype", [np.float16])
def test_16_bits_are_looked_at_in_32(dtype):
    """Near 0, 1 - cos x loses most of its digits."""
    x = np.linspace(0.01, 0.1, 40).astype(dtype)

    def by_hand(times):
        def loss_and_gradients(x):
            one = x.dtype.type(1)
            return np.sum(one - np.cos(x), dtype=np.float32).astype(x.dtype), (times * np.sin(x)).astype(x.dtype)

        return loss_and_gradients

    def loss(x):
        return jnp.sum(2 * jnp.sin(x / 2) ** 2)

    report = check_gradients(by_hand(1), loss, x, probes=False)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any("loss loses digits" in words for words in report.arithmetic)
    assert check_gradients(by_hand(1.5), loss, x, probes=False).verdict is Verdict.DISAGREE
