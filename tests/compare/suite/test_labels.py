"""Labels of every usual form become outputs of 0 and 1; what is no class is refused, and called what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.errors import BadInput
from compare.suite.labels import FEW, MOST_CLASSES, labels, told


@pytest.mark.parametrize(
    ("values", "table", "sentences"),
    [
        ([0, 1, 0], [[0], [1], [0]], []),
        ([0.0, 0.0], [[0], [0]], []),
        ([True, False], [[1], [0]], []),
        ([-1, 1, 1], [[0], [1], [1]], ["the label -1 is 0, and 1 is 1"]),
        (["yes", "no", "yes"], [[1], [0], [1]], ["the label no is 0, and yes is 1"]),
        ([2, 0, 1], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], ["each of the 3 classes has an output: 0, 1, 2"]),
        (["b", "a", "c"], [[0, 1, 0], [1, 0, 0], [0, 0, 1]], ["each of the 3 classes has an output: a, b, c"]),
    ],
)
def test_classes_become_outputs_and_it_is_said_which(values, table, sentences):
    found = labels("data", np.array(values))
    np.testing.assert_array_equal(found.y, table)
    assert told(found) == sentences


@given(st.lists(st.sampled_from(["red", "green", "blue", "7"]), min_size=2))
def test_every_example_has_the_output_of_its_class_and_no_other(values):
    if len(set(values)) < 2:
        with pytest.raises(BadInput, match=f"every label is {values[0]}, so there is nothing to learn"):
            labels("data", np.array(values))
        return
    found = labels("data", np.array(values))
    if found.y.shape[1] == 1:
        assert [found.classes[int(row[0])] for row in found.y] == values
    else:
        assert (found.y.sum(axis=1) == 1).all()
        assert [found.classes[int(row.argmax())] for row in found.y] == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.array([1.0, 2.0, 2.5]),
            r"data: y is 2\.5 at example 2 .* the target of a regression\..*cannot learn a regression",
        ),
        (np.arange(FEW + 1), r"y has 11 different numbers: these look like targets of a regression"),
        (np.arange(10 * MOST_CLASSES) % (MOST_CLASSES + 1), r"y has 101 different numbers"),
        (np.array([f"name {i}" for i in range(20)]), r"y has 20 different texts, too many for classes\. Choose"),
        (np.array([2.0, np.nan]), r"y is nan at example 1"),
        (np.array([3, 3]), r"every label is 3"),
    ],
)
def test_what_is_no_class_is_refused_and_called_by_its_name(values, message):
    with pytest.raises(BadInput, match=message):
        labels("data", values)


def test_as_many_classes_as_there_are_often_are_read():
    """The near miss: the digits have ten classes, and eleven are fine where each has two examples."""
    assert labels("data", np.arange(10)).y.shape == (10, 10)
    assert labels("data", np.arange(22) % 11).y.shape == (22, 11)


def test_many_numbers_as_classes_are_said_to_be_no_quantity():
    many, few = np.repeat(np.arange(FEW + 1), 2), np.repeat(np.arange(FEW), 2)
    remark = "if y is a quantity and no class, this network does not suit it: it cannot learn a regression"
    assert remark in told(labels("data", many))
    assert remark not in told(labels("data", few))
    assert remark not in told(labels("data", np.array([f"kind {i}" for i in many])))
