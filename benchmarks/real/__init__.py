"""Gradients that others wrote, one file for each library: `cases()` yields them, and imports the library when called."""
