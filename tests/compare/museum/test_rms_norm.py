"""RMS norm's lost factors: each bug is caught, and its repair agrees."""

from compare.museum.rms_norm import EXHIBITS
from tests.compare.museum.exhibits import exhibit_tests

TestExhibits = exhibit_tests(
    EXHIBITS,
    {
        "rms-norm-without-gain": ("normalized", "missing-factor"),
        "rms-norm-along-columns": ("squares", "transpose"),
        "rms-norm-frozen-gain": ("weight", "zeros"),
    },
)
