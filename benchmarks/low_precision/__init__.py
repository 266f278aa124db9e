"""Checks correct and wrong 16-bit kernels with our judge and with the test criteria of other projects.

    python -m benchmarks.low_precision [--seeds N] [--json PATH]

`kernels` has forward and backward passes as accelerators run them, and their references in JAX. `peers` has the
criteria of other projects, and `score` counts the results.
"""
