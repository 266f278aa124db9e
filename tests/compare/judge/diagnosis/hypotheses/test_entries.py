"""Faults of single entries, rows or regions, and of precision."""

import numpy as np
import pytest

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence
from tests.compare.judge.diagnosis.made_up import PARAMETER, RIGHT, SHAPE, evidence, named, placed

IDS = np.array([3, 1, 3, 0])


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (0 * RIGHT, "zero everywhere"),
        (placed(2, 0.0), "at index 2 of axis 0"),
        (np.where(PARAMETER < -0.5, 0, RIGHT), "zero where Z is below about -0."),
    ],
)
def test_zeros(came, words):
    kind, _, message = named(came, thresholds={"Z": PARAMETER})
    assert kind == "zeros"
    assert words in message


def test_a_reference_of_zeros_is_worth_a_question():
    assert "does it stop this gradient?" in named(RIGHT, 0 * RIGHT)[2]


def kinds(came, right=RIGHT, **known):
    with np.errstate(all="ignore"):
        return {diagnosis.kind for diagnosis in diagnose(evidence(came, right, **known))}


def test_rows_of_repeated_ids_that_hold_one_contribution():
    """As the reference's own program has it if it writes where it should add."""
    last, first = placed(3, RIGHT[3] / 3.7), placed(3, RIGHT[3] / 1.2)
    known = {"ids": {"ids": IDS}, "overwriting": {"last": last, "first": first}}
    kind, _, message = named(last, **known)
    assert kind == "lost-repeats"
    assert "their last contribution" in message
    assert "np.add.at" in message
    assert "their first contribution" in named(first, **known)[2]
    averaged = RIGHT / np.array([1, 1, 1, 2])[:, None]
    assert "contributions are averaged" in named(averaged, **known)[2]


@pytest.mark.parametrize(
    "came",
    [
        placed(3, RIGHT[3] * np.linspace(0.1, 0.9, 6)),  # only repeated rows are wrong, in no known way
        placed(3, RIGHT[3] / 3.7 + 1e-9),  # nearly the last contribution
        placed(1, RIGHT[1] / 3.7),  # a row that no id names twice
        placed(3, RIGHT[3] / 3),  # an average over more than there are
    ],
)
def test_wrong_rows_that_happen_to_be_repeated_are_no_lost_repeats(came):
    overwriting = {"last": placed(3, RIGHT[3] / 3.7)}
    assert "lost-repeats" not in kinds(came, ids={"ids": IDS}, overwriting=overwriting)


def test_padding_that_should_be_masked():
    right = placed(0, 0.0)
    kind, _, message = named(RIGHT, right, ids={"ids": np.array([0, 2, 0, 1])})
    assert kind == "missing-mask"
    assert "at index 0 of axis 0, whose index occurs 2 times in ids" in message
    columns = RIGHT * (np.arange(6) < 4)
    assert "at indices 4, 5 of axis 1" in named(RIGHT, columns)[2]


@pytest.mark.parametrize(
    ("came", "right"),
    [
        (placed(1, 2 * RIGHT[1]), placed(0, 0.0)),  # another row is wrong, too
        (placed(0, 1.3 * RIGHT[0]), placed((0, 0), 0.0)),  # a row that is not 0 all along
        (RIGHT, 0 * RIGHT),  # nothing should be anything
    ],
)
def test_what_is_wrong_elsewhere_is_no_padding(came, right):
    assert "missing-mask" not in kinds(came, right)


def test_contributions_that_overwrite_each_other():
    terms = np.random.default_rng(1).standard_normal((7, 6))
    right, came = np.zeros(SHAPE), np.zeros(SHAPE)
    for row, term in zip([0, 1, 1, 2, 3, 3, 3], terms, strict=True):
        right[row] += term
        came[row] = term
    kind, _, message = named(came, right, known={"dy": terms})
    assert kind == "lost-repeats"
    assert "12 wrong entries is a single entry of dy" in message
    assert diagnose(evidence(came + (came != right), right, known={"dy": terms})) == []


