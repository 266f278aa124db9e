"""What a lesson holds: which entries are shown, and the verdict of all moments."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from compare import Verdict
from compare.judge.reports.verdict import Row
from compare.lesson.content import ALL, SOME, all_or_first, counted, largest, numbers


def test_every_entry_of_a_parameter_is_shown_and_of_the_others_the_first_example(found):
    numbers = found.moments[0].numbers
    for name, count in (("dW1", 8), ("db1", 4), ("dW2", 4), ("db2", 1)):
        assert len(numbers[name].entries) == count == math.prod(numbers[name].shape)
    assert [entry.index for entry in numbers["dZ1"].entries] == [(i, 0) for i in range(4)]


def test_a_verdict_that_is_not_agree_decides(found):
    undecided = [replace(found.moments[0], verdict=Verdict.INCONCLUSIVE, sentence="unknown"), *found.moments[1:]]
    assert replace(found, moments=undecided).verdict is Verdict.INCONCLUSIVE
    assert replace(found, moments=undecided).sentence == "After 0 steps of training: unknown"


@pytest.mark.parametrize(
    ("shape", "count"), [((), 1), ((ALL,), ALL), ((2, 4), 8), ((3, 3), 3), ((4, 40), 4), ((2, 3, 5), 2)]
)
def test_all_entries_are_shown_if_they_are_few_else_those_of_the_first_column(shape, count):
    shown = all_or_first(shape)
    assert len(shown) == len(set(shown)) == count
    assert count == math.prod(shape) or not any(place for index in shown for place in index[1:])


def test_of_thousands_those_are_shown_that_say_most():
    gradient = np.random.default_rng(0).standard_normal((30, 40))
    shown = largest(gradient)
    assert shown == sorted(shown)
    assert len(shown) == SOME
    least = min(abs(gradient[index]) for index in shown)
    assert np.count_nonzero(np.abs(gradient) >= least) == SOME
    assert largest(np.array([1.0, -3.0])) == [(0,), (1,)]


def test_numbers_are_those_of_the_chosen_entries_and_the_largest_difference_that_of_all():
    by_hand, by_jax = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, 1.0])
    row = Row("W", Verdict.AGREE, (3,), "float64", 1.0, 0.25, 0.5, (0,), 1.0, 1.0)
    found = numbers(np.array([7.0, 8.0, 9.0]), by_hand, by_jax, [(1,)], row)
    (entry,) = found.entries
    assert (entry.index, entry.value, entry.by_hand, entry.by_jax, entry.difference) == ((1,), 8.0, 2.0, 2.5, 0.5)
    assert found.largest_difference == 2.0
    assert (found.error, found.tolerance, found.verdict) == (0.25, 0.5, Verdict.AGREE)
    unjudged = numbers(None, by_hand, by_jax, [(0,)], None)
    assert unjudged.entries[0].value is unjudged.verdict is unjudged.error is unjudged.tolerance is None


def test_it_can_be_written_as_json(found):
    value = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (value["verdict"], value["sentence"]) == ("agree", found.sentence)
    assert [moment["step"] for moment in value["moments"]] == [moment.step for moment in found.moments]
    assert "boundary" not in value["moments"][0]  # thousands of numbers, which are a picture


def test_its_repr_is_one_sentence(found):
    assert repr(found) == f"<Lesson: {found.title}. {found.sentence}>"
    assert len(repr(found)) < 300


@pytest.mark.parametrize(("number", "said"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps")])
def test_things_are_counted(number, said):
    assert counted(number, "step") == said
