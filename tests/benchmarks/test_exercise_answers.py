"""The campaign of answers to the exercises: what counts as a miss. All answers are judged in tests/compare/exercise."""

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks import exercise_answers
from benchmarks.exercise_answers import ANSWERS, judged
from compare.exercise import EXERCISES


def by_name(name):
    (found,) = [answer for answer in ANSWERS if answer.name == name]
    return found


def test_every_exercise_has_answers_and_each_wrong_one_a_source():
    assert {answer.exercise for answer in ANSWERS} == set(EXERCISES)
    assert all(answer.places for answer in ANSWERS if not answer.right)
    assert [name for name, count in Counter(answer.name for answer in ANSWERS).items() if count > 1] == []


@pytest.mark.parametrize(
    ("change", "miss"),
    [
        ({"places": ("x",)}, "is placed at b"),
        ({"kinds": frozenset({"sign"})}, "has the causes factor, expected sign"),
        ({"kinds": frozenset({"sign"}), "not_yet": True}, "has the causes factor, expected sign"),
        ({"source": ""}, "is DISAGREE"),
    ],
)
def test_another_place_another_cause_and_another_verdict_are_misses(change, miss):
    outcome = judged(by_name("the mean over the batch"))
    assert outcome.miss == ""
    assert outcome.named
    changed = replace(outcome, answer=replace(outcome.answer, **change))
    assert changed.miss == miss
    assert not changed.named


def test_a_wrong_answer_without_a_cause_is_a_miss_unless_that_is_known():
    outcome = judged(by_name("the decay after the step"))
    assert outcome.miss == ""
    if not outcome.kinds:
        assert replace(outcome, answer=replace(outcome.answer, not_yet=False)).miss.startswith(
            "has the causes none, expected"
        )


def test_the_command_tells_and_fails_where_one_is_missed(monkeypatch, capsys):
    wrong, right = by_name("the mean over the batch"), by_name("one example after the other")
    monkeypatch.setattr(exercise_answers, "ANSWERS", (wrong, right))
    assert exercise_answers.main() == 0
    assert "1 wrong answers and 1 right ones; 0 are not judged as expected." in capsys.readouterr().out
    monkeypatch.setattr(exercise_answers, "ANSWERS", (replace(right, source="nobody", kinds=frozenset({"factor"})),))
    assert exercise_answers.main("bias") == 1
    assert "- bias, one example after the other: is AGREE" in capsys.readouterr().out
