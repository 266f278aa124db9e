"""Typical wrong answers to the exercises, and unusual right ones, which `benchmarks.exercise_answers` judges."""
