"""Answers that people give to the exercises, wrong and right. `benchmarks.exercise_answers` has them judged."""
