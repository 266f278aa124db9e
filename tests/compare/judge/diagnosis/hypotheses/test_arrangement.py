"""The right numbers in the wrong order: transposed, shifted, permuted, misplaced."""

import numpy as np
import pytest

from compare.judge.diagnosis.causes import diagnose
from tests.compare.judge.diagnosis.made_up import OTHERWISE, RIGHT, SHAPE, evidence, named

RANDOM = np.random.default_rng(1)
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
