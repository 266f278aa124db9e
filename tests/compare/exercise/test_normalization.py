"""The exercises of `compare.exercise.normalization`: the answers that people give to them."""

from benchmarks.answers.normalization import ANSWERS
from compare.exercise.normalization import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
