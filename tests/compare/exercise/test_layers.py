"""The exercises of `compare.exercise.layers`: the answers that people give to them."""

from benchmarks.answers.layers import ANSWERS
from compare.exercise.layers import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
