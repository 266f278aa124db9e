"""Evaluation rules of JAX primitives in NumPy and SciPy, one module for each kind."""
