"""A case: which of its arrays are cast, and how it is told; and that every op has some."""

import numpy as np
import pytest

from compare.suite.cases import Case, all_cases
from tests.compare.suite.cases.sides import CASES, CATALOG

CASE = Case((np.ones((2, 3)), np.array([1, 2]), None), {"targets": np.zeros(3), "mask": np.array(True), "rate": 0.5})


def test_every_op_has_cases_and_every_case_an_op():
    assert list(CASES) == list(CATALOG)


def test_floating_arrays_are_cast_and_nothing_else():
    cast = CASE.astype("float32")
    assert [x.dtype for x in cast.inputs[:2]] == [np.float32, np.int64]
    assert cast.inputs[2] is None
    assert (cast.options["targets"].dtype, cast.options["mask"].dtype) == (np.float32, bool)
    assert cast.options["rate"] == 0.5
    assert CASE.inputs[0].dtype == np.float64  # which is another case


def test_a_case_is_told_by_its_shapes_and_options():
    assert str(CASE) == "(2, 3), (2,), None, targets=array(3,), mask=array(), rate=0.5"


def test_the_same_seed_draws_the_same_cases_and_another_others():
    def numbers(seed):
        return [x for case in all_cases(seed)["dense"] for x in case.inputs if x is not None]

    for first, second, other in zip(numbers(0), numbers(0), numbers(1), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", CASES)
def test_no_input_is_shared_with_another_case_of_the_op(name):
    """Or a change in place at one would be seen at another."""
    arrays = [x for case in CASES[name] for x in case.inputs if isinstance(x, np.ndarray)]
    assert len({id(x) for x in arrays}) == len(arrays)