@pytest.mark.parametrize(("values", "told"), [(20, True), (4000, False)])
def test_numbers_that_are_found_among_thousands_by_chance_are_no_contributions(values, told):
    """To three digits, as 16 bits know them: any number is near one of 4000, and four of them near 20 by no chance."""
    random = np.random.default_rng(3)
    terms, right = random.standard_normal(values), 4 + random.standard_normal(40)
    allowed = np.full(right.shape, 1e-3)
    came, wrong = right.copy(), [3, 17, 20, 31]
    came[wrong] = terms[[2, 5, 11, 13]] if told else 0.3 * right[wrong]
    found = diagnose(Evidence("b", came, right, allowed, known={"output": terms}))
    assert ("lost-repeats" in {cause.kind for cause in found}) == told


def test_ties():
    """At a maximum that is attained twice; and not where an entry is wrong that is alone."""
    x = np.array([[1.0, 3, 3, 2], [0, 5, 6, 7], [8, 8, 8, 4]])
    first, all_equal = np.zeros_like(x), 1.5 * (x == x.max(axis=1, keepdims=True))
    first[np.arange(3), x.argmax(axis=1)] = 1.5
    assert named(all_equal, first, parameter=x)[0] == "ties"
    shared = first.copy()
    shared[0, 1:3] = 0.75
    assert named(shared, first, parameter=x)[0] == "ties"
    all_equal[1, 0] = 1
    assert "ties" not in kinds(all_equal, first, parameter=x)


def test_wrong_entries_of_equal_values_are_no_ties():
    """They must hold what another of them should get, or a share: not so off the diagonal of what is symmetric."""
    a = np.random.default_rng(1).standard_normal((4, 4))
    parameter, right = a + a.T, a @ a.T
    off = ~np.eye(4, dtype=bool)
    for came in (right + off * right, np.where(off, 1.3 * right, right), right + off * (a * 0.1 + a.T * 0.1)):
        assert "ties" not in kinds(came, right, parameter=parameter)


def test_clipping():
    kind, factor, _ = named(np.clip(RIGHT, -0.5, 0.5))
    assert kind == "clipping"
    assert factor == pytest.approx(0.5)
    small = np.array([1e-9, 2e-9, -3e-10, 0.2])
    came = np.array([1e-7, 1e-7, -1e-7, 0.2])
    assert named(came, small)[:2] == ("clipping", pytest.approx(1e-7))
    signs = np.sign(RIGHT) * (0.01 + 1e-9 * np.abs(RIGHT))  # of one size, as they should be
    assert kinds(0.99 * np.sign(RIGHT) * 0.01, signs) <= {"factor"}
    assert kinds(1.01 * np.sign(RIGHT) * 0.01, signs) <= {"factor"}


@pytest.mark.parametrize("narrow", ["float16", "float32"])
def test_precision_lost_in_storage(narrow):
    kind, _, message = named(RIGHT.astype(narrow).astype(np.float64))
    assert kind == "precision"
    assert narrow in message


def nearby(error, again):
    """Errors at four points near by: the same, or drawn anew."""
    random = np.random.default_rng(5)
    return lambda: np.array([random.permutation(error.ravel()).reshape(SHAPE) if again else error for _ in range(4)])


def test_precision_lost_on_the_way():
    error = 2e-7 * RIGHT * np.random.default_rng(1).standard_normal(SHAPE)
    assert named(RIGHT + error, errors_nearby=nearby(error, True))[0] == "precision"


@pytest.mark.parametrize("size", [1e4, 1.0, 1e-3, 1e-6])
def test_errors_that_are_no_rounding_are_not_lost_precision(size):
    """As large beside the point, of one sign, much larger than float32 makes them, or much smaller."""
    error = 2e-7 * size * RIGHT * np.random.default_rng(1).standard_normal(SHAPE)
    assert "precision" not in kinds(RIGHT + error, errors_nearby=nearby(error, False))
    assert "precision" not in kinds(RIGHT + error)  # nothing is known of the points near by
    if size != 1.0:
        assert "precision" not in kinds(RIGHT + error, errors_nearby=nearby(error, True))


def test_round_numbers_are_no_cast():
    right = np.arange(24.0).reshape(SHAPE) + 1
    assert "precision" not in kinds(right + (right == 3) * 2.0**-13, right)


def test_single_entries():
    kind, _, message = named(placed((1, 2), RIGHT[1, 2] * (1 + 1e-9)))
    assert kind == "single-entry"
    assert "[1, 2]" in message
    assert "1.000000001 times" in message


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
