"""The error function in float32: SciPy's to a few units in the last place, in any layout."""

import numpy as np
import scipy.special

from manual.fast import _erf


def erf(x):
    result = np.empty_like(x)
    _erf.erf(x, result)
    return result


def test_erf_in_float32_is_scipys_to_a_few_units_in_the_last_place():
    x = np.concatenate([np.linspace(-6, 6, 200_001), np.geomspace(1e-38, 10, 10_001)]).astype(np.float32)
    right = scipy.special.erf(x.astype(np.float64))
    units = np.abs(erf(x) - right) / np.spacing(np.abs(right).astype(np.float32))
    assert units.max() <= 8


def test_erf_ends_at_one_and_keeps_signs_shapes_and_nan():
    x = np.array([np.inf, -np.inf, 5, -5, 0.0, -0.0, np.nan, 4.2], np.float32)
    y = erf(x)
    np.testing.assert_array_equal(y, np.array([1, -1, 1, -1, 0, 0, np.nan, 1], np.float32))
    assert np.signbit(y[5])
    for shape in ((), (0, 3), (3, 1, 2)):
        for dtype in (np.float16, np.float32, np.float64):
            assert (erf(np.zeros(shape, dtype)).shape, erf(np.zeros(shape, dtype)).dtype) == (shape, dtype)
    large = np.linspace(-4, 4, 100_003, dtype=np.float32)
    np.testing.assert_array_equal(erf(large)[::-1], -erf(large))
    np.testing.assert_array_equal(erf(np.asfortranarray(large[:99].reshape(9, 11))), erf(large[:99]).reshape(9, 11))
