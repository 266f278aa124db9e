"""The exercises of `compare.exercise.sequences`: the answers that people give to them."""

from benchmarks.answers.sequences import ANSWERS
from compare.exercise.sequences import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
