"""Faults that people reported in public, each rebuilt in a few lines. `benchmarks.reported_faults` runs them."""
