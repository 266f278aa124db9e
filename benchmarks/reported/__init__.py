"""Publicly reported bugs in gradients, each rebuilt in a few lines, which `benchmarks.reported_faults` checks."""
