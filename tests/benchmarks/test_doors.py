"""The campaign of every door: two of its cases, sound and faulty, through each, and how many there are."""

import itertools

import numpy as np
import pytest

from benchmarks.doors.__main__ import DOORS, cases, table, told
from benchmarks.doors.case import CHANGES, Case, planted, unchanged

pytest.importorskip("autograd")


@pytest.mark.sweep
@pytest.mark.parametrize("door", DOORS)
def test_a_sound_and_a_faulty_case_of_each_door_are_told_right(door):
    if door == "compare.torch.check_function":
        pytest.importorskip("torch")
    if door == "check_trajectory":
        pytest.importorskip("torch")
        pytest.importorskip("optax")
    every = list(itertools.islice(cases(door), 16))
    for faulty in (False, True):
        answer = told(door, next(case for case in every if case.faulty is faulty))
        assert answer.right, (answer.case.name, answer.verdict)


@pytest.mark.parametrize("door", ["check_vjp", "check_jvp", "check_hvp", "check_jacobian", "check_hessian",
                                  "check_custom_rules", "check_gradients, loss=None"])  # fmt: skip
def test_every_door_has_fifteen_faults_and_ten_sound_cases(door):
    every = list(cases(door))
    assert sum(case.faulty for case in every) >= 15
    assert sum(not case.faulty for case in every) >= 10
    assert len({case.name for case in every}) == len(every)
    assert all(case.source for case in every)


def test_what_raises_is_told_wrong_and_shown():
    def raises():
        raise ValueError("no")

    answer = told("check_vjp", Case("a case", "nobody", True, raises))
    assert not answer.right
    assert answer.verdict == "ValueError: no"
    assert table([answer]).row_count == 1


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_something(name):
    a = np.random.default_rng(0).standard_normal((3, 4))
    before = a.copy()
    assert not np.array_equal(CHANGES[name](a), a)
    assert np.array_equal(a, before)


def test_changes_that_change_nothing_are_left_out():
    made = list(planted("ones", np.ones(3), lambda change: change, 10))
    assert {case.name.split(", ")[1] for case in made} == CHANGES.keys() - {"shifted by one", "its absolute value"}
    assert all(case.faulty for case in made)
    assert unchanged(3) == 3
