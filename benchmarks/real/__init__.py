"""Derivatives of published libraries. Each module has a function `cases()`, which imports its library when called."""
