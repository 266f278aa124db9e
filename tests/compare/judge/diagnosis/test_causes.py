"""Each hypothesis names the cause that it is for, with its factor, and stays silent where there is another or none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence

SHAPE = (4, 6)
RANDOM = np.random.default_rng(0)
RIGHT = RANDOM.standard_normal(SHAPE)
TERMS = RANDOM.standard_normal((*SHAPE, 5))  # RIGHT is not their sum; SUMMED is
SUMMED = TERMS.sum(axis=2)
A1 = np.tanh(RANDOM.standard_normal(SHAPE))
PARAMETER = RANDOM.standard_normal(SHAPE)
OTHERWISE = RANDOM.standard_normal(SHAPE)
IDS = np.array([3, 1, 3, 0])


def evidence(came, right=RIGHT, **known):
    return Evidence("W", np.asarray(came), np.asarray(right), 1e-14 * np.abs(right) + 1e-300, **known)


def named(came, right=RIGHT, **known):
    """(kind, factor, message) of the only diagnosis."""
    with np.errstate(all="ignore"):
        (diagnosis,) = diagnose(evidence(came, right, **known))
    assert diagnosis.path == "W"
    return diagnosis.kind, diagnosis.factor, diagnosis.message


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(4, 6), (5, 5), (7,), (3, 1), (2, 3, 4)]))
def test_an_array_that_has_nothing_to_do_with_it_gets_no_name(seed, shape):
    """However much is known: sizes, factors, sums, a parameter. Two numbers alone are always a multiple."""
    random = np.random.default_rng(seed)
    draw = random.standard_normal
    e = evidence(
        draw(shape),
        draw(shape),
        sizes={"x.shape[0]": 4, "x.shape[1]": 12},
        scalars={"rate": 0.1},
        factors={"A1": draw(shape), "1 - A1**2": 1 - draw(shape) ** 2},
        thresholds={"Z1": draw(shape)},
        summands={"Z1": draw((*shape, 5))},
        alternatives={("stale", "old"): draw(shape)},
        parameter=draw(shape),
        ids={"ids": np.arange(3)},
    )
    with np.errstate(all="ignore"):
        assert diagnose(e) == []


# --------------------------------------------------------------------------------------- factors

SIZES = {"x.shape[1]": 12, "W.shape[0]": 7}


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


def test_every_row_has_a_factor_of_its_own():
    scales = np.array([[0.5], [2.0], [2.0], [-1.0]])
    kind, _, message = named(scales * RIGHT)
    assert kind == "line-factors"
    assert "along axis 0" in message
    assert "0.5, 2, -1" in message
    weights = np.array([3.0, -1.0, 0.5, 2.0])
    _, _, message = named(RIGHT * (weights[0] / weights)[:, None], known={"weights": weights})
    assert "weights[0] stands for every entry of weights, along axis 0" in message


# ----------------------------------------------------------------------------------- arrangement

SQUARE = RANDOM.standard_normal((5, 5))


@pytest.mark.parametrize(
    ("came", "right", "kind"),
    [
        (SQUARE.T, SQUARE, "transpose"),
        (RIGHT.T.reshape(SHAPE), RIGHT, "transpose"),
        (np.roll(RIGHT, 1, axis=1), RIGHT, "shift"),
        (np.roll(RIGHT, -2, axis=0), RIGHT, "shift"),
        (RIGHT[::-1], RIGHT, "permutation"),
        (RIGHT[:, [2, 0, 1, 5, 4, 3]], RIGHT, "permutation"),
        (RANDOM.permutation(RIGHT.ravel()).reshape(SHAPE), RIGHT, "permutation"),
    ],
)
def test_the_right_numbers_in_the_wrong_places(came, right, kind):
    assert named(came, right)[0] == kind


def test_the_right_amounts_in_the_wrong_places():
    """Two rows of what should go to all of them; not what sums to zero, as every gradient of a norm does."""
    came = np.zeros_like(RIGHT)
    np.add.at(came, [0, 1, 0, 1], RIGHT)
    kind, _, message = named(came)
    assert kind == "misplaced"
    assert "sums along axis 0 are right" in message
    centered, other = (a - a.mean(axis=0) for a in (RIGHT, OTHERWISE))
    assert diagnose(evidence(other, centered)) == []


# ------------------------------------------------------------------------------------------ sums


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (TERMS[:, :, 0], "missing-sum", "the first entry of dZ along axis 2"),
        (TERMS[:, :, -1], "missing-sum", "the last entry of dZ along axis 2"),
        (TERMS[:, :, :-1].sum(axis=2), "missing-sum", "the last entry of dZ along axis 2 is left out"),
    ],
)
def test_sums_that_went_wrong(came, kind, words):
    terms = np.moveaxis(TERMS, 2, 0)  # sums over the first axes are the ones that biases need
    words = words.replace("axis 2", "axis 0")
    found = named(came, SUMMED, summands={"Z": terms})
    assert found[0] == kind
    assert words in found[2]


def test_sums_over_too_many_axes_and_over_the_wrong_one():
    terms = RANDOM.standard_normal((5, 5))
    right = terms.sum(axis=1)
    found = named(np.full(5, terms.sum()), right, summands={"Z": terms})
    assert found[0] == "broadcast"
    assert "sum over axis 1 only" in found[2]
    found = named(terms.sum(axis=0), right, summands={"Z": terms})
    assert found[0] == "missing-sum"
    assert "summed over axis 0, and should be over axis 1" in found[2]


def test_one_value_where_different_ones_belong():
    assert "the mean of what should be there" in named(np.full(SHAPE, RIGHT.mean()))[2]
    columns = np.ones(SHAPE) * RIGHT.sum(axis=1, keepdims=True)
    kind, _, message = named(columns)
    assert kind == "broadcast"
    assert "all along axis 1: the sum" in message
    assert named(np.full(SHAPE, 0.123))[0] == "broadcast"


# --------------------------------------------------------------------------- factors and added terms

DERIVATIVE = 1 - A1**2
FACTORS = {"A1": A1, "1 - A1**2": DERIVATIVE, "1 - A1": 1 - A1}


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (RIGHT, "missing-factor", "the factor 1 - A1**2 is missing"),
        (RIGHT * DERIVATIVE**2, "extra-factor", "multiplied by 1 - A1**2 once too often"),
        (RIGHT * (1 - A1), "wrong-factor", "the factor is 1 - A1 where 1 - A1**2 belongs"),
    ],
)
def test_elementwise_factors(came, kind, words):
    found = named(came, RIGHT * DERIVATIVE, factors=FACTORS)
    assert found[0] == kind
    assert words in found[2]


def test_a_mask_that_is_missing():
    """Where the mask is 1 nothing is wrong, so no quotient of entries tells."""
    mask = (PARAMETER > 0).astype(float)
    kind, _, message = named(RIGHT, RIGHT * mask, factors={"mask": mask})
    assert kind == "missing-factor"
    assert "not 0 where mask is" in message
    spoilt = np.where(mask == 0, 0, RIGHT)
    spoilt[0] += 1
    assert diagnose(evidence(spoilt, RIGHT * mask, factors={"mask": mask})) == []


def test_a_gain_that_is_missing():
    gain = RANDOM.standard_normal(6)
    kind, _, message = named(RIGHT, RIGHT * gain, known={"gain": gain})
    assert kind == "missing-factor"
    assert "the factor gain is missing" in message


@pytest.mark.parametrize("decay", [1e-6, 1e-3, -0.5])
def test_weight_decay(decay):
    kind, factor, _ = named(RIGHT + decay * PARAMETER, parameter=PARAMETER)
    assert kind == "weight-decay"
    assert factor == pytest.approx(decay, rel=1e-6)


def test_what_it_would_be_if_something_before_had_been_otherwise():
    found = named(OTHERWISE, alternatives={("transpose", "it is computed with the transpose of W2."): OTHERWISE})
    assert found == ("transpose", None, "it is computed with the transpose of W2.")


# ---------------------------------------------------------------------------------------- routes

PATHS = {"mean": OTHERWISE, "variance": RANDOM.standard_normal(SHAPE), "noise": 1e-15 * PARAMETER}


@pytest.mark.parametrize(
    ("came", "kind", "factor", "words"),
    [
        (RIGHT - OTHERWISE, "missing-path", 0, "nothing comes back through mean: it is taken"),
        (RIGHT - OTHERWISE - PATHS["variance"], "missing-path", 0, "through mean and variance: they are taken"),
        (RIGHT + OTHERWISE, "path", 2, "through mean counts 2 times, and"),
        (RIGHT - 2 * OTHERWISE, "path", -1, "through mean counts -1 times, and"),
        (RIGHT + 11 * OTHERWISE, "path", 12, "counts 12 times (12 = x.shape[1])"),
        (RIGHT + (1 / 12 - 1) * PATHS["variance"], "path", 1 / 12, "1 / x.shape[1]"),
    ],
)
def test_paths_that_are_missing_or_count_more_than_once(came, kind, factor, words):
    found = named(came, paths=PATHS, sizes=SIZES)
    assert found[0] == kind
    assert found[1] == pytest.approx(factor, abs=1e-12)
    assert words in found[2]


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (PARAMETER, "it is the value that the gradient is for"),
        (OTHERWISE, "it is dy itself, unchanged"),
        (OTHERWISE * DERIVATIVE, "it is dy times 1 - A1**2, entry by entry"),
    ],
)
def test_another_quantity_in_its_place(came, words):
    kind, _, message = named(came, known={"dy": OTHERWISE}, factors=FACTORS, parameter=PARAMETER)
    assert kind == "other-quantity"
    assert words in message


def test_the_sum_of_another_quantity():
    kind, _, message = named(RIGHT.sum(axis=0), OTHERWISE[0], known={"dW1": RIGHT})
    assert kind == "other-quantity"
    assert "the sum of dW1 over axis 0" in message


# --------------------------------------------------------------------------------------- entries


def placed(index, value):
    came = RIGHT.copy()
    came[index] = value
    return came


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (0 * RIGHT, "zero everywhere"),
        (placed(2, 0.0), "at 2 of axis 0"),
        (np.where(PARAMETER < -0.5, 0, RIGHT), "zero where Z is below about -0."),
    ],
)
def test_zeros(came, words):
    kind, _, message = named(came, thresholds={"Z": PARAMETER})
    assert kind == "zeros"
    assert words in message


def test_a_reference_of_zeros_is_worth_a_question():
    assert "does the JAX side stop this gradient?" in named(RIGHT, 0 * RIGHT)[2]


def test_rows_of_repeated_ids():
    came = placed(3, RIGHT[3] / 3.7)
    kind, _, message = named(came, ids={"ids": IDS})
    assert kind == "lost-repeats"
    assert "np.add.at" in message
    other_row = placed(1, RIGHT[1] / 3.7)  # a row that no id names twice
    assert all(diagnosis.kind != "lost-repeats" for diagnosis in diagnose(evidence(other_row, ids={"ids": IDS})))


def test_contributions_that_overwrite_each_other():
    terms = RANDOM.standard_normal((7, 6))
    right, came = np.zeros(SHAPE), np.zeros(SHAPE)
    for row, term in zip([0, 1, 1, 2, 3, 3, 3], terms, strict=True):
        right[row] += term
        came[row] = term
    kind, _, message = named(came, right, known={"dy": terms})
    assert kind == "lost-repeats"
    assert "12 wrong entries is a single entry of dy" in message
    assert diagnose(evidence(came + (came != right), right, known={"dy": terms})) == []


def test_ties():
    """At a maximum that is attained twice; and not where an entry is wrong that is alone."""
    x = np.array([[1.0, 3, 3, 2], [0, 5, 6, 7], [8, 8, 8, 4]])
    first, all_equal = np.zeros_like(x), 1.5 * (x == x.max(axis=1, keepdims=True))
    first[np.arange(3), x.argmax(axis=1)] = 1.5
    assert named(all_equal, first, parameter=x)[0] == "ties"
    all_equal[1, 0] = 1
    assert all(d.kind != "ties" for d in diagnose(evidence(all_equal, first, parameter=x)))


def test_clipping():
    kind, factor, _ = named(np.clip(RIGHT, -0.5, 0.5))
    assert kind == "clipping"
    assert factor == pytest.approx(0.5)
    small = np.array([1e-9, 2e-9, -3e-10, 0.2])
    came = np.array([1e-7, 1e-7, -1e-7, 0.2])
    assert named(came, small)[:2] == ("clipping", pytest.approx(1e-7))


@pytest.mark.parametrize("narrow", ["float16", "float32"])
def test_precision_lost_in_storage(narrow):
    kind, _, message = named(RIGHT.astype(narrow).astype(np.float64))
    assert kind == "precision"
    assert narrow in message


def test_precision_lost_on_the_way():
    noise = 1 + 2e-7 * np.random.default_rng(1).standard_normal(SHAPE)
    assert named(RIGHT * noise)[0] == "precision"
    assert diagnose(evidence(RIGHT * (1 + 1e4 * (noise - 1)))) == []  # much larger than float32 makes it


def test_single_entries():
    kind, _, message = named(placed((1, 2), RIGHT[1, 2] * (1 + 1e-9)))
    assert kind == "single-entry"
    assert "[1, 2]" in message
    assert "1.000000001 times" in message


# --------------------------------------------------------------------------------- shape and dtype


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (RIGHT.T, "shape", "It is the transpose's shape."),
        (RIGHT.ravel(), "shape", "keepdims=True"),
        (RIGHT[:2], "shape", "the shape is (2, 6) and should be (4, 6)."),
        (RIGHT.astype(np.float32), "dtype", "float32 and should be float64"),
    ],
)
def test_shape_and_dtype(came, kind, words):
    diagnosis = shape_or_dtype("W", came, RIGHT)
    assert diagnosis is not None
    assert diagnosis.kind == kind
    assert words in diagnosis.message


def test_the_right_shape_and_dtype_say_nothing():
    assert shape_or_dtype("W", 2 * RIGHT, RIGHT) is None


def test_what_differs_by_nothing_but_a_little_noise_is_no_permutation_and_no_factor():
    """Just beyond the allowance, within what a hypothesis forgives: `1 times` and `the order 0, 1, 2` say nothing."""
    random = np.random.default_rng(2)
    for came in (RIGHT * (1 + 2e-14), RIGHT * (1 + 3e-14 * random.choice([-1, 1], SHAPE))):
        assert evidence(came).wrong.any()
        assert all(d.kind not in ("factor", "permutation", "transpose", "shift") for d in diagnose(evidence(came)))


# ------------------------------------------------------------------------------- what is no evidence


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


def test_right_values_that_are_rounding_are_the_cause_of_nothing():
    """The rounding of a gradient that is 0, whose entries stand for no other's."""
    noise = 1e-17 * RIGHT
    allowed = np.full(SHAPE, 1.5e-16)
    rolled = Evidence("W", np.roll(noise, -2, 0) + 2e-16, noise, allowed)
    large = Evidence("W", 1e9 * noise, noise, allowed)
    kinds = {diagnosis.kind for e in (rolled, large) for diagnosis in diagnose(e)}
    assert rolled.wrong.any()
    assert large.wrong.any()
    assert kinds <= {"precision"}  # for that, nothing need be known of the right values
    clear = Evidence("W", np.roll(RIGHT, -2, 0), RIGHT, allowed)
    assert [diagnosis.kind for diagnosis in diagnose(clear)] == ["shift"]


def test_one_entry_that_some_array_happens_to_hold_is_one_wrong_entry():
    labels = np.eye(5)
    (diagnosis,) = diagnose(evidence(placed((0, 1), 1.0), known={"y": labels}))
    assert diagnosis.kind == "single-entry"


def test_what_is_left_of_one_after_a_clip_is_equal_to_rounding():
    """A probability clipped at 1e-4, in float32: 1 - (1 - 1e-4) differs from 1e-4 by the rounding beside 1."""
    SINGLE, right = np.dtype("float32"), np.array([1e-9, 2e-10, -3e-9, 1e-12, 0.5, -0.25])
    allowed = np.full(6, 2e-6)

    def explained(*ends):
        came = np.array([*ends, 0.5, -0.25])
        return [diagnosis.kind for diagnosis in diagnose(Evidence("Z2", came, right, allowed, dtype=SINGLE))]

    assert explained(1e-4, 1.00016e-4, -1e-4, 1e-4) == ["clipping"]
    assert explained(1e-4, 1.02e-4, -1e-4, 1e-4) == []
