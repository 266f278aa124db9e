"""The exercises of `compare.exercise.losses`: the answers that people give to them."""

from benchmarks.answers.losses import ANSWERS
from compare.exercise.losses import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
