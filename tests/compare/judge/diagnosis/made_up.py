"""Arrays at random, and the evidence that they make: what is actual, and what is expected."""

import numpy as np

from compare.judge.diagnosis.causes import diagnose
from compare.judge.diagnosis.evidence import Evidence

SHAPE = (4, 6)
RANDOM = np.random.default_rng(0)
RIGHT = RANDOM.standard_normal(SHAPE)
A1 = np.tanh(RANDOM.standard_normal(SHAPE))
PARAMETER = RANDOM.standard_normal(SHAPE)
OTHERWISE = RANDOM.standard_normal(SHAPE)


def evidence(came, right=RIGHT, **known):
    return Evidence("W", np.asarray(came), np.asarray(right), 1e-14 * np.abs(right) + 1e-300, **known)


def named(came, right=RIGHT, **known):
    """(kind, factor, message) of the only diagnosis."""
    with np.errstate(all="ignore"):
        (diagnosis,) = diagnose(evidence(came, right, **known))
    assert diagnosis.path == "W"
    return diagnosis.kind, diagnosis.factor, diagnosis.message


SIZES = {"x.shape[1]": 12, "W.shape[0]": 7}
DERIVATIVE = 1 - A1**2
FACTORS = {"A1": A1, "1 - A1**2": DERIVATIVE, "1 - A1": 1 - A1}


def placed(index, value):
    came = RIGHT.copy()
    came[index] = value
    return came
