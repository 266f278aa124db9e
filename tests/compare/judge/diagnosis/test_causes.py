"""The order of the hypotheses: none where nothing explains a difference, one where several might."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence
from tests.compare.judge.diagnosis.made_up import RIGHT, SHAPE, evidence


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


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (RIGHT.T, "shape", "That is the shape of the transpose."),
        (RIGHT.ravel(), "shape", "The size is right: reshape it to (4, 6)."),
        (RIGHT[:, None], "shape", "drop it (sum without keepdims=True) to get (4, 6)"),
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
    """Just beyond the tolerance, but within that of a hypothesis: `1 times` and `the order 0, 1, 2` say nothing."""
    random = np.random.default_rng(2)
    for _ in range(20):
        came = RIGHT * (1 + 3e-14 * random.choice([-1, 1], SHAPE))
        assert evidence(came).wrong.any()
        assert all(d.kind not in ("factor", "permutation", "transpose", "shift") for d in diagnose(evidence(came)))


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
