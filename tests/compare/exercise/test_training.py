"""The exercises of `compare.exercise.training`: the answers that people give to them."""

from benchmarks.answers.training import ANSWERS
from compare.exercise.training import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
