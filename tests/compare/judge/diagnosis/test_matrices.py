"""Causes of wrong matrices: each planted one is named, and what is like it is not."""

import numpy as np
import pytest
from scipy import sparse

from compare.judge.diagnosis.matrices import of_matrix, of_pattern

H = (lambda a: a + a.T)(np.random.default_rng(0).standard_normal((5, 5)))
J = np.random.default_rng(1).standard_normal((4, 5))
ALLOWED = 1e-9
FAULTS = {
    "off-diagonal-doubled": lambda h: 2 * h - np.diag(np.diag(h)),
    "off-diagonal-halved": lambda h: (h + np.diag(np.diag(h))) / 2,
    "triangle": np.tril,
    "not-symmetric": lambda h: h + np.outer(np.eye(5)[0], np.eye(5)[3]),
    "one-row": lambda h: np.tile(h[2], (5, 1)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_cause_is_named(kind):
    cause = of_matrix(FAULTS[kind](H), H, ALLOWED, "hessian")
    assert cause is not None
    assert cause.kind == kind


NEAR = {
    "off-diagonal-doubled": [
        lambda h: 2 * h, lambda h: 2.01 * h - 1.01 * np.diag(np.diag(h)), lambda h: h + np.eye(5)],
    "off-diagonal-halved": [
        lambda h: h / 2, lambda h: 0.49 * h + 0.51 * np.diag(np.diag(h)), lambda h: 1.5 * h - np.diag(np.diag(h)) / 2],
    "triangle": [lambda h: np.tril(h) + 0.01 * np.triu(h, 1), lambda h: 2 * np.tril(h), lambda h: np.tril(h, -1)],
    "not-symmetric": [lambda h: 2 * h, lambda h: h + np.eye(5), lambda h: h * np.outer(np.arange(5), np.arange(5))],
    "one-row": [
        lambda h: np.tile(h.mean(axis=0), (5, 1)), lambda h: np.tile(2 * h[2], (5, 1)),
        lambda h: np.vstack([np.tile(h[2], (4, 1)), h[4:]])],
}  # fmt: skip


@pytest.mark.parametrize("kind", NEAR)
@pytest.mark.parametrize("number", range(3))
def test_what_is_like_it_is_not_called_so(kind, number):
    cause = of_matrix(NEAR[kind][number](H), H, ALLOWED, "hessian")
    assert cause is None or cause.kind != kind


def test_a_jacobian_need_not_be_symmetric_and_may_have_one_row_for_all():
    assert of_matrix(J + 1, J, ALLOWED, "jacobian") is None
    cause = of_matrix(np.tile(J[3], (4, 1)), J, ALLOWED, "jacobian")
    assert cause is not None
    assert cause.kind == "one-row"
    assert "output 3" in cause.message


def test_one_row_for_all_that_should_be_so_is_no_cause():
    rows = np.tile(J[0], (4, 1))
    assert of_matrix(2 * rows, rows, ALLOWED, "jacobian") is None


def test_a_diagonal_matrix_has_no_halves():
    assert of_matrix(np.zeros((3, 3)), np.eye(3), ALLOWED, "hessian") is None


@pytest.mark.parametrize(("lost", "word"), [(True, "lacks"), (False, "should not have")])
def test_entries_beside_the_pattern_are_named(lost, word):
    right = np.diag([1.0, 2, 3, 4]) + np.diag([5.0, 6, 7], 1)
    given = right.copy()
    given[(1, 2) if lost else (3, 0)] = 0 if lost else 9
    matrix = sparse.csr_array(given)
    cause = of_pattern(matrix, given, right, ALLOWED)
    assert cause is not None
    assert word in cause.message


def test_a_wrong_entry_within_the_pattern_is_no_fault_of_the_pattern():
    right = np.diag([1.0, 2, 3, 4])
    given = right * 1.1
    assert of_pattern(sparse.csr_array(given), given, right, ALLOWED) is None
