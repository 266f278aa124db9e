"""Gradients that others wrote, a file for each library: `cases()` yields them, and imports it when called."""
