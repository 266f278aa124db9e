"""The exercises of `compare.exercise.activations`: the answers that people give to them."""

from benchmarks.answers.activations import ANSWERS
from compare.exercise.activations import EXERCISES
from tests.compare.exercise.answered import answer_tests

TestAnswers = answer_tests(EXERCISES, ANSWERS)
