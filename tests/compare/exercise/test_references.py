"""The functions of the exercises in JAX."""

from compare.exercise import EXERCISES
from compare.exercise.references import REFERENCES


def test_every_exercise_has_its_reference():
    """That it is the same function is held by the right answers: the judge compares outputs, too."""
    assert REFERENCES.keys() == EXERCISES.keys()
