"""The exercises of `compare.exercise.windows`: the answers that people give to them."""

from benchmarks.answers.windows import ANSWERS
from compare.exercise.windows import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
